//! What must happen next with one pod on this node: a pure function of the pod, what the runtime shows, and a small
//! memory.
//!
//! **Invariant:** no IO, no clock, no randomness, no async. The time is an argument.
//! **Invariant:** the phase is derived from (spec, observed, memory) each time, never kept.
//! **Invariant:** a step after everything asked for was done and observed asks for nothing.
//!
//! Reading order: `observed` and `memory` (what goes in), `action` (what comes out), `step` (the entry), `containers`,
//! `probes`, `termination` (the rules), `pod_status`, `container_status`, `conditions` (what users see), `fit`
//! (node-side admission), `texts` (the sentences of events).

pub mod action;
mod conditions;
mod container_status;
mod containers;
pub mod fit;
pub mod memory;
pub mod observed;
mod outcome;
mod pod_status;
mod probes;
mod seed;
pub mod spec;
mod step;
mod termination;
pub mod texts;

pub use action::{Action, EventKind, Operation, Outcome, PodEvent, ProbeKind, Report, Step};
pub use memory::PodMemory;
pub use observed::{ContainerPhase, ContainerView, Observed, Sandbox, SandboxView};
pub use step::step;

#[cfg(test)]
mod tests;
