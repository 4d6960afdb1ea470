//! The control plane as one value: store, API server and manager wired together. `wiring` is the only place that names
//! everything; `config` says what there is to choose.

mod config;
mod identity;
mod wiring;

pub use config::{ControlPlaneConfig, EtcdConfig, LeaderElection, StoreConfig};
pub use wiring::ControlPlane;
