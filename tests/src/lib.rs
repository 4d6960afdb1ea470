//! The harness of the end-to-end tests: real `skiff`, real kubectl, real etcd, on free ports and in directories that go
//! away with the test.
//!
//! Waiting is always on a state (`eventually`), never on time.

#![allow(clippy::unwrap_used, reason = "a harness for tests: a panic is how it reports")]

mod cluster;
mod etcd;
mod http;
mod kubectl;
mod process;

pub use cluster::{Cluster, Options, address, free_port, is_ready, on_etcd, skiff_binary};
pub use etcd::Etcd;
pub use http::{Answer, get, request};
pub use kubectl::Output;
pub use process::{Process, is_alive, kill, pids_with_argument};

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longest wait for a state; a machine that is busy building needs it, an idle one a hundredth of it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until `probe` gives something; fails the test, naming `what` and the last complaint, when that
/// takes too long.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(why) if started.elapsed() > PATIENCE => panic!("{what}: not within {PATIENCE:?}; last: {why}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// One of the committed example guests.
pub fn guest(name: &str) -> PathBuf {
    let path = root().join("wasm-examples/prebuilt").join(format!("{name}.wasm"));
    assert!(path.is_file(), "{} is missing; run: cargo xtask guests", path.display());
    path
}
