//! Field managers: who set which field (`metadata.managedFields`), and server-side apply, which uses that to merge what
//! one manager wants into what others have set.
//!
//! `update` keeps the books for every other kind of write; `apply` merges, prunes what the manager no longer wants,
//! finds conflicts, and keeps the books. Both are pure: the time is an argument.

mod apply;
mod entries;
mod set;
mod shape;
#[cfg(test)]
mod tests;
mod walk;

use serde_json::{Map, Value, json};

pub use apply::{ApplyError, apply};
use entries::Managers;
use set::Set;
use shape::Shape;

use crate::codec;
use crate::object;
use crate::schema::Message;

/// What a write says about itself.
#[derive(Clone, Debug)]
pub struct WriteContext<'a> {
    /// The field manager; empty names become `unknown` before they get here.
    pub manager: &'a str,
    /// apiVersion in which the write speaks.
    pub api_version: &'a str,
    pub kind: &'a str,
    /// `status`, `scale`, or empty.
    pub subresource: &'a str,
    /// RFC 3339, whole seconds.
    pub now: &'a str,
    pub message: &'static Message,
    /// Top-level fields that this write cannot change and so never owns: `status` on the main resource, `spec` on the
    /// status subresource.
    pub ignored: &'a [&'a str],
}

/// Updates by more managers than this are folded into one entry, oldest first (kube-apiserver's own limit).
pub const UPDATE_MANAGERS_MAX: usize = 10;

/// Records in `new.metadata.managedFields` what this write changed relative to `live` (none: a create).
///
/// Managed fields that come with `new` win over `live`'s, so that a client may edit them; one empty entry (`[{}]`) takes
/// all records away. A write that changes nothing leaves the records as they are, times included.
pub fn update(live: Option<&Value>, new: &mut Value, ctx: &WriteContext<'_>) {
    let sent = object::list_at(new, "/metadata/managedFields").to_vec();
    if matches!(sent.as_slice(), [Value::Object(only)] if only.is_empty()) {
        object::metadata_mut(new).remove("managedFields");
        return;
    }
    let recorded = live.map_or(&[][..], |live| object::list_at(live, "/metadata/managedFields"));
    let mut managers = match Managers::decode(&sent) {
        Some(managers) if !managers.is_empty() && ctx.subresource.is_empty() => managers,
        _ => Managers::decode(recorded).unwrap_or_default(),
    };
    object::metadata_mut(new).remove("managedFields");
    // `live` still has its records, which `strip` leaves out; a copy without them would cost more.
    let zero = live.is_none().then(|| zero(ctx));
    let mut changes = walk::compare(live.or(zero.as_ref()), Some(new), Shape::of(ctx.message));

    let me = entries::Identity::update(ctx);
    let touched = changes.touched();
    managers.take_away(&me, &touched, &changes.removed);
    let old = managers.set_of(&me);
    let mut own = old.difference(&changes.removed).union(touched);
    strip(&mut own, ctx.ignored);
    if own != old {
        managers.put(me, own, ctx.now);
    }
    managers.cap(UPDATE_MANAGERS_MAX);
    write(new, &managers);
}

/// Puts the records into the object, or takes the field away when there are none.
fn write(object: &mut Value, managers: &Managers) {
    let entries = managers.encode();
    let metadata = object::metadata_mut(object);
    if entries.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".to_owned(), Value::Array(entries));
    }
}

/// What Go's zero value of the kind looks like in JSON: the state that a create changes.
fn zero(ctx: &WriteContext<'_>) -> Value {
    let bare = json!({"apiVersion": ctx.api_version, "kind": ctx.kind});
    codec::json::normalize(&bare, ctx.message).unwrap_or(bare)
}

fn without_managed_fields(mut object: Value) -> Value {
    object::metadata_mut(&mut object).remove("managedFields");
    object
}

/// Fields that belong to the server or to the object's identity, and so to no manager.
const METADATA_OF_NOBODY: [&str; 9] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
];

/// Takes out of a set what nobody owns, and what this write cannot change.
fn strip(set: &mut Set, ignored: &[&str]) {
    for field in ["apiVersion", "kind"].iter().chain(ignored) {
        set.remove_subtree(&[set::PathElement::field(field)]);
    }
    let metadata = set::PathElement::field("metadata");
    set.remove_member(std::slice::from_ref(&metadata));
    for field in METADATA_OF_NOBODY {
        set.remove_subtree(&[metadata.clone(), set::PathElement::field(field)]);
    }
}

/// `value` as a map, for reading; anything else is an empty one.
fn map_of(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}
