//! `skiff version`.

pub fn run() {
    println!(
        "skiff {} (Kubernetes API v1.36, wasmtime 48)",
        env!("CARGO_PKG_VERSION")
    );
}
