//! The whole agent on a fake runtime and an API server in memory.

mod api;
mod harness;

mod living;
mod refusing;
mod restarting;
mod telling;
