//! Every limit on what a client may hold or send, with its reason.

use std::time::Duration;

/// Open connections. Each costs about 40 KiB of buffers; an edge cluster of 1,000 nodes needs two each.
pub const CONNECTIONS_MAX: usize = 4_096;
/// TLS handshakes at once: the only work that a stranger can cause before showing anything. More wait in the backlog.
pub const HANDSHAKES_MAX: usize = 128;
/// A handshake takes three round trips; a slow radio link needs a few seconds.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// After the handshake the first request must begin within this.
pub const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(10);
/// From the first byte of a head to its end, and how long an idle HTTP/1.1 connection is kept; kube-apiserver has 32 s.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(32);
/// A peer that takes nothing for this long is gone; its connection is closed.
pub const WRITE_STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// An idle peer is asked for a sign of life after this, then so often and so many times: gone within two minutes.
pub const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(60);
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
pub const KEEP_ALIVE_TRIES: u32 = 4;
/// Header fields of one request; Go's clients send about ten, impersonation some more.
pub const HEADERS_MAX: usize = 128;
/// All header fields together. A ServiceAccount token takes 1 KiB, Go's own limit is 1 MiB.
pub const HEADER_BYTES_MAX: u32 = 64 * 1024;
/// Read buffer of an HTTP/1.1 connection, and so its longest head.
pub const HTTP1_BUFFER_MAX: usize = 96 * 1024;
/// Streams of one HTTP/2 connection; kube-apiserver has 100. Our own agents multiplex everything.
pub const HTTP2_STREAMS_MAX: u32 = 256;
/// Streams that a client may reset before they were answered, before its connection is closed (rapid reset).
pub const HTTP2_RESETS_MAX: usize = 64;
/// Streams that the server resets for a client's protocol errors before it closes the connection.
pub const HTTP2_ERRORS_MAX: usize = 64;
/// Flow-control windows: one body of the largest size must not need many round trips, many streams not much memory.
pub const HTTP2_STREAM_WINDOW: u32 = 512 * 1024;
pub const HTTP2_CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// Bytes buffered for sending per stream.
pub const HTTP2_SEND_BUFFER_MAX: usize = 512 * 1024;
/// Ping interval and patience on HTTP/2: finds peers that vanished without a FIN.
pub const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(30);
pub const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Requests in work at once for ordinary clients; kube-apiserver has 400 + 200. More are told to come back.
pub const REQUESTS_MAX: usize = 600;
/// The same for the system's own identities: a burst of users must not stop heartbeats.
pub const SYSTEM_REQUESTS_MAX: usize = 2_000;
/// Open watches (and other long answers) of ordinary clients. One costs about 10 KiB.
pub const WATCHES_MAX: usize = 10_000;
/// The same for the system's own identities: a few per node.
pub const SYSTEM_WATCHES_MAX: usize = 20_000;
/// Sessions of exec, attach and port-forward at once. One costs up to about 1 MiB when its client does not read.
pub const SESSIONS_MAX: usize = 1_000;
/// What a client that was refused should wait.
pub const RETRY_AFTER_SECONDS: u32 = 1;

/// Body of a request; kube-apiserver's limit.
pub const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// A body may take this long whatever its size …
pub const BODY_TIMEOUT_BASE: Duration = Duration::from_secs(10);
/// … and must then average at least this many bytes a second.
pub const BODY_RATE_MIN: u64 = 8 * 1024;
/// Operations of one JSON patch; kube-apiserver's limit.
pub const JSON_PATCH_OPERATIONS_MAX: usize = 10_000;
/// All of an object's annotations, keys and values; kube-apiserver's limit.
pub const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

/// Answers from this size on are compressed for who accepts it; kube-apiserver's limit.
pub const GZIP_MIN_BYTES: usize = 128 * 1024;
/// Pieces in which large answers are produced: a TLS record is 16 KiB, and 64 KiB amortises the rest.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// How long a read waits for the cache to reach the revision that it asks for; kube-apiserver's 3 s.
pub const CACHE_WAIT_MAX: Duration = Duration::from_secs(3);
/// Interval of watch bookmarks; kube-apiserver's about one minute.
pub const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// A watch without `timeoutSeconds` ends after a random time from here to twice that; kube-apiserver's.
pub const WATCH_TIMEOUT_MIN: Duration = Duration::from_secs(1_800);
/// After a stop was asked for, running requests get this long.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The deadlines of a connection, gathered so that tests may shorten them.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    pub handshake: Duration,
    pub first_bytes: Duration,
    pub header: Duration,
    pub write_stall: Duration,
    pub body_base: Duration,
}

impl Timeouts {
    pub const STANDARD: Self = Self {
        handshake: HANDSHAKE_TIMEOUT,
        first_bytes: FIRST_BYTES_TIMEOUT,
        header: HEADER_TIMEOUT,
        write_stall: WRITE_STALL_TIMEOUT,
        body_base: BODY_TIMEOUT_BASE,
    };
}
