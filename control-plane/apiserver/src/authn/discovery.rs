//! Where others find the key of ServiceAccount tokens: OpenID discovery, as kube-apiserver has it. Who may read it is RBAC's
//! to say (`system:service-account-issuer-discovery`).

use std::sync::Arc;

use async_trait::async_trait;
use hyper::{Method, Response};
use serde_json::{Value, json};
use skiff_api::status::{ApiResult, ApiStatus};

use super::tokens::TokenSigner;
use crate::body::Body;
use crate::negotiate::{JSON, response_with_type};
use crate::plugins::{PluginRequest, Route};
use crate::server::ApiServer;

const KEYS_PATH: &str = "/openid/v1/jwks";

/// `/.well-known/openid-configuration`
pub struct Configuration(pub Arc<TokenSigner>);

/// `/openid/v1/jwks`
pub struct Keys(pub Arc<TokenSigner>);

fn answer(request: &PluginRequest, content_type: &str, value: &Value) -> ApiResult<Response<Body>> {
    if !matches!(request.parts.method, Method::GET | Method::HEAD) {
        return Err(ApiStatus::method_not_allowed());
    }
    let mut response = response_with_type(200, content_type, Body::full(value.to_string()));
    let cached = hyper::header::HeaderValue::from_static("public, max-age=3600");
    response.headers_mut().insert(hyper::header::CACHE_CONTROL, cached);
    Ok(response)
}

#[async_trait]
impl Route for Configuration {
    fn prefix(&self) -> &'static str {
        "/.well-known/openid-configuration"
    }
    async fn handle(&self, server: &Arc<ApiServer>, request: PluginRequest) -> ApiResult<Response<Body>> {
        let configuration = json!({
            "issuer": self.0.issuer(),
            "jwks_uri": format!("{}{KEYS_PATH}", server.config.public_url),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        });
        answer(&request, JSON, &configuration)
    }
}

#[async_trait]
impl Route for Keys {
    fn prefix(&self) -> &'static str {
        KEYS_PATH
    }
    async fn handle(&self, _server: &Arc<ApiServer>, request: PluginRequest) -> ApiResult<Response<Body>> {
        answer(&request, "application/jwk-set+json", &self.0.key_set())
    }
}
