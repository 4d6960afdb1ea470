//! Namespace deletion: everything in it goes first, then the namespace. What still stands is told in its conditions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use serde_json::json;

use crate::conditions::whole_second;
use crate::controller::Context;
use crate::plan::{Action, Plan, Report, Resource, Target};

/// The finalizer by which a namespace waits for this controller.
const FINALIZER: &str = "kubernetes";
/// How long until what remains is looked at again, if nothing wakes this before.
const RETRY: Duration = Duration::from_secs(5);

/// What is left of a namespace's content after its deletion was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// `pods.`, `deployments.apps` → how many are left.
    pub remaining: BTreeMap<String, usize>,
    /// Finalizer → on how many objects.
    pub finalizers: BTreeMap<String, usize>,
    /// Failures to find out what there is.
    pub discovery_failure: Option<String>,
    /// Failures to delete.
    pub deletion_failure: Option<String>,
}

#[derive(Debug, Clone)]
pub struct World {
    pub namespace: Arc<Namespace>,
    pub content: Content,
}

/// In logs.
pub const NAME: &str = "namespace-controller";

/// Whether the namespace waits for this controller.
pub fn concerns(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
    namespace.metadata.deletion_timestamp.is_some() && finalizers.into_iter().flatten().any(|one| one == FINALIZER)
}

/// What to do once the deletion of all content has been asked for and `content` is what is left.
pub fn reconcile(world: &World, ctx: &Context) -> Plan {
    let namespace = &world.namespace;
    if !concerns(namespace) {
        return Plan::default();
    }
    let content = &world.content;
    let is_empty =
        content.remaining.is_empty() && content.discovery_failure.is_none() && content.deletion_failure.is_none();
    if is_empty {
        let finalizers = namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten());
        let finalizers = finalizers.filter(|one| *one != FINALIZER).cloned().collect();
        let target = Target::any_version(Resource::NAMESPACE, &namespace.metadata);
        return Plan {
            actions: vec![Action::Finalize { target, finalizers }],
            report: Report::Changing("namespace is empty".into()),
            ..Plan::default()
        };
    }
    let count: usize = content.remaining.values().sum();
    Plan {
        status: conditions(namespace, content, ctx).map(|list| {
            let target = Target::exact(Resource::NAMESPACE, &namespace.metadata);
            Action::patch_status(target, json!({"status": {"conditions": list}}))
        }),
        requeue_after: Some(RETRY),
        report: Report::WaitingOn(format!("{count} objects")),
        ..Plan::default()
    }
}

/// The five conditions in Kubernetes' words, or nothing if they stand so already.
fn conditions(namespace: &Namespace, content: &Content, ctx: &Context) -> Option<Vec<NamespaceCondition>> {
    let counted = |map: &BTreeMap<String, usize>, text: &dyn Fn(&str, usize) -> String| {
        map.iter()
            .map(|(name, count)| text(name, *count))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let discovery = content.discovery_failure.as_ref();
    let deletion = content.deletion_failure.as_ref();
    let left = counted(&content.remaining, &|name, count| {
        format!("{name} has {count} resource instances")
    });
    let held = counted(&content.finalizers, &|name, count| {
        format!("{name} in {count} resource instances")
    });
    let failed = |failure: Option<&String>, bad: &'static str, good: &'static str, all_well: &str| match failure {
        Some(message) => (true, bad, message.clone()),
        None => (false, good, all_well.to_owned()),
    };
    let rows = [
        (
            "NamespaceDeletionDiscoveryFailure",
            failed(
                discovery,
                "DiscoveryFailed",
                "ResourcesDiscovered",
                "All resources successfully discovered",
            ),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            failed(
                None,
                "GroupVersionParsingFailed",
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed",
            ),
        ),
        (
            "NamespaceDeletionContentFailure",
            failed(
                deletion,
                "ContentDeletionFailed",
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
        ),
        (
            "NamespaceContentRemaining",
            if content.remaining.is_empty() {
                (false, "ContentRemoved", "All content successfully removed".to_owned())
            } else {
                (
                    true,
                    "SomeResourcesRemain",
                    format!("Some resources are remaining: {left}"),
                )
            },
        ),
        (
            "NamespaceFinalizersRemaining",
            if content.finalizers.is_empty() {
                (
                    false,
                    "ContentHasNoFinalizers",
                    "All content-preserving finalizers finished".to_owned(),
                )
            } else {
                (
                    true,
                    "SomeFinalizersRemain",
                    format!("Some content in the namespace has finalizers remaining: {held}"),
                )
            },
        ),
    ];
    let old = namespace
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let mut list: Vec<NamespaceCondition> = old
        .iter()
        .filter(|one| !rows.iter().any(|(kind, _)| one.type_ == *kind))
        .cloned()
        .collect();
    for (kind, (is_true, reason, message)) in rows {
        let status = if is_true { "True" } else { "False" };
        let before = old.iter().find(|one| one.type_ == kind);
        let since = before
            .filter(|one| one.status == status)
            .and_then(|one| one.last_transition_time.clone());
        list.push(NamespaceCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(since.unwrap_or_else(|| whole_second(ctx.now))),
        });
    }
    (list != old).then_some(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{describe, from_yaml, now};
    use expect_test::expect;

    const GOING: &str = "{metadata: {name: shop, uid: s, resourceVersion: '4', deletionTimestamp: '2026-01-01T00:00:00Z'}, spec: {finalizers: [kubernetes, x/y]}}";

    fn plan(namespace: &str, content: Content) -> Plan {
        reconcile(
            &World {
                namespace: from_yaml(namespace),
                content,
            },
            &Context {
                now: now(),
                failure: None,
            },
        )
    }

    #[test]
    fn an_empty_namespace_is_let_go() {
        expect![[r#"
            finalize Namespace shop uid=s ["x/y"]
            report Changing("namespace is empty")
        "#]]
        .assert_eq(&describe(&plan(GOING, Content::default())));
        assert!(
            plan(
                "{metadata: {name: shop}, spec: {finalizers: [kubernetes]}}",
                Content::default()
            )
            .is_empty()
        );
    }

    #[test]
    fn what_remains_is_told_once() {
        let content = Content {
            remaining: [("pods.".to_owned(), 2), ("configmaps.".to_owned(), 1)].into(),
            finalizers: [("x/y".to_owned(), 1)].into(),
            ..Content::default()
        };
        let first = plan(GOING, content.clone());
        let text = describe(&first);
        assert!(
            text.contains(
                "Some resources are remaining: configmaps. has 1 resource instances, pods. has 2 resource instances"
            ),
            "{text}"
        );
        assert!(
            text.contains("Some content in the namespace has finalizers remaining: x/y in 1 resource instances"),
            "{text}"
        );
        let Some(Action::Patch { patch, .. }) = first.status else {
            panic!("no status")
        };
        let mut told: serde_json::Value = crate::testing::yaml(GOING);
        told["status"] = patch["status"].clone();
        assert!(plan(&told.to_string(), content).is_empty());
    }
}
