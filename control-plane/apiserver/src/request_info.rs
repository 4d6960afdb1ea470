//! Path and method → what is asked of which resource. Pure.

use hyper::Method;

use crate::query::{Query, percent_decode};

/// What a request is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Below `/api` or `/apis` with at least a version and a resource.
    pub is_resource: bool,
    /// The path as sent.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for other paths the method in
    /// lower case.
    pub verb: String,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
    /// For the resource `namespaces` itself this is the name too, as RBAC wants it.
    pub namespace: String,
    /// For list, watch and deletecollection the name that a `metadata.name=` field selector asks for, as RBAC wants it.
    pub name: String,
    /// What follows the subresource: the path of a `proxy` request.
    pub rest: String,
    /// Came by `/api/v1/watch/…`.
    pub legacy_watch: bool,
}

/// Subresources of namespaces: `/api/v1/namespaces/a/status` is about namespace `a`, not about a resource `status` in it.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// Never fails: a path that is no resource's is a non-resource path.
    pub fn parse(method: &Method, path: &str, query: &str) -> Self {
        let mut info = Self {
            path: path.to_owned(),
            verb: method.as_str().to_ascii_lowercase(),
            ..Self::default()
        };
        let Some(parts) = segments(path) else { return info };
        let mut parts = parts.as_slice();
        match parts {
            [api, version, rest @ ..] if api == "api" && !rest.is_empty() => {
                info.version = version.clone();
                parts = rest;
            }
            [apis, group, version, rest @ ..] if apis == "apis" && !rest.is_empty() => {
                info.group = group.clone();
                info.version = version.clone();
                parts = rest;
            }
            _ => return info,
        }
        info.is_resource = true;
        info.verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        }
        .to_owned();
        if parts[0] == "watch" && parts.len() > 1 && info.verb == "get" {
            info.legacy_watch = true;
            parts = &parts[1..];
        }
        if parts[0] == "namespaces" && parts.len() > 1 {
            info.namespace = parts[1].clone();
            if parts.len() > 2 && !NAMESPACE_SUBRESOURCES.contains(&parts[2].as_str()) {
                parts = &parts[2..];
            }
        }
        info.resource = parts[0].clone();
        info.name = parts.get(1).cloned().unwrap_or_default();
        info.subresource = parts.get(2).cloned().unwrap_or_default();
        info.rest = parts.get(3..).map(|rest| rest.join("/")).unwrap_or_default();
        info.refine_verb(query);
        info
    }

    /// get → list or watch, delete → deletecollection.
    fn refine_verb(&mut self, query: &str) {
        let collection = self.name.is_empty();
        if self.legacy_watch {
            self.verb = "watch".to_owned();
            return;
        }
        match self.verb.as_str() {
            "get" if collection => {
                let query = Query::parse(query);
                self.verb = if query.flag("watch") { "watch" } else { "list" }.to_owned();
                self.name = selected_name(&query).unwrap_or_default();
            }
            "delete" if collection => {
                self.verb = "deletecollection".to_owned();
                self.name = selected_name(&Query::parse(query)).unwrap_or_default();
            }
            _ => {}
        }
    }
    /// Whether the path names one object.
    pub fn names_object(&self) -> bool {
        !self.name.is_empty() && !matches!(self.verb.as_str(), "list" | "watch" | "deletecollection")
    }
}

/// The name that `fieldSelector=metadata.name=x` asks for, if that is all it could be.
fn selected_name(query: &Query) -> Option<String> {
    let selector = query.get("fieldSelector")?;
    selector.split(',').find_map(|term| {
        let (field, name) = term.split_once('=')?;
        let name = name.strip_prefix('=').unwrap_or(name);
        let plain = !name.is_empty() && !name.contains(['/', '%', '\\']);
        (field == "metadata.name" && plain).then(|| name.to_owned())
    })
}

/// The decoded segments, or none for a path that plays tricks: empty or dot segments, an encoded slash, a NUL. One trailing
/// slash is allowed, because clients send it.
fn segments(path: &str) -> Option<Vec<String>> {
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/')
        .map(|segment| {
            let segment = percent_decode(segment);
            let tricky = segment.is_empty() || segment == "." || segment == ".." || segment.contains(['/', '\0', '%']);
            (!tricky).then_some(segment)
        })
        .collect()
}

#[cfg(test)]
mod tests;
