//! The task behind a cache: list, then watch, and list again when history is gone.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};

use super::Inner;
use super::object::{CachedObject, EventKind, Maker};
use super::objects::Objects;
use super::state::Update;
use crate::{Change, DynStore, ListRequest, Store, StoreError, WatchItem};

/// Objects per page of the list: a page of 5 kB objects is 2.5 MB, well below every message limit.
const LIST_PAGE: usize = 500;
/// Watch items applied at once at most, so that the cache's lock is held for microseconds.
const APPLY_ITEMS: usize = 256;
/// Wait after a first failure, doubled up to the second number.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(2);

/// All objects at one revision; 0 = the newest.
pub(crate) async fn list_all(
    store: &dyn Store,
    maker: &Maker,
    prefix: &str,
    revision: u64,
) -> Result<(u64, Vec<Arc<CachedObject>>), StoreError> {
    let mut request = ListRequest {
        prefix: prefix.to_owned(),
        limit: LIST_PAGE,
        revision,
        ..Default::default()
    };
    let mut objects = Vec::new();
    loop {
        let page = store.list(request.clone()).await?;
        request.revision = page.revision;
        request.start_after = page.items.last().map(|item| item.key.clone());
        objects.extend(
            page.items
                .into_iter()
                .map(|item| maker.listed(item.key, &item.value, item.mod_revision)),
        );
        if page.remaining == 0 {
            return Ok((page.revision, objects));
        }
    }
}

/// Keeps `inner` up to date until the task is aborted.
pub(crate) async fn run(store: DynStore, inner: Arc<Inner>) {
    let mut wait = RETRY_FIRST;
    loop {
        match list_all(&*store, &inner.maker, &inner.maker.prefix, 0).await {
            Ok((revision, objects)) => {
                wait = RETRY_FIRST;
                inner.reset(revision, Objects::from_sorted(objects));
                follow(&store, &inner, revision).await;
            }
            Err(error) => {
                tracing::warn!(prefix = inner.maker.prefix, %error, "listing for the watch cache failed; trying again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_MOST);
            }
        }
    }
}

/// Watches from `revision` on until history is gone.
async fn follow(store: &DynStore, inner: &Inner, mut revision: u64) {
    let mut wait = RETRY_FIRST;
    loop {
        match store.watch(&inner.maker.prefix, revision).await {
            Ok(mut stream) => {
                while let Some(item) = stream.next().await {
                    wait = RETRY_FIRST;
                    let mut updates = Vec::new();
                    let mut next = Some(item);
                    let mut gone = false;
                    while let Some(item) = next {
                        match item {
                            WatchItem::Changes { revision: at, changes } => {
                                revision = at;
                                updates.extend(changes.into_iter().map(|change| update(&inner.maker, change)));
                            }
                            WatchItem::Progress { revision: at } => {
                                revision = at;
                                updates.push(Update::Progress(at));
                            }
                            WatchItem::Compacted { .. } => gone = true,
                        }
                        let more = !gone && updates.len() < APPLY_ITEMS;
                        next = if more {
                            stream.next().now_or_never().flatten()
                        } else {
                            None
                        };
                    }
                    inner.apply(updates);
                    if gone {
                        return;
                    }
                }
            }
            Err(StoreError::Compacted { .. }) => return,
            Err(error) => {
                tracing::warn!(prefix = inner.maker.prefix, %error, "watching for the watch cache failed; trying again");
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MOST);
    }
}

fn update(maker: &Maker, change: Change) -> Update {
    match change {
        Change::Put { current, previous } => {
            let kind = if previous.is_some() {
                EventKind::Modified
            } else {
                EventKind::Added
            };
            Update::Put(maker.changed(kind, current.key, &current.value, current.mod_revision))
        }
        Change::Delete {
            key,
            revision,
            previous,
        } => Update::Delete {
            key,
            stored: previous.map(|previous| previous.value),
            revision,
        },
    }
}
