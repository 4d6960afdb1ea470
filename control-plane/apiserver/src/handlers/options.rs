//! What the query (and for delete the body) of a request asks for, checked as Kubernetes checks it.

use serde_json::Value;
use skiff_api::field::{FieldErrors, Path};
use skiff_api::selector::{FieldSelector, LabelSelector};
use skiff_api::status::{ApiResult, ApiStatus, Subject};

use crate::query::Query;
use crate::registry::Resource;

/// Longest field manager name.
const FIELD_MANAGER_LEN_MAX: usize = 128;

/// `fieldValidation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validation {
    Ignore,
    Warn,
    Strict,
}

/// CreateOptions, UpdateOptions and PatchOptions.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    pub dry_run: bool,
    /// As given; empty when not.
    pub field_manager: String,
    pub validation: Validation,
    pub force: Option<bool>,
    /// Go's name of the options, for errors.
    pub kind: &'static str,
}

impl WriteOptions {
    /// `kind`: `CreateOptions`, `UpdateOptions` or `PatchOptions`.
    pub fn parse(query: &Query, kind: &'static str) -> ApiResult<Self> {
        let mut errors = FieldErrors::new();
        let dry_run = dry_run(query.all("dryRun"), &mut errors);
        let field_manager = query.get("fieldManager").unwrap_or("").to_owned();
        check_manager(&field_manager, &mut errors);
        let validation = match query.get("fieldValidation").unwrap_or("") {
            "" | "Warn" => Validation::Warn,
            "Ignore" => Validation::Ignore,
            "Strict" => Validation::Strict,
            other => {
                errors.not_supported(&Path::new("fieldValidation"), other, &["", "Ignore", "Strict", "Warn"]);
                Validation::Warn
            }
        };
        let force = query.get("force").map(|_| query.flag("force"));
        finish(kind, &errors)?;
        Ok(Self {
            dry_run,
            field_manager,
            validation,
            force,
            kind,
        })
    }
    /// The object as admission sees it.
    pub fn to_json(&self) -> Value {
        let mut options = serde_json::json!({"kind": self.kind, "apiVersion": "meta.k8s.io/v1"});
        if self.dry_run {
            options["dryRun"] = serde_json::json!(["All"]);
        }
        if !self.field_manager.is_empty() {
            options["fieldManager"] = self.field_manager.clone().into();
        }
        if let Some(force) = self.force {
            options["force"] = force.into();
        }
        options
    }
    /// The manager that owns what is written: the given one, else the client's program name.
    pub fn manager(&self, user_agent: &str) -> String {
        if !self.field_manager.is_empty() {
            return self.field_manager.clone();
        }
        let program = user_agent.split('/').next().unwrap_or("");
        let printable: String = program.chars().filter(|c| !c.is_control()).collect();
        let end = (0..=FIELD_MANAGER_LEN_MAX.min(printable.len()))
            .rev()
            .find(|i| printable.is_char_boundary(*i));
        printable[..end.unwrap_or(0)].to_owned()
    }
}

/// `dryRun=All`, the only value.
pub fn dry_run<'a>(values: impl Iterator<Item = &'a str>, errors: &mut FieldErrors) -> bool {
    let values: Vec<&str> = values.filter(|v| !v.is_empty()).collect();
    let odd: Vec<&str> = values.iter().copied().filter(|v| *v != "All").collect();
    if !odd.is_empty() {
        errors.not_supported(&Path::new("dryRun"), serde_json::json!(values), &["All"]);
    }
    !values.is_empty()
}

fn check_manager(manager: &str, errors: &mut FieldErrors) {
    let path = Path::new("fieldManager");
    if manager.len() > FIELD_MANAGER_LEN_MAX {
        errors.too_long(&path, FIELD_MANAGER_LEN_MAX);
    }
    for (at, c) in manager.char_indices() {
        if c.is_control() {
            errors.invalid(&path, manager, &format!("invalid character {c:?} (at position {at})"));
            break;
        }
    }
}

fn finish(kind: &str, errors: &FieldErrors) -> ApiResult<()> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiStatus::invalid(
        Subject {
            group: "meta.k8s.io",
            resource: kind,
            name: "",
        },
        errors,
    ))
}

/// `resourceVersionMatch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    Unset,
    Exact,
    NotOlderThan,
}

/// ListOptions.
#[derive(Clone, Debug)]
pub struct ListOptions {
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    pub resource_version: String,
    pub version_match: Match,
    /// 0 = no limit.
    pub limit: usize,
    pub continue_token: String,
    pub timeout_seconds: Option<u64>,
    pub bookmarks: bool,
    pub send_initial_events: Option<bool>,
}

impl ListOptions {
    pub fn parse(query: &Query, resource: &Resource, watch: bool) -> ApiResult<Self> {
        let limit = integer(query, "limit")?.unwrap_or(0);
        let timeout = integer(query, "timeoutSeconds")?;
        let labels = LabelSelector::parse(query.get("labelSelector").unwrap_or(""))
            .map_err(|e| ApiStatus::bad_request(e.to_string()))?;
        let fields = FieldSelector::parse(query.get("fieldSelector").unwrap_or(""))
            .map_err(|e| ApiStatus::bad_request(e.to_string()))?;
        check_fields(&fields, resource)?;
        let options = Self {
            labels,
            fields,
            resource_version: query.get("resourceVersion").unwrap_or("").to_owned(),
            version_match: match query.get("resourceVersionMatch").unwrap_or("") {
                "Exact" => Match::Exact,
                "NotOlderThan" => Match::NotOlderThan,
                _ => Match::Unset,
            },
            limit: usize::try_from(limit).unwrap_or(0),
            continue_token: query.get("continue").unwrap_or("").to_owned(),
            timeout_seconds: timeout.and_then(|t| u64::try_from(t).ok()),
            bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events: query.get("sendInitialEvents").map(|_| query.flag("sendInitialEvents")),
        };
        options.check(query.get("resourceVersionMatch").unwrap_or(""), watch)?;
        Ok(options)
    }

    /// The rules of ValidateListOptions.
    fn check(&self, given_match: &str, watch: bool) -> ApiResult<()> {
        let mut errors = FieldErrors::new();
        let match_path = Path::new("resourceVersionMatch");
        let initial_path = Path::new("sendInitialEvents");
        if watch && (self.send_initial_events.is_some() || !given_match.is_empty()) {
            if self.send_initial_events.is_some() && given_match.is_empty() {
                errors.forbidden(
                    &match_path,
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                );
            }
            if self.send_initial_events.is_none() {
                errors.forbidden(
                    &match_path,
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                );
            }
            if !given_match.is_empty() && given_match != "NotOlderThan" {
                errors.not_supported(&match_path, given_match, &["NotOlderThan"]);
            }
            if !self.continue_token.is_empty() {
                errors.forbidden(
                    &match_path,
                    "resourceVersionMatch is forbidden when continue is provided",
                );
            }
        } else if !watch {
            if !given_match.is_empty() {
                if self.resource_version.is_empty() {
                    errors.forbidden(
                        &match_path,
                        "resourceVersionMatch is forbidden unless resourceVersion is provided",
                    );
                }
                if !self.continue_token.is_empty() {
                    errors.forbidden(
                        &match_path,
                        "resourceVersionMatch is forbidden when continue is provided",
                    );
                }
                if !matches!(given_match, "Exact" | "NotOlderThan") {
                    errors.push(skiff_api::field::FieldError {
                        kind: skiff_api::field::ErrorType::NotSupported,
                        path: match_path.to_string(),
                        body: format!(
                            "Unsupported value: {given_match:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""
                        ),
                    });
                }
                if given_match == "Exact" && self.resource_version == "0" {
                    errors.forbidden(
                        &match_path,
                        "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                    );
                }
            }
            if self.send_initial_events.is_some() {
                errors.forbidden(&initial_path, "sendInitialEvents is forbidden for list");
            }
        }
        finish("ListOptions", &errors)
    }
    pub fn selects_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }
}

/// An integer parameter; 400 with Go's text when it is none.
fn integer(query: &Query, key: &str) -> ApiResult<Option<i64>> {
    match query.get(key) {
        None | Some("") => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| ApiStatus::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))),
    }
}

/// 400 for a field that the resource cannot be selected by; Kubernetes words it differently by kind.
fn check_fields(selector: &FieldSelector, resource: &Resource) -> ApiResult<()> {
    if selector.is_everything() {
        return Ok(());
    }
    let own: Vec<&'static str> = resource
        .strategy
        .selectable_fields(&Value::Null)
        .into_iter()
        .map(|(field, _)| field)
        .collect();
    for requirement in selector.requirements() {
        let field = requirement.field.as_str();
        let known = field == "metadata.name"
            || (field == "metadata.namespace" && resource.info.namespaced)
            || own.contains(&field);
        // Kubernetes lets the namespace of cluster-wide kinds through where it has no table of its own for them.
        let lenient = own.is_empty() && field == "metadata.namespace";
        if known || lenient {
            continue;
        }
        return Err(ApiStatus::bad_request(if own.is_empty() {
            format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        } else {
            format!("field label not supported: {field}")
        }));
    }
    Ok(())
}

/// DeleteOptions, from the body or the query.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub dry_run: bool,
    pub grace_period_seconds: Option<i64>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub propagation: Option<Propagation>,
    pub orphan_dependents: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Foreground,
    Background,
    Orphan,
}

impl DeleteOptions {
    /// From a decoded body, which wins over the query when there is one.
    pub fn parse(body: Option<&Value>, query: &Query) -> ApiResult<Self> {
        let mut errors = FieldErrors::new();
        let (dry_runs, grace, uid, version, propagation, orphan): (Vec<String>, _, _, _, Option<String>, _) = match body
        {
            Some(body) => {
                let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
                let runs = skiff_api::object::list_at(body, "/dryRun");
                (
                    runs.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
                    skiff_api::object::int_at(body, "/gracePeriodSeconds"),
                    text("/preconditions/uid"),
                    text("/preconditions/resourceVersion"),
                    text("/propagationPolicy"),
                    body.get("orphanDependents").and_then(Value::as_bool),
                )
            }
            None => (
                query.all("dryRun").map(str::to_owned).collect(),
                integer(query, "gracePeriodSeconds")?,
                None,
                None,
                query.get("propagationPolicy").map(str::to_owned),
                query.get("orphanDependents").map(|_| query.flag("orphanDependents")),
            ),
        };
        let dry_run = dry_run(dry_runs.iter().map(String::as_str), &mut errors);
        let path = Path::new("propagationPolicy");
        let policy = match propagation.as_deref() {
            None | Some("") => None,
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Background") => Some(Propagation::Background),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                errors.push(skiff_api::field::FieldError {
                    kind: skiff_api::field::ErrorType::NotSupported,
                    path: path.to_string(),
                    body: format!(
                        "Unsupported value: {other:?}: supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
                    ),
                });
                None
            }
        };
        if let (Some(text), Some(_)) = (&propagation, orphan) {
            errors.invalid(
                &path,
                text.as_str(),
                "orphanDependents and deletionPropagation cannot be both set",
            );
        }
        finish("DeleteOptions", &errors)?;
        Ok(Self {
            dry_run,
            // Negative periods mean "at once, but gracefully".
            grace_period_seconds: grace.map(|g| if g < 0 { 1 } else { g }),
            uid,
            resource_version: version,
            propagation: policy,
            orphan_dependents: orphan,
        })
    }
    pub fn to_json(&self) -> Value {
        let mut options = serde_json::json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"});
        if let Some(grace) = self.grace_period_seconds {
            options["gracePeriodSeconds"] = grace.into();
        }
        options
    }
}
