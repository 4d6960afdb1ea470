//! `serviceaccounts/NAME/token`: makes a token for a ServiceAccount (TokenRequest), bound to a Pod, Secret or Node if asked.

use std::sync::Arc;

use async_trait::async_trait;
use hyper::Response;
use serde_json::{Value, json};
use skiff_api::field::{FieldErrors, Path};
use skiff_api::object::{self, int_at, list_at, str_at};
use skiff_api::status::{ApiResult, ApiStatus, Subject};
use skiff_api::{kind, time};

use crate::admission::{AdmissionRequest, Operation};
use crate::authn::service_account::user_name;
use crate::authn::tokens::{Bound, Claims, Reference, TokenSigner};
use crate::authn::unix_now;
use crate::body::Body;
use crate::plugins::{PluginRequest, Subresource};
use crate::registry::Lookup;
use crate::reviews::track_manager;
use crate::server::ApiServer;

const GROUP: &str = "authentication.k8s.io";
/// Kubernetes' default and lower bound.
const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;

pub struct TokenRequests {
    tokens: Arc<TokenSigner>,
}

impl TokenRequests {
    pub fn new(tokens: Arc<TokenSigner>) -> Self {
        Self { tokens }
    }

    /// Spec with its defaults; everything that is wrong with it.
    fn complete(&self, request: &mut Value) -> ApiResult<()> {
        let audience = self.tokens.api_audiences().swap_remove(0);
        let spec = object::map_entry(request, "spec");
        if spec
            .get("audiences")
            .and_then(Value::as_array)
            .is_none_or(Vec::is_empty)
        {
            spec.insert("audiences".into(), json!([audience]));
        }
        spec.entry("boundObjectRef").or_insert(Value::Null);
        let seconds = int_at(request, "/spec/expirationSeconds").unwrap_or(0);
        let path = Path::new("spec").child("expirationSeconds");
        let mut errors = FieldErrors::new();
        if seconds < MIN_SECONDS {
            errors.invalid(&path, seconds, "may not specify a duration less than 10 minutes");
        }
        if seconds > MAX_SECONDS {
            errors.invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds");
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(ApiStatus::invalid(
            Subject {
                group: GROUP,
                resource: "TokenRequest",
                name: "",
            },
            &errors,
        ))
    }
}

/// What the token is to be bound to, besides its ServiceAccount; checked to exist.
async fn bound_to(server: &ApiServer, spec: &Value, account: &Value) -> ApiResult<Bound> {
    let namespace = object::namespace(account).to_owned();
    let mut bound = Bound {
        serviceaccount: Reference {
            name: object::name(account).to_owned(),
            uid: object::uid(account).to_owned(),
        },
        namespace: namespace.clone(),
        pod: None,
        node: None,
        secret: None,
    };
    let wanted = &spec["boundObjectRef"];
    if wanted.is_null() {
        return Ok(bound);
    }
    let (api_version, kind_name) = (str_at(wanted, "/apiVersion"), str_at(wanted, "/kind"));
    let (resource, namespace) = match (api_version, kind_name) {
        ("v1", "Pod") => ("pods", namespace.as_str()),
        ("v1", "Secret") => ("secrets", namespace.as_str()),
        ("v1", "Node") => ("nodes", ""),
        _ => {
            let (group, version) = kind::split_api_version(api_version);
            let shown = if group.is_empty() {
                format!("/{version}")
            } else {
                format!("{group}/{version}")
            };
            return Err(ApiStatus::bad_request(format!(
                "cannot bind token to object of type {shown}, Kind={kind_name}"
            )));
        }
    };
    let name = str_at(wanted, "/name");
    let found = server
        .registry
        .get(server.registry.served("", resource)?, namespace, name)
        .await?
        .value;
    let uid = str_at(wanted, "/uid");
    if !uid.is_empty() && uid != object::uid(&found) {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. \
             The object might have been deleted and then recreated"
        );
        return Err(ApiStatus::conflict(
            Subject {
                group: "",
                resource: kind_name,
                name,
            },
            &why,
        ));
    }
    let reference = Reference {
        name: name.to_owned(),
        uid: object::uid(&found).to_owned(),
    };
    match kind_name {
        "Pod" => {
            if str_at(&found, "/spec/serviceAccountName") != bound.serviceaccount.name {
                return Err(ApiStatus::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    bound.serviceaccount.name
                )));
            }
            let node = str_at(&found, "/spec/nodeName");
            if !node.is_empty() {
                let known = Lookup::get(server.registry.as_ref(), "", "nodes", "", node);
                let uid = known.map(|node| object::uid(&node).to_owned()).unwrap_or_default();
                bound.node = Some(Reference {
                    name: node.to_owned(),
                    uid,
                });
            }
            bound.pod = Some(reference);
        }
        "Secret" => bound.secret = Some(reference),
        _ => bound.node = Some(reference),
    }
    Ok(bound)
}

#[async_trait]
impl Subresource for TokenRequests {
    fn group(&self) -> &'static str {
        ""
    }
    fn resources(&self) -> &'static [&'static str] {
        &["serviceaccounts"]
    }
    fn subresource(&self) -> &'static str {
        "token"
    }
    async fn handle(&self, server: &Arc<ApiServer>, mut request: PluginRequest) -> ApiResult<Response<Body>> {
        let mut asked = request.object(server, GROUP, "v1", "TokenRequest").await?;
        let (namespace, name) = (request.info.namespace.clone(), request.info.name.clone());
        let accounts = server.registry.served("", "serviceaccounts")?;
        let account = server.registry.get(accounts, &namespace, &name).await?.value;
        object::set_default(
            object::map_entry(&mut asked, "spec"),
            "expirationSeconds",
            DEFAULT_SECONDS,
        );
        track_manager(&request, &mut asked, "TokenRequest", "token");
        self.complete(&mut asked)?;
        let mut admission = AdmissionRequest {
            operation: Operation::Create,
            info: accounts.info,
            subresource: "token".into(),
            namespace: namespace.clone(),
            name: name.clone(),
            user: request.user.clone(),
            dry_run: request.dry_run(),
            object: asked,
            old: None,
            options: json!({}),
            warnings: Vec::new(),
        };
        server
            .plugins
            .admission
            .validate(&mut admission, server.registry.as_ref())
            .await?;
        let mut asked = admission.object;
        let bound = bound_to(server, &asked["spec"], &account).await?;

        let now = unix_now();
        let expires = now + int_at(&asked, "/spec/expirationSeconds").unwrap_or(DEFAULT_SECONDS);
        let claims = Claims {
            iss: self.tokens.issuer().to_owned(),
            sub: user_name(&namespace, &name),
            aud: list_at(&asked, "/spec/audiences")
                .iter()
                .filter_map(|a| Some(a.as_str()?.to_owned()))
                .collect(),
            exp: expires,
            iat: now,
            nbf: now,
            jti: uuid::Uuid::new_v4().to_string(),
            bound,
        };
        let token = self.tokens.sign(&claims).map_err(ApiStatus::internal)?;
        asked["apiVersion"] = "authentication.k8s.io/v1".into();
        asked["kind"] = "TokenRequest".into();
        let metadata = object::metadata_mut(&mut asked);
        metadata.insert("name".into(), name.into());
        metadata.insert("namespace".into(), namespace.into());
        metadata.insert("uid".into(), object::uid(&account).into());
        metadata.insert("creationTimestamp".into(), time::format_rfc3339(now).into());
        asked["status"] = json!({"token": token, "expirationTimestamp": time::format_rfc3339(expires)});
        request.respond(201, &asked)
    }
}
