//! What the store tests share.

pub(crate) mod etcd;

use std::future::Future;
use std::time::Duration;

/// Fails instead of hanging: nothing in these tests takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("the test hangs")
}
