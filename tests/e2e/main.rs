//! End-to-end scenarios, one file each.

#![allow(clippy::unwrap_used, reason = "tests")]

mod compiling;
mod crash;
mod documents;
mod etcd;
mod examples;
mod first_light;
mod inside;
mod jobs;
mod join;
mod kubectl;
mod lifecycle;
mod limits;
mod metrics;
