//! RBAC over the caches of roles and bindings.
//!
//! Bindings are compiled by subject: a check looks up the user's and each group's grants and walks their rules. The
//! compiled form is made anew when one of the four caches has changed since; until then it is shared by all checks.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use serde_json::Value;
use skiff_api::object::{self, list_at, str_at};

use super::rules::Rule;
use super::{Attributes, Authorizer, Decision};
use crate::authn::UserInfo;
use crate::authn::service_account::user_name;
use crate::registry::Lookup;

pub const GROUP: &str = "rbac.authorization.k8s.io";
const RESOURCES: [&str; 4] = ["clusterroles", "roles", "clusterrolebindings", "rolebindings"];

/// What one subject gets from one binding.
struct Grant {
    /// `RoleBinding "b/default" of Role "r" to User "ann"`.
    description: String,
    /// The rules, or the text of what is missing.
    rules: Result<Arc<[Rule]>, String>,
}

/// Grants by name of user and of group.
#[derive(Default)]
struct Grants {
    users: HashMap<String, Vec<Grant>>,
    groups: HashMap<String, Vec<Grant>>,
}

impl Grants {
    fn of<'a>(&'a self, user: &'a UserInfo) -> impl Iterator<Item = &'a Grant> {
        let groups = user.groups.iter().filter_map(|group| self.groups.get(group));
        self.users.get(&user.name).into_iter().chain(groups).flatten()
    }
}

#[derive(Default)]
struct Compiled {
    versions: [u64; RESOURCES.len()],
    cluster: Grants,
    namespaces: HashMap<String, Grants>,
}

impl Compiled {
    /// Cluster-wide grants first, then those of the namespace.
    fn grants<'a>(&'a self, user: &'a UserInfo, namespace: &str) -> impl Iterator<Item = &'a Grant> {
        self.cluster.of(user).chain(
            self.namespaces
                .get(namespace)
                .into_iter()
                .flat_map(|grants| grants.of(user)),
        )
    }
}

pub struct Rbac {
    lookup: Arc<dyn Lookup>,
    compiled: ArcSwap<Compiled>,
    /// Held while compiling, so that a change is compiled once and not by every waiting request.
    compiling: Mutex<()>,
}

impl Rbac {
    pub fn new(lookup: Arc<dyn Lookup>) -> Arc<Self> {
        let compiled = ArcSwap::from_pointee(compile(lookup.as_ref()));
        Arc::new(Self {
            lookup,
            compiled,
            compiling: Mutex::new(()),
        })
    }

    fn current(&self) -> Arc<Compiled> {
        let compiled = self.compiled.load();
        if compiled.versions == versions(self.lookup.as_ref()) {
            return Arc::clone(&compiled);
        }
        let _guard = self.compiling.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let compiled = self.compiled.load();
        if compiled.versions == versions(self.lookup.as_ref()) {
            return Arc::clone(&compiled);
        }
        let fresh = Arc::new(compile(self.lookup.as_ref()));
        self.compiled.store(Arc::clone(&fresh));
        fresh
    }

    /// The answer, without waiting for anything.
    pub fn decide(&self, attributes: &Attributes) -> Decision {
        let compiled = self.current();
        let namespace = if attributes.resource_request {
            attributes.namespace.as_str()
        } else {
            ""
        };
        let mut missing = BTreeSet::new();
        for grant in compiled.grants(&attributes.user, namespace) {
            match &grant.rules {
                Ok(rules) => {
                    if rules.iter().any(|rule| rule.allows(attributes)) {
                        return Decision::Allow {
                            reason: format!("RBAC: allowed by {}", grant.description),
                        };
                    }
                }
                Err(text) => {
                    missing.insert(text.as_str());
                }
            }
        }
        Decision::NoOpinion {
            reason: missing_reason(&missing),
        }
    }

    /// All rules that a user has in a namespace (`""`: cluster-wide ones only), and the reason if some could not be found.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<Rule>, String) {
        let compiled = self.current();
        let (mut rules, mut missing) = (Vec::new(), BTreeSet::new());
        for grant in compiled.grants(user, namespace) {
            match &grant.rules {
                Ok(found) => rules.extend(found.iter().cloned()),
                Err(text) => {
                    missing.insert(text.as_str());
                }
            }
        }
        (rules, missing_reason(&missing))
    }
}

/// `RBAC: x not found`; several become a list.
fn missing_reason(missing: &BTreeSet<&str>) -> String {
    let texts: Vec<&str> = missing.iter().copied().collect();
    match texts.as_slice() {
        [] => String::new(),
        [one] => format!("RBAC: {one}"),
        many => format!("RBAC: [{}]", many.join(", ")),
    }
}

#[async_trait]
impl Authorizer for Rbac {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        self.decide(attributes)
    }
}

fn versions(lookup: &dyn Lookup) -> [u64; RESOURCES.len()] {
    RESOURCES.map(|resource| lookup.version(GROUP, resource))
}

fn compile(lookup: &dyn Lookup) -> Compiled {
    // Versions first: what changes while the lists are read is compiled again by the next check.
    let mut compiled = Compiled {
        versions: versions(lookup),
        ..Compiled::default()
    };
    let by_name = |resource: &str| -> HashMap<(String, String), Arc<[Rule]>> {
        let key = |role: &Value| (object::namespace(role).to_owned(), object::name(role).to_owned());
        lookup
            .list(GROUP, resource, "")
            .iter()
            .map(|role| (key(role), Rule::list_of(role).into()))
            .collect()
    };
    let (cluster_roles, roles) = (by_name("clusterroles"), by_name("roles"));
    for resource in ["clusterrolebindings", "rolebindings"] {
        for binding in lookup.list(GROUP, resource, "") {
            let namespace = object::namespace(&binding);
            let (role_kind, role_name) = (str_at(&binding, "/roleRef/kind"), str_at(&binding, "/roleRef/name"));
            let found = match (role_kind, namespace) {
                ("ClusterRole", _) => cluster_roles.get(&(String::new(), role_name.to_owned())),
                ("Role", namespace) => roles.get(&(namespace.to_owned(), role_name.to_owned())),
                _ => None,
            };
            let rules = found
                .cloned()
                .ok_or_else(|| format!("{}.{GROUP} {role_name:?} not found", role_kind.to_lowercase()));
            let described = if namespace.is_empty() {
                format!(
                    "ClusterRoleBinding {:?} of {role_kind} {role_name:?}",
                    object::name(&binding)
                )
            } else {
                let name = format!("{}/{namespace}", object::name(&binding));
                format!("RoleBinding {name:?} of {role_kind} {role_name:?}")
            };
            let grants = if namespace.is_empty() {
                &mut compiled.cluster
            } else {
                compiled.namespaces.entry(namespace.to_owned()).or_default()
            };
            for subject in list_at(&binding, "/subjects") {
                add(grants, subject, namespace, &described, &rules);
            }
        }
    }
    compiled
}

fn add(grants: &mut Grants, subject: &Value, namespace: &str, binding: &str, rules: &Result<Arc<[Rule]>, String>) {
    let (kind, name) = (str_at(subject, "/kind"), str_at(subject, "/name"));
    let own_namespace = Some(str_at(subject, "/namespace"))
        .filter(|n| !n.is_empty())
        .unwrap_or(namespace);
    let (slot, shown) = match kind {
        "User" => (grants.users.entry(name.to_owned()), format!("User {name:?}")),
        "Group" => (grants.groups.entry(name.to_owned()), format!("Group {name:?}")),
        "ServiceAccount" if !own_namespace.is_empty() => {
            let shown = format!("ServiceAccount {:?}", format!("{name}/{own_namespace}"));
            (grants.users.entry(user_name(own_namespace, name)), shown)
        }
        _ => return,
    };
    slot.or_default().push(Grant {
        description: format!("{binding} to {shown}"),
        rules: rules.clone(),
    });
}
