//! The shell's end of a session: blocking reads and writes on the shell's threads, each charged to the container.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Ends, Stdin};
use crate::session::{Frame, PIECE};
use crate::worker::cpu::CpuMeter;
use crate::worker::shell::console::Console;

/// How long a throttled or waiting shell sleeps before it looks whether it was cancelled.
const NAP: Duration = Duration::from_millis(50);
/// Columns of a terminal whose size is not known.
const WIDTH: u16 = 80;
const CTRL_C: u8 = 3;

/// What was typed beside text.
#[derive(Default)]
pub(super) struct Keys {
    /// A command runs: Ctrl-C is for it.
    busy: AtomicBool,
    interrupted: AtomicBool,
    /// 0 = not known.
    width: AtomicU16,
}

impl Keys {
    /// Ctrl-C ends the command that runs, and what was typed before it is forgotten. Returns the rest.
    pub(super) fn typed<'a>(&self, stdin: &Stdin, tty: bool, bytes: &'a [u8]) -> &'a [u8] {
        if !tty || !self.busy.load(Ordering::Acquire) {
            return bytes;
        }
        let Some(at) = bytes.iter().rposition(|byte| *byte == CTRL_C) else {
            return bytes;
        };
        self.interrupted.store(true, Ordering::Release);
        stdin.clear();
        // A command that reads stdin finds it there; else the prompt does.
        &bytes[at..]
    }

    pub(super) fn resized(&self, width: u16) {
        self.width.store(width, Ordering::Relaxed);
    }
}

pub(super) struct SessionConsole {
    ends: Ends,
    cpu: Arc<CpuMeter>,
}

impl SessionConsole {
    pub(super) fn new(ends: Ends, cpu: Arc<CpuMeter>) -> Self {
        Self { ends, cpu }
    }

    /// Charges this thread's CPU time to the container, and waits while that has overspent.
    fn charge(&self) {
        while let Some(debt) = self.cpu.charge_thread() {
            if self.ends.gone.is_cancelled() {
                return;
            }
            std::thread::sleep(debt.min(NAP));
        }
    }
}

impl Console for SessionConsole {
    fn read(&self) -> Bytes {
        self.charge();
        futures::executor::block_on(self.ends.stdin.read())
    }

    fn write(&self, stderr: bool, bytes: &[u8]) -> std::io::Result<()> {
        self.charge();
        let broken = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let text = match self.ends.tty {
            true => super::output::with_returns(bytes),
            false => bytes.to_vec(),
        };
        for piece in text.chunks(PIECE) {
            if self.is_cancelled() {
                return Err(broken());
            }
            let data = Bytes::copy_from_slice(piece);
            let frame = match stderr && !self.ends.tty {
                true => Frame::Stderr(data),
                false => Frame::Stdout(data),
            };
            self.ends.frames.blocking_send(frame).map_err(|_| broken())?;
        }
        Ok(())
    }

    fn is_cancelled(&self) -> bool {
        self.charge();
        self.ends.gone.is_cancelled() || self.ends.keys.interrupted.load(Ordering::Acquire)
    }

    fn busy(&self, busy: bool) -> bool {
        self.ends.keys.busy.store(busy, Ordering::Release);
        self.ends.keys.interrupted.swap(false, Ordering::AcqRel)
    }

    fn wait(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_cancelled() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(NAP));
        }
    }

    fn width(&self) -> usize {
        match self.ends.keys.width.load(Ordering::Relaxed) {
            0 => WIDTH.into(),
            width => width.into(),
        }
    }
}
