//! SelfSubjectRulesReview: everything that I may do in a namespace (`kubectl auth can-i --list`).

use std::sync::Arc;

use async_trait::async_trait;
use hyper::Response;
use serde_json::{Value, json};
use skiff_api::object::str_at;
use skiff_api::status::{ApiResult, ApiStatus};

use super::{answer, track_manager};
use crate::authn::MASTERS;
use crate::authz::rbac::Rbac;
use crate::authz::rules::Rule;
use crate::body::Body;
use crate::plugins::{PluginRequest, Subresource};
use crate::server::ApiServer;

const GROUP: &str = "authorization.k8s.io";

pub struct RulesReview {
    rbac: Arc<Rbac>,
}

impl RulesReview {
    pub fn new(rbac: Arc<Rbac>) -> Self {
        Self { rbac }
    }
}

#[async_trait]
impl Subresource for RulesReview {
    fn group(&self) -> &'static str {
        GROUP
    }
    fn resources(&self) -> &'static [&'static str] {
        &["selfsubjectrulesreviews"]
    }
    fn subresource(&self) -> &'static str {
        ""
    }
    async fn handle(&self, server: &Arc<ApiServer>, mut request: PluginRequest) -> ApiResult<Response<Body>> {
        let mut review = request.object(server, GROUP, "v1", "SelfSubjectRulesReview").await?;
        track_manager(&request, &mut review, "SelfSubjectRulesReview", "");
        let namespace = str_at(&review, "/spec/namespace");
        if namespace.is_empty() {
            return Err(ApiStatus::bad_request("no namespace on request"));
        }
        let (mut rules, problem) = self.rbac.rules_for(&request.user, namespace);
        if request.user.in_group(MASTERS) {
            let everything = || vec!["*".to_owned()];
            let all = Rule {
                verbs: everything(),
                api_groups: everything(),
                resources: everything(),
                non_resource_urls: everything(),
                ..Rule::default()
            };
            rules.insert(0, all);
        }
        let status = status_of(&rules, &problem);
        request.respond(201, &answer(review, GROUP, "SelfSubjectRulesReview", status))
    }
}

fn status_of(rules: &[Rule], problem: &str) -> Value {
    let (mut of_resources, mut of_paths) = (Vec::new(), Vec::new());
    for rule in rules {
        if !rule.resources.is_empty() {
            of_resources.push(
                Rule {
                    non_resource_urls: Vec::new(),
                    ..rule.clone()
                }
                .to_json(),
            );
        }
        if !rule.non_resource_urls.is_empty() {
            of_paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
        }
    }
    let mut status =
        json!({"resourceRules": of_resources, "nonResourceRules": of_paths, "incomplete": !problem.is_empty()});
    if !problem.is_empty() {
        status["evaluationError"] = problem.trim_start_matches("RBAC: ").into();
    }
    status
}
