//! `skiff server`: a control plane alone. Flags are named as in kube-apiserver where it has them.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use skiff_control_plane::{ControlPlane, ControlPlaneConfig, EtcdConfig, LeaderElection, StoreConfig};

use crate::logging::{self, LogFormat};
use crate::paths;

/// kube-apiserver's own default range.
pub const SERVICE_CIDR: &str = "10.96.0.0/12";
/// k3s' default range for pods.
pub const POD_CIDR: &str = "10.42.0.0/16";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Store {
    Embedded,
    Etcd,
}

/// Flags that `skiff server` and `skiff up` share.
#[derive(clap::Args, Clone, Debug)]
pub struct ServerArgs {
    /// Directory for all state [default: $SKIFF_DATA_DIR, /var/lib/skiff for root, else ~/.skiff]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address to serve the API on
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:6443")]
    pub listen: String,
    /// Where to write the administrator's kubeconfig [default: <data-dir>/kubeconfig]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Where objects are stored
    #[arg(long, value_enum, default_value = "embedded")]
    pub store: Store,
    /// URLs of etcd, separated by commas
    #[arg(long, value_name = "URLS", value_delimiter = ',', required_if_eq("store", "etcd"))]
    pub etcd_endpoints: Vec<String>,
    /// First part of every key in the store
    #[arg(long, value_name = "PREFIX", default_value = "registry")]
    pub etcd_prefix: String,
    /// CA of etcd (PEM)
    #[arg(long, value_name = "FILE")]
    pub etcd_cafile: Option<PathBuf>,
    /// Client certificate for etcd (PEM)
    #[arg(long, value_name = "FILE")]
    pub etcd_certfile: Option<PathBuf>,
    /// Key of the client certificate for etcd (PEM)
    #[arg(long, value_name = "FILE")]
    pub etcd_keyfile: Option<PathBuf>,
    /// File of static bearer tokens: token,user,uid,"group1,group2" per line
    #[arg(long, value_name = "FILE")]
    pub token_auth_file: Option<PathBuf>,
    /// Further CA whose client certificates are accepted (PEM)
    #[arg(long, value_name = "FILE")]
    pub client_ca_file: Option<PathBuf>,
    /// Range of Service addresses
    #[arg(long, value_name = "CIDR", default_value = SERVICE_CIDR)]
    pub service_cluster_ip_range: ipnet::IpNet,
    /// Range of pod addresses; each node gets a /24 of it
    #[arg(long, value_name = "CIDR", default_value = POD_CIDR)]
    pub pod_cidr: ipnet::IpNet,
    /// Further names and addresses for the serving certificate, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub tls_san: Vec<String>,
    /// Elect a leader among control planes [default: only with --store etcd]
    #[arg(long, value_name = "BOOL")]
    pub leader_elect: Option<bool>,
    /// Program that compiles modules for the nodes (its `wasm-compile`) [default: this one, if it was built with a compiler]
    #[arg(long, value_name = "FILE", env = "SKIFF_COMPILER")]
    pub compiler: Option<PathBuf>,
    /// Log level or filter
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    pub log_level: String,
    /// Log format
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

impl ServerArgs {
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(paths::default_data_dir)
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig
            .clone()
            .unwrap_or_else(|| self.data_dir().join("kubeconfig"))
    }

    fn compiler(&self) -> Result<Option<PathBuf>> {
        match &self.compiler {
            // A relative path is one from here, wherever the compiler is started.
            Some(program) => Ok(Some(std::path::absolute(program).context("read --compiler")?)),
            None if cfg!(feature = "compiler") => {
                Ok(Some(std::env::current_exe().context("find this program's own file")?))
            }
            None => Ok(None),
        }
    }

    /// The flags as a configuration. Errors: flags that contradict each other.
    pub fn config(&self) -> Result<ControlPlaneConfig> {
        let (pods, services) = (self.pod_cidr, self.service_cluster_ip_range);
        if pods.contains(&services.network()) || services.contains(&pods.network()) {
            bail!("--pod-cidr {pods} overlaps --service-cluster-ip-range {services}; choose ranges apart");
        }
        let store = match self.store {
            Store::Embedded => StoreConfig::Embedded,
            Store::Etcd => StoreConfig::Etcd(EtcdConfig {
                endpoints: self.etcd_endpoints.clone(),
                ca_file: self.etcd_cafile.clone(),
                certificate_file: self.etcd_certfile.clone(),
                key_file: self.etcd_keyfile.clone(),
            }),
        };
        let elect = self.leader_elect.unwrap_or(self.store == Store::Etcd);
        Ok(ControlPlaneConfig {
            data_dir: self.data_dir(),
            listen: self.listen.clone(),
            kubeconfig: self.kubeconfig(),
            store,
            etcd_prefix: self.etcd_prefix.clone(),
            token_auth_file: self.token_auth_file.clone(),
            client_ca_file: self.client_ca_file.clone(),
            service_cidr: self.service_cluster_ip_range,
            pod_cidr: self.pod_cidr,
            extra_names: self.tls_san.clone(),
            compiler: self.compiler()?,
            leader_election: if elect { LeaderElection::On } else { LeaderElection::Off },
        })
    }
}

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    server: ServerArgs,
}

pub fn run(args: Args) -> Result<()> {
    let args = args.server;
    logging::init(&args.log_level, args.log_format);
    crate::idle::watch();
    super::block_on(super::server_threads(), async {
        let plane = ControlPlane::start(args.config()?).await?;
        eprintln!(
            "serving the API at {}; kubeconfig {}",
            plane.url,
            args.kubeconfig().display()
        );
        plane
            .run_until(super::stop_signal())
            .await
            .context("run the control plane")
    })
}
