//! Many watchers see pods being made: how soon each has an event, and how many events per second reach them all.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use skiff_tests::Cluster;

use super::create;
use crate::client::{Client, PODS};
use crate::process::cpu_seconds;
use crate::stats::{Amount, Stats, closed_loop};
use crate::table::{Goal, Table};

const WATCHERS: usize = 100;
/// Pods made one every hundredth of a second, for the delay …
const PACED: usize = 200;
const PACE: Duration = Duration::from_millis(10);
/// … and as fast as they go, for the rate.
const HURRIED: usize = 1000;
const HURRY: usize = 16;
const PATIENCE: Duration = Duration::from_secs(60);
/// Names end in `-NNNNNN`.
const DIGITS: usize = 6;

pub async fn run(table: &mut Table, cluster: &Cluster, client: &Client) -> Result<()> {
    let pid = cluster.process.pid();
    let watchers = tokio::task::LocalSet::new();
    watchers
        .run_until(async {
            let paced = Rc::new(Seen::new("paced", PACED));
            let hurried = Rc::new(Seen::new("hurried", HURRIED));
            let list: serde_json::Value = serde_json::from_slice(&client.get(&format!("{PODS}?limit=1")).await?)?;
            let from = list["metadata"]["resourceVersion"]
                .as_str()
                .context("a list without resourceVersion")?;
            for _ in 0..WATCHERS {
                let own = Client::connect(&cluster.kubeconfig()).await?;
                let body = own
                    .watch_body(&format!("{PODS}?watch=true&resourceVersion={from}"))
                    .await?;
                tokio::task::spawn_local(follow(body, own, Rc::clone(&paced), Rc::clone(&hurried)));
            }
            let before = cpu_seconds(pid);
            let started = Instant::now();
            for number in 0..PACED {
                let due = started + PACE * u32::try_from(number).context("count")?;
                tokio::time::sleep_until(due.into()).await;
                create(client, "paced", number).await?;
                paced.answered(number);
            }
            paced.wait().await?;
            let cpu = cpu_seconds(pid) - before;
            let stats = Stats::new(paced.delays(), started.elapsed());
            table.goal(
                "api: watch, 100 watchers, event after answer, p99",
                stats.p99(),
                "ms",
                Goal::AtMost(5.0),
            );
            let each = cpu * 1e6 / (PACED * WATCHERS) as f64;
            table.figure("api: watch, server CPU per event, creates included", each, "us");

            let started = Instant::now();
            let amount = Amount {
                operations: HURRIED,
                time: PATIENCE,
            };
            closed_loop(HURRY, amount, async |n| create(client, "hurried", n).await).await?;
            hurried.wait().await?;
            let rate = (HURRIED * WATCHERS) as f64 / started.elapsed().as_secs_f64();
            table.figure("api: watch, 100 watchers, events delivered", rate, "/s");
            anyhow::Ok(())
        })
        .await
}

/// Which events of one population have arrived, and when.
struct Seen {
    prefix: Vec<u8>,
    /// Per pod: when the creator had its answer, and the arrivals.
    pods: RefCell<Vec<(Option<Instant>, Vec<Instant>)>>,
    missing: RefCell<usize>,
    done: tokio::sync::Notify,
}

impl Seen {
    fn new(prefix: &str, count: usize) -> Self {
        Self {
            prefix: format!("\"bench\":\"{prefix}-").into_bytes(),
            pods: RefCell::new(vec![(None, Vec::with_capacity(WATCHERS)); count]),
            missing: RefCell::new(count * WATCHERS),
            done: tokio::sync::Notify::new(),
        }
    }

    fn answered(&self, number: usize) {
        self.pods.borrow_mut()[number].0 = Some(Instant::now());
    }

    fn arrived(&self, event: &[u8], now: Instant) {
        let length = self.prefix.len();
        let Some(start) = event.windows(length).position(|window| window == self.prefix) else {
            return;
        };
        let digits = event.get(start + length..start + length + DIGITS);
        let number = digits.and_then(|text| std::str::from_utf8(text).ok()?.parse::<usize>().ok());
        let mut pods = self.pods.borrow_mut();
        let Some(pod) = number.and_then(|number| pods.get_mut(number)) else {
            return;
        };
        pod.1.push(now);
        let mut missing = self.missing.borrow_mut();
        *missing = missing.saturating_sub(1);
        if *missing == 0 {
            self.done.notify_one();
        }
    }

    async fn wait(&self) -> Result<()> {
        tokio::time::timeout(PATIENCE, self.done.notified())
            .await
            .context("some events never arrived")
    }

    /// From the creator's answer to each arrival; an event that is first counts as 0.
    fn delays(&self) -> Vec<Duration> {
        let pods = self.pods.borrow();
        let of = |(answered, arrivals): &(Option<Instant>, Vec<Instant>)| {
            let answered = *answered;
            arrivals
                .iter()
                .filter_map(move |at| Some(at.saturating_duration_since(answered?)))
                .collect::<Vec<_>>()
        };
        pods.iter().flat_map(of).collect()
    }
}

/// Reads one watcher's stream to its end.
async fn follow(mut body: Incoming, _connection: Client, paced: Rc<Seen>, hurried: Rc<Seen>) {
    let mut rest: Vec<u8> = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        let now = Instant::now();
        rest.extend_from_slice(&data);
        let mut start = 0;
        while let Some(end) = rest[start..].iter().position(|byte| *byte == b'\n') {
            let event = &rest[start..start + end];
            // The annotation is near the beginning; the whole object need not be searched.
            let head = &event[..event.len().min(400)];
            paced.arrived(head, now);
            hurried.arrived(head, now);
            start += end + 1;
        }
        rest.drain(..start);
    }
}
