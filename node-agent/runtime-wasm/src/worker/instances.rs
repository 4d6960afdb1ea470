//! The live instances of a container, for whoever looks into it.
//!
//! An instance is on the list while its store lives. What it grew to is noted as it grows; its stack is told by itself, at
//! the next interruption of its code, to those who ask.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

use wasmtime::{AsContext, WasmBacktrace};

/// Live instances of one container.
#[derive(Default)]
pub(crate) struct Instances {
    next: AtomicU64,
    live: Mutex<BTreeMap<u64, Arc<Instance>>>,
}

pub(crate) struct Instance {
    pub(crate) id: u64,
    pub(crate) since: Instant,
    what: Mutex<Option<Arc<str>>>,
    sizes: Mutex<Sizes>,
    /// Somebody waits for its stack.
    asked: AtomicBool,
    asking: Mutex<Option<mpsc::SyncSender<Vec<String>>>>,
}

/// Of each memory in bytes, of each table in elements. Which is which the engine does not tell: a growth is that of one
/// with the size before it, and two of the same size are alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) memories: Vec<u64>,
    pub(crate) tables: Vec<u64>,
}

impl Sizes {
    fn change(&mut self, table: bool, from: u64, to: u64) {
        let sizes = if table { &mut self.tables } else { &mut self.memories };
        // What is empty is not listed.
        let at = sizes.iter().position(|size| *size == from && from != 0);
        match at {
            Some(at) if to == 0 => drop(sizes.remove(at)),
            Some(at) => sizes[at] = to,
            None if to == 0 => {}
            None => sizes.push(to),
        }
    }
}

/// An instance's place on the list, given up by its drop.
pub(crate) struct Live {
    instance: Arc<Instance>,
    all: Arc<Instances>,
}

impl Instances {
    fn live(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Instance>>> {
        self.live.lock().expect("no panic happens while the instances are held")
    }

    pub(crate) fn add(self: &Arc<Self>) -> Live {
        let instance = Arc::new(Instance {
            id: self.next.fetch_add(1, Ordering::Relaxed) + 1,
            since: Instant::now(),
            what: Mutex::default(),
            sizes: Mutex::default(),
            asked: AtomicBool::new(false),
            asking: Mutex::default(),
        });
        self.live().insert(instance.id, instance.clone());
        Live {
            instance,
            all: self.clone(),
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Instance>> {
        self.live().values().cloned().collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.live().len()
    }
}

impl Instance {
    pub(crate) fn what(&self) -> Arc<str> {
        self.what
            .lock()
            .expect("no panic happens while a name is held")
            .clone()
            .unwrap_or_default()
    }

    pub(crate) fn sizes(&self) -> Sizes {
        self.sizes
            .lock()
            .expect("no panic happens while sizes are held")
            .clone()
    }

    /// Asks for the stack; it is sent when guest code is interrupted next, which is never while it waits for the host.
    pub(crate) fn ask(&self) -> mpsc::Receiver<Vec<String>> {
        let (answer, answered) = mpsc::sync_channel(1);
        *self.asking.lock().expect("no panic happens while a question is held") = Some(answer);
        self.asked.store(true, Ordering::Release);
        answered
    }
}

impl Live {
    /// Says what it does: a command's arguments, or a request's line.
    pub(crate) fn does(&self, what: Arc<str>) {
        *self
            .instance
            .what
            .lock()
            .expect("no panic happens while a name is held") = Some(what);
    }

    /// A memory or table that grew, or whose growth is taken back. Elements of a table, bytes of a memory; 0 before = a new one.
    pub(crate) fn grew(&self, table: bool, from: u64, to: u64) {
        let mut sizes = self
            .instance
            .sizes
            .lock()
            .expect("no panic happens while sizes are held");
        sizes.change(table, from, to);
    }

    /// Answers who asked. Called from the epoch callback: one load when nobody did.
    pub(crate) fn interrupted(&self, store: impl AsContext) {
        if !self.instance.asked.load(Ordering::Relaxed) || !self.instance.asked.swap(false, Ordering::AcqRel) {
            return;
        }
        let asking = self
            .instance
            .asking
            .lock()
            .expect("no panic happens while a question is held")
            .take();
        if let Some(asking) = asking {
            let frames = WasmBacktrace::force_capture(store).to_string();
            let _ = asking.try_send(frames.lines().map(|line| line.trim().to_owned()).collect());
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.all.live().remove(&self.instance.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lives_is_on_the_list_with_its_sizes() {
        let all = Arc::<Instances>::default();
        let first = all.add();
        let second = all.add();
        first.does("GET /".into());
        first.grew(false, 0, 65_536);
        first.grew(false, 0, 65_536);
        first.grew(false, 65_536, 131_072);
        first.grew(true, 0, 7);
        drop(second);
        let [found] = &all.all()[..] else { panic!("one") };
        assert_eq!((found.id, &*found.what()), (1, "GET /"));
        let sizes = || (found.sizes().memories, found.sizes().tables);
        assert_eq!(sizes(), (vec![131_072, 65_536], vec![7]));
        // Taken back, and a memory that is empty at first.
        first.grew(false, 65_536, 196_608);
        first.grew(false, 196_608, 65_536);
        first.grew(false, 0, 0);
        assert_eq!(sizes(), (vec![131_072, 65_536], vec![7]));
        drop(first);
        assert_eq!(all.count(), 0);
    }
}
