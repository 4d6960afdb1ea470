//! Which resources are served, as the API server says.

use serde_json::Value;
use skiff_controllers::Resource;

use crate::requests::{RequestError, Requests};

/// A served resource and what can be done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) resource: Resource,
    verbs: Vec<String>,
}

impl Served {
    pub(crate) fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|one| one == verb)
    }
}

/// All resources in the preferred version of their groups, subresources left out.
pub(crate) async fn discover(requests: &Requests) -> Result<Vec<Served>, RequestError> {
    let mut served = parse("v1", &requests.get("/api/v1").await?);
    let groups = requests.get("/apis").await?;
    for group in groups.get("groups").and_then(Value::as_array).into_iter().flatten() {
        let Some(version) = group.pointer("/preferredVersion/groupVersion").and_then(Value::as_str) else {
            continue;
        };
        served.extend(parse(version, &requests.get(&format!("/apis/{version}")).await?));
    }
    Ok(served)
}

fn parse(api_version: &str, list: &Value) -> Vec<Served> {
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
    let resources = list.get("resources").and_then(Value::as_array).into_iter().flatten();
    resources
        .filter(|one| !text(one, "name").contains('/'))
        .map(|one| Served {
            resource: Resource {
                api_version: api_version.to_owned().into(),
                kind: text(one, "kind").into(),
                plural: text(one, "name").into(),
                namespaced: one.get("namespaced").and_then(Value::as_bool).unwrap_or(false),
            },
            verbs: one
                .get("verbs")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(|verb| verb.as_str().map(str::to_owned))
                .collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subresources_are_left_out() {
        let list = serde_json::json!({"resources": [
            {"name": "pods", "kind": "Pod", "namespaced": true, "verbs": ["get", "list"]},
            {"name": "pods/status", "kind": "Pod", "namespaced": true, "verbs": ["get"]},
        ]});
        let served = parse("v1", &list);
        assert_eq!(served.len(), 1);
        assert_eq!(served[0].resource, Resource::POD);
        assert!(served[0].can("list") && !served[0].can("watch"));
    }
}
