//! The only code that turns a plan's action into a call of the API.

use serde_json::Value;
use skiff_controllers::{Action, ObjectKey, Resource};

use crate::api::{Api, Kind, Refused};
use crate::manager::Expected;
use crate::world::Mutation;

pub fn lost() -> Refused {
    Refused {
        code: 0,
        reason: "",
        message: "reach the API server".to_owned(),
    }
}

pub fn perform(api: &mut Api, action: &Action, mutation: Option<Mutation>) -> Result<Option<Expected>, Refused> {
    let wrote = |resource: &Resource, version| Some(Expected::Version(Kind::of(resource), version));
    match action {
        Action::Create { resource, object, .. } => match api.create(Kind::of(resource), (**object).clone()) {
            Err(error) if error.reason == "AlreadyExists" => made_before(api, action).ok_or(error),
            other => other.map(|version| wrote(resource, version)),
        },
        Action::Patch {
            target,
            subresource,
            patch,
            ..
        } => api
            .patch(target, subresource, patch)
            .map(|version| wrote(&target.resource, version)),
        Action::Delete { target, options, .. } => {
            let kind = Kind::of(&target.resource);
            match api.delete(target, *options) {
                Err(error) if error.code == 404 => Ok(None),
                other => other.map(|()| Some(Expected::Ending(kind, target.key.clone(), target.uid.clone()))),
            }
        }
        Action::Finalize { target, finalizers } => api.finalize(target, finalizers).map(|()| None),
        // Without it absence is what the cache says.
        Action::ConfirmAbsent { .. } if mutation == Some(Mutation::CollectsFromStaleCache) => Ok(None),
        Action::ConfirmAbsent { target } => match api.get(Kind::of(&target.resource), &target.key) {
            Some(found) if target.uid.is_empty() || found.typed.meta().uid.as_deref() == Some(&target.uid) => {
                Err(Refused {
                    code: 409,
                    reason: "Conflict",
                    message: "is there after all".to_owned(),
                })
            }
            _ => Ok(None),
        },
        Action::Event(_) => Ok(None),
    }
}

/// The object that a creation may have made earlier, if it is there and ours.
pub fn made_before(api: &Api, creation: &Action) -> Option<Option<Expected>> {
    let Action::Create { resource, object, .. } = creation else {
        return None;
    };
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or("");
    let key = ObjectKey::new(text("/metadata/namespace"), text("/metadata/name"));
    let kind = Kind::of(resource);
    let existing = api.get(kind, &key)?;
    let meta = existing.typed.meta();
    let uid = skiff_controllers::controller_of(meta).map(|owner| owner.uid.as_str());
    let wanted = skiff_api::object::controller_of(object).and_then(|owner| owner.get("uid")?.as_str());
    let ours = uid == wanted && meta.deletion_timestamp.is_none();
    ours.then_some(Some(Expected::Version(kind, existing.revision)))
}

/// Nothing is collected whose owner is there, and not itself waiting for its dependents to go.
pub fn collected_wrongly(api: &mut Api, action: &Action) {
    let Action::Delete { target, .. } = action else { return };
    let Some(item) = api.get(Kind::of(&target.resource), &target.key) else {
        return;
    };
    if item.typed.meta().uid.as_deref() != Some(&target.uid) {
        return;
    }
    let solid = item.typed.meta().owner_references.iter().flatten().any(|owner| {
        let found = api.owner(
            &owner.kind,
            &ObjectKey::new(target.key.namespace.clone(), owner.name.clone()),
        );
        found.is_some_and(|meta| meta.uid.as_deref() == Some(&owner.uid) && meta.deletion_timestamp.is_none())
    });
    if solid {
        api.breaches
            .push(format!("{} was collected though its owner is there", target.key));
    }
}

pub fn described(action: &Action) -> String {
    match action {
        Action::Create { resource, object, .. } => {
            format!(
                "create {} {}",
                resource.kind,
                object["metadata"]["name"].as_str().unwrap_or("")
            )
        }
        Action::Patch {
            target,
            subresource,
            patch,
            ..
        } => {
            format!("patch {} {} {subresource} {patch}", target.resource.kind, target.key)
        }
        Action::Delete { target, options, .. } => {
            format!(
                "delete {} {} uid={} {options:?}",
                target.resource.kind, target.key, target.uid
            )
        }
        Action::Finalize { target, .. } => format!("finalize {}", target.key),
        Action::ConfirmAbsent { target } => format!("confirm absent {} {}", target.resource.kind, target.key),
        Action::Event(event) => format!("event {}", event.reason),
    }
}
