//! The operations of the served resources, as OpenAPI v3 paths.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use skiff_api::kind::{ResourceInfo, api_version};

use super::schemas::Schemas;

const BODY_TYPES: [&str; 3] = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];
const WATCH_TYPES: [&str; 2] = [
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
const PATCH_TYPES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// `/api/v1`, `/apis/apps/v1`.
pub(super) fn root(row: &ResourceInfo) -> String {
    let prefix = if row.group.is_empty() { "/api" } else { "/apis" };
    format!("{prefix}/{}", api_version(row.group, row.version))
}

/// All paths of these rows; the schemas that they speak of are asked of `schemas`.
pub(super) fn of(rows: &[&'static ResourceInfo], schemas: &mut Schemas) -> Value {
    let mut paths: BTreeMap<String, Value> = BTreeMap::new();
    for row in rows {
        let root = root(row);
        let scope = if row.namespaced { "/namespaces/{namespace}" } else { "" };
        let collection = format!("{root}{scope}/{}", row.resource);
        let mut parameters = vec![query(
            "pretty",
            "string",
            "If 'true', the answer is indented for people.",
        )];
        if row.namespaced {
            parameters.push(in_path("namespace", "The namespace of the object."));
        }
        if row.subresource.is_empty() {
            add(
                &mut paths,
                &collection,
                &parameters,
                collection_operations(row, schemas),
            );
            if row.namespaced && row.verbs.contains(&"list") {
                let everywhere = operation(row, "list", "ForAllNamespaces", schemas);
                add(
                    &mut paths,
                    &format!("{root}/{}", row.resource),
                    &parameters[..1],
                    vec![("get", everywhere)],
                );
            }
        }
        parameters.push(in_path("name", &format!("The name of the {}.", row.kind)));
        let item = match row.subresource {
            "" => format!("{collection}/{{name}}"),
            subresource => format!("{collection}/{{name}}/{subresource}"),
        };
        add(&mut paths, &item, &parameters, item_operations(row, schemas));
    }
    paths.into_iter().collect::<Map<_, _>>().into()
}

fn add(paths: &mut BTreeMap<String, Value>, path: &str, parameters: &[Value], operations: Vec<(&'static str, Value)>) {
    if operations.is_empty() {
        return;
    }
    let item = paths
        .entry(path.to_owned())
        .or_insert_with(|| json!({"parameters": parameters}));
    for (method, operation) in operations {
        item[method] = operation;
    }
}

fn collection_operations(row: &'static ResourceInfo, schemas: &mut Schemas) -> Vec<(&'static str, Value)> {
    [("list", "get"), ("create", "post"), ("deletecollection", "delete")]
        .into_iter()
        .filter(|(verb, _)| row.verbs.contains(verb))
        .map(|(verb, method)| (method, operation(row, verb, "", schemas)))
        .collect()
}

fn item_operations(row: &'static ResourceInfo, schemas: &mut Schemas) -> Vec<(&'static str, Value)> {
    let mut verbs = vec![
        ("get", "get"),
        ("update", "put"),
        ("patch", "patch"),
        ("delete", "delete"),
    ];
    if !row.subresource.is_empty() {
        verbs.push(("create", "post"));
    }
    verbs
        .into_iter()
        .filter(|(verb, _)| row.verbs.contains(verb))
        .map(|(verb, method)| (method, operation(row, verb, "", schemas)))
        .collect()
}

/// One operation. `suffix` is part of its id.
fn operation(row: &'static ResourceInfo, verb: &str, suffix: &str, schemas: &mut Schemas) -> Value {
    let kind = schemas.reference(row.kind_group, row.kind_version, row.kind);
    let (action, said) = match verb {
        "get" => ("get", "read the specified"),
        "list" => ("list", "list or watch objects of kind"),
        "create" => ("post", "create"),
        "update" => ("put", "replace the specified"),
        "patch" => ("patch", "partially update the specified"),
        "delete" => ("delete", "delete"),
        _ => ("deletecollection", "delete collection of"),
    };
    let parent = parent_kind(row);
    let description = match row.subresource {
        "" if matches!(verb, "create" | "delete") => format!("{said} {} {}", article(parent), parent),
        "" => format!("{said} {parent}"),
        subresource if verb == "create" => format!("{said} {subresource} of {} {parent}", article(parent)),
        subresource => {
            let (verb, rest) = said.split_once(' ').unwrap_or((said, ""));
            match rest.split_once("the specified") {
                Some((before, _)) => format!("{verb} {before}{subresource} of the specified {parent}"),
                None => format!("{said} {subresource} of {} {parent}", article(parent)),
            }
        }
    };
    let mut operation = json!({
        "tags": [format!("{}_{}", tag(row.group), row.version)],
        "description": description,
        "operationId": operation_id(row, verb, suffix),
        "responses": responses(row, verb, &kind, schemas),
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": row.kind_group, "version": row.kind_version, "kind": row.kind},
    });
    let parameters = query_parameters(row, verb);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    match verb {
        "create" | "update" => {
            operation["requestBody"] = json!({"content": {"*/*": {"schema": kind}}, "required": true});
        }
        "patch" => {
            let patch = schemas.meta_reference("Patch");
            operation["requestBody"] = json!({"content": content(&PATCH_TYPES, &patch), "required": true});
        }
        "delete" | "deletecollection" => {
            let options = schemas.meta_reference("DeleteOptions");
            operation["requestBody"] = json!({"content": {"*/*": {"schema": options}}});
        }
        _ => {}
    }
    operation
}

fn responses(row: &ResourceInfo, verb: &str, kind: &Value, schemas: &mut Schemas) -> Value {
    let (types, schema): (Vec<&str>, Value) = match verb {
        "list" => {
            let list = schemas.reference(row.group, row.version, &format!("{}List", row.kind));
            (BODY_TYPES.into_iter().chain(WATCH_TYPES).collect(), list)
        }
        "deletecollection" => (BODY_TYPES.to_vec(), schemas.meta_reference("Status")),
        "delete" => {
            // What is deleted gracefully is answered itself.
            let answered = if row.resource == "pods" || row.resource == "serviceaccounts" {
                kind.clone()
            } else {
                schemas.meta_reference("Status")
            };
            (BODY_TYPES.to_vec(), answered)
        }
        _ if row.subresource == "log" => (vec!["text/plain"], json!({"type": "string"})),
        _ => (BODY_TYPES.to_vec(), kind.clone()),
    };
    let answer = |text: &str| json!({"description": text, "content": content(&types, &schema)});
    let mut responses = json!({"200": answer("OK"), "401": {"description": "Unauthorized"}});
    if matches!(verb, "create" | "update" | "patch") {
        responses["201"] = answer("Created");
    }
    if matches!(verb, "create" | "delete") {
        responses["202"] = answer("Accepted");
    }
    responses
}

fn content(types: &[&str], schema: &Value) -> Value {
    types
        .iter()
        .map(|t| ((*t).to_owned(), json!({"schema": schema})))
        .collect::<Map<_, _>>()
        .into()
}

fn query(name: &str, ty: &str, description: &str) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": {"type": ty, "uniqueItems": true}})
}

fn in_path(name: &str, description: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "description": description,
        "schema": {"type": "string", "uniqueItems": true}})
}

fn query_parameters(row: &ResourceInfo, verb: &str) -> Vec<Value> {
    let dry_run = || {
        query(
            "dryRun",
            "string",
            "With 'All' everything is checked and nothing is stored.",
        )
    };
    let selecting = || {
        vec![
            query("allowWatchBookmarks", "boolean", "A watch may send bookmark events."),
            query(
                "continue",
                "string",
                "The token of an earlier answer: the list goes on from there.",
            ),
            query("fieldSelector", "string", "Only objects whose fields match."),
            query("labelSelector", "string", "Only objects whose labels match."),
            query("limit", "integer", "At most this many objects in one answer."),
            query("resourceVersion", "string", "How new the answer must be."),
            query(
                "resourceVersionMatch",
                "string",
                "How resourceVersion is meant: Exact or NotOlderThan.",
            ),
            query(
                "sendInitialEvents",
                "boolean",
                "A watch begins with the present objects and a bookmark.",
            ),
            query(
                "timeoutSeconds",
                "integer",
                "The request ends after this time, whatever happens.",
            ),
            query("watch", "boolean", "Stay, and send changes as they happen."),
        ]
    };
    let deleting = || {
        vec![
            dry_run(),
            query(
                "gracePeriodSeconds",
                "integer",
                "How long the object may take to end. 0 means at once.",
            ),
            query("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
            query(
                "propagationPolicy",
                "string",
                "What happens to dependents: Orphan, Background or Foreground.",
            ),
        ]
    };
    let writing = || {
        vec![
            dry_run(),
            query(
                "fieldManager",
                "string",
                "Who makes the change: the name that owns the fields written.",
            ),
            query(
                "fieldValidation",
                "string",
                "What becomes of unknown and duplicate fields: Ignore, Warn or Strict.",
            ),
        ]
    };
    match verb {
        "list" => selecting(),
        "create" | "update" => writing(),
        "patch" => {
            let mut parameters = writing();
            parameters.push(query(
                "force",
                "boolean",
                "Apply takes fields over from other managers.",
            ));
            parameters
        }
        "delete" => deleting(),
        "deletecollection" => {
            let mut parameters = deleting();
            parameters.extend(
                selecting()
                    .into_iter()
                    .filter(|p| p["name"] != "watch" && p["name"] != "allowWatchBookmarks"),
            );
            parameters
        }
        "get" if row.subresource == "log" => vec![
            query(
                "container",
                "string",
                "Which container's log; needed when the pod has several.",
            ),
            query("follow", "boolean", "Stay, and send lines as they are written."),
            query("limitBytes", "integer", "At most this many bytes."),
            query("previous", "boolean", "The log of the container's run before this one."),
            query("sinceSeconds", "integer", "Only lines of the last seconds."),
            query("tailLines", "integer", "Only so many lines from the end."),
            query("timestamps", "boolean", "Each line begins with its time."),
        ],
        _ => Vec::new(),
    }
}

/// The kind of the resource that a subresource belongs to.
fn parent_kind(row: &'static ResourceInfo) -> &'static str {
    if row.subresource.is_empty() {
        return row.kind;
    }
    skiff_api::kind::find(row.group, row.version, row.resource, "").map_or(row.kind, |parent| parent.kind)
}

fn article(kind: &str) -> &'static str {
    if kind.starts_with(['A', 'E', 'I', 'O', 'U']) {
        "an"
    } else {
        "a"
    }
}

/// `rbac.authorization.k8s.io` → `rbacAuthorization`, the core group → `core`.
fn tag(group: &str) -> String {
    if group.is_empty() {
        return "core".to_owned();
    }
    let mut parts = group.trim_end_matches(".k8s.io").split('.');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |tag, part| tag + &capital(part))
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// `readAppsV1NamespacedDeploymentScale`
fn operation_id(row: &'static ResourceInfo, verb: &str, suffix: &str) -> String {
    let (verb, collection) = match verb {
        "get" => ("read", ""),
        "update" => ("replace", ""),
        "deletecollection" => ("delete", "Collection"),
        other => (other, ""),
    };
    let scope = if row.namespaced && suffix.is_empty() {
        "Namespaced"
    } else {
        ""
    };
    let (group, version) = (capital(&tag(row.group)), capital(row.version));
    format!(
        "{verb}{group}{version}{collection}{scope}{}{}{suffix}",
        parent_kind(row),
        capital(row.subresource)
    )
}
