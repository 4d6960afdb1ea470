//! What lasts: exec, attach and connections to ports. Checks as kubelet makes them, then the session's streams.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use skiff_api::channel::SESSION_HEADER;
use skiff_lifecycle::spec;
use skiff_runtime::{ContainerPhase, ContainerState, Runtime, SandboxState};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{Body, Refusal, Server, decode, permit};
use crate::forward;
use crate::pods::uid;
use crate::streams::{Call, Session, Wanted};

/// Sessions that the control plane can end by the name that it gave them. Breaking off a request does not do it while the
/// request's body waits for room.
#[derive(Default)]
pub(super) struct Running(Mutex<HashMap<String, CancellationToken>>);

impl Running {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held while a session lasts.
pub(crate) struct Held {
    pub(crate) cancelled: CancellationToken,
    /// None = it cannot be ended by name.
    name: Option<String>,
    running: Arc<Running>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            self.running.lock().remove(name);
        }
    }
}

impl Held {
    /// What comes of it, unless the session is ended first.
    async fn unless_ended<T>(&self, doing: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        tokio::select! {
            biased;
            () = self.cancelled.cancelled() => Err(Refusal::internal("the session was ended".to_owned())),
            done = doing => done,
        }
    }
}

impl Server {
    fn hold(&self, headers: &HeaderMap, permit: OwnedSemaphorePermit) -> Held {
        let name = headers.get(SESSION_HEADER).and_then(|name| name.to_str().ok());
        let name = name.filter(|name| !name.is_empty()).map(str::to_owned);
        let cancelled = CancellationToken::new();
        if let Some(name) = &name {
            self.running.lock().insert(name.clone(), cancelled.clone());
        }
        Held {
            cancelled,
            name,
            running: self.running.clone(),
            _permit: permit,
        }
    }

    /// Ends a session. One that is over already is none.
    pub(super) fn cancel(&self, name: &str) -> Response<Body> {
        if let Some(session) = self.running.lock().get(name) {
            session.cancel();
        }
        let mut response = Response::new(http_body_util::Empty::new().boxed());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    }

    /// The pod that is meant: one of the same name with another uid is not the one that the client was authorised for.
    pub(super) fn pod(&self, namespace: &str, name: &str, pod_uid: &str) -> Result<Arc<Pod>, Refusal> {
        let found = self.pods.find(namespace, name).map(|(pod, _)| pod);
        found
            .filter(|pod| uid(pod) == pod_uid)
            .ok_or_else(|| Refusal::not_found("pod does not exist".to_owned()))
    }

    /// What runs of a pod, and the runtime that runs it.
    async fn sandbox(&self, pod: &Pod) -> Result<(Arc<dyn Runtime>, SandboxState), Refusal> {
        for runtime in self.ctx.runtimes.values() {
            match runtime.inspect(&uid(pod)).await {
                Ok(Some(sandbox)) => return Ok((runtime.clone(), sandbox)),
                Ok(None) => {}
                Err(error) => return Err(Refusal::internal(error.to_string())),
            }
        }
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        Err(Refusal::internal(format!("pod \"{name}\" is not running")))
    }

    /// A command in a running container, or its own streams.
    pub(super) async fn session(
        &self,
        pod: Arc<Pod>,
        container: &str,
        call: Call,
        head: &Parts,
        body: Incoming,
    ) -> Result<Response<Body>, Refusal> {
        let query = head.uri.query().unwrap_or_default();
        let flag = |name| all(query, name).iter().any(|value| value == "1");
        let mut wanted = Wanted {
            stdin: flag("input"),
            stdout: flag("output"),
            stderr: flag("error"),
            tty: flag("tty"),
        };
        let absent = || Refusal::internal(format!("container not found (\"{container}\")"));
        let spec = pod.spec.as_ref().and_then(|spec| spec::find(spec, container));
        let (_, spec) = spec.ok_or_else(absent)?;
        if matches!(call, Call::Attach) {
            // Whether a process has a terminal is settled when it starts.
            wanted.tty = spec.tty.unwrap_or(false);
        }
        let permit = permit(&self.sessions, "too many commands run on this node")?;
        let held = self.hold(&head.headers, permit);
        let (runtime, sandbox) = held.unless_ended(self.sandbox(&pod)).await?;
        let runs = |state: &ContainerState| state.name == container && state.phase == ContainerPhase::Running;
        if !sandbox.containers.iter().any(runs) {
            return Err(absent());
        }
        let session = Session {
            runtime,
            pod_uid: uid(&pod),
            container: container.to_owned(),
            call,
            wanted,
        };
        Ok(streamed(session.start(body, held)))
    }

    /// A connection to a port of the pod.
    pub(super) async fn forward(
        &self,
        pod: Arc<Pod>,
        port: &str,
        head: &Parts,
        body: Incoming,
    ) -> Result<Response<Body>, Refusal> {
        let port: u16 = port
            .parse()
            .map_err(|_| Refusal::bad_request(format!("unable to parse \"{port}\" as a port")))?;
        let permit = permit(&self.forwards, "too many connections are forwarded to this node")?;
        let held = self.hold(&head.headers, permit);
        let opening = async {
            let (_, sandbox) = self.sandbox(&pod).await?;
            forward::open(sandbox.ip, port).await.map_err(Refusal::internal)
        };
        let stream = held.unless_ended(opening).await?;
        Ok(streamed(forward::carry(stream, body, held)))
    }
}

/// An answer that lasts as long as the session.
fn streamed(pieces: mpsc::Receiver<Bytes>) -> Response<Body> {
    let frames = ReceiverStream::new(pieces).map(|piece| Ok(Frame::data(piece)));
    Response::new(StreamBody::new(frames).boxed())
}

/// All values of a key of a query, in order.
pub(super) fn all(query: &str, key: &str) -> Vec<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .filter(|(name, _)| decode(name) == key)
        .map(|(_, value)| decode(value))
        .collect()
}
