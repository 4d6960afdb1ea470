//! The pod network as the agent uses it: ready once the Node has a podCIDR, and at once after a restart, from the CIDR
//! written down before.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use skiff_network::{Network, NetworkError};
use tokio::sync::watch;
use tracing::warn;

use crate::error::{AgentError, chain};
use crate::files;

/// A pod that waits longer than this for the node's podCIDR is told so, and tried again later.
const CIDR_WAIT_MAX: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct PodNetwork {
    network: Arc<Mutex<Option<Network>>>,
    ready: Arc<watch::Sender<bool>>,
    data_dir: PathBuf,
}

impl PodNetwork {
    pub(crate) fn new(data_dir: &Path) -> Self {
        let this = Self {
            network: Arc::default(),
            ready: Arc::new(watch::Sender::new(false)),
            data_dir: data_dir.to_owned(),
        };
        if let Ok(Some(cidr)) = files::read_optional(&this.cidr_path()) {
            this.set_up(cidr.trim());
        }
        this
    }

    fn cidr_path(&self) -> PathBuf {
        self.data_dir.join("pod-cidr")
    }

    fn lock(&self) -> MutexGuard<'_, Option<Network>> {
        self.network.lock().expect("no code panics while holding this lock")
    }

    /// The Node's podCIDR is known. Only the first one counts: addresses of running pods do not change.
    pub(crate) fn set_cidr(&self, cidr: &str) -> Result<(), AgentError> {
        if *self.ready.borrow() {
            return Ok(());
        }
        self.set_up(cidr);
        files::write_atomic(&self.cidr_path(), cidr.as_bytes(), 0o600)
    }

    fn set_up(&self, cidr: &str) {
        match Network::open(cidr, &self.data_dir) {
            Ok(network) => {
                *self.lock() = Some(network);
                self.ready.send_replace(true);
            }
            Err(error) => warn!(cidr, error = chain(&error), "could not set up the pod network"),
        }
    }

    /// The pod's address; waits for the network to be ready.
    pub(crate) async fn allocate(&self, pod_uid: &str) -> Result<IpAddr, String> {
        let mut ready = self.ready.subscribe();
        let waited = tokio::time::timeout(CIDR_WAIT_MAX, ready.wait_for(|ready| *ready)).await;
        if waited.is_err() {
            return Err("network is not ready: the node has no podCIDR yet".to_owned());
        }
        let mut network = self.lock();
        let network = network.as_mut().ok_or("network is not ready")?;
        network.allocate(pod_uid).map_err(|error: NetworkError| chain(&error))
    }

    pub(crate) fn release(&self, pod_uid: &str) {
        if let Some(network) = self.lock().as_mut() {
            network.release(pod_uid);
        }
    }

    pub(crate) fn retain(&self, is_here: impl Fn(&str) -> bool) {
        if let Some(network) = self.lock().as_mut() {
            network.retain(is_here);
        }
    }

    /// Takes the route away.
    pub(crate) fn shutdown(&self) {
        if let Some(network) = self.lock().as_mut() {
            network.shutdown();
        }
    }
}
