//! Nobody grants what he does not hold: checks on writes of roles and bindings. Who may `escalate` a role or `bind` it, and
//! `system:masters`, are free of them.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use skiff_api::kind::ResourceInfo;
use skiff_api::object::{self, str_at};
use skiff_api::status::{ApiResult, ApiStatus, Subject};

use super::rbac::{GROUP, Rbac};
use super::rules::{Rule, quoted_list, uncovered};
use super::{Attributes, Decision};
use crate::admission::{Admission, AdmissionRequest, Operation};
use crate::authn::{MASTERS, UserInfo};
use crate::registry::Lookup;

pub struct EscalationCheck {
    rbac: Arc<Rbac>,
}

impl EscalationCheck {
    pub fn new(rbac: Arc<Rbac>) -> Self {
        Self { rbac }
    }

    fn may(&self, user: &UserInfo, verb: &str, resource: &str, namespace: &str, name: &str) -> bool {
        let attributes = Attributes {
            user: user.clone(),
            verb: verb.to_owned(),
            group: GROUP.to_owned(),
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            resource_request: true,
            ..Attributes::default()
        };
        matches!(self.rbac.decide(&attributes), Decision::Allow { .. })
    }

    /// An error unless `user` holds every one of `rules` in `namespace`.
    fn check_held(&self, user: &UserInfo, namespace: &str, rules: &[Rule]) -> Result<(), String> {
        let (held, problem) = self.rbac.rules_for(user, namespace);
        let missing = uncovered(&held, rules);
        if missing.is_empty() {
            return Ok(());
        }
        let mut texts: Vec<String> = missing.iter().map(ToString::to_string).collect();
        texts.sort();
        let mut why = format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            user.name,
            quoted_list(&user.groups),
            texts.join("\n")
        );
        if !problem.is_empty() {
            why = format!("{why}; resolution errors: [{}]", problem.trim_start_matches("RBAC: "));
        }
        Err(why)
    }

    fn check_role(&self, request: &AdmissionRequest) -> ApiResult<()> {
        let (user, namespace) = (&request.user, request.namespace.as_str());
        if let Some(old) = &request.old
            && old.get("rules") == request.object.get("rules")
            && old.get("aggregationRule") == request.object.get("aggregationRule")
        {
            return Ok(());
        }
        if self.may(user, "escalate", request.info.resource, namespace, &request.name) {
            return Ok(());
        }
        self.check_held(user, namespace, &Rule::list_of(&request.object))
            .map_err(|why| refused(request, &why))?;
        let aggregation = |role: &Value| role.get("aggregationRule").filter(|rule| !rule.is_null()).cloned();
        let wanted = aggregation(&request.object);
        if wanted.is_some() && wanted != request.old.as_deref().and_then(aggregation) {
            let everything = || vec!["*".to_owned()];
            let all = [
                Rule {
                    verbs: everything(),
                    api_groups: everything(),
                    resources: everything(),
                    ..Rule::default()
                },
                Rule {
                    verbs: everything(),
                    non_resource_urls: everything(),
                    ..Rule::default()
                },
            ];
            self.check_held(user, "", &all)
                .map_err(|_| refused(request, "must have cluster-admin privileges to use an aggregationRule"))?;
        }
        Ok(())
    }

    fn check_binding(&self, request: &AdmissionRequest, lookup: &dyn Lookup) -> ApiResult<()> {
        let (user, namespace) = (&request.user, request.namespace.as_str());
        if let Some(old) = &request.old
            && old.get("roleRef") == request.object.get("roleRef")
            && old.get("subjects") == request.object.get("subjects")
        {
            return Ok(());
        }
        let (kind, name) = (
            str_at(&request.object, "/roleRef/kind"),
            str_at(&request.object, "/roleRef/name"),
        );
        let (resource, role_namespace) = if kind == "ClusterRole" {
            ("clusterroles", "")
        } else {
            ("roles", namespace)
        };
        if self.may(user, "bind", resource, namespace, name) {
            return Ok(());
        }
        let Some(role) = lookup.get(GROUP, resource, role_namespace, name) else {
            return Err(ApiStatus::not_found(Subject {
                group: GROUP,
                resource: &kind.to_lowercase(),
                name,
            }));
        };
        self.check_held(user, namespace, &Rule::list_of(&role))
            .map_err(|why| refused(request, &why))
    }
}

fn refused(request: &AdmissionRequest, why: &str) -> Box<ApiStatus> {
    let info: &ResourceInfo = request.info;
    let name = object::name(&request.object);
    ApiStatus::forbidden(
        Subject {
            group: info.group,
            resource: info.resource,
            name,
        },
        why,
    )
}

#[async_trait]
impl Admission for EscalationCheck {
    fn name(&self) -> &'static str {
        "RBACEscalationCheck"
    }

    async fn validate(&self, request: &mut AdmissionRequest, lookup: &dyn Lookup) -> ApiResult<()> {
        let written = matches!(request.operation, Operation::Create | Operation::Update);
        if !written || request.info.group != GROUP || request.user.in_group(MASTERS) {
            return Ok(());
        }
        match request.info.resource {
            "roles" | "clusterroles" => self.check_role(request),
            "rolebindings" | "clusterrolebindings" => self.check_binding(request, lookup),
            _ => Ok(()),
        }
    }
}
