//! What tests of controllers share: objects from YAML, plans as text.

use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;
use serde::de::DeserializeOwned;

use crate::plan::{Action, EventDraft, Plan, Report, Target};

/// The time at which tests happen.
pub(crate) fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

/// YAML 1.2, in which `n` is no boolean.
pub(crate) fn yaml(text: &str) -> serde_json::Value {
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { strict_booleans: true }).unwrap()
}

pub(crate) fn from_yaml<T: DeserializeOwned>(text: &str) -> Arc<T> {
    let value: serde_json::Value = yaml(text);
    Arc::new(serde_json::from_value(value).unwrap())
}

/// A plan, one line for each thing.
pub(crate) fn describe(plan: &Plan) -> String {
    let mut out = String::new();
    for action in &plan.actions {
        line(&mut out, action);
    }
    if let Some(action) = &plan.status {
        line(&mut out, action);
    }
    if let Some(delay) = plan.requeue_after {
        writeln!(out, "again in {}s", delay.as_secs()).unwrap();
    }
    if plan.report != Report::Settled {
        writeln!(out, "report {:?}", plan.report).unwrap();
    }
    out
}

fn line(out: &mut String, action: &Action) {
    let target = |target: &Target| {
        let version = target
            .resource_version
            .as_ref()
            .map(|version| format!(" rv={version}"))
            .unwrap_or_default();
        format!("{} {} uid={}{version}", target.resource.kind, target.key, target.uid)
    };
    match action {
        Action::Create {
            resource,
            object,
            outcome,
        } => {
            let meta = &object["metadata"];
            let name = [meta["namespace"].as_str(), meta["name"].as_str()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>();
            writeln!(out, "create {} {}", resource.kind, name.join("/")).unwrap();
            event(out, outcome.on_success.as_ref());
        }
        Action::Patch {
            target: on,
            subresource,
            patch,
            outcome,
        } => {
            let sub = if subresource.is_empty() {
                String::new()
            } else {
                format!("/{subresource}")
            };
            writeln!(out, "patch{sub} {} {patch}", target(on)).unwrap();
            event(out, outcome.on_success.as_ref());
        }
        Action::Delete {
            target: on, outcome, ..
        } => {
            writeln!(out, "delete {}", target(on)).unwrap();
            event(out, outcome.on_success.as_ref());
        }
        Action::Finalize { target: on, finalizers } => {
            writeln!(out, "finalize {} {finalizers:?}", target(on)).unwrap();
        }
        Action::ConfirmAbsent { target: on } => writeln!(out, "confirm absent {}", target(on)).unwrap(),
        Action::Event(draft) => write_event(out, "event", draft),
    }
}

fn event(out: &mut String, draft: Option<&EventDraft>) {
    if let Some(draft) = draft {
        write_event(out, "  then", draft);
    }
}

fn write_event(out: &mut String, word: &str, draft: &EventDraft) {
    let kind = if draft.warning { "Warning" } else { "Normal" };
    let about = &draft.regarding;
    writeln!(
        out,
        "{word} {kind} {} {} {}: {}",
        draft.reason, about.kind, about.name, draft.message
    )
    .unwrap();
}
