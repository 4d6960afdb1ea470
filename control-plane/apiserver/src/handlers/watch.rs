//! GET with `watch`: shared frames out of the cache, chosen and translated by the watch's selectors.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use hyper::Response;
use serde_json::Value;
use skiff_api::selector::{FieldRequirement, FieldSelector};
use skiff_api::status::{ApiResult, ApiStatus};
use skiff_store::watch_cache::{CachedObject, Expired, Interest, Watcher};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Scope;
use super::get::parse_revision;
use super::options::ListOptions;
use crate::body::{Body, BodyError};
use crate::limits;
use crate::negotiate::{self, Form, JSON};
use crate::registry::cache_status;

/// Fields that many watchers select by, each its own value: agents their node.
const INTEREST_FIELDS: [&str; 1] = ["spec.nodeName"];

mod encode;
mod select;

use encode::Encoder;

pub async fn handle(scope: Scope) -> ApiResult<Response<Body>> {
    let form = Form::negotiate_watch(&scope.parts)?;
    let mut options = ListOptions::parse(&scope.query, &scope.resource, true)?;
    if !scope.name.is_empty() {
        // The legacy path of one object.
        let by_name = FieldRequirement {
            field: "metadata.name".into(),
            value: scope.name.clone(),
            negated: false,
        };
        let mut requirements = options.fields.requirements().to_vec();
        requirements.push(by_name);
        options.fields = FieldSelector::new(requirements);
    }
    let encoder = Encoder::new(&scope, &form)?;
    let start = start(&scope, &options).await?;
    let now = Instant::now();
    let deadline = now + timeout(&options);
    let mut stream = WatchStream {
        encoder,
        namespace: scope.namespace.clone(),
        initial: VecDeque::new(),
        end_bookmark: None,
        watcher: None,
        ended: false,
        deadline: Box::pin(sleep_until(deadline)),
        bookmark_at: Box::pin(sleep_until(now + limits::BOOKMARK_INTERVAL)),
        draining: scope.server.draining.clone(),
        options,
    };
    match start {
        Start::Watching {
            mut watcher,
            initial,
            end_bookmark,
        } => {
            if initial && let Some(snapshot) = watcher.initial.take() {
                stream.end_bookmark = end_bookmark.then_some(snapshot.revision);
                stream.initial = snapshot
                    .iter()
                    .filter(|object| stream.in_namespace(object) && super::list::selects(&stream.options, object))
                    .cloned()
                    .collect();
            }
            stream.watcher = Some(watcher);
        }
        Start::Expired { from, expired } => {
            let frame = encode::error_frame(&too_old(from, expired));
            return Ok(negotiate::response_with_type(200, JSON, Body::full(frame)));
        }
    }
    let body = Body::stream(stream::unfold(stream, |mut stream| async move {
        let piece = stream.next().await?;
        Some((Ok::<Bytes, BodyError>(piece), stream))
    }));
    Ok(negotiate::response_with_type(200, JSON, body))
}

enum Start {
    Watching {
        watcher: Watcher,
        initial: bool,
        end_bookmark: bool,
    },
    Expired {
        from: u64,
        expired: Expired,
    },
}

/// Where the watch begins: at a revision, or with the current state.
async fn start(scope: &Scope, options: &ListOptions) -> ApiResult<Start> {
    let cache = &scope.resource.cache;
    let version = options.resource_version.as_str();
    let revision = if version.is_empty() {
        0
    } else {
        parse_revision(version)?
    };
    let watch_list = options.send_initial_events == Some(true);
    if revision > 0 && !watch_list {
        return Ok(match cache.watch_for(interest(scope, options), Some(revision)) {
            Ok(watcher) => Start::Watching {
                watcher,
                initial: false,
                end_bookmark: false,
            },
            Err(expired) => Start::Expired {
                from: revision,
                expired,
            },
        });
    }
    if revision > 0 {
        cache
            .wait_for(revision, limits::CACHE_WAIT_MAX)
            .await
            .map_err(cache_status)?;
    } else if version.is_empty() {
        cache.fresh().await.map_err(cache_status)?;
    }
    let initial = options.send_initial_events != Some(false);
    match cache.watch_for(interest(scope, options), None) {
        Ok(watcher) => Ok(Start::Watching {
            watcher,
            initial,
            end_bookmark: watch_list && options.bookmarks,
        }),
        Err(expired) => Ok(Start::Expired {
            from: revision,
            expired,
        }),
    }
}

/// Which part of the events the watch can be about at all: the narrowest that its namespace or selector says. Only fields
/// by which the cache tells objects apart; aliases and the rest are the selector's work.
fn interest(scope: &Scope, options: &ListOptions) -> Interest {
    for field in INTEREST_FIELDS {
        if let Some(value) = options.fields.exact_value(field)
            && scope
                .resource
                .strategy
                .selectable_fields(&Value::Null)
                .iter()
                .any(|(known, _)| *known == field)
        {
            return Interest::Field(field, value.to_owned());
        }
    }
    if let Some(name) = options.fields.exact_value("metadata.name") {
        return Interest::Field("metadata.name", name.to_owned());
    }
    if !scope.namespace.is_empty() {
        return Interest::Namespace(scope.namespace.clone());
    }
    Interest::All
}

/// 410, as an event.
fn too_old(from: u64, expired: Expired) -> Box<ApiStatus> {
    ApiStatus::expired(format!("too old resource version: {from} ({})", expired.oldest))
}

/// How long the watch lasts: as asked, else between one and two times `WATCH_TIMEOUT_MIN`, so that watches of a restarted
/// server do not end together.
fn timeout(options: &ListOptions) -> Duration {
    match options.timeout_seconds {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds),
        _ => {
            let random = uuid::Uuid::new_v4().as_u128() as u64;
            let spread = limits::WATCH_TIMEOUT_MIN.as_millis() as u64;
            limits::WATCH_TIMEOUT_MIN + Duration::from_millis(random % spread)
        }
    }
}

/// One open watch.
struct WatchStream {
    options: ListOptions,
    /// `""` = all.
    namespace: String,
    encoder: Encoder,
    /// Objects still to be sent as ADDED.
    initial: VecDeque<Arc<CachedObject>>,
    /// Revision of the bookmark that ends the initial events.
    end_bookmark: Option<u64>,
    watcher: Option<Watcher>,
    ended: bool,
    deadline: Pin<Box<Sleep>>,
    bookmark_at: Pin<Box<Sleep>>,
    draining: tokio_util::sync::CancellationToken,
}

impl WatchStream {
    fn in_namespace(&self, object: &CachedObject) -> bool {
        self.namespace.is_empty() || self.namespace == object.namespace
    }

    /// The next bytes to send; `None` ends the watch.
    async fn next(&mut self) -> Option<Bytes> {
        if !self.initial.is_empty() {
            return Some(self.initial_piece());
        }
        if let Some(revision) = self.end_bookmark.take() {
            return Some(self.encoder.bookmark(revision, true));
        }
        while !self.ended {
            let watcher = self.watcher.as_mut()?;
            let batch = tokio::select! {
                batch = watcher.next() => batch,
                () = self.bookmark_at.as_mut(), if self.options.bookmarks => {
                    self.bookmark_at.as_mut().reset(Instant::now() + limits::BOOKMARK_INTERVAL);
                    let revision = watcher.progress();
                    return Some(self.encoder.bookmark(revision, false));
                }
                () = self.deadline.as_mut() => {
                    self.ended = true;
                    // A last bookmark lets the client go on from here instead of from its last event.
                    return self.options.bookmarks.then(|| self.encoder.bookmark(watcher.progress(), false));
                }
                () = self.draining.cancelled() => return None,
            };
            match batch {
                Ok(batch) => {
                    if let Some(piece) = self.events_piece(&batch.events) {
                        return Some(piece);
                    }
                }
                Err(expired) => {
                    self.ended = true;
                    let from = watcher.progress();
                    return Some(encode::error_frame(&too_old(from, expired)));
                }
            }
        }
        None
    }

    /// Some of the initial objects as ADDED lines.
    fn initial_piece(&mut self) -> Bytes {
        let mut out = BytesMut::with_capacity(limits::CHUNK_BYTES);
        while out.len() < limits::CHUNK_BYTES {
            let Some(object) = self.initial.pop_front() else { break };
            self.encoder.write(&mut out, "ADDED", &object.bytes);
        }
        out.freeze()
    }

    /// The selected ones of a batch, as one piece; shared with other watches when it is a single line.
    fn events_piece(&mut self, events: &[Arc<skiff_store::watch_cache::CacheEvent>]) -> Option<Bytes> {
        let mut single: Option<Bytes> = None;
        let mut out = BytesMut::new();
        for event in events {
            if !self.in_namespace(&event.object) {
                continue;
            }
            let Some(seen) = select::translate(&self.options, event) else {
                continue;
            };
            let line = self.encoder.event(event, seen);
            match single.take() {
                None if out.is_empty() => single = Some(line),
                None => out.put_slice(&line),
                Some(first) => {
                    out.put_slice(&first);
                    out.put_slice(&line);
                }
            }
        }
        single.or_else(|| (!out.is_empty()).then(|| out.freeze()))
    }
}
