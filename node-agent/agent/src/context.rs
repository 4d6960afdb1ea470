//! What all parts of the agent share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use k8s_openapi::api::core::v1::{Node, Pod};
use skiff_runtime::Runtime;
use tokio::sync::watch;

use crate::checkpoint::Checkpoints;
use crate::config::AgentConfig;
use crate::events::Events;
use crate::objects::Objects;
use crate::pod_network::PodNetwork;

pub(crate) struct Context {
    pub(crate) config: AgentConfig,
    pub(crate) client: kube::Client,
    /// By RuntimeClass handler.
    pub(crate) runtimes: BTreeMap<String, Arc<dyn Runtime>>,
    pub(crate) objects: Objects,
    pub(crate) events: Events,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) network: PodNetwork,
    /// Our Node as last seen; None until it is registered.
    pub(crate) node: watch::Receiver<Option<Arc<Node>>>,
    admitted: Mutex<BTreeMap<String, Arc<Pod>>>,
}

impl Context {
    pub(crate) fn new(
        config: AgentConfig,
        client: kube::Client,
        runtimes: Vec<Arc<dyn Runtime>>,
        events: Events,
        checkpoints: Checkpoints,
        network: PodNetwork,
        node: watch::Receiver<Option<Arc<Node>>>,
    ) -> Self {
        Self {
            objects: Objects::new(client.clone(), config.identity.ca_pem.clone()),
            runtimes: runtimes
                .into_iter()
                .map(|runtime| (runtime.name().to_owned(), runtime))
                .collect(),
            config,
            client,
            events,
            checkpoints,
            network,
            node,
            admitted: Mutex::default(),
        }
    }

    /// Pods that hold resources of this node.
    pub(crate) fn admitted(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Pod>>> {
        self.admitted.lock().expect("no code panics while holding this lock")
    }

    /// Everything of one pod except its logs.
    pub(crate) fn pod_directory(&self, pod_uid: &str) -> PathBuf {
        self.pods_directory().join(pod_uid)
    }

    pub(crate) fn pods_directory(&self) -> PathBuf {
        self.config.data_dir.join("pods")
    }

    /// `<log_dir>/<namespace>_<name>_<uid>`
    pub(crate) fn pod_log_directory(&self, namespace: &str, name: &str, pod_uid: &str) -> PathBuf {
        self.config.log_dir.join(format!("{namespace}_{name}_{pod_uid}"))
    }
}
