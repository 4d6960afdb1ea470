//! The ticker that interrupts guests: the engines' epochs grow while guests are on a core, and only then.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use wasmtime::Engine;

use super::slice::run_in_slices;
use crate::limits;

/// Increments the engines' epochs while guests are on a core. An OS thread: a runaway guest cannot hold it up.
pub(crate) struct Ticker {
    on_core: AtomicUsize,
    parked: AtomicBool,
    engines: Mutex<Vec<Engine>>,
    thread: OnceLock<std::thread::Thread>,
}

/// The process's ticker.
pub(crate) fn ticker() -> &'static Ticker {
    static TICKER: Ticker = Ticker {
        on_core: AtomicUsize::new(0),
        parked: AtomicBool::new(false),
        engines: Mutex::new(Vec::new()),
        thread: OnceLock::new(),
    };
    &TICKER
}

impl Ticker {
    /// Adds an engine; the first starts the thread.
    pub(crate) fn add(&'static self, engine: &Engine) -> std::io::Result<()> {
        self.engines
            .lock()
            .expect("no panic happens while the engines are held")
            .push(engine.clone());
        if self.thread.get().is_none() {
            let thread = std::thread::Builder::new()
                .name("epoch-ticker".into())
                .stack_size(64 << 10)
                .spawn(move || {
                    // Where the kernel refuses, ticks are late on a busy machine.
                    let _ = run_in_slices(0, limits::TICKER_SLICE);
                    self.run();
                })?
                .thread()
                .clone();
            let _ = self.thread.set(thread);
        }
        Ok(())
    }

    /// A guest comes onto a core.
    pub(super) fn enter(&self) {
        if self.on_core.fetch_add(1, Ordering::SeqCst) == 0
            && self.parked.load(Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// It leaves it.
    pub(super) fn leave(&self) {
        self.on_core.fetch_sub(1, Ordering::SeqCst);
    }

    fn run(&self) {
        let linger = (limits::TICKER_LINGER.as_nanos() / limits::TICK.as_nanos()) as u32;
        loop {
            self.parked.store(true, Ordering::SeqCst);
            while self.on_core.load(Ordering::SeqCst) == 0 {
                std::thread::park();
            }
            self.parked.store(false, Ordering::SeqCst);
            let mut idle = 0;
            while idle < linger {
                std::thread::sleep(limits::TICK);
                for engine in self
                    .engines
                    .lock()
                    .expect("no panic happens while the engines are held")
                    .iter()
                {
                    engine.increment_epoch();
                }
                idle = if self.on_core.load(Ordering::SeqCst) == 0 {
                    idle + 1
                } else {
                    0
                };
            }
        }
    }
}
