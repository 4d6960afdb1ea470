//! Starts agents, and waits for what must become true.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use skiff_runtime::Runtime;
use skiff_runtime::fake::{Behaviour, FakeRuntime};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::api::Api;
use crate::agent::{self, Agent};
use crate::config::AgentConfig;
use crate::join::Identity;
use crate::transport::ClientCertificate;

/// What does not become true within this time never will.
const LIMIT: Duration = Duration::from_secs(20);

pub(super) struct Harness {
    pub(super) api: Api,
    pub(super) runtime: Arc<FakeRuntime>,
    pub(super) directory: tempfile::TempDir,
    running: Option<(CancellationToken, JoinHandle<()>)>,
    pub(super) agent: Option<Arc<Agent>>,
    wakes: Arc<tokio::sync::Mutex<mpsc::Receiver<String>>>,
}

impl Harness {
    pub(super) async fn start() -> Self {
        let (wake, wakes) = mpsc::channel(64);
        let runtime = Arc::new(FakeRuntime::new(wake));
        runtime.add_image("hello:v1", true, Behaviour::Runs);
        runtime.set_now(jiff::Timestamp::now().as_second());
        let mut this = Self {
            api: Api::default(),
            runtime,
            directory: tempfile::tempdir().unwrap(),
            running: None,
            agent: None,
            wakes: Arc::new(tokio::sync::Mutex::new(wakes)),
        };
        this.start_agent().await;
        this
    }

    pub(super) async fn start_agent(&mut self) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
        let identity = Identity {
            // Nothing listens there: the tunnel is tested by itself.
            server_url: "https://127.0.0.1:1".to_owned(),
            node_name: "n1".to_owned(),
            ca_pem: certificate.clone(),
            directory: self.directory.path().join("identity"),
            certificate: Arc::new(ClientCertificate::from_pem(&certificate, &key.serialize_pem()).unwrap()),
        };
        let mut config = AgentConfig::new(identity, self.directory.path().to_owned(), [192, 0, 2, 1].into());
        config.max_pods = 3;
        // A full disk of the machine that tests is not what they are about.
        config.eviction_hard = "memory.available<1Mi".parse().expect("valid");
        let runtimes: Vec<Arc<dyn Runtime>> = vec![self.runtime.clone()];
        let shutdown = CancellationToken::new();
        let agent = Arc::new(Agent::start(config, self.api.client(), runtimes, shutdown.clone()).unwrap());
        let (wakes, running) = (self.wakes.clone(), agent.clone());
        // One receiver for all agents of a test, one after the other.
        let task = tokio::spawn(async move {
            let mut wakes = wakes.lock().await;
            agent::drive(&running, &mut wakes).await.unwrap();
        });
        self.agent = Some(agent);
        self.running = Some((shutdown, task));
    }

    pub(super) async fn stop_agent(&mut self) {
        let (shutdown, task) = self.running.take().unwrap();
        shutdown.cancel();
        task.await.unwrap();
        self.agent = None;
    }

    pub(super) fn path(name: &str) -> String {
        format!("/api/v1/namespaces/default/pods/{name}")
    }

    /// Creates a pod that is bound here; uid = name.
    pub(super) fn create(&self, name: &str, spec: Value) {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "default", "uid": name, "generation": 1 },
            "spec": { "nodeName": "n1", "containers": [{ "name": "web", "image": "hello:v1" }] },
            "status": { "phase": "Pending", "qosClass": "BestEffort" },
        });
        for (key, value) in spec.as_object().unwrap() {
            pod["spec"][key] = value.clone();
        }
        self.api.put(&Self::path(name), pod);
    }

    pub(super) fn delete(&self, name: &str) {
        let mut pod = self.pod(name);
        pod["metadata"]["deletionTimestamp"] = json!(jiff::Timestamp::now().to_string());
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
        self.api.put(&Self::path(name), pod);
    }

    pub(super) fn pod(&self, name: &str) -> Value {
        self.api.get(&Self::path(name)).unwrap_or_default()
    }

    pub(super) fn container(&self, name: &str) -> Value {
        self.pod(name)["status"]["containerStatuses"][0].clone()
    }

    pub(super) async fn running(&self, name: &str) {
        self.eventually(&format!("{name} runs"), || self.container(name)["ready"] == true)
            .await;
    }

    pub(super) async fn eventually(&self, what: &str, predicate: impl Fn() -> bool) {
        let wait = async {
            while !predicate() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(LIMIT, wait).await.is_err() {
            panic!(
                "not seen: {what}\nevents: {:#?}\nlog: {:#?}",
                self.api.events(),
                self.api.log()
            );
        }
    }
}
