//! What a container has open, over all its instances: files, sockets, outgoing calls. Each kind has an allowance; what an
//! instance took is given back when it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::bounds::Bounds;
use super::hits::{Hits, Limit};

/// So many at once.
pub(crate) struct Allowance {
    most: usize,
    used: AtomicUsize,
    limit: Limit,
}

impl Allowance {
    fn new(most: usize, limit: Limit) -> Self {
        Self {
            most,
            used: AtomicUsize::new(0),
            limit,
        }
    }

    fn take(&self) -> bool {
        let next = |used: usize| (used < self.most).then_some(used + 1);
        self.used.try_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    fn give(&self, count: usize) {
        self.used.fetch_sub(count, Ordering::Relaxed);
    }
}

/// The allowances of one container.
pub(crate) struct Counts {
    files: Allowance,
    sockets: Allowance,
    outgoing: Allowance,
    hits: Arc<Hits>,
}

impl Counts {
    pub(crate) fn new(bounds: &Bounds, hits: Arc<Hits>) -> Self {
        Self {
            files: Allowance::new(bounds.open_files, Limit::OpenFiles),
            sockets: Allowance::new(bounds.sockets, Limit::Sockets),
            outgoing: Allowance::new(bounds.outgoing_requests, Limit::OutgoingRequests),
            hits,
        }
    }

    /// Open files, sockets, outgoing calls.
    pub(crate) fn in_use(&self) -> [usize; 3] {
        [&self.files, &self.sockets, &self.outgoing].map(|allowance| allowance.used.load(Ordering::Relaxed))
    }

    fn take(&self, allowance: &Allowance) -> bool {
        let taken = allowance.take();
        if !taken {
            self.hits.count(allowance.limit);
        }
        taken
    }

    /// Room for one outgoing call, or None when too many are in flight.
    pub(crate) fn outgoing(self: &Arc<Self>) -> Option<OutgoingCall> {
        self.take(&self.outgoing).then(|| OutgoingCall(self.clone()))
    }
}

/// One outgoing call in flight.
pub(crate) struct OutgoingCall(Arc<Counts>);

impl Drop for OutgoingCall {
    fn drop(&mut self) {
        self.0.outgoing.give(1);
    }
}

/// What one instance has taken.
pub(crate) struct Taken {
    counts: Arc<Counts>,
    files: AtomicUsize,
    sockets: AtomicUsize,
}

impl Taken {
    pub(crate) fn new(counts: Arc<Counts>) -> Self {
        Self {
            counts,
            files: AtomicUsize::new(0),
            sockets: AtomicUsize::new(0),
        }
    }

    /// True if the instance may have one more file open; it then has.
    pub(crate) fn file(&self) -> bool {
        let taken = self.counts.take(&self.counts.files);
        self.files.fetch_add(usize::from(taken), Ordering::Relaxed);
        taken
    }

    /// One is closed. Those that were there from the start were never taken.
    pub(crate) fn file_closed(&self) {
        give_one(&self.files, &self.counts.files);
    }

    /// True if the instance may have one more socket; it then has.
    pub(crate) fn socket(&self) -> bool {
        let taken = self.counts.take(&self.counts.sockets);
        self.sockets.fetch_add(usize::from(taken), Ordering::Relaxed);
        taken
    }

    pub(crate) fn socket_closed(&self) {
        give_one(&self.sockets, &self.counts.sockets);
    }
}

fn give_one(own: &AtomicUsize, allowance: &Allowance) {
    let less = own.try_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
    allowance.give(usize::from(less.is_ok()));
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.counts.files.give(*self.files.get_mut());
        self.counts.sockets.give(*self.sockets.get_mut());
    }
}

#[cfg(test)]
mod tests {
    use skiff_api::pod_settings::ContainerSettings;

    use super::*;

    #[test]
    fn instances_share_an_allowance_and_give_it_back() {
        let settings = ContainerSettings {
            open_files: Some(3),
            sockets: Some(0),
            outgoing_requests: Some(1),
            ..ContainerSettings::default()
        };
        let hits: Arc<Hits> = Arc::default();
        let counts = Arc::new(Counts::new(&Bounds::of(&settings), hits.clone()));
        let (first, second) = (Taken::new(counts.clone()), Taken::new(counts.clone()));
        assert!(first.file() && first.file() && second.file() && !second.file());
        first.file_closed();
        assert!(second.file() && !first.file());
        drop(second);
        assert!(first.file() && first.file() && !first.file());
        assert!(!first.socket());
        first.socket_closed();
        assert!(!first.socket(), "what was not taken cannot be given back");
        let call = counts.outgoing().expect("room for one");
        assert!(counts.outgoing().is_none());
        drop(call);
        assert!(counts.outgoing().is_some());
        assert_eq!(
            (
                hits.get(Limit::OpenFiles),
                hits.get(Limit::Sockets),
                hits.get(Limit::OutgoingRequests)
            ),
            (3, 2, 1)
        );
    }
}
