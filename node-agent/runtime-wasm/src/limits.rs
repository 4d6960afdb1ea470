//! Every bound of this runtime, each with its reason. `limits_table.rs` says of each what it bounds and what happens over it.

use std::time::Duration;

/// Largest module accepted: JavaScript and Python guests are 13 to 18 MB.
pub const MODULE_BYTES_MAX: u64 = 256 << 20;
/// Largest image manifest accepted; registries themselves refuse more than 4 MiB.
pub const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Largest frame between agent and worker: a list of 10,000 pods is 6 MB.
pub const FRAME_BYTES_MAX: u32 = 32 << 20;
/// Longest message kept of a container's end; kubelet keeps 4 KiB of a termination message.
pub const MESSAGE_BYTES_MAX: usize = 4096;

/// How often guests on a core are interrupted: the longest that another waits for its turn. 2 ms cost 1.3 % of a core while
/// guests run, and nothing while none do.
pub const TICK: Duration = Duration::from_millis(1);
/// The time slice that commands ask of the kernel, longer than its own 1 to 3 ms: a thread that wakes up takes the core
/// from one with a longer slice at once, and from others at the end of their slice only, looked at every 4 ms.
pub const COMMAND_SLICE: Duration = Duration::from_millis(10);
/// The ticker's, the shortest there is: it works for a microsecond, and while it waits no guest is interrupted.
pub const TICKER_SLICE: Duration = Duration::from_micros(100);
/// The ticker goes on this long after the last guest left the core, so that busy servers do not wake it per request.
pub const TICKER_LINGER: Duration = Duration::from_millis(20);
/// CPU time a limited guest may save up and spend at once. 20 ms gave the steadiest shares of those measured.
pub const CPU_BURST: Duration = Duration::from_millis(20);

/// Native stack of a guest, in the pool whether used or not (virtual memory).
pub const ASYNC_STACK_BYTES: usize = 1 << 20;
/// Of which guest code may use this much; the rest is for host calls.
pub const WASM_STACK_BYTES: usize = 512 << 10;
/// Memory kept in the pool per slot after use instead of being given back: spares the page faults of the next instance.
pub const KEEP_RESIDENT_MEMORY: usize = 256 << 10;
pub const KEEP_RESIDENT_TABLE: usize = 64 << 10;
pub const KEEP_RESIDENT_STACK: usize = 64 << 10;
/// Pool slots of one worker, unless `vm.max_map_count` allows fewer. A slot costs two maps of the kernel even unused.
pub const POOL_SLOTS: u32 = 4000;
/// Slots of the second engine, which only WASI 0.3 guests use.
pub const POOL_SLOTS_P3: u32 = 500;
/// Maps that the process needs beside the pool.
pub const MAPS_RESERVED: u32 = 2000;
/// Maps per live instance: two for its stack slot, four when it is used.
pub const MAPS_PER_SLOT: u32 = 6;
/// Elements of one table; the largest guest seen (CPython) has 12,000 functions in its table.
pub const TABLE_ELEMENTS_MAX: usize = 100_000;
/// Bytes that one table element takes.
pub const TABLE_ELEMENT_BYTES: u64 = 8;
/// Core instances, memories and tables of one component: adapters and shims make four to ten of a plain guest.
pub const CORE_INSTANCES_PER_COMPONENT: u32 = 64;
pub const MEMORIES_PER_COMPONENT: u32 = 8;
pub const TABLES_PER_COMPONENT: u32 = 32;

/// Bytes a guest may hand over in one host call; the library's default of 128 MiB would let it exhaust the host.
pub const HOSTCALL_FUEL: usize = 8 << 20;
/// Component handles per instance (resources the guest holds).
pub const HANDLES_MAX: usize = 4096;
/// Entries of the host's resource table per instance: open files, sockets, streams, pollables.
pub const RESOURCES_MAX: usize = 2048;
/// Files and directories, sockets, and outgoing HTTP calls of one container at once, over all its instances. A node's
/// descriptors are shared by hundreds of containers.
pub const OPEN_FILES_MAX: usize = 16_384;
pub const SOCKETS_MAX: usize = 4096;
pub const OUTGOING_REQUESTS_MAX: usize = 512;
/// Bytes of randomness per call.
pub const RANDOM_BYTES_MAX: u64 = 1 << 20;
/// Largest piece of an outgoing body that a guest may hand over at once; two are held per stream.
pub const BODY_CHUNK_BYTES: usize = 64 << 10;
/// Header fields of one request or response, in memory.
pub const FIELDS_BYTES_MAX: usize = 128 << 10;

/// Log bytes per second and container, and how many may be saved up.
pub const LOG_BYTES_PER_SECOND: u64 = 1 << 20;
pub const LOG_BURST_BYTES: u64 = 8 << 20;
/// Longest piece of a line in the log; longer lines are cut into partial (`P`) records as containerd does.
pub const LOG_LINE_BYTES_MAX: usize = 16 << 10;
/// Characters kept of the context of a `wasi:logging` message, and bytes of the message: the context is repeated on each line.
pub const LOG_CONTEXT_CHARS_MAX: usize = 64;
pub const LOG_MESSAGE_BYTES_MAX: usize = 64 << 10;
/// `wasi:keyvalue`: what all buckets of a namespace hold together on a node, names included, unless the pod says otherwise;
/// and the bytes that no pod can ask beyond.
pub const BUCKETS_BYTES: u64 = 64 << 20;
pub const BUCKETS_KEYS: u64 = 100_000;
pub const BUCKETS_BYTES_MAX: u64 = 1 << 30;
/// One name, key and value. A value is held in memory several times on its way to the disk.
pub const BUCKET_NAME_BYTES_MAX: usize = 64;
pub const KEY_BYTES_MAX: usize = 1024;
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Values that one call reads together, and keys that it lists.
pub const READ_BYTES_MAX: usize = 8 << 20;
pub const KEYS_PER_PAGE: usize = 1000;
/// Memory for pages of the file, per namespace that uses buckets.
pub const BUCKETS_CACHE_BYTES: usize = 4 << 20;
/// Writes that wait for the disk, and that one commit takes: a commit is a wait for the disk however many there are.
pub const WRITES_QUEUE: usize = 256;
pub const WRITES_TOGETHER: usize = 64;
/// A log file is rotated at this size; so many are kept, the current one included (kubelet's defaults).
pub const LOG_FILE_BYTES_MAX: u64 = 10 << 20;
pub const LOG_FILES_MAX: u32 = 5;

/// Requests of one container that run at once, each in an instance of its own.
pub const REQUESTS_AT_ONCE: usize = 64;
/// Requests that wait for their turn; beyond it the answer is 503.
pub const REQUESTS_WAITING: usize = 512;
/// An instance that waits this long for its next request is ended.
pub const WARM_IDLE: Duration = Duration::from_secs(10);
/// Seconds in Retry-After of a 503.
pub const RETRY_AFTER_SECONDS: &str = "1";
/// Wall time of one request from its first byte to the end of its guest.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(60);
/// A guest may go on for so long after the client has the whole response.
pub const AFTER_RESPONSE: Duration = Duration::from_secs(5);
/// A client must have sent its headers by then.
pub const HEADER_DEADLINE: Duration = Duration::from_secs(10);
/// Connections that one container accepts at once.
pub const CONNECTIONS_MAX: usize = 4096;
/// An outgoing call: connecting (TLS included), first byte, between bytes. The library's default is 600 s.
pub const OUTGOING_CONNECT_DEADLINE: Duration = Duration::from_secs(10);
pub const OUTGOING_READ_DEADLINE: Duration = Duration::from_secs(60);

/// Threads that carry out the guests' file accesses; a guest has one in flight at a time.
pub const BLOCKING_THREADS_MAX: usize = 16;
/// A worker without pods ends after this long.
pub const WORKER_IDLE: Duration = Duration::from_secs(60);
/// How often a worker looks whether it still has pods.
pub const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// The agent waits this long for a worker to start or to answer.
pub const WORKER_START_DEADLINE: Duration = Duration::from_secs(10);
/// A new worker waits this long for a killed one to be gone, looking again after each pause.
pub const WORKER_LOCK_DEADLINE: Duration = Duration::from_secs(5);
pub const WORKER_LOCK_PAUSE: Duration = Duration::from_millis(2);
pub const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// Events a worker may queue for a slow agent before the agent must read the whole list again.
pub const EVENTS_QUEUE: usize = 4096;

/// Limits of the compile child: memory, CPU seconds, wall time, size of what it writes.
pub const COMPILE_ADDRESS_SPACE: u64 = 6 << 30;
pub const COMPILE_CPU_SECONDS: u64 = 300;
pub const COMPILE_DEADLINE: Duration = Duration::from_secs(300);
pub const COMPILE_FILE_BYTES_MAX: u64 = 2 << 30;
/// The compile service may hold a question for so long: at first short, so that a pod says soon what it waits for.
pub const SERVICE_FIRST_WAIT: Duration = Duration::from_secs(1);
pub const SERVICE_WAIT: Duration = Duration::from_secs(10);
/// It may take so long altogether: a queue of modules before ours, each with the compiler's own deadline.
pub const SERVICE_PATIENCE: Duration = Duration::from_secs(3600);
/// And send nothing of the code for so long.
pub const SERVICE_SILENCE: Duration = Duration::from_secs(30);
/// Compile children at once: compiling must not starve the guests that run, nor a huge module hold up a small one.
pub const COMPILES_AT_ONCE: usize = 2;
