//! One request: a store, an instance, the guest's answer.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode, Uri};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, timeout_at};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{Error, WasiBody, WasiHttpView, p3};

use super::cpu::metered;
use super::exit::Exit;
use super::guest::Guest;
use super::hits::Limit;
use super::http::{Server, plain};
use super::program::Program;
use super::usage::instantiated;
use crate::limits;

/// Shared by a request's guest and the body of its response.
#[derive(Default)]
struct Progress {
    /// The client has the head of the response.
    answered: AtomicBool,
    /// The guest came to a good end.
    done: AtomicBool,
    /// It came to a bad one: its body, if any, is incomplete.
    failed: AtomicBool,
}

type Answer = Result<Response<WasiBody>, StatusCode>;

/// Where the answer goes; it is given once.
struct Answers(Mutex<Option<oneshot::Sender<Answer>>>);

impl Answers {
    fn new(sender: oneshot::Sender<Answer>) -> Self {
        Self(Mutex::new(Some(sender)))
    }
    fn give(&self, answer: Answer) {
        if let Some(sender) = self.take() {
            let _ = sender.send(answer);
        }
    }
    fn take(&self) -> Option<oneshot::Sender<Answer>> {
        self.0.lock().expect("no panic happens while an answer is held").take()
    }
    fn is_given(&self) -> bool {
        self.0
            .lock()
            .expect("no panic happens while an answer is held")
            .is_none()
    }
}

/// Runs the guest for one request. The turn is given back when the guest has ended.
pub(super) async fn handle(
    server: Arc<Server>,
    request: Request<Incoming>,
    turn: OwnedSemaphorePermit,
) -> Response<WasiBody> {
    let (answers, answer) = oneshot::channel();
    let (client, client_gone) = oneshot::channel::<()>();
    let progress = Arc::new(Progress::default());
    tokio::spawn(run(
        server,
        request,
        Answers::new(answers),
        client_gone,
        progress.clone(),
        turn,
    ));
    match answer.await {
        Ok(Ok(response)) => {
            progress.answered.store(true, Ordering::Release);
            response.map(|body| {
                GuestBody {
                    body,
                    progress,
                    _client: client,
                }
                .boxed_unsync()
            })
        }
        Ok(Err(status)) => plain(status, explain(status)),
        Err(_) => plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            explain(StatusCode::INTERNAL_SERVER_ERROR),
        ),
    }
}

fn explain(status: StatusCode) -> &'static str {
    match status {
        StatusCode::GATEWAY_TIMEOUT => "the component did not answer in time\n",
        StatusCode::SERVICE_UNAVAILABLE => "the component cannot be instantiated now\n",
        _ => "the component failed; its log says why\n",
    }
}

async fn run(
    server: Arc<Server>,
    request: Request<Incoming>,
    answers: Answers,
    client_gone: oneshot::Receiver<()>,
    progress: Arc<Progress>,
    _turn: OwnedSemaphorePermit,
) {
    let container = &server.container;
    let allowed = container.surroundings.bounds.request_deadline;
    let deadline = Instant::now() + allowed;
    let line = line(&request);
    let failing = FailOnDrop(progress.clone());
    let guest = metered(&container.cpu, call(&server, request, line.clone(), &answers));
    tokio::pin!(guest);
    let result = tokio::select! {
        result = timeout_at(deadline, &mut guest) => result,
        () = server.killed.cancelled() => return,
        // Nobody waits any more. A guest that has answered may finish what it is doing.
        _ = client_gone => match progress.answered.load(Ordering::Acquire) {
            false => return,
            true => timeout_at(deadline.min(Instant::now() + limits::AFTER_RESPONSE), &mut guest).await,
        },
    };
    let (status, why) = match result {
        Ok(Ok(())) if answers.is_given() => {
            failing.defuse();
            return;
        }
        Ok(Ok(())) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "the component set no response".to_owned(),
        ),
        Err(_) => {
            container.surroundings.hits.count(Limit::RequestDeadline);
            (StatusCode::GATEWAY_TIMEOUT, format!("not done after {allowed:?}"))
        }
        Ok(Err(error)) => {
            container.surroundings.hits.count_error(&error);
            let exit = Exit::from_error(&error);
            if exit.is_out_of_memory() {
                let _ = server.fatal.try_send(exit);
                return;
            }
            let busy = error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>().is_some();
            let status = if busy {
                StatusCode::SERVICE_UNAVAILABLE
            } else {
                StatusCode::INTERNAL_SERVER_ERROR
            };
            (status, exit.message)
        }
    };
    container
        .surroundings
        .log
        .note(&format!("request {line} failed: {why}"));
    answers.give(Err(status));
}

/// A request as logs and listings name it.
fn line(request: &Request<Incoming>) -> Arc<str> {
    format!("{} {}", request.method(), request.uri().path()).into()
}

async fn call(server: &Server, request: Request<Incoming>, line: Arc<str>, answers: &Answers) -> wasmtime::Result<()> {
    match &*server.container.program {
        Program::Http(pre) => call_p2(server, pre, request, line, answers).await,
        // Apart from the task, which would be as large for every request else, and is moved on its way to the executor.
        Program::HttpP3(pre) => Box::pin(call_p3(server, pre, request, line, answers)).await,
        _ => Err(wasmtime::Error::msg("a command is not a server")),
    }
}

async fn call_p2(
    server: &Server,
    pre: &ProxyPre<Guest>,
    request: Request<Incoming>,
    line: Arc<str>,
    answers: &Answers,
) -> wasmtime::Result<()> {
    let fresh = async {
        let mut store = server.container.surroundings.store(pre.engine(), None)?;
        let exports = instantiated(pre.instantiate_async(&mut store)).await?;
        Ok((store, exports))
    };
    let mut instance = server.warm.take_or(fresh).await?;
    let store = &mut instance.store;
    store.data().answers(line);
    let scheme = Scheme::Http;
    let request = store.data_mut().http().new_incoming_request(scheme, request)?;
    // The library drops the sender unused if the guest sets no response; ours is kept for saying why.
    let (sender, mut set) = oneshot::channel();
    let outparam = store.data_mut().http().new_response_outparam(sender)?;
    let handler = instance.exports.wasi_http_incoming_handler();
    {
        let guest = handler.call_handle(store, request, outparam);
        tokio::pin!(guest);
        tokio::select! {
            biased;
            response = &mut set => {
                forward(answers, response.ok());
                guest.await?;
            }
            result = &mut guest => {
                forward(answers, set.try_recv().ok());
                result?;
            }
        }
    }
    // Who set no response failed.
    if answers.is_given() {
        server.warm.give(instance);
    }
    Ok(())
}

/// Passes on what the guest set, once.
fn forward(
    answers: &Answers,
    set: Option<Result<Response<WasiBody>, wasmtime_wasi_http::p2::bindings::http::types::ErrorCode>>,
) {
    if let Some(set) = set {
        answers.give(set.map_err(|_| StatusCode::BAD_GATEWAY));
    }
}

async fn call_p3(
    server: &Server,
    pre: &ServicePre<Guest>,
    request: Request<Incoming>,
    line: Arc<str>,
    answers: &Answers,
) -> wasmtime::Result<()> {
    let fresh = async {
        let mut store = server.container.surroundings.store(pre.engine(), None)?;
        let exports = instantiated(pre.instantiate_async(&mut store)).await?;
        Ok((store, exports))
    };
    let mut instance = server.warm_p3.take_or(fresh).await?;
    instance.store.data().answers(line);
    let service = &instance.exports;
    let request = with_authority(request);
    instance
        .store
        .run_concurrent(async |accessor| {
            let (request, sent) = accessor.with(|mut store| {
                let (request, sent) = p3::Request::from_http(store.get().http().hooks, request);
                (
                    request,
                    Box::pin(sent) as Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>,
                )
            });
            let response = match service.handle(accessor, request).await? {
                Ok(response) => accessor.with(|store| response.into_http(store, sent))?,
                Err(_) => {
                    answers.give(Err(StatusCode::BAD_GATEWAY));
                    return Ok(());
                }
            };
            // The store must be driven until the client has all of the body.
            let (ended, body_ended) = oneshot::channel::<()>();
            let response = response.map(|body| Ending { body, _ended: ended }.boxed_unsync());
            answers.give(Ok(response));
            let _ = body_ended.await;
            Ok::<(), wasmtime::Error>(())
        })
        .await??;
    server.warm_p3.give(instance);
    Ok(())
}

/// WASI 0.3 takes scheme and authority from the URI, which HTTP/1.1 leaves to the Host header.
fn with_authority(mut request: Request<Incoming>) -> Request<Incoming> {
    let host = request
        .headers()
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .map(str::to_owned);
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = Some(hyper::http::uri::Scheme::HTTP);
    if parts.authority.is_none() {
        parts.authority = host.and_then(|host| host.parse().ok());
    }
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

/// Marks the request as failed unless it came to a good end.
struct FailOnDrop(Arc<Progress>);

impl FailOnDrop {
    fn defuse(self) {
        self.0.done.store(true, Ordering::Release);
    }
}

impl Drop for FailOnDrop {
    fn drop(&mut self) {
        if !self.0.done.load(Ordering::Acquire) {
            self.0.failed.store(true, Ordering::Release);
        }
    }
}

/// A response body that breaks off instead of ending when its guest failed.
struct GuestBody {
    body: WasiBody,
    progress: Arc<Progress>,
    /// Tells the guest's task by its drop that the client has it all, or is gone.
    _client: oneshot::Sender<()>,
}

impl Body for GuestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(None) if self.progress.failed.load(Ordering::Acquire) => {
                Poll::Ready(Some(Err(Error::HttpResponseTimeout)))
            }
            other => other,
        }
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Tells by its drop that a body was sent or given up.
struct Ending {
    body: WasiBody,
    _ended: oneshot::Sender<()>,
}

impl Body for Ending {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
