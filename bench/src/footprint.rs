//! Memory of each process: idle with one http pod, and with many objects.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use skiff_tests::Cluster;

use crate::client::PODS;
use crate::objects::{guest_pod, resting_pod};
use crate::pods::started;
use crate::process::{Memory, memory};
use crate::stats::{Amount, closed_loop};
use crate::table::{Goal, Table};

/// Caches of the first moments are gone after this.
const SETTLE: Duration = Duration::from_secs(10);
const OBJECTS: usize = 1000;

pub async fn run(table: &mut Table) -> Result<()> {
    let cluster = Cluster::up();
    let client = crate::api::client(&cluster).await?;
    let image = cluster.push("hello-http");
    client
        .create(PODS, &guest_pod("idle", &image, &json!({"memory": "32Mi"})))
        .await?;
    started(&client, "idle").await?;
    tokio::time::sleep(SETTLE).await;

    let of = |what: &str| -> Result<Memory> {
        let pid = cluster
            .processes(what)
            .into_iter()
            .next()
            .with_context(|| format!("no process {what}"))?;
        Ok(memory(pid))
    };
    let (plane, agent, worker) = (memory(cluster.process.pid()), of("agent --server")?, of("wasm-worker")?);
    table.goal(
        "footprint: control plane idle, RSS",
        plane.rss_mb,
        "MB",
        Goal::AtMost(60.0),
    );
    table.goal(
        "footprint: agent + worker idle, RSS",
        agent.rss_mb + worker.rss_mb,
        "MB",
        Goal::AtMost(40.0),
    );
    for (name, one) in [("control plane", plane), ("agent", agent), ("worker", worker)] {
        table.figure(format!("footprint: {name} idle, RSS"), one.rss_mb, "MB");
        table.figure(format!("footprint: {name} idle, PSS"), one.pss_mb, "MB");
        table.figure(format!("footprint: {name} idle, anonymous"), one.anonymous_mb, "MB");
    }

    let amount = Amount {
        operations: OBJECTS,
        time: Duration::from_secs(60),
    };
    closed_loop(16, amount, async |n| {
        client.create(PODS, &resting_pod(&format!("rest-{n}"))).await.map(drop)
    })
    .await?;
    let after = memory(cluster.process.pid());
    table.figure("footprint: control plane with 1,000 more pods, RSS", after.rss_mb, "MB");
    Ok(())
}
