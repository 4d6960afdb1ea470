//! The threads that guests run on, apart from the control socket's: a pool for commands, and one thread with a runtime
//! of its own per core for servers. No more guests run at once than there are cores ([`super::turns`]), but for servers that
//! are behind their share: the kernel takes the core from a command for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};

use super::slice::run_in_slices;
use crate::limits;

/// Commands step back behind servers and the node's own processes when cores are short: a spinning command must not be
/// felt in a server's answers.
const COMMANDS_NICE: i32 = 5;

#[derive(Clone)]
pub(crate) struct Executor(Arc<Inner>);

struct Inner {
    commands: Handle,
    servers: Vec<Handle>,
    next: AtomicUsize,
}

impl Executor {
    /// Starts the threads. They live as long as the process.
    pub(crate) fn start(threads: usize) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let commands = Builder::new_multi_thread()
            .worker_threads(threads)
            .max_blocking_threads(limits::BLOCKING_THREADS_MAX)
            .thread_name("guests")
            // Where the kernel refuses, guests are only felt more.
            .on_thread_start(|| {
                let _ = run_in_slices(COMMANDS_NICE, limits::COMMAND_SLICE);
            })
            .enable_all()
            .build()?;
        let handle = commands.handle().clone();
        // A runtime that is dropped ends its guests; this one ends with the process.
        std::mem::forget(commands);
        let mut servers = Vec::with_capacity(threads);
        for _ in 0..threads {
            let runtime = Builder::new_current_thread()
                .max_blocking_threads(limits::BLOCKING_THREADS_MAX)
                .thread_name("server-files")
                .enable_all()
                .build()?;
            servers.push(runtime.handle().clone());
            std::thread::Builder::new()
                .name("servers".into())
                .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
        }
        Ok(Self(Arc::new(Inner {
            commands: handle,
            servers,
            next: AtomicUsize::new(0),
        })))
    }

    pub(crate) fn commands(&self) -> &Handle {
        &self.0.commands
    }

    /// The next server thread in turn.
    pub(crate) fn server(&self) -> &Handle {
        let turn = self.0.next.fetch_add(1, Ordering::Relaxed);
        &self.0.servers[turn % self.0.servers.len()]
    }
}
