//! One rule of a role: what it allows, what it covers of another rule, and its text in messages.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use skiff_api::object::list_at;

use super::Attributes;

const ALL: &str = "*";

/// A `PolicyRule` of rbac.authorization.k8s.io.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub verbs: Vec<String>,
    pub api_groups: Vec<String>,
    pub resources: Vec<String>,
    pub resource_names: Vec<String>,
    pub non_resource_urls: Vec<String>,
}

fn has(list: &[String], item: &str) -> bool {
    list.iter().any(|i| i == item)
}

fn has_or_all(list: &[String], item: &str) -> bool {
    list.iter().any(|i| i == ALL || i == item)
}

/// `/healthz/*` covers everything that starts with `/healthz/`.
fn url_covers(pattern: &str, path: &str) -> bool {
    pattern == ALL || pattern == path || pattern.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

/// `*`, `pods`, `pods/log`, `*/scale` against `pods` or `pods/log`.
fn resource_covers(pattern: &str, resource: &str) -> bool {
    if pattern == ALL || pattern == resource {
        return true;
    }
    match (pattern.strip_prefix("*/"), resource.split_once('/')) {
        (Some(wanted), Some((_, subresource))) => wanted == subresource,
        _ => false,
    }
}

impl Rule {
    pub fn from_json(rule: &Value) -> Self {
        let list = |key: &str| {
            list_at(rule, key)
                .iter()
                .filter_map(|item| Some(item.as_str()?.to_owned()))
                .collect()
        };
        Self {
            verbs: list("/verbs"),
            api_groups: list("/apiGroups"),
            resources: list("/resources"),
            resource_names: list("/resourceNames"),
            non_resource_urls: list("/nonResourceURLs"),
        }
    }

    /// The rules of a Role or ClusterRole.
    pub fn list_of(role: &Value) -> Vec<Self> {
        list_at(role, "/rules").iter().map(Self::from_json).collect()
    }

    pub fn to_json(&self) -> Value {
        let mut rule = json!({"verbs": self.verbs});
        for (key, list) in [
            ("apiGroups", &self.api_groups),
            ("resources", &self.resources),
            ("resourceNames", &self.resource_names),
            ("nonResourceURLs", &self.non_resource_urls),
        ] {
            if !list.is_empty() {
                rule[key] = json!(list);
            }
        }
        rule
    }

    pub fn allows(&self, attributes: &Attributes) -> bool {
        if !has_or_all(&self.verbs, &attributes.verb) {
            return false;
        }
        if !attributes.resource_request {
            return self
                .non_resource_urls
                .iter()
                .any(|pattern| url_covers(pattern, &attributes.path));
        }
        has_or_all(&self.api_groups, &attributes.group)
            && self
                .resources
                .iter()
                .any(|pattern| matches_request(pattern, attributes))
            && (self.resource_names.is_empty() || has(&self.resource_names, &attributes.name))
    }

    /// The rule as many rules of one verb, group, resource and name (or URL) each.
    fn break_down(&self) -> Vec<Self> {
        let mut parts = Vec::new();
        for verb in &self.verbs {
            let verbs = vec![verb.clone()];
            for group in &self.api_groups {
                for resource in &self.resources {
                    let part = Self {
                        verbs: verbs.clone(),
                        api_groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        ..Self::default()
                    };
                    if self.resource_names.is_empty() {
                        parts.push(part);
                    } else {
                        parts.extend(self.resource_names.iter().map(|name| Self {
                            resource_names: vec![name.clone()],
                            ..part.clone()
                        }));
                    }
                }
            }
            parts.extend(self.non_resource_urls.iter().map(|url| Self {
                verbs: verbs.clone(),
                non_resource_urls: vec![url.clone()],
                ..Self::default()
            }));
        }
        parts
    }

    /// Whether everything that `part` (as made by `break_down`) allows is allowed by this rule.
    fn covers(&self, part: &Self) -> bool {
        let all = |wanted: &[String], covered: &dyn Fn(&str) -> bool| wanted.iter().all(|item| covered(item));
        let names = self.resource_names.is_empty()
            || (!part.resource_names.is_empty() && all(&part.resource_names, &|name| has(&self.resource_names, name)));
        all(&part.verbs, &|verb| has_or_all(&self.verbs, verb))
            && all(&part.api_groups, &|group| has_or_all(&self.api_groups, group))
            && all(&part.resources, &|wanted| {
                self.resources.iter().any(|p| resource_covers(p, wanted))
            })
            && all(&part.non_resource_urls, &|wanted| {
                self.non_resource_urls.iter().any(|p| url_covers(p, wanted))
            })
            && names
    }
}

fn matches_request(pattern: &str, attributes: &Attributes) -> bool {
    if attributes.subresource.is_empty() {
        return pattern == ALL || pattern == attributes.resource;
    }
    match pattern.split_once('/') {
        Some((resource, subresource)) => {
            subresource == attributes.subresource && (resource == ALL || resource == attributes.resource)
        }
        None => pattern == ALL,
    }
}

/// What of `wanted` no rule of `held` covers, as short rules in order; empty when all is covered.
pub fn uncovered(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let missing: Vec<Rule> = wanted
        .iter()
        .flat_map(Rule::break_down)
        .filter(|part| !held.iter().any(|rule| rule.covers(part)))
        .collect();
    // Verbs of the same group, resource and name are shown together.
    let mut together: BTreeMap<[Vec<String>; 4], BTreeSet<String>> = BTreeMap::new();
    for part in missing {
        let key = [
            part.api_groups,
            part.resources,
            part.resource_names,
            part.non_resource_urls,
        ];
        together.entry(key).or_default().extend(part.verbs);
    }
    together
        .into_iter()
        .map(
            |([api_groups, resources, resource_names, non_resource_urls], verbs)| Rule {
                verbs: verbs.into_iter().collect(),
                api_groups,
                resources,
                resource_names,
                non_resource_urls,
            },
        )
        .collect()
}

/// `["a" "b"]`, as Kubernetes prints lists in messages.
pub fn quoted_list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

/// `{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}`
impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ]
        .into_iter()
        .filter(|(_, items)| !items.is_empty())
        .map(|(name, items)| format!("{name}:{}", quoted_list(items)))
        .collect();
        write!(f, "{{{}}}", parts.join(", "))
    }
}
