//! A `skiff server` process over TLS and HTTP/2 on one connection, as one client-go program talks to it.

mod fan_out;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use hyper::Method;
use skiff_tests::{Cluster, Etcd, Options};

use crate::client::{Client, MERGE_PATCH, PODS};
use crate::objects::resting_pod;
use crate::process::cpu_seconds;
use crate::stats::{Amount, Stats, closed_loop};
use crate::store::raw_etcd;
use crate::table::{Goal, Table};

/// Pods in the population that is listed.
const POPULATION: usize = 10_000;
const CONCURRENT: usize = 64;
/// Longest single measurement.
const SPAN: Duration = Duration::from_secs(6);
const SHORT: Duration = Duration::from_millis(1500);
/// Whole lists that are timed; the quickest counts.
const LISTS: usize = 5;
/// The default ServiceAccount, without which a pod is refused, is made by a controller after the start.
const ACCOUNT_PATIENCE: Duration = Duration::from_secs(10);

pub async fn run(table: &mut Table) -> Result<()> {
    embedded(table).await?;
    on_etcd(table).await
}

fn server(etcd: Option<String>) -> Cluster {
    let extra_args = vec!["--log-format".to_owned(), "text".to_owned()];
    Cluster::start(Options {
        server_only: true,
        etcd,
        extra_args,
    })
}

/// Connected, with a namespace that takes pods.
pub async fn client(cluster: &Cluster) -> Result<Client> {
    let client = Client::connect(&cluster.kubeconfig()).await?;
    let started = Instant::now();
    while client
        .get("/api/v1/namespaces/default/serviceaccounts/default")
        .await
        .is_err()
    {
        anyhow::ensure!(
            started.elapsed() < ACCOUNT_PATIENCE,
            "the default ServiceAccount was not made"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(client)
}

struct Measured {
    stats: Stats,
    /// Milliseconds of the server's CPU per operation.
    cpu_ms: f64,
}

async fn measure<F>(pid: u32, concurrency: usize, amount: Amount, operation: F) -> Result<Measured>
where
    F: AsyncFn(usize) -> Result<()>,
{
    let before = cpu_seconds(pid);
    let stats = closed_loop(concurrency, amount, operation).await?;
    let cpu_ms = (cpu_seconds(pid) - before) * 1e3 / stats.count().max(1) as f64;
    Ok(Measured { stats, cpu_ms })
}

fn report(table: &mut Table, what: &str, concurrency: usize, measured: &Measured, goal: Option<f64>) {
    let (name, rate) = (
        format!("api: {what}, concurrency {concurrency}"),
        measured.stats.per_second(),
    );
    match goal {
        Some(least) => table.goal(name, rate, "/s", Goal::AtLeast(least)),
        None => table.figure(name, rate, "/s"),
    }
    let (p50, p99) = (measured.stats.p50(), measured.stats.p99());
    eprintln!(
        "    p50 {p50:.2} ms, p99 {p99:.2} ms, server CPU {:.3} ms each",
        measured.cpu_ms
    );
    table.figure(
        format!("api: {what}, concurrency {concurrency}, server CPU"),
        measured.cpu_ms,
        "ms",
    );
}

async fn create(client: &Client, prefix: &str, number: usize) -> Result<()> {
    client
        .create(PODS, &resting_pod(&format!("{prefix}-{number:06}")))
        .await
        .map(drop)
}

async fn embedded(table: &mut Table) -> Result<()> {
    let cluster = server(None);
    let pid = cluster.process.pid();
    let client = client(&cluster).await?;
    let client = &client;
    let short = Amount {
        operations: usize::MAX,
        time: SHORT,
    };

    let one = measure(pid, 1, short, async |n| create(client, "one", n).await).await?;
    report(table, "create pod", 1, &one, Some(2500.0));
    let created = one.stats.count();
    let rest = Amount {
        operations: POPULATION.saturating_sub(created),
        time: Duration::from_secs(30),
    };
    let many = measure(pid, CONCURRENT, rest, async |n| create(client, "many", n).await).await?;
    report(table, "create pod", CONCURRENT, &many, Some(6000.0));

    let population = many.stats.count();
    let path = |number: usize| format!("{PODS}/many-{:06}", number % population);
    for (concurrency, goal) in [(1, None), (CONCURRENT, Some(30_000.0))] {
        let get = measure(pid, concurrency, short, async |n| client.get(&path(n)).await.map(drop)).await?;
        report(table, "get pod", concurrency, &get, goal);
    }
    list(table, client, pid).await?;
    for (concurrency, goal) in [(1, None), (CONCURRENT, Some(4000.0))] {
        let patch = measure(pid, concurrency, short, async |n| {
            let body = Bytes::from(format!(
                r#"{{"metadata":{{"labels":{{"round":"c{concurrency}-{n}"}}}}}}"#
            ));
            client.call(Method::PATCH, &path(n), MERGE_PATCH, body).await.map(drop)
        })
        .await?;
        report(table, "patch a label", concurrency, &patch, goal);
    }
    fan_out::run(table, &cluster, client).await.context("watch fan-out")?;
    let some = Amount {
        operations: population.min(500),
        time: SHORT,
    };
    let delete = measure(pid, 1, some, async |n| client.delete(&path(n)).await.map(drop)).await?;
    report(table, "delete pod", 1, &delete, None);
    let gone = delete.stats.count();
    let all = Amount {
        operations: population - gone,
        time: SPAN,
    };
    let delete = measure(pid, CONCURRENT, all, async |n| {
        client.delete(&path(gone + n)).await.map(drop)
    })
    .await?;
    report(table, "delete pod", CONCURRENT, &delete, Some(5000.0));
    Ok(())
}

async fn list(table: &mut Table, client: &Client, pid: u32) -> Result<()> {
    let (mut best, mut bytes) = (f64::INFINITY, 0);
    let before = cpu_seconds(pid);
    for _ in 0..LISTS {
        let started = Instant::now();
        bytes = client.get(PODS).await?.len();
        best = best.min(started.elapsed().as_secs_f64() * 1e3);
    }
    let cpu = (cpu_seconds(pid) - before) * 1e3 / LISTS as f64;
    eprintln!("    {:.1} MB", bytes as f64 / 1e6);
    table.goal("api: list 10,000 pods whole", best, "ms", Goal::AtMost(80.0));
    table.figure("api: list 10,000 pods whole, server CPU", cpu, "ms");
    Ok(())
}

async fn on_etcd(table: &mut Table) -> Result<()> {
    let etcd = Etcd::start();
    let raw = raw_etcd(&etcd.endpoint, CONCURRENT).await?;
    let cluster = server(Some(etcd.endpoint.clone()));
    let client = client(&cluster).await?;
    let amount = Amount {
        operations: usize::MAX,
        time: Duration::from_secs(3),
    };
    let made = measure(cluster.process.pid(), CONCURRENT, amount, async |n| {
        create(&client, "etcd", n).await
    })
    .await?;
    table.beside(
        "api: create pod on etcd, concurrency 64",
        made.stats.per_second(),
        "/s",
        ("raw etcd", raw.per_second()),
        Some(Goal::RatioAtLeast(0.7)),
    );
    table.figure("api: create pod on etcd, server CPU", made.cpu_ms, "ms");
    Ok(())
}
