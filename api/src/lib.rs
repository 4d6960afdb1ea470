//! What control plane, node agent and command line all speak: Kubernetes' objects as plain JSON values, the tables that
//! describe them, and pure functions over both.
//!
//! **Invariant:** no IO, no clocks, no randomness, no async. Time and ids are arguments.
//!
//! Reading order: `object` (access to the common fields), `status` (the one error type that reaches users), `field`
//! (paths and validation errors), `kind` (the resource table), `schema` (the field table), `codec` (protobuf and strict
//! JSON over it), `selector`, `quantity`, `patch`, `canonical` (the bytes at rest), `time`, `cron`, `channel` (the frames
//! of exec and attach), `exposition` (metrics as text), `usage` (what nodes tell of their pods), `compiled`
//! (code of modules between the compile service and the nodes).

pub mod canonical;
pub mod capabilities;
pub mod channel;
pub mod codec;
pub mod compiled;
pub mod cron;
pub mod exposition;
pub mod field;
pub mod kind;
pub mod labels;
pub mod names;
pub mod object;
pub mod patch;
pub mod pod_settings;
pub mod quantity;
pub mod schema;
pub mod selector;
pub mod status;
pub mod time;
pub mod usage;
