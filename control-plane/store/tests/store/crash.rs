//! Power is cut with `kill -9` at random moments: every acknowledged write is still there, and revisions never go back.

mod embedded;
mod etcd;

/// A small reproducible source of "random" moments: where the kill falls is up to the scheduler anyway.
struct Moments(u64);

impl Moments {
    /// Between 1 and `most`.
    fn next(&mut self, most: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        1 + (self.0 >> 33) % most
    }
}
