//! What a Job, and the template of a CronJob, may say.

use serde_json::Value;
use skiff_api::field::{FieldErrors, Path};
use skiff_api::names;
use skiff_api::object::{self, bool_at, int_at, list_at, str_at};
use skiff_api::selector::LabelSelector;

use super::{NAME_LABELS, UID_LABELS, policies};
use crate::kinds::common::condition_is_true;
use crate::kinds::pod::{internal, validate as pod};
use crate::kinds::validate::{
    IMMUTABLE, immutable, invalid_each, invalid_raw, label_selector, not_negative, selector_text,
};

/// An Indexed Job has no more pods at once; with so many completions its bookkeeping is at its limit, and the rest is
/// narrower.
const PARALLELISM_MAX: i64 = 100_000;
const COMPLETIONS_MANY: i64 = 100_000;
const PARALLELISM_OF_MANY_MAX: i64 = 10_000;
const FAILED_INDEXES_MAX: i64 = 100_000;
const FAILED_INDEXES_OF_MANY_MAX: i64 = 10_000;
const MANAGED_BY_MAX: usize = 63;
/// Numbers that are counts.
const COUNTS: [&str; 7] = [
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
];

/// Rules for a Job as a whole.
pub(super) fn job(job: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    let spec = job.get("spec").unwrap_or(&Value::Null);
    generated_selector(job, spec, errors);
    job_spec(spec, &path, errors);
    match spec.get("selector").filter(|s| s.is_object()) {
        None => errors.required(&path.child("selector"), ""),
        Some(selector) => label_selector(errors, &path.child("selector"), Some(selector)),
    }
    let selector = spec.get("selector").filter(|s| s.is_object());
    let labels = spec.pointer("/template/metadata/labels").filter(|l| l.is_object());
    let matches = match selector.map(LabelSelector::from_json) {
        Some(Ok(selector)) => selector.matches_json(labels),
        Some(Err(_)) => true,
        None => false,
    };
    if !matches {
        let path = path.child("template").child("metadata").child("labels");
        let labels = labels.cloned().unwrap_or(Value::Null);
        errors.invalid(&path, labels, "`selector` does not match template `labels`");
    }
    let last = int_at(spec, "/completions").filter(|n| *n > 0 && is_indexed(spec));
    if let Some(hostname) = last.map(|count| format!("{}-{}", object::name(job), count - 1))
        && !names::dns1123_label(&hostname).is_empty()
    {
        let detail = format!("will not able to create pod with invalid DNS label: {hostname}");
        errors.invalid(&Path::new("metadata").child("name"), object::name(job), &detail);
    }
}

/// A generated selector picks by the Job's uid, and the pods carry it.
fn generated_selector(job: &Value, spec: &Value, errors: &mut FieldErrors) {
    let Some(selector) = spec.get("selector").filter(|s| s.is_object()) else {
        return;
    };
    if bool_at(spec, "/manualSelector") {
        return;
    }
    let (uid, name) = (object::uid(job), object::name(job));
    if uid.is_empty() {
        errors.required(&Path::new("metadata").child("uid"), "");
    }
    let labels = spec.pointer("/template/metadata/labels").filter(|l| l.is_object());
    let path = Path::new("spec").child("template").child("metadata").child("labels");
    let expected = [
        (UID_LABELS[1], uid),
        (NAME_LABELS[1], name),
        (UID_LABELS[0], uid),
        (NAME_LABELS[0], name),
    ];
    for (key, value) in expected {
        let found = labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
        let detail = format!("must be '{value}'");
        if found.is_none() {
            errors.required(&path.key(key), &detail);
        }
        if found.unwrap_or("") != value {
            errors.invalid(&path.key(key), labels.cloned().unwrap_or(Value::Null), &detail);
        }
    }
    let own: serde_json::Map<String, Value> = expected
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect();
    let picks = LabelSelector::from_json(selector).map(|selector| selector.matches_json(Some(&Value::Object(own))));
    if picks == Ok(false) {
        let path = Path::new("spec").child("selector");
        invalid_raw(errors, &path, &selector_text(selector), "`selector` not auto-generated");
    }
}

/// A CronJob's `spec.jobTemplate`.
pub(in crate::kinds) fn template_of_cron_job(template: &Value, path: &Path, errors: &mut FieldErrors) {
    let spec = template.get("spec").unwrap_or(&Value::Null);
    let path = path.child("spec");
    job_spec(spec, &path, errors);
    if let Some(selector) = spec.get("selector").filter(|s| s.is_object()) {
        let text = selector_text(selector);
        invalid_raw(
            errors,
            &path.child("selector"),
            &text,
            "`selector` will be auto-generated",
        );
    }
    if bool_at(spec, "/manualSelector") {
        errors.not_supported(&path.child("manualSelector"), true, &["nil", "false"]);
    }
}

fn is_indexed(spec: &Value) -> bool {
    str_at(spec, "/completionMode") == "Indexed"
}

fn job_spec(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    for key in COUNTS {
        not_negative(errors, &path.child(key), spec.get(key).and_then(Value::as_i64));
    }
    if let Some(manager) = spec.get("managedBy").and_then(Value::as_str) {
        managed_by(manager, &path.child("managedBy"), errors);
    }
    completion_mode(spec, path, errors);
    if int_at(spec, "/maxFailedIndexes").is_some() && int_at(spec, "/backoffLimitPerIndex").is_none() {
        errors.required(
            &path.child("backoffLimitPerIndex"),
            "when maxFailedIndexes is specified",
        );
    }
    let failure_policy = spec.get("podFailurePolicy").filter(|p| p.is_object());
    if let Some(policy) = failure_policy {
        policies::on_failure(policy, spec, &path.child("podFailurePolicy"), errors);
    }
    if let Some(policy) = spec.get("successPolicy").filter(|p| p.is_object()) {
        let path = path.child("successPolicy");
        if is_indexed(spec) {
            policies::on_success(policy, spec, &path, errors);
        } else {
            errors.invalid(&path, policy.clone(), "requires indexed completion mode");
        }
    }
    let replacement = str_at(spec, "/podReplacementPolicy");
    let allowed: &[&str] = if failure_policy.is_some() {
        &["Failed"]
    } else {
        &["Failed", "TerminatingOrFailed"]
    };
    if spec.get("podReplacementPolicy").is_some_and(Value::is_string) && !allowed.contains(&replacement) {
        errors.not_supported(&path.child("podReplacementPolicy"), replacement, allowed);
    }
    template(spec, path, failure_policy.is_some(), errors);
}

fn managed_by(manager: &str, path: &Path, errors: &mut FieldErrors) {
    let parts = manager
        .split_once('/')
        .filter(|(domain, rest)| !domain.is_empty() && !rest.is_empty());
    match parts {
        None if manager.is_empty() => errors.required(path, ""),
        None => errors.invalid(
            path,
            manager,
            "must be a domain-prefixed path (such as \"acme.io/foo\")",
        ),
        Some((domain, rest)) => {
            invalid_each(errors, path, domain, names::dns1123_subdomain(domain));
            invalid_each(errors, path, rest, names::path_segment(rest));
        }
    }
    if manager.len() > MANAGED_BY_MAX {
        errors.too_long(path, MANAGED_BY_MAX);
    }
}

fn completion_mode(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let count = |key: &str| spec.get(key).and_then(Value::as_i64);
    let completions = count("completions");
    let (per_index, failed_max) = (count("backoffLimitPerIndex"), count("maxFailedIndexes"));
    let at_most = |errors: &mut FieldErrors, key: &str, max: i64, when: &str| {
        if let Some(value) = count(key).filter(|value| *value > max) {
            errors.invalid(
                &path.child(key),
                value,
                &format!("must be less than or equal to {max}{when}"),
            );
        }
    };
    match str_at(spec, "/completionMode") {
        "Indexed" => {
            if completions.is_none() {
                errors.required(&path.child("completions"), "when completion mode is Indexed");
            }
            at_most(
                errors,
                "parallelism",
                PARALLELISM_MAX,
                " when completion mode is Indexed",
            );
            if let (Some(failed), Some(all)) = (failed_max, completions)
                && failed > all
            {
                let detail = "must be less than or equal to completions";
                errors.invalid(&path.child("maxFailedIndexes"), failed, detail);
            }
            at_most(errors, "maxFailedIndexes", FAILED_INDEXES_MAX, "");
            if completions.is_some_and(|all| all > COMPLETIONS_MANY) && per_index.is_some() {
                if failed_max.is_none() {
                    let detail = format!("must be specified when completions is above {COMPLETIONS_MANY}");
                    errors.required(&path.child("maxFailedIndexes"), &detail);
                }
                let when =
                    format!(" when completions are above {COMPLETIONS_MANY} and used with backoff limit per index");
                at_most(errors, "parallelism", PARALLELISM_OF_MANY_MAX, &when);
                at_most(errors, "maxFailedIndexes", FAILED_INDEXES_OF_MANY_MAX, &when);
            }
        }
        "" | "NonIndexed" => {
            for (key, value) in [("backoffLimitPerIndex", per_index), ("maxFailedIndexes", failed_max)] {
                if let Some(value) = value {
                    errors.invalid(&path.child(key), value, "requires indexed completion mode");
                }
            }
        }
        other => errors.not_supported(&path.child("completionMode"), other, &["NonIndexed", "Indexed"]),
    }
}

/// The pods end: they are restarted on failure, or never.
fn template(spec: &Value, path: &Path, has_failure_policy: bool, errors: &mut FieldErrors) {
    let path = path.child("template");
    let template = spec.get("template").unwrap_or(&Value::Null);
    pod::template(template, &path, errors);
    let path = path.child("spec").child("restartPolicy");
    match str_at(template, "/spec/restartPolicy") {
        "" | "Always" => errors.required(&path, "valid values: \"OnFailure\", \"Never\""),
        "Never" => {}
        "OnFailure" if has_failure_policy => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.invalid(&path, "OnFailure", detail);
        }
        "OnFailure" => {}
        other => errors.not_supported(&path, other, &["OnFailure", "Never"]),
    }
}

/// What may not change once the Job exists.
pub(super) fn change(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    let spec = |job: &'_ Value| job.get("spec").cloned().unwrap_or(Value::Null);
    let (new_spec, old_spec) = (spec(new), spec(old));
    let of = |key: &str| (new_spec.get(key), old_spec.get(key));
    let fixed = |key: &str, errors: &mut FieldErrors| {
        let (new, old) = of(key);
        immutable(errors, &path.child(key), new, old);
    };
    if is_indexed(&new_spec) {
        elastic(&new_spec, &old_spec, &path, errors);
    } else {
        fixed("completions", errors);
    }
    if new_spec.get("selector") != old_spec.get("selector") {
        let text = new_spec.get("selector").map_or("null".to_owned(), selector_text);
        invalid_raw(errors, &path.child("selector"), &text, IMMUTABLE);
    }
    let mut wanted = new_spec.get("template").cloned().unwrap_or(Value::Null);
    let had = old_spec.get("template").unwrap_or(&Value::Null);
    if may_be_moved(old) {
        keep_movable(&mut wanted, had);
    }
    if wanted != *had {
        let text = internal::template_text(new_spec.get("template").unwrap_or(&Value::Null));
        invalid_raw(errors, &path.child("template"), &text, IMMUTABLE);
    }
    for key in [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        fixed(key, errors);
    }
}

/// An Indexed Job may get more or fewer completions, if as many run at once.
fn elastic(new: &Value, old: &Value, path: &Path, errors: &mut FieldErrors) {
    let (Some(wanted), Some(had)) = (int_at(new, "/completions"), int_at(old, "/completions")) else {
        return;
    };
    if wanted != had && Some(wanted) != int_at(new, "/parallelism") {
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.invalid(&path.child("completions"), wanted, detail);
    }
}

/// While a Job is suspended and has no pods, where they will run and what they may use can still be changed.
fn may_be_moved(old: &Value) -> bool {
    let idle = str_at(old, "/status/startTime").is_empty()
        || (condition_is_true(old, "Suspended") && int_at(old, "/status/active").unwrap_or(0) == 0);
    bool_at(old, "/spec/suspend") && idle
}

fn keep_movable(template: &mut Value, old: &Value) {
    let keep = |new: &mut Value, old: Option<&Value>, key: &str| match old.and_then(|old| old.get(key)) {
        Some(value) => new[key] = value.clone(),
        None => {
            object::as_map(new).remove(key);
        }
    };
    for key in ["labels", "annotations"] {
        keep(&mut template["metadata"], old.get("metadata"), key);
    }
    for key in ["nodeSelector", "affinity", "tolerations", "schedulingGates"] {
        keep(&mut template["spec"], old.get("spec"), key);
    }
    for list in ["containers", "initContainers"] {
        let had = list_at(old, &format!("/spec/{list}"));
        let new = template["spec"].get_mut(list).and_then(Value::as_array_mut);
        for (container, had) in new.into_iter().flatten().zip(had) {
            keep(container, Some(had), "resources");
        }
    }
}
