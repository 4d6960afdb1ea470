//! Runs pods of WebAssembly with wasmtime, each namespace's in a worker process of its own.
//!
//! ```text
//!  agent ── WasmRuntime ──┬── worker (namespace a) ── guests      <exe> wasm-worker
//!          images,        ├── worker (namespace b) ── guests
//!          compiled code  └── compile child, limited              <exe> wasm-compile
//!             ▲
//!             └── compile service of the control plane
//! ```
//!
//! **Invariant:** no guest code is instantiated in the agent's process, and none is compiled in a worker's.
//! **Invariant:** a worker outlives the agent; a new agent adopts it with its pods running.
//! **Invariant:** only code that this node compiled itself or that the cluster's key has signed, and that is still what it
//! was, is ever mapped.
//!
//! Read: [`limits`] every bound · `runtime.rs` the port · `supervise.rs` workers as the agent sees them · `usage.rs`
//! what they use · [`images`] artifacts on disk · `compile.rs` compiled code: service, child, cache · `machine.rs` for what it
//! is compiled · `worker.rs` the worker process · [`inspect`] what a
//! module is and needs.

mod capabilities;
mod compile;
mod engine;
pub mod images;
mod inspect;
pub mod limits;
pub mod limits_table;
mod machine;
mod protocol;
mod runtime;
mod session;
mod supervise;
mod usage;
mod worker;

pub use compile::{Answer, Compile, CompileService, ServiceError, compile_main};
pub use images::oci::OciSource;
pub use images::source::{ArtifactSource, BlobStream, ResolvedManifest, SourceError};
pub use inspect::{InspectError, Inspection, Kind, inspect};
pub use machine::this_machine;
pub use runtime::{WasmConfig, WasmLimits, WasmRuntime};

/// Runs a worker process: `wasm-worker --dir DIR --namespace NS [--slots N] [--threads N] [--deny IP]…`, the arguments
/// after `wasm-worker`. Call it before anything else starts threads. Returns the exit code.
pub fn worker_main(args: &[String]) -> i32 {
    match supervise::parse(args).and_then(worker::control::run) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("wasm-worker: {error:#}");
            1
        }
    }
}
