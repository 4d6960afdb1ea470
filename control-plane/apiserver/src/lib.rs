//! The API server: Kubernetes' REST API over a `Store`, on hyper.
pub mod authn;
pub mod authz;
pub mod strategy;
