//! Who gets which handle: store → API server → in-process clients → manager.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use futures::FutureExt;
use hyper::{Request, Response};
use skiff_apiserver::ApiServer;
use skiff_apiserver::authn::UserInfo;
use skiff_apiserver::kubeconfig::{admin_kubeconfig, write_kubeconfig};
use skiff_apiserver::pki::{Pki, server_tls_config, serving_names};
use skiff_apiserver::server::{CompilerProgram, ServerConfig};
use skiff_manager::{Clients, ControllerTimes, LeaseTimes, ManagerConfig};
use skiff_store::DynStore;
use skiff_store::embedded::{EmbeddedOptions, EmbeddedStore};
use skiff_store::etcd::{EtcdOptions, EtcdStore, EtcdTls};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{ControlPlaneConfig, EtcdConfig, LeaderElection, StoreConfig};
use crate::identity;

/// The issuer of ServiceAccount tokens, as kubeadm sets it.
const SERVICE_ACCOUNT_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// A running control plane.
pub struct ControlPlane {
    /// The address that is really listened on.
    pub address: SocketAddr,
    /// What clients put before a path: `https://127.0.0.1:6443`.
    pub url: String,
    server: Arc<ApiServer>,
    pki: Arc<Pki>,
    serving: JoinHandle<Result<()>>,
    managing: JoinHandle<Result<()>>,
    shutdown: CancellationToken,
}

impl ControlPlane {
    /// Starts all parts; answers when the API is being served and the kubeconfig is written.
    pub async fn start(config: ControlPlaneConfig) -> Result<Self> {
        create_data_dir(&config.data_dir)?;
        let listener = TcpListener::bind(&config.listen)
            .await
            .with_context(|| format!("listen on {} (--listen)", config.listen))?;
        let address = listener.local_addr().context("read the address listened on")?;
        let url = public_url(address);
        let service_address = config.service_cidr.hosts().next();
        let names = serving_names(address.ip(), service_address, &config.extra_names);
        let store = open_store(&config).await?;
        let directory = config.data_dir.join("pki");
        let pki = match &config.store {
            StoreConfig::Embedded => identity::load(&directory, names)?,
            StoreConfig::Etcd(_) => identity::shared(&store, &config.etcd_prefix, &directory, names).await?,
        };
        let server_config = ServerConfig {
            prefix: format!("/{}", config.etcd_prefix.trim_matches('/')),
            data_dir: config.data_dir.clone(),
            public_url: url.clone(),
            service_cidr: config.service_cidr,
            pod_cidr: config.pod_cidr,
            token_auth_file: config.token_auth_file.clone(),
            client_ca_file: config.client_ca_file.clone(),
            service_account_issuer: SERVICE_ACCOUNT_ISSUER.to_owned(),
            compiler: config.compiler.clone().map(CompilerProgram),
        };
        let server = ApiServer::new(server_config, store, Arc::clone(&pki))
            .await
            .context("start the API server")?;
        let extra_ca = config
            .client_ca_file
            .as_deref()
            .map(|p| read(p, "--client-ca-file"))
            .transpose()?;
        let tls = server_tls_config(&pki, extra_ca.as_deref()).context("prepare TLS")?;

        let shutdown = CancellationToken::new();
        let serving = {
            let (server, shutdown) = (Arc::clone(&server), shutdown.clone());
            tokio::spawn(async move {
                server
                    .serve(listener, Arc::new(tls), shutdown)
                    .await
                    .context("serve the API")
            })
        };
        let managing = start_manager(&config, &server, &pki, shutdown.clone());
        write_kubeconfig(&config.kubeconfig, &admin_kubeconfig(&pki, &url)).context("write the kubeconfig")?;
        Ok(Self {
            address,
            url,
            server,
            pki,
            serving,
            managing,
            shutdown,
        })
    }

    /// A client over the API server's own service, without a socket. It may do everything.
    pub fn client(&self) -> kube::Client {
        in_process_client(&self.server, "system:skiff:local")
    }

    /// PEM of the cluster's certificate authority.
    pub fn ca_pem(&self) -> &str {
        self.pki.ca_pem()
    }

    /// Waits for a part to fail or for `stop`; then ends everything in order.
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) -> Result<()> {
        let outcome = tokio::select! {
            () = stop => Ok(()),
            ended = &mut self.serving => ended.context("join the API server")?,
            ended = &mut self.managing => ended.context("join the manager")?,
        };
        self.shutdown.cancel();
        for task in [self.serving, self.managing] {
            if !task.is_finished() {
                task.await.context("join a part of the control plane")??;
            }
        }
        outcome
    }
}

/// The data directory holds Secrets and keys: it is its owner's alone, if it is made here. One that exists stays as its
/// owner wanted it.
fn create_data_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("create the data directory {}", path.display()))
}

/// An unspecified address is not one to connect to: clients on this machine use loopback.
fn public_url(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        ip => ip,
    };
    format!("https://{}", SocketAddr::new(ip, address.port()))
}

async fn open_store(config: &ControlPlaneConfig) -> Result<DynStore> {
    match &config.store {
        StoreConfig::Embedded => {
            let path = config.data_dir.join("store.redb");
            let store = EmbeddedStore::open(&path, EmbeddedOptions::default())
                .with_context(|| format!("open the store {}", path.display()))?;
            Ok(Arc::new(store))
        }
        StoreConfig::Etcd(etcd) => {
            let options = EtcdOptions {
                endpoints: etcd.endpoints.clone(),
                tls: etcd_tls(etcd)?,
            };
            let store = EtcdStore::connect(options)
                .await
                .with_context(|| format!("connect to etcd at {} (--etcd-endpoints)", etcd.endpoints.join(",")))?;
            Ok(Arc::new(store))
        }
    }
}

fn etcd_tls(etcd: &EtcdConfig) -> Result<Option<EtcdTls>> {
    let Some(ca_file) = &etcd.ca_file else { return Ok(None) };
    if etcd.certificate_file.is_some() != etcd.key_file.is_some() {
        bail!("--etcd-certfile and --etcd-keyfile go together");
    }
    Ok(Some(EtcdTls {
        ca: read(ca_file, "--etcd-cafile")?,
        certificate: etcd
            .certificate_file
            .as_deref()
            .map(|p| read(p, "--etcd-certfile"))
            .transpose()?,
        key: etcd
            .key_file
            .as_deref()
            .map(|p| read(p, "--etcd-keyfile"))
            .transpose()?,
    }))
}

fn read(path: &Path, flag: &str) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("read {} ({flag})", path.display()))
}

fn start_manager(
    config: &ControlPlaneConfig,
    server: &Arc<ApiServer>,
    pki: &Pki,
    shutdown: CancellationToken,
) -> JoinHandle<Result<()>> {
    let clients = Clients {
        controllers: in_process_client(server, "system:kube-controller-manager"),
        scheduler: in_process_client(server, "system:kube-scheduler"),
    };
    let manager_config = ManagerConfig {
        identity: format!("{}_{}", host_name(), std::process::id()),
        leader_elect: config.leader_election == LeaderElection::On,
        lease: LeaseTimes::KUBERNETES,
        pod_cidr: config.pod_cidr.to_string(),
        service_cidr: config.service_cidr.to_string(),
        cluster_ca_pem: pki.ca_pem().to_owned(),
        times: ControllerTimes::KUBERNETES,
    };
    tokio::spawn(async move {
        skiff_manager::run(clients, manager_config, shutdown)
            .await
            .context("run the manager")
    })
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "skiff".to_owned(), |n| n.trim().to_owned())
}

/// A kube client whose requests are answered by `server` directly.
fn in_process_client(server: &Arc<ApiServer>, user: &str) -> kube::Client {
    let server = Arc::clone(server);
    let user = UserInfo {
        name: user.to_owned(),
        groups: vec!["system:masters".to_owned(), "system:authenticated".to_owned()],
        ..UserInfo::default()
    };
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let (server, user) = (Arc::clone(&server), user.clone());
        async move {
            let response: Response<_> = server.handle_in_process(request, user).await;
            Ok::<_, std::convert::Infallible>(response)
        }
        .boxed()
    });
    kube::Client::new(service, "default")
}
