//! Between etcd's words and the store's: keys, transactions, errors.

use bytes::Bytes;
use etcd_client::{Compare, CompareOp, DeleteOptions, Error, Event, EventType, GetOptions, Txn, TxnOp, TxnOpResponse};

use crate::{Change, KeyValue, MAX_TXN_BYTES, Operation, StoreError, TxnOutcome};

// gRPC codes (google.rpc.Code) that tell what became of a request.
const INVALID_ARGUMENT: i32 = 3;
const PERMISSION_DENIED: i32 = 7;
const RESOURCE_EXHAUSTED: i32 = 8;
const FAILED_PRECONDITION: i32 = 9;
const OUT_OF_RANGE: i32 = 11;
const UNIMPLEMENTED: i32 = 12;
const UNAUTHENTICATED: i32 = 16;

/// What went wrong with a request, before it is known what that means for its caller.
pub(crate) enum Refusal {
    Compacted,
    FutureRevision,
    TooLarge,
    /// It surely did not happen.
    NotDone(String),
    /// It may have happened.
    Unsure(String),
}

impl Refusal {
    pub(crate) fn deadline() -> Self {
        Self::Unsure("etcd did not answer in time".to_owned())
    }

    /// For a request that changes nothing.
    pub(crate) fn of_read(self) -> StoreError {
        match self.of_write() {
            StoreError::Unknown { why } => StoreError::Unavailable { why },
            other => other,
        }
    }

    /// For a transaction. (Neither it nor any other caller without a revision can meet `Compacted` or `FutureRevision`.)
    pub(crate) fn of_write(self) -> StoreError {
        match self {
            Self::Compacted => StoreError::Compacted { oldest: 0 },
            Self::FutureRevision => StoreError::FutureRevision { wanted: 0, current: 0 },
            Self::TooLarge => StoreError::TooLarge {
                size: MAX_TXN_BYTES,
                limit: MAX_TXN_BYTES,
            },
            Self::NotDone(why) => StoreError::Unavailable { why },
            Self::Unsure(why) => StoreError::Unknown { why },
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let Error::GRpcStatus(status) = &error else {
            // Everything else is found before the request is sent.
            return Self::NotDone(error.to_string());
        };
        let message = status.message();
        match status.code() as i32 {
            OUT_OF_RANGE if message.contains("compacted") => Self::Compacted,
            OUT_OF_RANGE if message.contains("future revision") => Self::FutureRevision,
            INVALID_ARGUMENT if message.contains("request is too large") => Self::TooLarge,
            INVALID_ARGUMENT | PERMISSION_DENIED | RESOURCE_EXHAUSTED | FAILED_PRECONDITION | UNIMPLEMENTED
            | UNAUTHENTICATED => Self::NotDone(message.to_owned()),
            _ if message == "etcdserver: no leader" || never_sent(status) => Self::NotDone(describe(message, status)),
            _ => Self::Unsure(describe(message, status)),
        }
    }
}

/// Whether the connection could not even be made.
fn never_sent(status: &(dyn std::error::Error + 'static)) -> bool {
    causes(status).any(|cause| {
        let refused = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        refused == Some(std::io::ErrorKind::ConnectionRefused) || cause.to_string() == "tcp connect error"
    })
}

fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// A status' own message and the innermost cause: the middle ones are transport layers, and the status' full text is a
/// dump of them all.
fn describe(message: &str, status: &(dyn std::error::Error + 'static)) -> String {
    let cause = causes(status)
        .skip(1)
        .last()
        .map(ToString::to_string)
        .unwrap_or_default();
    match (message.is_empty(), cause.is_empty()) {
        (true, true) => status.to_string(),
        (true, false) => cause,
        (false, true) => message.to_owned(),
        (false, false) if message.contains(&cause) => message.to_owned(),
        (false, false) => format!("{message}: {cause}"),
    }
}

/// The end of the range of keys that start with `prefix`.
pub(crate) fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // etcd's way to say "to the last key".
    vec![0]
}

/// Revisions are `i64` in etcd and never negative.
pub(crate) fn from_etcd(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}

/// One beyond `i64` is beyond every revision, which `i64::MAX` is too.
pub(crate) fn to_etcd(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

/// `None` for a key that is not text: not one of ours.
pub(crate) fn key_value(item: &etcd_client::KeyValue) -> Option<KeyValue> {
    Some(KeyValue {
        key: std::str::from_utf8(item.key()).ok()?.to_owned(),
        value: Bytes::copy_from_slice(item.value()),
        mod_revision: from_etcd(item.mod_revision()),
    })
}

/// An event with its revision.
pub(crate) fn change(event: &Event) -> Option<(u64, Change)> {
    let current = key_value(event.kv()?)?;
    let previous = event.prev_kv().and_then(key_value);
    let revision = current.mod_revision;
    let change = match event.event_type() {
        EventType::Put => Change::Put { current, previous },
        EventType::Delete => Change::Delete {
            key: current.key,
            revision,
            previous,
        },
    };
    Some((revision, change))
}

pub(crate) fn txn(txn: crate::Txn) -> Txn {
    let reads: Vec<_> = txn
        .compares
        .iter()
        .map(|compare| TxnOp::get(compare.key.as_str(), None::<GetOptions>))
        .collect();
    let compares = txn.compares.into_iter().map(|compare| {
        // An absent key has revision 0 in etcd too.
        Compare::mod_revision(compare.key, CompareOp::Equal, to_etcd(compare.mod_revision))
    });
    let operations = txn.operations.into_iter().map(|operation| match operation {
        Operation::Put { key, value } => TxnOp::put(key, value, None),
        Operation::Delete { key } => TxnOp::delete(key, None::<DeleteOptions>),
    });
    Txn::new()
        .when(compares.collect::<Vec<_>>())
        .and_then(operations.collect::<Vec<_>>())
        .or_else(reads)
}

pub(crate) fn outcome(succeeded: bool, revision: u64, answers: Vec<TxnOpResponse>) -> TxnOutcome {
    if succeeded {
        return TxnOutcome::Committed { revision };
    }
    let current = answers.into_iter().map(|answer| match answer {
        TxnOpResponse::Get(found) => found.kvs().first().and_then(key_value),
        _ => None,
    });
    TxnOutcome::Failed {
        current: current.collect(),
        revision,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_next_key_that_does_not_start_with_it() {
        assert_eq!(prefix_end("/registry/"), b"/registry0");
        assert_eq!(prefix_end(""), vec![0]);
    }
}
