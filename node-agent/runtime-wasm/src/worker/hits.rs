//! How often each limit was met, per container: `skiff_wasm_limit_hits_total{limit}`.
//!
//! The place that enforces a limit counts the hit, once per refusal, drop, wait or end, on the guest's own thread: one
//! relaxed addition. Counts outlive the container's attempts and end with the pod.

use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::component::ResourceTableError;

macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A limit that can be met.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Limit { $($(#[doc = $doc])+ $variant,)+ }

        impl Limit {
            pub(crate) const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The label's value.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

limits! {
    /// The container's memory: ended with `OOMKilled`.
    Memory = "memory",
    /// Its CPU share: an instance had to wait.
    Cpu = "cpu",
    /// Bytes in writable mounts and logs: ended with `Evicted`.
    EphemeralStorage = "ephemeral-storage",
    /// Log bytes per second: one line dropped.
    LogRate = "log-rate",
    /// Requests that wait for a turn: one answered 503.
    Requests = "requests",
    /// Wall time of a request: one answered 504.
    RequestDeadline = "request-deadline",
    /// Connections at once: one closed unserved.
    Connections = "connections",
    /// Instances of the worker's pool: one request answered 503, or the container ended.
    Instances = "instances",
    /// Open files of the container: an error to the guest.
    OpenFiles = "open-files",
    /// Sockets of the container: an error to the guest, or a connection closed unserved.
    Sockets = "sockets",
    /// Outgoing HTTP calls in flight: an error to the guest.
    OutgoingRequests = "outgoing-requests",
    /// Open files, sockets, streams and other handles of an instance: an error to the guest, or a trap.
    Handles = "handles",
    /// Bytes passed in one host call: a trap.
    HostCallBytes = "host-call-bytes",
    /// Depth of calls: a trap.
    Stack = "stack",
    /// An address that the pod may not reach or listen on: refused.
    Network = "network",
}

impl Limit {
    /// The limit that an error out of a guest is about. Limits that are counted where they are enforced are not told
    /// again.
    pub(crate) fn of(error: &wasmtime::Error) -> Option<Self> {
        if error.is::<wasmtime::PoolConcurrencyLimitError>() {
            return Some(Self::Instances);
        }
        if let Some(ResourceTableError::Full) = error.downcast_ref() {
            return Some(Self::Handles);
        }
        if let Some(wasmtime::Trap::StackOverflow) = error.downcast_ref() {
            return Some(Self::Stack);
        }
        // The engine has no types for these two.
        let cause = error.root_cause().to_string();
        if cause.contains("store handle limit exceeded") {
            return Some(Self::Handles);
        }
        cause
            .contains("fuel allocated for hostcalls has been exhausted")
            .then_some(Self::HostCallBytes)
    }
}

/// The counts of one container of a pod.
#[derive(Default)]
pub(crate) struct Hits([AtomicU64; Limit::ALL.len()]);

impl Hits {
    pub(crate) fn count(&self, limit: Limit) {
        self.0[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the limit that an error out of a guest is about, if any.
    pub(crate) fn count_error(&self, error: &wasmtime::Error) {
        if let Some(limit) = Limit::of(error) {
            self.count(limit);
        }
    }

    pub(crate) fn get(&self, limit: Limit) -> u64 {
        self.0[limit as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_names_of_their_own_and_are_counted_apart() {
        let hits = Hits::default();
        for (times, limit) in Limit::ALL.iter().enumerate() {
            (0..times).for_each(|_| hits.count(*limit));
            assert_eq!(hits.get(*limit), times as u64);
        }
        let mut names: Vec<_> = Limit::ALL.iter().map(|limit| limit.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Limit::ALL.len());
    }

    #[test]
    fn every_limit_that_is_counted_has_a_row_in_the_table() {
        use crate::limits_table::{OF_PODS, OF_THE_RUNTIME};
        let rows: Vec<_> = OF_PODS.iter().chain(OF_THE_RUNTIME).map(|row| row.metric).collect();
        for limit in Limit::ALL {
            assert!(rows.contains(&limit.name()), "{limit:?} has no row");
        }
        let names: Vec<_> = Limit::ALL.iter().map(|limit| limit.name()).collect();
        for metric in rows.into_iter().filter(|metric| !metric.is_empty()) {
            assert!(names.contains(&metric), "{metric} is no limit");
        }
    }

    #[test]
    fn an_error_tells_its_limit_however_deep_it_is() {
        let of = |error: wasmtime::Error| Limit::of(&error.context("while running"));
        assert_eq!(of(ResourceTableError::Full.into()), Some(Limit::Handles));
        assert_eq!(of(wasmtime::Trap::StackOverflow.into()), Some(Limit::Stack));
        assert_eq!(of(ResourceTableError::NotPresent.into()), None);
    }
}
