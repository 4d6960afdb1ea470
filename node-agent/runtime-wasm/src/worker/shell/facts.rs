//! What the shell may know of its container, as plain data.

use std::time::Duration;

/// The container and its pod.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    pub(crate) pod: String,
    pub(crate) namespace: String,
    pub(crate) container: String,
    pub(crate) hostname: String,
    pub(crate) image: String,
}

/// A module as it was loaded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Module {
    /// `WASI preview 1 command`, `wasi:http server (0.2)`, …
    pub(crate) kind: &'static str,
    /// Interfaces (or core modules), each with its functions.
    pub(crate) imports: Vec<(String, Vec<String>)>,
    pub(crate) exports: Vec<(String, Vec<String>)>,
    /// Memories and tables of one instance.
    pub(crate) memories: u32,
    pub(crate) tables: u32,
}

/// One limit.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    pub(crate) what: &'static str,
    /// `-` = none.
    pub(crate) value: String,
    /// `-` = not measured.
    pub(crate) used: String,
    pub(crate) over: &'static str,
}

/// One container of the pod.
#[derive(Clone, Debug)]
pub(crate) struct ContainerRow {
    pub(crate) name: String,
    pub(crate) state: &'static str,
    pub(crate) cpu: Duration,
    pub(crate) memory: u64,
    pub(crate) instances: usize,
    /// Since its start; zero = not started.
    pub(crate) age: Duration,
}

/// One instance that lives: the run of a command, or a request that a server answers.
#[derive(Clone, Debug)]
pub(crate) struct InstanceRow {
    pub(crate) id: u64,
    pub(crate) what: String,
    pub(crate) age: Duration,
    /// Bytes of each memory, elements of each table.
    pub(crate) memories: Vec<u64>,
    pub(crate) tables: Vec<u64>,
}

/// An open file or socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Handle {
    /// `file`, `dir`, `tcp`, `udp`.
    pub(crate) kind: &'static str,
    /// Path in the container, or `local -> remote`.
    pub(crate) name: String,
    /// `LISTEN`, `ESTABLISHED`, …; empty for files.
    pub(crate) state: String,
}

/// Everything that the shell asks about its container.
pub(crate) trait Facts: Send + Sync {
    fn identity(&self) -> Identity;
    fn env(&self) -> Vec<(String, String)>;
    fn module(&self) -> Module;
    fn limits(&self) -> Vec<Limit>;
    fn containers(&self) -> Vec<ContainerRow>;
    fn instances(&self) -> Vec<InstanceRow>;
    /// Errors: why they cannot be told.
    fn handles(&self) -> Result<Vec<Handle>, String>;
    /// Each live instance with the frames of its guest, innermost first; None = it waits for the host, and no guest code
    /// is on its way. Takes as long as the guest's next interruption.
    fn backtraces(&self) -> Vec<(InstanceRow, Option<Vec<String>>)>;
    /// CPU time used so far, and bytes of memory now.
    fn usage(&self) -> (Duration, u64);
    fn now(&self) -> jiff::Timestamp;
    /// Bytes that may still be written to the container's mounts; None = not limited.
    fn room(&self) -> Option<u64>;
}
