//! A client for the cluster that the user means, and requests to its built-in registry over the same connection.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use http_body_util::BodyExt;
use hyper::{Request, Response};
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::paths;

/// Which cluster to talk to.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ClusterArgs {
    /// Kubeconfig file [default: $KUBECONFIG, else the one of `skiff up`, else ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Namespace [default: the context's, else default]
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
}

/// A connected client and what the kubeconfig said.
pub struct Cluster {
    pub client: kube::Client,
    pub namespace: String,
    /// PEM of the cluster's CA, when the kubeconfig has it.
    pub ca_pem: Option<String>,
}

impl ClusterArgs {
    fn read(&self) -> Result<(Kubeconfig, String)> {
        if let Some(path) = &self.kubeconfig {
            let config = Kubeconfig::read_from(path).with_context(|| format!("read {}", path.display()))?;
            return Ok((config, path.display().to_string()));
        }
        if let Some(config) = Kubeconfig::from_env().context("read the files of $KUBECONFIG")? {
            return Ok((config, "$KUBECONFIG".to_owned()));
        }
        for path in [paths::default_kubeconfig(), paths::home().join(".kube/config")] {
            if path.exists() {
                let config = Kubeconfig::read_from(&path).with_context(|| format!("read {}", path.display()))?;
                return Ok((config, path.display().to_string()));
            }
        }
        bail!("no kubeconfig found; start a cluster with `skiff up`, or set KUBECONFIG")
    }

    /// Reads the kubeconfig and makes a client; does not connect yet.
    pub async fn connect(&self) -> Result<Cluster> {
        let (kubeconfig, source) = self.read()?;
        let ca_pem = ca_of(&kubeconfig, self.context.as_deref());
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .with_context(|| format!("use the kubeconfig {source}"))?;
        let namespace = self
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let client = kube::Client::try_from(config).context("make a client")?;
        Ok(Cluster {
            client,
            namespace,
            ca_pem,
        })
    }
}

/// The PEM of the CA of the context that is in use.
fn ca_of(config: &Kubeconfig, context: Option<&str>) -> Option<String> {
    use base64::Engine;
    let context = context.or(config.current_context.as_deref())?;
    let context = config.contexts.iter().find(|c| c.name == context)?.context.as_ref()?;
    let cluster = config
        .clusters
        .iter()
        .find(|c| c.name == context.cluster)?
        .cluster
        .as_ref()?;
    if let Some(data) = &cluster.certificate_authority_data {
        let bytes = base64::engine::general_purpose::STANDARD.decode(data).ok()?;
        return String::from_utf8(bytes).ok();
    }
    std::fs::read_to_string(cluster.certificate_authority.as_ref()?).ok()
}

/// Longest answer of the registry that is read into memory; its JSON answers are far smaller.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Sends a request to a path of the API server (the registry's `/v2/…` among them) and reads the whole answer.
pub async fn send(client: &kube::Client, request: Request<kube::client::Body>) -> Result<Response<Vec<u8>>> {
    let target = format!("{} {}", request.method(), request.uri().path());
    let response = client.send(request).await?;
    let (parts, body) = response.into_parts();
    let body = http_body_util::Limited::new(body, ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!("read the answer to {target}: {error}"))?
        .to_bytes();
    Ok(Response::from_parts(parts, body.to_vec()))
}
