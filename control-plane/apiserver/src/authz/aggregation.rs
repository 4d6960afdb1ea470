//! Aggregated ClusterRoles: their rules are those of all ClusterRoles that their selectors match.

use std::sync::Arc;

use serde_json::{Value, json};
use skiff_api::object;
use skiff_api::selector::LabelSelector;
use skiff_api::status::ApiResult;
use tokio_util::sync::CancellationToken;

use super::rbac::GROUP;
use crate::registry::{Lookup, Registry};

/// How soon a changed label reaches the aggregated roles. A look costs one comparison when nothing has changed.
const INTERVAL: std::time::Duration = std::time::Duration::from_millis(200);

/// The rules of an aggregated role over `roles` (in name order), without repeats; `None` for a role that is not one.
pub fn aggregated_rules<'a>(role: &Value, roles: impl Iterator<Item = &'a Value> + Clone) -> Option<Vec<Value>> {
    let selectors = role.pointer("/aggregationRule/clusterRoleSelectors")?.as_array()?;
    let mut rules: Vec<Value> = Vec::new();
    for selector in selectors {
        let Ok(selector) = LabelSelector::from_json(selector) else {
            continue;
        };
        for other in roles.clone() {
            if object::name(other) == object::name(role) || !selector.matches(&object::labels(other)) {
                continue;
            }
            for rule in object::list_at(other, "/rules") {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    Some(rules)
}

/// Brings every aggregated role up to date with what the cache shows. Roles may be built on aggregated roles (`admin` on
/// `edit`): the change of one is seen, and carried on, in the next round.
pub async fn aggregate(registry: &Registry) -> ApiResult<()> {
    let Some(resource) = registry.resource(GROUP, "clusterroles") else {
        return Ok(());
    };
    let roles = Lookup::list(registry, GROUP, "clusterroles", "");
    for role in &roles {
        let Some(rules) = aggregated_rules(role, roles.iter().map(Arc::as_ref)) else {
            continue;
        };
        if object::list_at(role, "/rules") == rules.as_slice() {
            continue;
        }
        let rules = json!(rules);
        let written = registry
            .update_with(resource, "", object::name(role), |current| {
                current["rules"] = rules.clone();
                Ok(())
            })
            .await;
        match written {
            // Deleted or changed meanwhile: the cache will show it.
            Err(status) if status.code == 404 || status.code == 409 => {}
            other => {
                other?;
            }
        }
    }
    Ok(())
}

/// Keeps aggregated roles up to date until `shutdown`.
pub async fn run(registry: Arc<Registry>, shutdown: CancellationToken) {
    let mut done = None;
    loop {
        let version = Lookup::version(registry.as_ref(), GROUP, "clusterroles");
        if done != Some(version) {
            match aggregate(&registry).await {
                Ok(()) => done = Some(version),
                Err(status) => tracing::warn!(error = %status, "aggregated cluster roles were not updated"),
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}
