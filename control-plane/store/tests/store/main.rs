//! What every store must do (`contract`), what survives a crash (`crash`), and the embedded store against a model.

mod contract;
mod crash;
mod model;
#[path = "../support/mod.rs"]
mod support;
