//! Permissions: a generated matrix against a naive evaluator, nodes, and escalation.

mod nodes;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use skiff_api::object::{self, list_at, str_at};

use super::rbac::Rbac;
use super::rules::{Rule, uncovered};
use super::*;
use crate::authn::testing::{TestServer, user};

/// Group, resource, namespace, name.
type ObjectId = (String, String, String, String);

/// Objects in memory.
#[derive(Default)]
struct Objects {
    objects: Mutex<BTreeMap<ObjectId, Arc<Value>>>,
    version: AtomicU64,
}

impl Objects {
    fn add(&self, group: &str, resource: &str, value: Value) {
        let (namespace, name) = (object::namespace(&value).to_owned(), object::name(&value).to_owned());
        self.objects
            .lock()
            .unwrap()
            .insert((group.into(), resource.into(), namespace, name), Arc::new(value));
        self.version.fetch_add(1, Ordering::SeqCst);
    }
}

impl Lookup for Objects {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let key = (
            group.to_owned(),
            resource.to_owned(),
            namespace.to_owned(),
            name.to_owned(),
        );
        self.objects.lock().unwrap().get(&key).cloned()
    }
    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        let objects = self.objects.lock().unwrap();
        let wanted = |key: &(String, String, String, String)| {
            key.0 == group && key.1 == resource && (namespace.is_empty() || key.2 == namespace)
        };
        objects
            .iter()
            .filter(|(key, _)| wanted(key))
            .map(|(_, value)| Arc::clone(value))
            .collect()
    }
    fn version(&self, _group: &str, _resource: &str) -> u64 {
        self.version.load(Ordering::SeqCst)
    }
}

/// RBAC as its documentation tells it, without any index.
fn naive(objects: &Objects, attributes: &Attributes) -> bool {
    let role_rules = |kind: &str, namespace: &str, name: &str| match kind {
        "ClusterRole" => objects.get(rbac::GROUP, "clusterroles", "", name),
        _ => objects.get(rbac::GROUP, "roles", namespace, name),
    };
    let mut bindings = objects.list(rbac::GROUP, "clusterrolebindings", "");
    if attributes.resource_request && !attributes.namespace.is_empty() {
        bindings.extend(objects.list(rbac::GROUP, "rolebindings", &attributes.namespace));
    }
    bindings.iter().any(|binding| {
        let namespace = object::namespace(binding);
        let applies = list_at(binding, "/subjects")
            .iter()
            .any(|subject| match str_at(subject, "/kind") {
                "User" => str_at(subject, "/name") == attributes.user.name,
                "Group" => attributes.user.in_group(str_at(subject, "/name")),
                _ => {
                    let account = format!("{}:{}", str_at(subject, "/namespace"), str_at(subject, "/name"));
                    attributes.user.name == format!("system:serviceaccount:{account}")
                }
            });
        let role = role_rules(
            str_at(binding, "/roleRef/kind"),
            namespace,
            str_at(binding, "/roleRef/name"),
        );
        applies && role.is_some_and(|role| list_at(&role, "/rules").iter().any(|rule| naive_rule(rule, attributes)))
    })
}

fn naive_rule(rule: &Value, attributes: &Attributes) -> bool {
    let has = |key: &str, wanted: &[&str]| {
        list_at(rule, key)
            .iter()
            .any(|item| wanted.contains(&item.as_str().unwrap_or("")))
    };
    if !has("/verbs", &["*", &attributes.verb]) {
        return false;
    }
    if !attributes.resource_request {
        return list_at(rule, "/nonResourceURLs").iter().any(|url| {
            let url = url.as_str().unwrap_or("");
            url == attributes.path || (url.ends_with('*') && attributes.path.starts_with(&url[..url.len() - 1]))
        });
    }
    let combined = match attributes.subresource.as_str() {
        "" => attributes.resource.clone(),
        sub => format!("{}/{sub}", attributes.resource),
    };
    let any_parent = format!("*/{}", attributes.subresource);
    let resources: &[&str] = if attributes.subresource.is_empty() {
        &["*", &combined]
    } else {
        &["*", &combined, &any_parent]
    };
    let names = list_at(rule, "/resourceNames");
    has("/apiGroups", &["*", &attributes.group])
        && has("/resources", resources)
        && (names.is_empty() || names.iter().any(|name| name == attributes.name.as_str()))
}

/// A small generator of numbers that is the same everywhere (SplitMix64).
struct Seed(u64);

impl Seed {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % below as u64).unwrap()
    }
    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.next(list.len())]
    }
    fn some<'a>(&mut self, list: &[&'a str]) -> Vec<&'a str> {
        let count = 1 + self.next(2);
        (0..count).map(|_| self.pick(list)).collect()
    }
}

const NAMESPACES: [&str; 3] = ["a", "b", "c"];
const USERS: [&str; 4] = ["ann", "bob", "system:serviceaccount:a:sa", "system:serviceaccount:b:sa"];
const GROUPS: [&str; 3] = ["dev", "ops", "system:authenticated"];
const VERBS: [&str; 5] = ["get", "list", "create", "delete", "*"];
const API_GROUPS: [&str; 3] = ["", "apps", "*"];
const RESOURCES: [&str; 7] = [
    "pods",
    "pods/log",
    "secrets",
    "deployments",
    "deployments/scale",
    "*/scale",
    "*",
];
const URLS: [&str; 4] = ["/healthz", "/metrics", "/api/*", "*"];

fn random_rule(seed: &mut Seed) -> Value {
    if seed.next(4) == 0 {
        return json!({"verbs": seed.some(&VERBS), "nonResourceURLs": seed.some(&URLS)});
    }
    let mut rule =
        json!({"verbs": seed.some(&VERBS), "apiGroups": seed.some(&API_GROUPS), "resources": seed.some(&RESOURCES)});
    if seed.next(4) == 0 {
        rule["resourceNames"] = json!([seed.pick(&["x", "y"])]);
    }
    rule
}

fn random_policy(seed: &mut Seed) -> Objects {
    let objects = Objects::default();
    for index in 0..6 {
        let rules: Vec<Value> = (0..1 + seed.next(3)).map(|_| random_rule(seed)).collect();
        let name = format!("r{index}");
        objects.add(
            rbac::GROUP,
            "clusterroles",
            json!({"metadata": {"name": name}, "rules": rules}),
        );
        let namespace = seed.pick(&NAMESPACES);
        let rules = vec![random_rule(seed)];
        let role = json!({"metadata": {"name": name, "namespace": namespace}, "rules": rules});
        objects.add(rbac::GROUP, "roles", role);
    }
    for index in 0..8 {
        let subject = match seed.next(3) {
            0 => json!({"kind": "User", "name": seed.pick(&USERS)}),
            1 => json!({"kind": "Group", "name": seed.pick(&GROUPS)}),
            _ => json!({"kind": "ServiceAccount", "name": "sa", "namespace": seed.pick(&NAMESPACES)}),
        };
        // r6 does not exist.
        let kind = seed.pick(&["Role", "ClusterRole"]);
        let reference = json!({"kind": kind, "name": format!("r{}", seed.next(7))});
        let name = format!("b{index}");
        if seed.next(3) == 0 {
            let binding = json!({"metadata": {"name": name}, "roleRef": {"kind": "ClusterRole", "name": reference["name"]},
                "subjects": [subject]});
            objects.add(rbac::GROUP, "clusterrolebindings", binding);
        } else {
            let binding = json!({"metadata": {"name": name, "namespace": seed.pick(&NAMESPACES)},
                "roleRef": reference, "subjects": [subject]});
            objects.add(rbac::GROUP, "rolebindings", binding);
        }
    }
    objects
}

/// Every subject × verb × resource × scope, and paths.
fn all_questions() -> Vec<Attributes> {
    let mut questions = Vec::new();
    for name in USERS {
        for groups in [&["dev"][..], &["ops"][..], &[][..]] {
            let who = user(name, groups);
            for verb in ["get", "list", "create", "delete", "watch"] {
                for path in ["/healthz", "/metrics", "/api/v1", "/other"] {
                    questions.push(Attributes {
                        user: who.clone(),
                        verb: verb.into(),
                        path: path.into(),
                        ..Attributes::default()
                    });
                }
                for (group, resource, subresource) in [
                    ("", "pods", ""),
                    ("", "pods", "log"),
                    ("", "secrets", ""),
                    ("apps", "deployments", ""),
                    ("apps", "deployments", "scale"),
                    ("apps", "replicasets", "scale"),
                ] {
                    for namespace in ["", "a", "b", "c"] {
                        for object in ["", "x", "z"] {
                            questions.push(Attributes {
                                user: who.clone(),
                                verb: verb.into(),
                                group: group.into(),
                                resource: resource.into(),
                                subresource: subresource.into(),
                                namespace: namespace.into(),
                                name: object.into(),
                                resource_request: true,
                                ..Attributes::default()
                            });
                        }
                    }
                }
            }
        }
    }
    questions
}

#[test]
fn rbac_agrees_with_the_naive_evaluator() {
    let questions = all_questions();
    let (mut allowed, mut refused) = (0, 0);
    for seed in 0..12 {
        let objects = Arc::new(random_policy(&mut Seed(seed)));
        let rbac = Rbac::new(Arc::clone(&objects) as _);
        for question in &questions {
            let expected = naive(&objects, question);
            let decision = rbac.decide(question);
            let got = matches!(decision, Decision::Allow { .. });
            assert_eq!(got, expected, "seed {seed}: {question:?} → {decision:?}");
            if got { allowed += 1 } else { refused += 1 }
        }
    }
    assert!(
        allowed > 1000 && refused > 1000,
        "the matrix says both: {allowed} and {refused}"
    );
}

#[test]
fn a_changed_role_counts_at_the_next_check() {
    let objects = Arc::new(Objects::default());
    let rbac = Rbac::new(Arc::clone(&objects) as _);
    let question = Attributes {
        user: user("ann", &[]),
        verb: "get".into(),
        resource: "pods".into(),
        namespace: "a".into(),
        resource_request: true,
        ..Attributes::default()
    };
    let decide = || rbac.decide(&question);
    assert_eq!(decide(), Decision::NoOpinion { reason: String::new() });
    let binding = json!({"metadata": {"name": "b", "namespace": "a"}, "roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "ann"}]});
    objects.add(rbac::GROUP, "rolebindings", binding);
    let missing = "RBAC: role.rbac.authorization.k8s.io \"r\" not found";
    assert_eq!(decide(), Decision::NoOpinion { reason: missing.into() });
    let rule = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
    objects.add(
        rbac::GROUP,
        "roles",
        json!({"metadata": {"name": "r", "namespace": "a"}, "rules": [rule]}),
    );
    let reason = "RBAC: allowed by RoleBinding \"b/a\" of Role \"r\" to User \"ann\"";
    assert_eq!(decide(), Decision::Allow { reason: reason.into() });
}

#[test]
fn what_is_not_covered_is_named() {
    let rule = |verbs: &[&str], groups: &[&str], resources: &[&str]| {
        Rule::from_json(&json!({"verbs": verbs, "apiGroups": groups, "resources": resources}))
    };
    let held = [
        rule(&["get", "list"], &[""], &["pods", "*/scale"]),
        rule(&["*"], &["apps"], &["deployments"]),
    ];
    assert!(uncovered(&held, &[rule(&["list"], &[""], &["pods"])]).is_empty());
    assert!(uncovered(&held, &[rule(&["get"], &[""], &["things/scale"])]).is_empty());
    assert!(uncovered(&held, &[rule(&["escalate", "get"], &["apps"], &["deployments"])]).is_empty());
    let missing = uncovered(&held, &[rule(&["get", "create", "delete"], &["", "apps"], &["pods"])]);
    let texts: Vec<String> = missing.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            r#"{APIGroups:[""], Resources:["pods"], Verbs:["create" "delete"]}"#,
            r#"{APIGroups:["apps"], Resources:["pods"], Verbs:["create" "delete" "get"]}"#,
        ]
    );
    let named = Rule {
        resource_names: vec!["x".into()],
        ..rule(&["get"], &[""], &["secrets"])
    };
    assert!(uncovered(&[rule(&["get"], &[""], &["secrets"])], std::slice::from_ref(&named)).is_empty());
    assert_eq!(uncovered(&[named], &[rule(&["get"], &[""], &["secrets"])]).len(), 1);
}

#[tokio::test]
async fn nobody_grants_what_he_does_not_hold() {
    let test = TestServer::start().await;
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    let role = |name: &str, rules: Value| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules});
    let binding = |name: &str, kind: &str, role: &str, who: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": who}]})
    };
    let of = |verbs: &[&str], group: &str, resources: &[&str]| json!({"verbs": verbs, "apiGroups": [group], "resources": resources});
    let rbac = "rbac.authorization.k8s.io";
    let base = json!([
        of(&["create", "update"], rbac, &["roles", "rolebindings"]),
        of(&["get", "list"], "", &["pods"])
    ]);
    test.create(roles, role("base", base)).await;
    test.create(roles, role("strong", json!([of(&["*"], "", &["secrets"])])))
        .await;
    test.create(bindings, binding("bob", "Role", "base", "bob")).await;
    let bob = || user("bob", &["devs"]);
    // Until the caches show what was just made.
    let allowed = async |path: &str, object: &Value| {
        for _ in 0..1000 {
            let answer = test.post(bob(), path, object).await;
            if answer.status == 201 {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{path} was never allowed");
    };
    allowed(roles, &role("readers", json!([of(&["get"], "", &["pods"])]))).await;

    let refused = test
        .post(
            bob(),
            roles,
            &role("thief", json!([of(&["get", "delete"], "", &["pods", "secrets"])])),
        )
        .await;
    assert_eq!(refused.status, 403);
    assert_eq!(
        refused.message(),
        "roles.rbac.authorization.k8s.io \"thief\" is forbidden: user \"bob\" (groups=[\"devs\" \"system:authenticated\"]) is \
         attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}\n\
         {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"delete\" \"get\"]}"
    );
    for (name, kind, role) in [("one", "Role", "strong"), ("two", "ClusterRole", "cluster-admin")] {
        let answer = test.post(bob(), bindings, &binding(name, kind, role, "bob")).await;
        assert_eq!(answer.status, 403, "{}", answer.message());
    }
    // With the verb bind on that role it is allowed.
    let may_bind =
        json!([{"verbs": ["bind"], "apiGroups": [rbac], "resources": ["roles"], "resourceNames": ["strong"]}]);
    test.create(roles, role("binder", may_bind)).await;
    test.create(bindings, binding("bob-binds", "Role", "binder", "bob"))
        .await;
    allowed(bindings, &binding("three", "Role", "strong", "eve")).await;
}
