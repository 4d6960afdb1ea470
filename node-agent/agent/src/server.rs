//! What the control plane can ask of this node, over the tunnel, with kubelet's paths and texts: container logs, metrics,
//! exec and attach, connections to ports of pods.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use serde_json::json;
use skiff_lifecycle::spec;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::context::Context;
use crate::logs::{Options, Reader};
use crate::pods::{Pods, uid};
use crate::streams::Call;
use crate::telemetry::Telemetry;

/// Pieces of a log on their way; with `CHUNK_BYTES` this bounds what a slow reader can hold here.
const CHUNKS_MAX: usize = 4;
/// Logs read at once. More than this is refused: each holds a file and up to 256 KiB.
const READERS_MAX: usize = 128;
/// Commands and attached clients at once. Each holds up to 0.5 MiB of frames on their way.
const SESSIONS_MAX: usize = 64;
/// Connections to pods at once, of all port-forwards. Each holds a socket and up to 100 KiB.
const FORWARDS_MAX: usize = 256;
/// Requests served at once over the tunnel: all of the above, and room for short ones.
pub(crate) const STREAMS_MAX: usize = READERS_MAX + SESSIONS_MAX + FORWARDS_MAX + 64;
/// How often a followed log is looked at when nothing comes.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) mod sessions;

type Body = BoxBody<Bytes, Infallible>;

pub(crate) struct Server {
    ctx: Arc<Context>,
    pods: Arc<Pods>,
    telemetry: Arc<Telemetry>,
    readers: Arc<Semaphore>,
    sessions: Arc<Semaphore>,
    forwards: Arc<Semaphore>,
    running: Arc<sessions::Running>,
}

/// An error as a Status.
struct Refusal {
    code: StatusCode,
    reason: &'static str,
    message: String,
}

impl Refusal {
    fn bad_request(message: String) -> Self {
        Self {
            code: StatusCode::BAD_REQUEST,
            reason: "BadRequest",
            message,
        }
    }
    fn not_found(message: String) -> Self {
        Self {
            code: StatusCode::NOT_FOUND,
            reason: "NotFound",
            message,
        }
    }
    fn internal(message: String) -> Self {
        Self {
            code: StatusCode::INTERNAL_SERVER_ERROR,
            reason: "InternalError",
            message,
        }
    }
    fn response(self) -> Response<Body> {
        let body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        });
        let response = Response::builder()
            .status(self.code)
            .header("content-type", "application/json");
        response
            .body(Full::new(Bytes::from(body.to_string())).boxed())
            .expect("status and header are valid")
    }
}

impl Server {
    pub(crate) fn new(ctx: Arc<Context>, pods: Arc<Pods>, telemetry: Arc<Telemetry>) -> Self {
        Self {
            ctx,
            pods,
            telemetry,
            readers: Arc::new(Semaphore::new(READERS_MAX)),
            sessions: Arc::new(Semaphore::new(SESSIONS_MAX)),
            forwards: Arc::new(Semaphore::new(FORWARDS_MAX)),
            running: Arc::default(),
        }
    }

    pub(crate) async fn serve(&self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let (head, body) = request.into_parts();
        Ok(self.route(&head, body).await.unwrap_or_else(Refusal::response))
    }

    async fn route(&self, head: &Parts, body: Incoming) -> Result<Response<Body>, Refusal> {
        let query = head.uri.query().unwrap_or_default();
        let parts: Vec<String> = head.uri.path().split('/').skip(1).map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match (&head.method, &parts[..]) {
            (&Method::GET, ["healthz"]) => Ok(Response::new(Full::new(Bytes::from_static(b"ok")).boxed())),
            (&Method::GET, ["containerLogs", namespace, pod, container]) => self.logs(namespace, pod, container, query),
            (&Method::POST, ["exec", namespace, pod, pod_uid, container]) => {
                let pod = self.pod(namespace, pod, pod_uid)?;
                let call = Call::Exec(sessions::all(query, "command"));
                self.session(pod, container, call, head, body).await
            }
            (&Method::POST, ["attach", namespace, pod, pod_uid, container]) => {
                let pod = self.pod(namespace, pod, pod_uid)?;
                self.session(pod, container, Call::Attach, head, body).await
            }
            (&Method::POST, ["portForward", namespace, pod, pod_uid, port]) => {
                let pod = self.pod(namespace, pod, pod_uid)?;
                self.forward(pod, port, head, body).await
            }
            (&Method::DELETE, ["sessions", session]) => Ok(self.cancel(session)),
            (&Method::GET, ["metrics" | "stats" | "usage", ..]) => self.usage(&parts, query).await,
            _ => Err(Refusal::not_found(
                "the server could not find the requested resource".to_owned(),
            )),
        }
    }

    async fn usage(&self, path: &[&str], query: &str) -> Result<Response<Body>, Refusal> {
        let (content_type, bytes) = self
            .telemetry
            .answer(path, query)
            .await
            .ok_or_else(|| Refusal::not_found("the server could not find the requested resource".to_owned()))?;
        let response = Response::builder().header("content-type", content_type);
        Ok(response.body(Full::new(bytes).boxed()).expect("the header is valid"))
    }

    fn logs(&self, namespace: &str, pod_name: &str, container: &str, query: &str) -> Result<Response<Body>, Refusal> {
        let query = Query::parse(query)?;
        let (pod, status) = self
            .pods
            .find(namespace, pod_name)
            .ok_or_else(|| Refusal::not_found("pod does not exist".to_owned()))?;
        let pod_spec = pod.spec.as_ref();
        if pod_spec.is_none_or(|pod_spec| spec::find(pod_spec, container).is_none()) {
            let message = format!("container \"{container}\" not found in pod \"{pod_name}_{namespace}\"");
            return Err(Refusal::not_found(message));
        }
        let attempt = attempt(&status, pod_name, container, query.previous).map_err(Refusal::bad_request)?;
        let permit = permit(&self.readers, "too many logs are being read from this node")?;
        let directory = self
            .ctx
            .pod_log_directory(namespace, pod_name, &uid(&pod))
            .join(container);
        let reader = Reader::open(&directory, attempt, query.options).map_err(|error| {
            Refusal::internal(format!("failed to open the log of container \"{container}\": {error}"))
        })?;
        let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
        let follow = query.follow.then(|| {
            let (pods, uid, container) = (self.pods.clone(), uid(&pod), container.to_owned());
            move || {
                pods.status(&uid)
                    .is_some_and(|status| is_running(&status, &container, attempt))
            }
        });
        tokio::spawn(async move {
            stream(reader, follow, sender).await;
            drop(permit);
        });
        let frames = ReceiverStream::new(receiver).map(|chunk| Ok(Frame::data(chunk)));
        let response = Response::builder().header("content-type", "text/plain");
        Ok(response
            .body(StreamBody::new(frames).boxed())
            .expect("the header is valid"))
    }
}

fn permit(budget: &Arc<Semaphore>, refusal: &str) -> Result<OwnedSemaphorePermit, Refusal> {
    budget.clone().try_acquire_owned().map_err(|_| Refusal {
        code: StatusCode::TOO_MANY_REQUESTS,
        reason: "TooManyRequests",
        message: refusal.to_owned(),
    })
}

/// Sends what the reader gives, until the end or, when following, until the container has ended and all is read.
async fn stream(mut reader: Reader, follow: Option<impl Fn() -> bool>, sender: mpsc::Sender<Bytes>) {
    loop {
        // Asked before reading: what a container wrote before it ended is then surely read.
        let go_on = follow.as_ref().is_some_and(|is_running| is_running());
        let read = tokio::task::spawn_blocking(move || {
            let mut chunk = Vec::new();
            let more = reader.read(&mut chunk);
            (reader, chunk, more)
        })
        .await;
        let Ok((returned, chunk, more)) = read else { return };
        reader = returned;
        let at_end = chunk.is_empty();
        if !at_end && sender.send(Bytes::from(chunk)).await.is_err() {
            return;
        }
        if !matches!(more, Ok(true)) || (at_end && !go_on) {
            return;
        }
        if at_end {
            tokio::select! {
                () = tokio::time::sleep(FOLLOW_INTERVAL) => {}
                () = sender.closed() => return,
            }
        }
    }
}

fn find<'a>(status: &'a PodStatus, container: &str) -> Option<&'a ContainerStatus> {
    let init = status.init_container_statuses.iter().flatten();
    init.chain(status.container_statuses.iter().flatten())
        .find(|status| status.name == container)
}

fn is_running(status: &PodStatus, container: &str, attempt: u32) -> bool {
    find(status, container).is_some_and(|status| {
        status.restart_count == i32::try_from(attempt).unwrap_or(i32::MAX)
            && status.state.as_ref().is_some_and(|state| state.running.is_some())
    })
}

/// Which attempt's log is meant; the error is kubelet's text.
fn attempt(status: &PodStatus, pod: &str, container: &str, previous: bool) -> Result<u32, String> {
    let Some(found) = find(status, container) else {
        return Err(format!("container \"{container}\" in pod \"{pod}\" is not available"));
    };
    let newest = u32::try_from(found.restart_count).unwrap_or(0);
    let state = found.state.clone().unwrap_or_default();
    let has_last = found.last_state.as_ref().is_some_and(|last| last.terminated.is_some());
    match (previous, &state.waiting) {
        // While a restart waits, the newest attempt is the one that is over.
        (_, Some(_)) if has_last => Ok(newest),
        (true, _) if has_last => Ok(newest.saturating_sub(1)),
        (true, _) => Err(format!(
            "previous terminated container \"{container}\" in pod \"{pod}\" not found"
        )),
        (false, Some(waiting)) => {
            let why = match waiting.reason.as_deref().unwrap_or_default() {
                "ErrImagePull" => "image can't be pulled",
                "ImagePullBackOff" => "trying and failing to pull image",
                reason => reason,
            };
            Err(format!(
                "container \"{container}\" in pod \"{pod}\" is waiting to start: {why}"
            ))
        }
        (false, None) if state.running.is_some() || state.terminated.is_some() => Ok(newest),
        (false, None) => Err(format!(
            "container \"{container}\" in pod \"{pod}\" is waiting to start - no logs yet"
        )),
    }
}

#[derive(Debug, Default)]
struct Query {
    follow: bool,
    previous: bool,
    options: Options,
}

impl Query {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let values: HashMap<String, String> = text
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (decode(name), decode(value)))
            .collect();
        let get = |name: &str| values.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let flag = |name: &str| matches!(get(name), Some("true" | "1"));
        let number = |name: &str| match get(name).map(str::parse::<i64>) {
            None => Ok(None),
            Some(Ok(number)) if number >= 0 => Ok(Some(number)),
            Some(_) => Err(Refusal::bad_request(format!(
                "invalid value for {name}: must be a non-negative integer"
            ))),
        };
        let since_seconds = number("sinceSeconds")?;
        let since_time = match get("sinceTime").map(str::parse::<Timestamp>) {
            None => None,
            Some(Ok(time)) => Some(time),
            Some(Err(error)) => return Err(Refusal::bad_request(format!("invalid value for sinceTime: {error}"))),
        };
        let since = since_seconds
            .and_then(|seconds| Timestamp::now().checked_sub(SignedDuration::from_secs(seconds)).ok())
            .or(since_time);
        let size = |number: Option<i64>| number.map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        let stream = match get("stream").map(str::to_lowercase).as_deref() {
            Some("stdout") => Some("stdout"),
            Some("stderr") => Some("stderr"),
            _ => None,
        };
        Ok(Self {
            follow: flag("follow"),
            previous: flag("previous"),
            options: Options {
                tail_lines: size(number("tailLines")?),
                follow: flag("follow"),
                since,
                timestamps: flag("timestamps"),
                limit_bytes: size(number("limitBytes")?),
                stream,
            },
        })
    }
}

/// Undoes percent-encoding; a broken escape is kept as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escape = tail
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A service for hyper.
#[derive(Clone)]
pub(crate) struct Shared(pub(crate) Arc<Server>);

impl hyper::service::Service<Request<Incoming>> for Shared {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let server = self.0.clone();
        Box::pin(async move { server.serve(request).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: serde_json::Value) -> PodStatus {
        let mut container = value;
        container["name"] = json!("web");
        container["image"] = json!("i");
        container["imageID"] = json!("");
        container["ready"] = json!(false);
        serde_json::from_value(json!({ "containerStatuses": [container] })).unwrap()
    }

    #[test]
    fn the_attempt_meant_and_the_texts_are_kubelets() {
        let waiting = status(json!({ "restartCount": 0, "state": { "waiting": { "reason": "ContainerCreating" } } }));
        let running = status(json!({ "restartCount": 0, "state": { "running": {} } }));
        let again = status(json!({
            "restartCount": 3, "state": { "running": {} }, "lastState": { "terminated": { "exitCode": 1 } }
        }));
        let crashing = status(json!({
            "restartCount": 3, "state": { "waiting": { "reason": "CrashLoopBackOff" } },
            "lastState": { "terminated": { "exitCode": 1 } }
        }));
        let ask = |status: &PodStatus, previous| attempt(status, "p", "web", previous);
        assert_eq!(
            ask(&waiting, false).unwrap_err(),
            "container \"web\" in pod \"p\" is waiting to start: ContainerCreating"
        );
        assert_eq!(ask(&running, false), Ok(0));
        assert_eq!(
            ask(&running, true).unwrap_err(),
            "previous terminated container \"web\" in pod \"p\" not found"
        );
        assert_eq!((ask(&again, false), ask(&again, true)), (Ok(3), Ok(2)));
        assert_eq!((ask(&crashing, false), ask(&crashing, true)), (Ok(3), Ok(3)));
    }

    #[test]
    fn a_query_is_read_as_kubelet_reads_it() {
        let query = Query::parse("follow=true&tailLines=5&sinceTime=2026-01-01T00%3A00%3A00Z&limitBytes=10")
            .ok()
            .unwrap();
        assert!(query.follow && !query.previous);
        assert_eq!(query.options.tail_lines, Some(5));
        assert_eq!(query.options.since, Some("2026-01-01T00:00:00Z".parse().unwrap()));
        assert!(Query::parse("tailLines=-1").is_err());
    }
}
