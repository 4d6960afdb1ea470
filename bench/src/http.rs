//! Requests to the hello-http pod, a fresh instance for each, with memory and CPU limits set; beside plain hyper, and
//! beside greedy neighbours on the same node.

pub mod reference;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use skiff_tests::{Cluster, eventually};

use crate::client::{Client, PODS};
use crate::load::{Load, run as load};
use crate::objects::guest_pod;
use crate::pods::{address_of, started};
use crate::process::cpu_seconds;
use crate::stats::Stats;
use crate::table::{Goal, Table};

const TIME: Duration = Duration::from_secs(4);
const WARM_UP: Duration = Duration::from_millis(500);
/// Light, regular traffic: what a neighbour can hurt most visibly. About 400 requests per second.
const CALM: Load = Load {
    connections: 4,
    time: Duration::from_secs(6),
    pace: Some(Duration::from_millis(10)),
};

pub async fn run(table: &mut Table) -> Result<()> {
    let cluster = Cluster::up();
    let client = crate::api::client(&cluster).await?;
    let image = cluster.push("hello-http");
    client
        .create(PODS, &guest_pod("web", &image, &json!({"memory": "64Mi", "cpu": "2"})))
        .await?;
    let web = address_of(&started(&client, "web").await?)?;
    let reference = reference::Reference::start()?;
    let worker = cluster
        .processes("wasm-worker")
        .into_iter()
        .next()
        .context("no worker runs")?;

    for connections in [32, 64] {
        let saturating = Load {
            connections,
            time: TIME,
            pace: None,
        };
        let plain = measured(reference.address, saturating).await?;
        let before = cpu_seconds(worker);
        let ours = measured(web, saturating).await?;
        let cpu = (cpu_seconds(worker) - before) * 1e6 / ours.count().max(1) as f64;
        table.beside(
            format!("http: wasm, fresh instances, {connections} connections"),
            ours.per_second(),
            "req/s",
            ("plain hyper", plain.per_second()),
            Some(Goal::RatioAtLeast(0.15)),
        );
        table.beside(
            format!("http: wasm, {connections} connections, p50"),
            ours.p50(),
            "ms",
            ("plain hyper", plain.p50()),
            None,
        );
        table.beside(
            format!("http: wasm, {connections} connections, p99"),
            ours.p99(),
            "ms",
            ("plain hyper", plain.p99()),
            None,
        );
        table.figure(
            format!("http: wasm, {connections} connections, worker CPU per request"),
            cpu,
            "us",
        );
    }
    reused(table, &client, &image, reference.address).await?;
    drop(reference);
    neighbours(table, &cluster, &client, web).await
}

/// The same guest with instances that serve a thousand requests each.
async fn reused(table: &mut Table, client: &Client, image: &str, reference: SocketAddr) -> Result<()> {
    let mut pod = guest_pod("reused", image, &json!({"memory": "64Mi", "cpu": "2"}));
    pod["metadata"]["annotations"] = json!({"skiff.dev/instance-reuse": "1000"});
    client.create(PODS, &pod).await?;
    let address = address_of(&started(client, "reused").await?)?;
    let load = Load {
        connections: 64,
        time: TIME,
        pace: None,
    };
    let plain = measured(reference, load).await?;
    table.beside(
        "http: wasm, instances reused, 64 connections",
        measured(address, load).await?.per_second(),
        "req/s",
        ("plain hyper", plain.per_second()),
        Some(Goal::RatioAtLeast(0.6)),
    );
    client.delete(&format!("{PODS}/reused")).await.map(drop)
}

async fn measured(address: SocketAddr, wanted: Load) -> Result<Stats> {
    load(
        address,
        Load {
            time: WARM_UP,
            ..wanted
        },
    )
    .await?;
    load(address, wanted).await
}

async fn neighbours(table: &mut Table, cluster: &Cluster, client: &Client, web: SocketAddr) -> Result<()> {
    let alone = measured(web, CALM).await?;
    let greedy = [
        ("spinner", json!({"cpu": "200m", "memory": "32Mi"})),
        ("memory-hog", json!({"memory": "48Mi"})),
        ("log-flooder", json!({"cpu": "200m", "memory": "32Mi"})),
    ];
    for (guest, limits) in &greedy {
        client
            .create(PODS, &guest_pod(guest, &cluster.push(guest), limits))
            .await?;
    }
    for (guest, _) in &greedy {
        eventually(&format!("{guest} runs"), || {
            let status: Value = cluster.pod(guest)["status"]["containerStatuses"][0].clone();
            let at_it = !status["state"]["running"].is_null() || status["restartCount"].as_i64() > Some(0);
            if at_it { Ok(()) } else { Err(status.to_string()) }
        });
    }
    let beside = measured(web, CALM).await?;
    table.beside(
        "http: p99 beside spinner, hog and flooder, 400 req/s",
        beside.p99(),
        "ms",
        ("alone", alone.p99()),
        Some(Goal::RatioAtMost(2.0)),
    );
    table.beside(
        "http: p50 beside spinner, hog and flooder, 400 req/s",
        beside.p50(),
        "ms",
        ("alone", alone.p50()),
        None,
    );
    Ok(())
}
