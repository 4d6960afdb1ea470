//! Server-side apply: merge what a manager wants, take away what it no longer wants, unless others object.

use serde_json::{Value, json};

use super::entries::Identity;
use super::set::Set;
use super::shape::Shape;
use super::{Managers, WriteContext, strip, walk, without_managed_fields, write, zero};
use crate::object;
use crate::status::ApiStatus;

/// The manager of what an object held before anybody applied to it.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Why an apply was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error("metadata.managedFields must be nil")]
    ManagedFieldsSet,
    /// A list with keys has two items of the same key. `object`: `NAMESPACE/NAME; APIVERSION, Kind=KIND`.
    #[error("failed to create typed patch object ({object}): {path}: duplicate entries for key {key}")]
    Duplicate { object: String, path: String, key: String },
    /// Others own what would change: (manager as shown, path).
    #[error("{}", conflict_text(conflicts))]
    Conflicts { conflicts: Vec<(String, String)> },
}

impl ApplyError {
    pub fn into_status(self) -> Box<ApiStatus> {
        let message = self.to_string();
        match self {
            Self::ManagedFieldsSet => ApiStatus::bad_request(message),
            Self::Duplicate { .. } => ApiStatus::new(500, "", message),
            Self::Conflicts { conflicts } => {
                let causes: Vec<Value> = conflicts
                    .iter()
                    .map(|(manager, path)| {
                        json!({"reason": "FieldManagerConflict", "message": format!("conflict with {manager}"), "field": path})
                    })
                    .collect();
                ApiStatus::new(409, "Conflict", message).with_details(json!({"causes": causes}))
            }
        }
    }
}

fn conflict_text(conflicts: &[(String, String)]) -> String {
    if let [(manager, path)] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {manager}: {path}");
    }
    let mut text = format!("Apply failed with {} conflicts:", conflicts.len());
    let mut last = "";
    for (manager, path) in conflicts {
        if manager != last {
            let separator = if last.is_empty() { " " } else { "\n" };
            text.push_str(&format!("{separator}conflicts with {manager}:"));
            last = manager;
        }
        text.push_str(&format!("\n- {path}"));
    }
    text
}

/// The object that results when `ctx.manager` applies `applied` to `live` (none: it is created), records included.
///
/// `applied` is decoded and free of unknown fields, without defaults. When nothing changes the answer equals `live`.
pub fn apply(live: Option<&Value>, applied: &Value, ctx: &WriteContext<'_>, force: bool) -> Result<Value, ApplyError> {
    if !object::list_at(applied, "/metadata/managedFields").is_empty() {
        return Err(ApplyError::ManagedFieldsSet);
    }
    let applied = without_managed_fields(applied.clone());
    let shape = Shape::of(ctx.message);
    if let Some((path, element)) = walk::duplicate(&applied, shape) {
        return Err(ApplyError::Duplicate {
            object: format!(
                "{}/{}; {}, Kind={}",
                object::namespace(&applied),
                object::name(&applied),
                ctx.api_version,
                ctx.kind
            ),
            path,
            key: element.to_string(),
        });
    }
    let recorded = live.map_or(&[][..], |live| object::list_at(live, "/metadata/managedFields"));
    let mut managers = Managers::decode(recorded).unwrap_or_default();
    let before = live.cloned().map_or_else(|| zero(ctx), without_managed_fields);
    if live.is_some() && managers.is_empty() {
        record_past(&mut managers, &before, ctx);
    }

    let me = Identity::apply(ctx);
    let last = managers.set_of(&me);
    let last_version = managers.api_version_of(&me).map(str::to_owned);
    let mut own = walk::claimed(&applied, shape);
    strip(&mut own, ctx.ignored);

    let base = if live.is_some() { before.clone() } else { json!({}) };
    let mut merged = walk::merge(&base, &applied, shape);
    for field in ctx.ignored {
        restore(&mut merged, &before, field, live.is_some());
    }
    let mut now = managers.clone();
    now.put(me.clone(), own.clone(), ctx.now);
    walk::prune(&mut merged, &last, &now.union(), shape);

    let mut changes = walk::compare(Some(&before), Some(&merged), shape);
    let touched = changes.touched();
    let conflicts = managers.conflicts(&me, &touched);
    if !force && !conflicts.is_empty() {
        return Err(ApplyError::Conflicts {
            conflicts: listed(&conflicts),
        });
    }
    managers.take_away(&me, &touched, &changes.removed);
    if own != last || last_version.as_deref() != Some(ctx.api_version) {
        // An apply that only claims what is so already keeps the time of the manager's last change, or has none.
        let changed = !(touched.is_empty() && changes.removed.is_empty());
        let time = if changed {
            ctx.now.to_owned()
        } else {
            managers.time_of(&me)
        };
        managers.put(me, own, &time);
    }
    write(&mut merged, &managers);
    Ok(merged)
}

/// An object made before anybody kept records: all that it holds belongs to one Update.
fn record_past(managers: &mut Managers, before: &Value, ctx: &WriteContext<'_>) {
    let mut held = walk::compare(Some(&zero(ctx)), Some(before), Shape::of(ctx.message));
    let mut set = held.touched();
    strip(&mut set, &[]);
    let past = WriteContext {
        manager: BEFORE_FIRST_APPLY,
        subresource: "",
        ..ctx.clone()
    };
    managers.put(Identity::update(&past), set, ctx.now);
}

/// Puts a field that this write cannot change back to what it was.
fn restore(merged: &mut Value, before: &Value, field: &str, exists: bool) {
    let map = object::as_map(merged);
    match before.get(field).filter(|_| exists) {
        Some(value) => map.insert(field.to_owned(), value.clone()),
        None => map.remove(field),
    };
}

fn listed(conflicts: &[(&Identity, Set)]) -> Vec<(String, String)> {
    let mut list: Vec<(String, String)> = conflicts
        .iter()
        .flat_map(|(identity, set)| set.paths().into_iter().map(|path| (identity.to_string(), path)))
        .collect();
    list.sort();
    list
}
