//! The API server: Kubernetes' REST API over a `Store`, on hyper.
//!
//! **Invariants:** reads serve bytes made at write time and decode nothing. One API object per store transaction. Nothing a
//! client sends can hold more than the limits of `limits.rs`. Handlers know kinds only through `strategy::Strategy`.
//!
//! Reading order: `server` (state), `serve` (listener), `request_info` (path → verb and resource), `chain` (the filters),
//! `handlers` (one verb each), `strategy` and `kinds` (what is special about a kind), `registry` (reads and writes below
//! the handlers), `plugins` (what is plugged in: identities, permissions, admission, subresources, routes).

pub mod absent;
pub mod admission;
pub mod artifacts;
pub mod authn;
pub mod authz;
pub mod body;
pub mod bootstrap;
pub mod builtin;
pub mod chain;
pub mod clock;
pub mod compiled;
pub mod discovery;
pub mod generic;
pub mod handlers;
pub mod health;
pub mod impersonate;
pub mod join;
pub mod kinds;
pub mod kubeconfig;
pub mod limiter;
pub mod limits;
pub mod metrics;
pub mod negotiate;
pub mod openapi;
pub mod pki;
pub mod plugins;
pub mod query;
pub mod registry;
pub mod request_info;
pub mod resource_metrics;
pub mod reviews;
pub mod serve;
pub mod server;
pub mod strategy;
pub mod streaming;
pub mod subresources;
pub mod table;
#[cfg(test)]
mod test_server;
pub mod tunnel;

pub use server::{ApiServer, ServerConfig, ServerError};
