//! The limits as a table, for people: what is bounded, where the bound comes from, what happens over it, which test
//! provokes it. `cargo xtask docs` prints it into docs/wasm.md, `cargo xtask tidy` fails when that is not what it says or a
//! test is gone, and a test of `worker/hits.rs` sees that every limit that is counted has a row.
//!
//! Needs nothing but [`crate::limits`], so that xtask can read this file without the engine.

use std::time::Duration;

use crate::limits as l;

/// One limit.
pub struct Row {
    pub what: &'static str,
    /// Pod field or annotation that sets it; empty = the same for every container.
    pub set_by: &'static str,
    /// What holds without it.
    pub default: fn() -> String,
    /// What the guest, its caller or its pod gets.
    pub over: &'static str,
    /// `limit` of `skiff_wasm_limit_hits_total`; empty = not counted.
    pub metric: &'static str,
    /// `FILE::FUNCTION`; empty where none provokes it.
    pub test: &'static str,
}

/// One hostile guest of FAULTS.md, group G.
pub struct Fault {
    pub id: &'static str,
    pub what: &'static str,
    /// `FILE::FUNCTION`, one or more.
    pub tests: &'static [&'static str],
}

fn none() -> String {
    "none".to_owned()
}

fn bytes(count: u64) -> String {
    match count.trailing_zeros() {
        30.. => format!("{} GiB", count >> 30),
        20.. => format!("{} MiB", count >> 20),
        10.. => format!("{} KiB", count >> 10),
        _ => format!("{count} bytes"),
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

macro_rules! in_tests {
    ($file:literal, $name:literal) => {
        concat!("node-agent/runtime-wasm/tests/", $file, ".rs::", $name)
    };
}
macro_rules! in_worker {
    ($file:literal, $name:literal) => {
        concat!("node-agent/runtime-wasm/src/worker/", $file, ".rs::", $name)
    };
}

macro_rules! rows {
    ($($what:literal, $set_by:literal, $default:expr, $over:literal, $metric:literal, $test:expr;)+) => {
        &[$(Row { what: $what, set_by: $set_by, default: $default, over: $over, metric: $metric, test: $test },)+]
    };
}

/// Limits that a pod sets.
#[rustfmt::skip]
pub const OF_PODS: &[Row] = rows! {
    "memory: all memories and tables of the container", "resources.limits.memory", none, "ended: 137, `OOMKilled`", "memory",
        in_tests!("commands", "growing_over_the_memory_limit_is_oom_killed");
    "CPU time", "resources.limits.cpu", none, "throttled", "cpu",
        in_tests!("commands", "a_spinner_keeps_to_its_share_and_delays_nobody");
    "CPU share when cores are short", "resources.requests.cpu", || "2m".to_owned(), "waits its turn", "",
        in_tests!("commands", "spinners_share_the_cores_by_their_requests");
    "bytes in writable mounts and logs", "resources.limits.ephemeral-storage", none, "ended: 137, `Evicted`", "ephemeral-storage",
        in_tests!("commands", "writing_over_the_ephemeral_storage_limit_evicts");
    "time of the whole pod", "activeDeadlineSeconds", none, "pod Failed, `DeadlineExceeded`", "",
        "node-agent/lifecycle/src/tests/stopping.rs::a_pod_has_until_its_deadline";
    "where it may connect to", "skiff.dev/egress", || "all but protected addresses".to_owned(),
        "error to the guest: `access-denied`; HTTP: `destination-IP-prohibited`, or `HTTP-request-denied` for a name", "network",
        in_worker!("sockets/tests", "protected_and_foreign_addresses_are_refused_before_a_packet_is_sent");
    "who may connect to it", "skiff.dev/ingress", || "everybody".to_owned(), "connection closed unserved", "network",
        in_tests!("limits", "only_whom_ingress_names_and_the_node_are_served");
    "open files and directories", "skiff.dev/open-files", || l::OPEN_FILES_MAX.to_string(),
        "error to the guest: preview 1 `mfile`, else `insufficient-memory`", "open-files",
        in_tests!("limits", "open_files_are_as_many_as_the_pod_says");
    "sockets, accepted ones included", "skiff.dev/sockets", || l::SOCKETS_MAX.to_string(),
        "error to the guest: `new-socket-limit`, 0.3 `out-of-memory`; a connection to accept is closed", "sockets",
        in_worker!("sockets/tests", "sockets_are_counted_over_all_instances_accepted_ones_too");
    "outgoing HTTP calls in flight", "skiff.dev/outgoing-requests", || l::OUTGOING_REQUESTS_MAX.to_string(),
        "error to the guest: `connection-limit-reached`", "outgoing-requests",
        in_worker!("counts", "instances_share_an_allowance_and_give_it_back");
    "connections to an HTTP server", "skiff.dev/connections", || l::CONNECTIONS_MAX.to_string(), "the next is closed at once", "connections",
        in_tests!("limits", "a_connection_too_many_is_closed");
    "requests at once, each in an instance of its own", "skiff.dev/requests", || l::REQUESTS_AT_ONCE.to_string(), "waits its turn", "",
        in_tests!("limits", "requests_over_the_limit_wait_in_the_queue");
    "requests that wait", "skiff.dev/request-queue", || l::REQUESTS_WAITING.to_string(), "503 with Retry-After", "requests",
        in_tests!("limits", "requests_over_the_limit_and_the_queue_are_answered_503");
    "requests of one instance, one after another", "skiff.dev/instance-reuse", || "1".to_owned(), "the next has a new instance", "",
        in_tests!("servers", "an_instance_serves_as_many_requests_as_asked_unless_it_fails");
    "time of one request", "skiff.dev/request-deadline", || seconds(l::REQUEST_DEADLINE), "504, instance dropped", "request-deadline",
        in_tests!("limits", "a_request_over_its_deadline_is_answered_504");
    "handles of an instance: resources, streams, futures, tasks", "skiff.dev/handles", || l::HANDLES_MAX.to_string(), "trap", "handles", "";
    "bytes of the namespace's buckets on the node, at most 1 GiB", "skiff.dev/keyvalue-bytes", || bytes(l::BUCKETS_BYTES), "error to the guest", "",
        in_worker!("keyvalue/tests", "a_full_quota_refuses_growth_whole_and_lets_shrink");
    "keys of the namespace's buckets on the node", "skiff.dev/keyvalue-keys", || l::BUCKETS_KEYS.to_string(), "error to the guest", "",
        in_worker!("keyvalue/tests", "a_full_quota_refuses_growth_whole_and_lets_shrink");
    "log bytes per second, eight times as many at once", "skiff.dev/log-rate", || bytes(l::LOG_BYTES_PER_SECOND),
        "lines dropped, a record says how many", "log-rate",
        in_tests!("commands", "a_log_flood_is_bounded_and_said");
};

/// Limits of the runtime, the same for every container.
#[rustfmt::skip]
pub const OF_THE_RUNTIME: &[Row] = rows! {
    "module file", "", || bytes(l::MODULE_BYTES_MAX), "image refused", "", "";
    "wall time of compiling", "", || seconds(l::COMPILE_DEADLINE), "image refused, others are not delayed", "", "";
    "CPU time of compiling", "", || format!("{} s", l::COMPILE_CPU_SECONDS), "image refused", "", "";
    "memory of compiling", "", || bytes(l::COMPILE_ADDRESS_SPACE), "image refused", "", "";
    "log line", "", || bytes(l::LOG_LINE_BYTES_MAX as u64), "cut into partial records, joined again by `kubectl logs`", "",
        in_worker!("logs", "a_huge_line_is_cut_into_partial_records");
    "log file, and how many are kept", "", || format!("{}, {}", bytes(l::LOG_FILE_BYTES_MAX), l::LOG_FILES_MAX), "the oldest is removed", "",
        in_worker!("logs", "full_files_are_rotated_and_the_oldest_go");
    "guest stack", "", || bytes(l::WASM_STACK_BYTES as u64), "trap, 134", "stack",
        in_tests!("commands", "a_trap_ends_with_134_and_its_backtrace_in_message_and_log");
    "elements of a table", "", || l::TABLE_ELEMENTS_MAX.to_string(), "growing it fails", "",
        in_tests!("commands", "growing_over_the_memory_limit_is_oom_killed");
    "core instances, memories, tables of a component", "",
        || format!("{}, {}, {}", l::CORE_INSTANCES_PER_COMPONENT, l::MEMORIES_PER_COMPONENT, l::TABLES_PER_COMPONENT), "refused", "", "";
    "open files, sockets, streams of one instance", "", || l::RESOURCES_MAX.to_string(), "error to the guest, or trap", "handles",
        in_tests!("commands", "open_files_are_bounded");
    "bytes handed over in one host call", "", || bytes(l::HOSTCALL_FUEL as u64), "trap; preview 1: `nomem`", "host-call-bytes",
        in_tests!("hostile", "giant_arguments_are_refused");
    "bytes of randomness per call", "", || bytes(l::RANDOM_BYTES_MAX), "trap", "", "";
    "one key, one value of a bucket", "", || format!("{}, {}", bytes(l::KEY_BYTES_MAX as u64), bytes(l::VALUE_BYTES_MAX as u64)), "error to the guest", "",
        in_worker!("keyvalue/tests", "a_full_quota_refuses_growth_whole_and_lets_shrink");
    "values read from a bucket in one call", "", || bytes(l::READ_BYTES_MAX as u64), "error to the guest", "", "";
    "`wasi:logging`: message, context", "", || format!("{}, {} characters", bytes(l::LOG_MESSAGE_BYTES_MAX as u64), l::LOG_CONTEXT_CHARS_MAX), "cut", "",
        in_worker!("services/logging", "each_line_says_level_and_context");
    "time after the client has its response", "", || seconds(l::AFTER_RESPONSE), "instance dropped, when the client is gone", "", "";
    "time for the headers of a request", "", || seconds(l::HEADER_DEADLINE), "connection closed", "", "";
    "header fields of a message", "", || bytes(l::FIELDS_BYTES_MAX as u64), "trap; WASI 0.3: error to the guest", "",
        in_tests!("hostile", "header_fields_are_bounded");
    "outgoing HTTP: connecting, TLS included", "", || seconds(l::OUTGOING_CONNECT_DEADLINE), "error to the guest", "", "";
    "outgoing HTTP: waiting for bytes", "", || seconds(l::OUTGOING_READ_DEADLINE), "error to the guest", "", "";
    "live instances of a namespace on a node (fewer if `vm.max_map_count` is low)", "",
        || format!("{}, of WASI 0.3 {}", l::POOL_SLOTS, l::POOL_SLOTS_P3), "503 to the request; a command fails", "instances", "";
};

/// Hostile guests that a test provokes.
#[rustfmt::skip]
pub const FAULTS: &[Fault] = &[
    Fault { id: "G1", what: "infinite loop", tests: &[in_tests!("commands", "a_spinner_keeps_to_its_share_and_delays_nobody"), in_tests!("servers", "a_spinning_request_delays_no_other")] },
    Fault { id: "G2", what: "memory bomb", tests: &[in_tests!("commands", "growing_over_the_memory_limit_is_oom_killed"), in_tests!("servers", "running_out_of_memory_ends_the_container")] },
    Fault { id: "G3", what: "table bomb", tests: &[in_tests!("commands", "growing_over_the_memory_limit_is_oom_killed")] },
    Fault { id: "G4", what: "stack overflow", tests: &[in_tests!("commands", "a_trap_ends_with_134_and_its_backtrace_in_message_and_log")] },
    Fault { id: "G5", what: "handle exhaustion: files, sockets", tests: &[in_tests!("commands", "open_files_are_bounded"), in_tests!("limits", "open_files_are_as_many_as_the_pod_says"), in_worker!("sockets/tests", "sockets_are_counted_over_all_instances_accepted_ones_too")] },
    Fault { id: "G6", what: "stdout flood", tests: &[in_tests!("commands", "a_log_flood_is_bounded_and_said"), in_worker!("logs", "a_huge_line_is_cut_into_partial_records")] },
    Fault { id: "G8", what: "big bodies", tests: &[in_tests!("hostile", "a_response_that_nobody_reads_is_not_kept"), in_tests!("hostile", "a_request_body_that_the_guest_does_not_read_is_not_taken"), in_tests!("hostile", "a_large_request_body_goes_through_in_pieces")] },
    Fault { id: "G10", what: "storm of host calls", tests: &[in_tests!("hostile", "a_storm_of_host_calls_is_charged_to_its_guest")] },
    Fault { id: "G12", what: "DNS rebinding", tests: &[in_worker!("outgoing/tests", "a_rebound_name_is_checked_where_it_points_and_pinned_there"), in_worker!("sockets/tests", "only_granted_names_are_looked_up_and_they_grant_nothing_protected")] },
    Fault { id: "G13", what: "loopback, link-local, metadata, node and API addresses", tests: &[in_worker!("net/tests", "metadata_loopback_and_node_addresses_cannot_be_reached"), in_worker!("outgoing/tests", "protected_addresses_are_refused_by_number_and_by_name"), in_worker!("sockets/tests", "protected_and_foreign_addresses_are_refused_before_a_packet_is_sent")] },
    Fault { id: "G15", what: "trap in the start function", tests: &[in_tests!("commands", "a_trap_ends_with_134_and_its_backtrace_in_message_and_log")] },
    Fault { id: "G17", what: "tens of thousands of header fields", tests: &[in_tests!("hostile", "header_fields_are_bounded")] },
    Fault { id: "G18", what: "giant arguments", tests: &[in_tests!("hostile", "giant_arguments_are_refused")] },
    Fault { id: "G19", what: "sleep of a hundred years, a million things to wait for", tests: &[in_tests!("hostile", "a_sleep_of_a_hundred_years_can_be_stopped"), in_tests!("hostile", "giant_arguments_are_refused")] },
    Fault { id: "G23", what: "memory of a previous instance", tests: &[in_tests!("servers", "a_server_answers_and_each_request_has_an_instance_of_its_own")] },
    Fault { id: "G24", what: "create/trap/drop cycles", tests: &[in_tests!("limits", "instances_that_trap_leave_nothing_behind")] },
];
