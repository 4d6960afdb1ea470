//! spinner: computes for ever without a pause. For seeing CPU limits and `DeadlineExceeded`.

fn main() {
    println!("spinning");
    let mut x = 88_172_645_463_325_252_u64;
    loop {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        if x == 0 {
            println!("never printed");
        }
    }
}
