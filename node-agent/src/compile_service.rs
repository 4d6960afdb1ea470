//! The control plane's compile service, asked over the agent's authenticated connection.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use http_body_util::BodyExt;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::Value;
use skiff_agent::Identity;
use skiff_api::compiled::{self, Compiled, Key};
use skiff_runtime_wasm::{Answer, CompileService, ServiceError};
use tokio::sync::Semaphore;

/// An answer that is not code is a line or two.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// When to come again if the service does not say.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(5);
/// Beyond what the service may hold a question.
const SLACK: Duration = Duration::from_secs(30);
/// A module on its way up gets at least this many bytes a second.
const UPLOAD_RATE_MIN: u64 = 64 << 10;

pub(crate) struct ControlPlaneCompiler {
    client: kube::Client,
    identity: Identity,
    /// A module is held in memory while it is sent: one at a time.
    sending: Semaphore,
}

impl ControlPlaneCompiler {
    pub(crate) fn new(client: kube::Client, identity: Identity) -> Self {
        Self {
            client,
            identity,
            sending: Semaphore::new(1),
        }
    }

    async fn send(&self, method: Method, path: &str, body: Vec<u8>, wait: Duration) -> Result<Response<Body>, String> {
        let patience = wait + SLACK + Duration::from_secs(body.len() as u64 / UPLOAD_RATE_MIN);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("accept", "application/octet-stream, application/json")
            .body(Body::from(body))
            .map_err(|error| error.to_string())?;
        tokio::time::timeout(patience, self.client.send(request))
            .await
            .map_err(|_| "it does not answer".to_owned())?
            .map_err(|error| error.to_string())
    }
}

#[async_trait]
impl CompileService for ControlPlaneCompiler {
    async fn ask(&self, key: &Key, module: Option<&Path>, wait: Duration) -> Result<Answer, ServiceError> {
        // The turn to send is for sending: what is compiled of the module is waited for without it, by asking again.
        let wait = if module.is_some() { Duration::ZERO } else { wait };
        let path = format!("{}&wait={}", key.path_and_query(), wait.as_secs());
        let response = match module {
            None => self.send(Method::GET, &path, Vec::new(), wait).await,
            Some(module) => {
                let _turn = self.sending.acquire().await.expect("the semaphore is never closed");
                let bytes = tokio::fs::read(module).await?;
                self.send(Method::POST, &path, bytes, wait).await
            }
        };
        let response = response.map_err(ServiceError::Absent)?;
        if response.status() == StatusCode::OK {
            return code(response);
        }
        let (status, retry_after) = (response.status(), retry_after(response.headers()));
        let answer = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| ServiceError::Absent(error.to_string()))?;
        let answer: Value = serde_json::from_slice(&answer.to_bytes()).unwrap_or_default();
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        match status {
            StatusCode::ACCEPTED if text("state") == "send-module" => Ok(Answer::SendModule),
            StatusCode::ACCEPTED => Ok(Answer::Working(text("message"))),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Ok(Answer::Busy {
                why: text("message"),
                retry_after,
            }),
            StatusCode::UNPROCESSABLE_ENTITY => Err(ServiceError::Refused(text("message"))),
            StatusCode::CONFLICT => Err(ServiceError::Absent(text("message"))),
            other => Err(ServiceError::Absent(format!("it answers {other}: {}", text("message")))),
        }
    }

    fn has_signed(&self, text: &str, signature: &[u8]) -> bool {
        self.identity.ca_has_signed(text.as_bytes(), signature)
    }
}

fn code(response: Response<Body>) -> Result<Answer, ServiceError> {
    let headers = response.headers();
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let compiled = Compiled {
        kind: text(compiled::KIND_HEADER).to_owned(),
        sha256: text(compiled::SHA256_HEADER).to_owned(),
        size: text("content-length").parse().unwrap_or_default(),
    };
    let signature = STANDARD.decode(text(compiled::SIGNATURE_HEADER)).unwrap_or_default();
    let code = response.into_body().into_data_stream();
    let code = code.map(|chunk| chunk.map_err(std::io::Error::other));
    Ok(Answer::Ready {
        compiled,
        signature,
        code: Box::pin(code),
    })
}

fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers
        .get("retry-after")
        .and_then(|value| value.to_str().ok()?.parse().ok());
    seconds.map_or(RETRY_AFTER_DEFAULT, Duration::from_secs)
}
