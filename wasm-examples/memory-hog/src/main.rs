//! memory-hog: takes a mebibyte every 10 ms and keeps it, until its limit ends it. For seeing `OOMKilled`.

use std::time::Duration;

fn main() {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    loop {
        kept.push(vec![kept.len() as u8 | 1; 1 << 20]);
        if kept.len() % 16 == 0 {
            println!("holding {} MiB", kept.len());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
