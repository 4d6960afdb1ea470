//! From a pod's creation to Running as a watch sees it, to the first HTTP answer; start-up and recovery.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde_json::{Value, json};
use skiff_tests::{Cluster, Options, Process, free_port, kill, pids_with_argument, skiff_binary};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::client::{Client, PODS};
use crate::objects::guest_pod;
use crate::stats::{Stats, closed_loop};
use crate::table::{Goal, Table};

const PODS_EACH: usize = 200;
const AT_A_TIME: usize = 10;
/// Pods whose first answer is waited for.
const ASKED: usize = 30;
const START_UPS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that no watch tells.
const LOOK: Duration = Duration::from_millis(1);
const WATCH: &str = "/api/v1/namespaces/default/pods?watch=true&labelSelector=suite%3Dbench";

pub async fn run(table: &mut Table) -> Result<()> {
    start_up(table).await.context("start-up")?;
    let extra_args = vec!["--max-pods".to_owned(), "1000".to_owned()];
    let cluster = Cluster::start(Options {
        extra_args,
        ..Options::default()
    });
    let client = crate::api::client(&cluster).await?;
    let image = cluster.push("hello-http");
    // The first one compiles.
    client.create(PODS, &pod("first", &image)).await?;
    started(&client, "first").await?;

    let one = creations(&client, &image, "one", 1).await?;
    table.goal(
        "pods: created -> Running, one by one, p50",
        one.p50(),
        "ms",
        Goal::AtMost(20.0),
    );
    table.goal(
        "pods: created -> Running, one by one, p99",
        one.p99(),
        "ms",
        Goal::AtMost(100.0),
    );
    let ten = creations(&client, &image, "ten", AT_A_TIME).await?;
    table.figure("pods: created -> Running, 10 at a time, p50", ten.p50(), "ms");
    table.figure("pods: created -> Running, 10 at a time, p99", ten.p99(), "ms");
    table.figure("pods: created -> Running, 10 at a time", ten.per_second(), "/s");

    let answers = first_answers(&client, &image).await?;
    table.goal(
        "pods: created -> HTTP 200, p50",
        answers.p50(),
        "ms",
        Goal::AtMost(15.0),
    );
    table.goal(
        "pods: created -> HTTP 200, p99",
        answers.p99(),
        "ms",
        Goal::AtMost(50.0),
    );
    table.figure(
        "pods: worker killed -> serving again",
        recovery(&cluster, &client, &image).await?,
        "ms",
    );
    Ok(())
}

fn pod(name: &str, image: &str) -> Value {
    guest_pod(name, image, &json!({"memory": "32Mi", "cpu": "500m"}))
}

fn is_running(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running"
}

/// Reads a watch until the pod `name` satisfies `wanted`.
async fn until(events: &mut UnboundedReceiver<Bytes>, name: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let reading = async {
        loop {
            let line = events.recv().await.context("the watch ended")?;
            let event: Value = serde_json::from_slice(&line)?;
            let object = &event["object"];
            ensure!(
                object["status"]["phase"] != "Failed",
                "pod failed: {}",
                object["status"]
            );
            if object["metadata"]["name"] == name && wanted(object) {
                return Ok(object.clone());
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .with_context(|| format!("pod {name} did not get there"))?
}

/// The pod once it is Running.
pub async fn started(client: &Client, name: &str) -> Result<Value> {
    until(&mut client.watch(WATCH).await?, name, is_running).await
}

pub fn address_of(pod: &Value) -> Result<SocketAddr> {
    let ip = pod["status"]["podIP"].as_str().context("a pod without an address")?;
    format!("{ip}:8080")
        .parse()
        .with_context(|| format!("{ip} is no address"))
}

/// Creates and deletes pods; the latencies are from sending the creation to the watch showing Running.
async fn creations(client: &Client, image: &str, prefix: &str, concurrency: usize) -> Result<Stats> {
    let (latencies, time) = (std::cell::RefCell::new(Vec::new()), Instant::now());
    let amount = crate::stats::Amount {
        operations: PODS_EACH,
        time: PATIENCE,
    };
    closed_loop(concurrency, amount, async |number| {
        let name = format!("{prefix}-{number}");
        // A watch of its own for each, open before the creation, so that nothing is missed.
        let path = format!("{PODS}?watch=true&fieldSelector=metadata.name%3D{name}");
        let mut events = client.watch(&path).await?;
        let begun = Instant::now();
        client.create(PODS, &pod(&name, image)).await?;
        until(&mut events, &name, is_running).await?;
        latencies.borrow_mut().push(begun.elapsed());
        client.delete(&format!("{PODS}/{name}")).await.map(drop)
    })
    .await?;
    Ok(Stats::new(latencies.into_inner(), time.elapsed()))
}

async fn first_answers(client: &Client, image: &str) -> Result<Stats> {
    let (mut latencies, started) = (Vec::new(), Instant::now());
    for number in 0..ASKED {
        let name = format!("asked-{number}");
        let path = format!("{PODS}?watch=true&fieldSelector=metadata.name%3D{name}");
        let mut events = client.watch(&path).await?;
        let begun = Instant::now();
        client.create(PODS, &pod(&name, image)).await?;
        let pod = until(&mut events, &name, |pod| pod["status"]["podIP"].is_string()).await?;
        answers(address_of(&pod)?).await?;
        latencies.push(begun.elapsed());
        client.delete(&format!("{PODS}/{name}")).await?;
    }
    Ok(Stats::new(latencies, started.elapsed()))
}

/// Asks again and again until the answer is 200.
async fn answers(address: SocketAddr) -> Result<()> {
    let begun = Instant::now();
    while !ask(address).await.unwrap_or(false) {
        ensure!(begun.elapsed() < PATIENCE, "{address} does not answer");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

async fn ask(address: SocketAddr) -> Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n")
        .await?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    Ok(&head == b"HTTP/1.1 200")
}

/// Milliseconds from kill -9 of the worker to the pod's next answer.
async fn recovery(cluster: &Cluster, client: &Client, image: &str) -> Result<f64> {
    client.create(PODS, &pod("survivor", image)).await?;
    let address = address_of(&started(client, "survivor").await?)?;
    answers(address).await?;
    let worker = cluster
        .processes("wasm-worker")
        .into_iter()
        .next()
        .context("no worker runs")?;
    let begun = Instant::now();
    kill(worker, rustix::process::Signal::KILL);
    while skiff_tests::is_alive(worker) {
        tokio::time::sleep(LOOK).await;
    }
    answers(address).await?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

/// `skiff up` on an empty directory until a watch shows the node Ready, and again on its data.
async fn start_up(table: &mut Table) -> Result<()> {
    let (mut fresh, mut again) = (Vec::new(), Vec::new());
    for _ in 0..START_UPS {
        let directory = tempfile::tempdir()?;
        for times in [&mut fresh, &mut again] {
            let (process, took) = up(directory.path()).await?;
            times.push(took);
            end(process, directory.path());
        }
    }
    let (fresh, again) = (Stats::new(fresh, PATIENCE), Stats::new(again, PATIENCE));
    table.goal(
        "pods: skiff up -> node Ready, fresh",
        fresh.p50() / 1e3,
        "s",
        Goal::AtMost(2.0),
    );
    table.goal(
        "pods: skiff up -> node Ready, on its data",
        again.p50() / 1e3,
        "s",
        Goal::AtMost(2.0),
    );
    Ok(())
}

async fn up(directory: &Path) -> Result<(Process, Duration)> {
    let data = directory.join("data");
    let _ = std::fs::remove_file(data.join("kubeconfig"));
    let mut command = Command::new(skiff_binary());
    command.args([
        "up",
        "--node-name",
        "node-a",
        "--listen",
        &format!("127.0.0.1:{}", free_port()),
    ]);
    command.arg("--data-dir").arg(&data).env("HOME", directory);
    let begun = Instant::now();
    let mut process = Process::start(&mut command, &directory.join("skiff.log"));
    while begun.elapsed() < PATIENCE {
        ensure!(process.ended().is_none(), "skiff up ended: {}", process.output());
        if node_is_ready(&data.join("kubeconfig")).await.unwrap_or(false) {
            return Ok((process, begun.elapsed()));
        }
        tokio::time::sleep(LOOK).await;
    }
    anyhow::bail!("the node was not Ready: {}", process.output())
}

async fn node_is_ready(kubeconfig: &Path) -> Result<bool> {
    let client = Client::connect(kubeconfig).await?;
    let mut events = client.watch("/api/v1/nodes?watch=true").await?;
    while let Some(line) = events.recv().await {
        let event: Value = serde_json::from_slice(&line)?;
        let conditions = event["object"]["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn end(mut process: Process, directory: &Path) {
    process.kill();
    for pid in pids_with_argument(&["skiff", &directory.display().to_string()]) {
        kill(pid, rustix::process::Signal::KILL);
    }
}
