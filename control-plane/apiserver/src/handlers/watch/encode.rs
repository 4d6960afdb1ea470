//! Watch lines: `{"type":…,"object":…}` and a line feed.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};
use skiff_api::object;
use skiff_api::status::{ApiResult, ApiStatus};
use skiff_store::watch_cache::CacheEvent;

use super::select::Seen;
use crate::handlers::Scope;
use crate::handlers::reply;
use crate::negotiate::{Form, Shape};
use crate::registry::{Resource, parse, set_resource_version};
use crate::table::{self, Include};

/// Makes the lines of one watch.
pub(super) struct Encoder {
    resource: Arc<Resource>,
    shape: Shape,
    version: &'static str,
    include: Include,
    /// The next Table line is the first and carries the column definitions.
    first: bool,
}

impl Encoder {
    pub(super) fn new(scope: &Scope, form: &Form) -> ApiResult<Self> {
        let include = if form.shape == Shape::Table {
            Include::parse(&scope.query)?
        } else {
            Include::None
        };
        Ok(Self {
            resource: scope.resource.clone(),
            shape: form.shape,
            version: form.shape_version,
            include,
            first: true,
        })
    }

    /// The line of an event; the shared one when it fits.
    pub(super) fn event(&mut self, event: &CacheEvent, seen: Seen) -> Bytes {
        if self.shape == Shape::Object && seen.as_str() == event.kind.as_str() {
            return event.frame();
        }
        let mut out = BytesMut::with_capacity(event.object.bytes.len() + 64);
        match (seen, &event.previous) {
            (Seen::Left, Some(previous)) => {
                let bytes = at_revision(&previous.bytes, event.revision);
                self.write(&mut out, "DELETED", &bytes);
            }
            _ => self.write(&mut out, seen.as_str(), &event.object.bytes),
        }
        out.freeze()
    }

    /// Appends a line around an object's bytes, in the watch's shape.
    pub(super) fn write(&mut self, out: &mut BytesMut, kind: &str, bytes: &Bytes) {
        let shaped;
        let object: &[u8] = match self.shape {
            Shape::Object => bytes,
            Shape::PartialMetadata | Shape::PartialMetadataList => {
                let partial = reply::partial_metadata_of(&self.resource, bytes, self.version, true);
                shaped = partial.unwrap_or_else(|_| Bytes::from_static(b"{}"));
                &shaped
            }
            Shape::Table => {
                shaped = parse(bytes).map(|value| self.table(&[value])).unwrap_or_default();
                &shaped
            }
        };
        out.put_slice(br#"{"type":""#);
        out.put_slice(kind.as_bytes());
        out.put_slice(br#"","object":"#);
        out.put_slice(object);
        out.put_slice(b"}\n");
    }

    fn table(&mut self, items: &[Value]) -> Bytes {
        let meta = match items.first() {
            Some(item) => json!({"resourceVersion": object::resource_version(item)}),
            None => json!({}),
        };
        let with_columns = std::mem::take(&mut self.first);
        let table = table::table(
            &*self.resource.strategy,
            items,
            meta,
            self.include,
            self.version,
            with_columns,
        );
        table.to_string().into()
    }

    /// A bookmark: only the revision up to which everything was sent.
    pub(super) fn bookmark(&mut self, revision: u64, ends_initial_events: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if ends_initial_events {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.shape {
            Shape::Object => {
                json!({"kind": self.resource.info.kind, "apiVersion": self.resource.api_version, "metadata": metadata})
            }
            Shape::PartialMetadata | Shape::PartialMetadataList => json!({
                "kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{}", self.version),
                "metadata": metadata,
            }),
            Shape::Table => {
                let with_columns = std::mem::take(&mut self.first);
                table::table(
                    &*self.resource.strategy,
                    &[],
                    metadata,
                    self.include,
                    self.version,
                    with_columns,
                )
            }
        };
        format!("{{\"type\":\"BOOKMARK\",\"object\":{object}}}\n").into()
    }
}

impl Seen {
    fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted | Self::Left => "DELETED",
        }
    }
}

/// An object's bytes with another resourceVersion.
fn at_revision(bytes: &Bytes, revision: u64) -> Bytes {
    let Ok(mut value) = parse(bytes) else {
        return bytes.clone();
    };
    set_resource_version(&mut value, revision);
    let canonical = skiff_api::canonical::to_bytes(&value);
    skiff_api::canonical::with_resource_version(&canonical, revision)
}

/// The line that ends a watch with an error.
pub(super) fn error_frame(status: &ApiStatus) -> Bytes {
    let line = json!({"type": "ERROR", "object": status.to_json()});
    format!("{line}\n").into()
}
