//! `skiff token create`: a join token, which names the control plane's CA and carries a bootstrap secret.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use clap::Subcommand;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ListParams, PostParams};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::client::ClusterArgs;

/// Characters of a bootstrap token, as kubeadm makes them.
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const ID_CHARACTERS: usize = 6;
const SECRET_CHARACTERS: usize = 16;
/// kubeadm's own default: a day.
const TTL_HOURS: u32 = 24;
/// The type of Secret in which bootstrap tokens rest.
const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Create a join token and print it
    Create {
        /// Hours until it expires; 0 = never
        #[arg(long, value_name = "HOURS", default_value_t = TTL_HOURS)]
        ttl_hours: u32,
    },
    /// List the ids of the join tokens and when they expire
    List,
    /// Delete a join token
    Delete {
        /// Id of the token: its third part
        id: String,
    },
}

pub fn run(args: Args) -> Result<()> {
    super::block_on(super::CLIENT_THREADS, async {
        let cluster = args.cluster.connect().await?;
        match args.command {
            Command::Create { ttl_hours } => {
                let ca = cluster
                    .ca_pem
                    .context("the kubeconfig names no certificate authority to pin")?;
                println!("{}", create(&cluster.client, &ca, ttl_hours).await?);
            }
            Command::List => list(&cluster.client).await?,
            Command::Delete { id } => {
                secrets(&cluster.client)
                    .delete(&format!("bootstrap-token-{id}"), &kube::api::DeleteParams::default())
                    .await
                    .context("delete the token")?;
                println!("token {id} deleted");
            }
        }
        Ok(())
    })
}

fn secrets(client: &kube::Client) -> Api<Secret> {
    Api::namespaced(client.clone(), "kube-system")
}

/// Makes a token for joining nodes to the cluster whose CA this is.
pub async fn create(client: &kube::Client, ca_pem: &str, ttl_hours: u32) -> Result<String> {
    let ca = CertificateDer::from_pem_slice(ca_pem.as_bytes()).context("read the certificate authority")?;
    let ca_digest = crate::artifact::digest(&ca);
    let ca_hash = ca_digest.strip_prefix("sha256:").unwrap_or(&ca_digest);
    let id = random_text(ID_CHARACTERS)?;
    let secret = random_text(SECRET_CHARACTERS)?;
    let mut data = BTreeMap::from([
        ("token-id".to_owned(), id.clone()),
        ("token-secret".to_owned(), secret.clone()),
        ("usage-bootstrap-authentication".to_owned(), "true".to_owned()),
        ("usage-bootstrap-signing".to_owned(), "true".to_owned()),
        (
            "auth-extra-groups".to_owned(),
            "system:bootstrappers:skiff:join".to_owned(),
        ),
        ("description".to_owned(), "join token made by skiff".to_owned()),
    ]);
    if ttl_hours > 0 {
        let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(i64::from(ttl_hours));
        let until = jiff::Timestamp::from_second(until.as_second()).context("compute the expiry")?;
        data.insert("expiration".to_owned(), until.to_string());
    }
    let object = Secret {
        metadata: kube::api::ObjectMeta {
            name: Some(format!("bootstrap-token-{id}")),
            ..Default::default()
        },
        type_: Some(SECRET_TYPE.to_owned()),
        string_data: Some(data),
        ..Secret::default()
    };
    secrets(client)
        .create(&PostParams::default(), &object)
        .await
        .context("store the token")?;
    Ok(format!("skiff.{ca_hash}.{id}.{secret}"))
}

async fn list(client: &kube::Client) -> Result<()> {
    let params = ListParams::default().fields(&format!("type={SECRET_TYPE}"));
    let tokens = secrets(client).list(&params).await.context("list the tokens")?;
    println!("{:<8} EXPIRES", "ID");
    for token in tokens {
        let data = token.data.unwrap_or_default();
        let text = |key: &str| data.get(key).map(|v| String::from_utf8_lossy(&v.0).into_owned());
        let id = text("token-id").unwrap_or_default();
        println!("{id:<8} {}", text("expiration").unwrap_or_else(|| "never".to_owned()));
    }
    Ok(())
}

/// Random characters of the alphabet; bytes that would make some likelier than others are thrown away.
fn random_text(length: usize) -> Result<String> {
    let mut text = String::with_capacity(length);
    let fair = 256 - 256 % ALPHABET.len();
    while text.len() < length {
        let mut bytes = [0_u8; 32];
        rustls::crypto::aws_lc_rs::default_provider()
            .secure_random
            .fill(&mut bytes)
            .map_err(|_| anyhow::anyhow!("the system gave no random bytes"))?;
        for byte in bytes
            .into_iter()
            .map(usize::from)
            .filter(|b| *b < fair)
            .take(length - text.len())
        {
            text.push(char::from(ALPHABET[byte % ALPHABET.len()]));
        }
    }
    Ok(text)
}
