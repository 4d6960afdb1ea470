//! Requests as the manager makes them: plain JSON over `kube::Client`, with the errors that matter told apart.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Method, Request, StatusCode, header};
use kube::client::Body;
use serde::Deserialize;
use serde_json::Value;
use skiff_controllers::{ObjectKey, Resource};
use thiserror::Error;

/// The cause by which the API server says that a namespace takes nothing new.
const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";

/// What went wrong with a request.
#[derive(Debug, Error)]
pub(crate) enum RequestError {
    /// The API server refused; the text is its own.
    #[error("{message}")]
    Refused {
        code: u16,
        reason: String,
        message: String,
        causes: Vec<String>,
    },
    #[error("reach the API server")]
    Unreachable(#[source] Box<kube::Error>),
    #[error("read the API server's answer")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl RequestError {
    pub(crate) fn code(&self) -> u16 {
        match self {
            RequestError::Refused { code, .. } => *code,
            RequestError::Unreachable(_) | RequestError::Answer(_) => 0,
        }
    }
    pub(crate) fn is_not_found(&self) -> bool {
        self.code() == 404
    }
    /// Nobody has said whether the request was carried out: no answer came, or the API server itself does not know.
    pub(crate) fn is_in_doubt(&self) -> bool {
        match self {
            RequestError::Refused { code, .. } => *code == StatusCode::GATEWAY_TIMEOUT.as_u16(),
            RequestError::Unreachable(_) | RequestError::Answer(_) => true,
        }
    }
    /// The namespace is on its way out: whatever was to be made there is not wanted any more.
    pub(crate) fn is_namespace_terminating(&self) -> bool {
        matches!(self, RequestError::Refused { causes, .. } if causes.iter().any(|one| one == NAMESPACE_TERMINATING))
    }
    pub(crate) fn is_reason(&self, wanted: &str) -> bool {
        matches!(self, RequestError::Refused { reason, .. } if reason == wanted)
    }
}

/// The part of an answer that writers need.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Written {
    #[serde(default)]
    pub(crate) metadata: WrittenMeta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WrittenMeta {
    #[serde(default)]
    pub(crate) uid: String,
    #[serde(default)]
    pub(crate) resource_version: String,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: RefusalDetails,
}

#[derive(Deserialize, Default)]
struct RefusalDetails {
    #[serde(default)]
    causes: Vec<RefusalCause>,
}

#[derive(Deserialize)]
struct RefusalCause {
    #[serde(default)]
    reason: String,
}

/// One identity's way to the API.
#[derive(Clone)]
pub(crate) struct Requests {
    client: kube::Client,
    /// Goes into `managedFields` and, as User-Agent, into audit logs.
    manager: &'static str,
}

impl Requests {
    pub(crate) fn new(client: kube::Client, manager: &'static str) -> Self {
        Requests { client, manager }
    }

    pub(crate) fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// Sends and returns the body of a successful answer.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Option<&Value>,
    ) -> Result<Bytes, RequestError> {
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::USER_AGENT, self.manager)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, content_type)
            .body(Body::from(bytes))
            .expect("paths are made of names that the API server has accepted");
        let answer = self
            .client
            .send(request)
            .await
            .map_err(|error| RequestError::Unreachable(Box::new(error)))?;
        let status = answer.status();
        let bytes = answer
            .into_body()
            .collect()
            .await
            .map_err(|error| RequestError::Answer(Box::new(error)))?
            .to_bytes();
        if status.is_success() {
            Ok(bytes)
        } else {
            Err(refused(status, &bytes))
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, RequestError> {
        let bytes = self.send(Method::GET, path, "application/json", None).await?;
        serde_json::from_slice(&bytes).map_err(|error| RequestError::Answer(Box::new(error)))
    }

    pub(crate) async fn create(&self, path: &str, object: &Value) -> Result<Written, RequestError> {
        let path = format!("{path}?fieldManager={}", self.manager);
        read(&self.send(Method::POST, &path, "application/json", Some(object)).await?)
    }

    pub(crate) async fn replace(&self, path: &str, object: &Value) -> Result<Written, RequestError> {
        let path = format!("{path}?fieldManager={}", self.manager);
        read(&self.send(Method::PUT, &path, "application/json", Some(object)).await?)
    }

    /// A JSON merge patch.
    pub(crate) async fn merge(&self, path: &str, patch: &Value) -> Result<Written, RequestError> {
        let path = format!("{path}?fieldManager={}", self.manager);
        read(
            &self
                .send(Method::PATCH, &path, "application/merge-patch+json", Some(patch))
                .await?,
        )
    }

    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Result<(), RequestError> {
        self.send(Method::DELETE, path, "application/json", Some(options))
            .await
            .map(drop)
    }
}

fn read(bytes: &Bytes) -> Result<Written, RequestError> {
    serde_json::from_slice(bytes).map_err(|error| RequestError::Answer(Box::new(error)))
}

fn refused(status: StatusCode, bytes: &Bytes) -> RequestError {
    match serde_json::from_slice::<Refusal>(bytes) {
        Ok(refusal) if !refusal.message.is_empty() => RequestError::Refused {
            code: status.as_u16(),
            reason: refusal.reason,
            message: refusal.message,
            causes: refusal.details.causes.into_iter().map(|cause| cause.reason).collect(),
        },
        _ => RequestError::Refused {
            code: status.as_u16(),
            reason: String::new(),
            message: format!("the server answered {status}"),
            causes: Vec::new(),
        },
    }
}

/// Path of a resource's collection, in a namespace or in all of them.
pub(crate) fn collection(resource: &Resource, namespace: &str) -> String {
    let root = if resource.api_version.contains('/') {
        "/apis"
    } else {
        "/api"
    };
    if resource.namespaced && !namespace.is_empty() {
        format!(
            "{root}/{}/namespaces/{namespace}/{}",
            resource.api_version, resource.plural
        )
    } else {
        format!("{root}/{}/{}", resource.api_version, resource.plural)
    }
}

/// Path of one object.
pub(crate) fn object(resource: &Resource, key: &ObjectKey) -> String {
    format!("{}/{}", collection(resource, &key.namespace), key.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        let pod = ObjectKey::new("shop", "web");
        assert_eq!(object(&Resource::POD, &pod), "/api/v1/namespaces/shop/pods/web");
        assert_eq!(object(&Resource::NODE, &ObjectKey::cluster("n")), "/api/v1/nodes/n");
        assert_eq!(
            collection(&Resource::DEPLOYMENT, "shop"),
            "/apis/apps/v1/namespaces/shop/deployments"
        );
        assert_eq!(collection(&Resource::REPLICA_SET, ""), "/apis/apps/v1/replicasets");
    }

    #[test]
    fn a_refusal_keeps_reason_and_text() {
        let body =
            Bytes::from_static(br#"{"kind":"Status","reason":"AlreadyExists","message":"pods \"a\" already exists"}"#);
        let error = refused(StatusCode::CONFLICT, &body);
        assert!(error.is_reason("AlreadyExists") && error.code() == 409);
        assert_eq!(error.to_string(), "pods \"a\" already exists");
        assert_eq!(
            refused(StatusCode::BAD_GATEWAY, &Bytes::new()).to_string(),
            "the server answered 502 Bad Gateway"
        );
    }
}
