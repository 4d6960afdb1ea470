//! An API server in memory: enough of it for one agent.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;

type Answer = Response<BoxBody<Bytes, std::io::Error>>;

#[derive(Clone, Default)]
pub(super) struct Api {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// By path, such as `/api/v1/namespaces/default/pods/web`.
    objects: BTreeMap<String, Value>,
    revision: u64,
    watchers: Vec<(String, mpsc::UnboundedSender<Bytes>)>,
    away: bool,
    /// Writes, one line each.
    log: Vec<String>,
}

impl Api {
    pub(super) fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request| {
            let api = api.clone();
            async move { api.serve(request).await }
        });
        kube::Client::new(service, "default")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// While away every request fails, and watches end.
    pub(super) fn set_away(&self, away: bool) {
        let mut state = self.lock();
        state.away = away;
        if away {
            state.watchers.clear();
        }
    }

    pub(super) fn put(&self, path: &str, object: Value) {
        self.lock().put(path, object);
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.lock().objects.get(path).cloned()
    }

    pub(super) fn remove(&self, path: &str) {
        self.lock().remove(path);
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.lock().log.clone()
    }

    /// Messages of all events so far, with their reasons.
    pub(super) fn events(&self) -> Vec<String> {
        let state = self.lock();
        let mut events: Vec<&Value> = state
            .objects
            .iter()
            .filter(|(path, _)| path.contains("/events/"))
            .map(|(_, event)| event)
            .collect();
        events.sort_by_key(|event| {
            event["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .parse::<u64>()
                .unwrap()
        });
        let text = |event: &&Value| {
            format!(
                "{} {}",
                event["reason"].as_str().unwrap(),
                event["message"].as_str().unwrap()
            )
        };
        events
            .iter()
            .filter(|event| event["involvedObject"]["kind"] == "Pod")
            .map(text)
            .collect()
    }

    async fn serve(&self, request: Request<Body>) -> Result<Answer, std::io::Error> {
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await.map_err(std::io::Error::other)?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let mut state = self.lock();
        if state.away {
            return Err(std::io::Error::other("connection refused"));
        }
        let path = head.uri.path().to_owned();
        let query = head.uri.query().unwrap_or_default();
        if head.method == Method::GET && query.contains("watch=true") {
            return Ok(state.watch(path));
        }
        let answer = match head.method {
            Method::GET => state.read(&path),
            Method::POST => state.create(&path, body),
            Method::PATCH => state.patch(&path, &body),
            Method::DELETE => {
                state.log.push(format!("DELETE {path} {body}"));
                state.remove(&path).ok_or(404)
            }
            _ => Err(405),
        };
        Ok(respond(answer))
    }
}

fn respond(answer: Result<Value, u16>) -> Answer {
    let (code, body) = match answer {
        Ok(body) => (200, body),
        Err(code) => {
            let reason = if code == 404 { "NotFound" } else { "AlreadyExists" };
            (
                code,
                json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason }),
            )
        }
    };
    let body = Full::new(Bytes::from(body.to_string()))
        .map_err(|never: Infallible| match never {})
        .boxed();
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

impl State {
    fn put(&mut self, path: &str, mut object: Value) {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let kind = match self.objects.insert(path.to_owned(), object.clone()) {
            Some(_) => "MODIFIED",
            None => "ADDED",
        };
        self.tell(path, kind, &object);
    }

    fn remove(&mut self, path: &str) -> Option<Value> {
        let object = self.objects.remove(path)?;
        self.revision += 1;
        self.tell(path, "DELETED", &object);
        Some(object)
    }

    fn tell(&mut self, path: &str, kind: &str, object: &Value) {
        let resource = resource_of(path);
        let line = Bytes::from(format!("{}\n", json!({ "type": kind, "object": object })));
        self.watchers
            .retain(|(watched, sender)| *watched != resource || sender.send(line.clone()).is_ok());
    }

    fn watch(&mut self, path: String) -> Answer {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.watchers.push((resource_of(&format!("{path}/")), sender));
        let frames = UnboundedReceiverStream::new(receiver).map(|line| Ok(Frame::data(line)));
        Response::builder()
            .header("content-type", "application/json")
            .body(StreamBody::new(frames).boxed())
            .unwrap()
    }

    fn read(&self, path: &str) -> Result<Value, u16> {
        if let Some(object) = self.objects.get(path) {
            return Ok(object.clone());
        }
        let kind = match path.rsplit('/').next().unwrap() {
            "pods" => "PodList",
            "nodes" => "NodeList",
            _ => return Err(404),
        };
        let resource = resource_of(&format!("{path}/"));
        let items = self.objects.iter().filter(|(path, _)| resource_of(path) == resource);
        let items: Vec<&Value> = items.map(|(_, object)| object).collect();
        let metadata = json!({ "resourceVersion": self.revision.to_string() });
        Ok(json!({ "kind": kind, "apiVersion": "v1", "metadata": metadata, "items": items }))
    }

    fn create(&mut self, path: &str, mut object: Value) -> Result<Value, u16> {
        if path.ends_with("/token") {
            let status = json!({ "token": "a-token", "expirationTimestamp": "2100-01-01T00:00:00Z" });
            object["status"] = status;
            return Ok(object);
        }
        let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
        if self.objects.contains_key(&path) {
            return Err(409);
        }
        if path.contains("/nodes/") {
            object["spec"]["podCIDR"] = json!("10.42.0.0/24");
            object["metadata"]["uid"] = json!("node-uid");
        }
        self.put(&path, object);
        Ok(self.objects[&path].clone())
    }

    fn patch(&mut self, path: &str, patch: &Value) -> Result<Value, u16> {
        let path = path.trim_end_matches("/status");
        let mut object = self.objects.get(path).cloned().ok_or(404u16)?;
        let uid = &patch["metadata"]["uid"];
        if !uid.is_null() && *uid != object["metadata"]["uid"] {
            return Err(409);
        }
        merge(&mut object, patch);
        if path.contains("/pods/") {
            self.log.push(format!(
                "PATCH {path} {}",
                object["status"]["phase"].as_str().unwrap_or_default()
            ));
        }
        self.put(path, object);
        Ok(self.objects[path].clone())
    }
}

/// RFC 7396, and lists without patch directives.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        let mut value = patch.clone();
        if let Value::Array(items) = &mut value {
            items.retain(|item| item.get("$patch").is_none());
        }
        *target = value;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// `pods` of `/api/v1/namespaces/default/pods/web`.
fn resource_of(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').collect();
    parts
        .get(parts.len().saturating_sub(2))
        .copied()
        .unwrap_or_default()
        .to_owned()
}
