//! A small API server in memory, for tests of what makes requests: objects by path, versions, refusals on demand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tower::service_fn;

use crate::requests::Requests;

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    log: Vec<String>,
    /// Creations are refused with this text.
    refuse_creations: Option<String>,
    /// So many requests are carried out, or not, and get no answer.
    lose_replies: usize,
    lose_requests: usize,
}

#[derive(Clone, Default)]
pub(crate) struct FakeApi(Arc<Mutex<State>>);

impl FakeApi {
    pub(crate) fn requests(&self) -> Requests {
        let api = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let bytes = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
                let body = serde_json::from_slice(&bytes).unwrap_or_default();
                let (status, answer) = api
                    .0
                    .lock()
                    .unwrap()
                    .receive(&parts.method, parts.uri.path(), body)
                    .ok_or_else(|| std::io::Error::other("lost"))?;
                let response = Response::builder()
                    .status(status)
                    .body(Full::new(Bytes::from(answer.to_string())));
                Ok::<_, std::io::Error>(response.unwrap())
            }
        });
        Requests::new(kube::Client::new(service, "default"), "test")
    }

    pub(crate) fn put(&self, path: &str, object: Value) {
        self.0.lock().unwrap().store(path, object);
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.0.lock().unwrap().objects.get(path).cloned()
    }

    pub(crate) fn refuse_creations(&self, message: &str) {
        self.0.lock().unwrap().refuse_creations = Some(message.to_owned());
    }

    /// The next so many requests are carried out, and nobody hears of it.
    pub(crate) fn lose_replies(&self, count: usize) {
        self.0.lock().unwrap().lose_replies = count;
    }

    /// The next so many requests do not arrive.
    pub(crate) fn lose_requests(&self, count: usize) {
        self.0.lock().unwrap().lose_requests = count;
    }

    /// `METHOD path` of each request so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.0.lock().unwrap().log.clone()
    }
}

fn refusal(code: u16, reason: &str, message: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}),
    )
}

impl State {
    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn receive(&mut self, method: &Method, path: &str, body: Value) -> Option<(u16, Value)> {
        if let Some(left) = self.lose_requests.checked_sub(1) {
            self.lose_requests = left;
            return None;
        }
        let answer = self.answer(method, path, body);
        if let Some(left) = self.lose_replies.checked_sub(1) {
            self.lose_replies = left;
            return None;
        }
        Some(answer)
    }

    fn answer(&mut self, method: &Method, path: &str, body: Value) -> (u16, Value) {
        self.log.push(format!("{method} {path}"));
        let path = path.trim_end_matches("/status");
        if *method == Method::POST {
            let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap_or(""));
            return match (&self.refuse_creations, self.objects.contains_key(&path)) {
                (Some(message), _) => refusal(403, "Forbidden", message),
                (None, true) => refusal(409, "AlreadyExists", "already exists"),
                (None, false) => (201, self.store(&path, body)),
            };
        }
        let Some(found) = self.objects.get(path).cloned() else {
            return refusal(404, "NotFound", "not found");
        };
        let wanted = match *method {
            Method::DELETE => body["preconditions"].clone(),
            _ => body["metadata"].clone(),
        };
        for field in ["uid", "resourceVersion"] {
            if !wanted[field].is_null() && wanted[field] != found["metadata"][field] {
                return refusal(409, "Conflict", "the object has been modified");
            }
        }
        match *method {
            Method::GET => (200, found),
            Method::PUT => (200, self.store(path, body)),
            Method::PATCH => {
                let mut object = found;
                for (key, value) in body
                    .as_object()
                    .into_iter()
                    .flatten()
                    .filter(|(key, _)| *key != "metadata")
                {
                    object[key.as_str()] = value.clone();
                }
                (200, self.store(path, object))
            }
            _ => {
                self.objects.remove(path);
                (200, json!({"kind": "Status", "status": "Success"}))
            }
        }
    }
}
