//! What a change means to a watch that selects: an object may enter or leave its view.

use skiff_store::watch_cache::{CacheEvent, EventKind};

use crate::handlers::list::selects;
use crate::handlers::options::ListOptions;

/// A change as one watch sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Added,
    Modified,
    /// The object itself was deleted.
    Deleted,
    /// It no longer matches: DELETED, showing how it last matched, at the revision of the change.
    Left,
}

/// How the watch sees the event, if at all.
pub(super) fn translate(options: &ListOptions, event: &CacheEvent) -> Option<Seen> {
    if options.selects_everything() {
        return Some(match event.kind {
            EventKind::Added => Seen::Added,
            EventKind::Modified => Seen::Modified,
            EventKind::Deleted => Seen::Deleted,
        });
    }
    let matched = event
        .previous
        .as_ref()
        .is_some_and(|previous| selects(options, previous));
    if event.kind == EventKind::Deleted {
        return matched.then_some(Seen::Deleted);
    }
    match (matched, selects(options, &event.object)) {
        (false, true) => Some(Seen::Added),
        (true, true) => Some(Seen::Modified),
        (true, false) => Some(Seen::Left),
        (false, false) => None,
    }
}
