//! An API server alone, for trials: `serve DATA_DIR PORT`. Writes DATA_DIR/kubeconfig; listens on 127.0.0.1 only.

use std::path::PathBuf;
use std::sync::Arc;

use skiff_apiserver::kubeconfig::{admin_kubeconfig, write_kubeconfig};
use skiff_apiserver::pki::{Pki, server_tls_config, serving_names};
use skiff_apiserver::{ApiServer, ServerConfig};
use skiff_store::embedded::{EmbeddedOptions, EmbeddedStore};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let data_dir = PathBuf::from(arguments.next().ok_or("which data directory?")?);
    let port: u16 = arguments.next().ok_or("which port?")?.parse()?;
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    std::fs::create_dir_all(&data_dir)?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let address = listener.local_addr()?;
    let url = format!("https://{address}");
    let pki = Pki::load_or_create(&data_dir.join("pki"), serving_names(address.ip(), None, &[]))?;
    let tokens = data_dir.join("tokens.csv");
    let config = ServerConfig {
        prefix: "/registry".into(),
        data_dir: data_dir.clone(),
        public_url: url.clone(),
        service_cidr: "10.96.0.0/12".parse()?,
        pod_cidr: "10.42.0.0/16".parse()?,
        token_auth_file: tokens.exists().then_some(tokens),
        client_ca_file: None,
        service_account_issuer: "https://kubernetes.default.svc.cluster.local".into(),
        compiler: None,
    };
    let store = Arc::new(EmbeddedStore::open(
        data_dir.join("store.redb"),
        EmbeddedOptions::default(),
    )?);
    let server = ApiServer::new(config, store, Arc::clone(&pki)).await?;
    write_kubeconfig(&data_dir.join("kubeconfig"), &admin_kubeconfig(&pki, &url))?;
    let tls = Arc::new(server_tls_config(&pki, None)?);
    println!("serving on {url}");
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    server.serve(listener, tls, shutdown).await?;
    Ok(())
}
