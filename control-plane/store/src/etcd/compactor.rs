//! Periodic compaction, one of many servers: the same agreement over the same key as kube-apiserver's
//! (`storage/etcd3/compact.go` describes it), so that both can share a cluster.
//!
//! Every server wakes every five minutes and tries to raise the key's version from the one that it saw last. Who succeeds
//! compacts at the revision of its previous round, so that at least one interval of history stays. Who fails learns the
//! version and is behind by one round.

use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, Error, Txn, TxnOp, TxnOpResponse};

use super::convert::{Refusal, from_etcd, to_etcd};

/// As kube-apiserver's `--etcd-compaction-interval`.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5 * 60);
const KEY: &str = "compact_rev_key";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Round {
    /// The key's version that was seen or made last.
    version: i64,
    /// The store's revision at the last round; 0 = none yet.
    revision: u64,
}

#[cfg(test)]
impl Round {
    pub(crate) fn version(self) -> i64 {
        self.version
    }
}

pub(crate) async fn run(client: Client, interval: Duration) {
    let mut round = Round::default();
    loop {
        tokio::time::sleep(interval).await;
        match turn(&client, round).await {
            Ok(next) => round = next,
            Err(error) => {
                tracing::warn!(error = %Refusal::from(error).of_read(), "compacting etcd failed; trying again later");
            }
        }
    }
}

pub(crate) async fn turn(client: &Client, round: Round) -> Result<Round, Error> {
    let mut kv = client.kv_client();
    let attempt = Txn::new()
        .when([Compare::version(KEY, CompareOp::Equal, round.version)])
        .and_then([TxnOp::put(KEY, round.revision.to_string(), None)])
        .or_else([TxnOp::get(KEY, None)]);
    let answer = kv.txn(attempt).await?;
    let revision = answer
        .header()
        .map_or(round.revision, |header| from_etcd(header.revision()));
    if !answer.succeeded() {
        let seen = answer.op_responses().into_iter().find_map(|answer| match answer {
            TxnOpResponse::Get(found) => found.kvs().first().map(etcd_client::KeyValue::version),
            _ => None,
        });
        return Ok(Round {
            version: seen.unwrap_or(0),
            revision,
        });
    }
    if round.revision > 0 {
        match kv.compact(to_etcd(round.revision), None).await.map_err(Refusal::from) {
            // Somebody was there before.
            Ok(_) | Err(Refusal::Compacted) => tracing::debug!(revision = round.revision, "compacted etcd"),
            Err(refusal) => tracing::warn!(error = %refusal.of_read(), "compacting etcd failed; trying again later"),
        }
    }
    Ok(Round {
        version: round.version + 1,
        revision,
    })
}
