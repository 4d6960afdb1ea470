//! The cache when the store's history is gone under it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// A store whose watches can be cut as if history had been compacted under them.
struct Cutting {
    store: DynStore,
    /// Watches opened at or below this end with `Compacted` at once.
    cut: AtomicU64,
    cuts: tokio::sync::watch::Sender<u64>,
}

#[async_trait::async_trait]
impl Store for Cutting {
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        self.store.txn(txn).await
    }
    async fn get(&self, key: &str) -> Result<(Option<crate::KeyValue>, u64), StoreError> {
        self.store.get(key).await
    }
    async fn list(&self, request: crate::ListRequest) -> Result<crate::ListResult, StoreError> {
        self.store.list(request).await
    }
    async fn watch(
        &self,
        prefix: &str,
        after: u64,
    ) -> Result<futures::stream::BoxStream<'static, crate::WatchItem>, StoreError> {
        use futures::StreamExt;
        let mut cuts = self.cuts.subscribe();
        let cut = async move {
            let oldest = *cuts.wait_for(|cut| *cut > after).await.expect("the store lives");
            crate::WatchItem::Compacted { oldest }
        };
        // Once cut, nothing of the real watch comes through.
        let stopped = self.cut.load(Ordering::Acquire);
        let watch = self
            .store
            .watch(prefix, after)
            .await?
            .filter(move |_| std::future::ready(after >= stopped));
        Ok(futures::stream::select(
            watch,
            Box::pin(futures::stream::once(cut)).chain(futures::stream::pending()),
        )
        .boxed())
    }
    async fn revision(&self) -> Result<u64, StoreError> {
        self.store.revision().await
    }
    fn request_progress(&self) {
        self.store.request_progress();
    }
    async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        self.store.compact(revision).await
    }
}

#[tokio::test]
async fn the_cache_starts_over_when_history_is_gone() {
    let fixture = Fixture::new();
    let cutting = Arc::new(Cutting {
        store: fixture.store.clone(),
        cut: AtomicU64::new(0),
        cuts: tokio::sync::watch::Sender::new(0),
    });
    let cache = Cache::start(cutting.clone(), PREFIX, extract(), decorate, CacheOptions::default());
    cache.ready().await.unwrap();
    fixture.put("ns/a", "1").await;
    let before = cache.fresh().await.unwrap();
    let mut watcher = cache.watch(None).unwrap();
    // A change of another resource moves the store on, so that the new list is of a later revision.
    let cut = fixture
        .commit(vec![Operation::Put {
            key: "/other".to_owned(),
            value: Bytes::new(),
        }])
        .await;
    cutting.cut.store(cut, Ordering::Release);
    cutting.cuts.send_replace(cut);
    let end = expired(&mut watcher).await;
    assert!(
        end.oldest > before,
        "even a watcher that had seen everything ends: {end:?}"
    );
    let wrote = fixture.put("ns/b", "1").await;
    assert!(cache.fresh().await.unwrap() >= wrote);
    assert_eq!(cache.list(None).len(), 2);
    assert!(cache.watch(Some(before)).is_err());
    let mut watcher = cache.watch(Some(end.oldest)).unwrap();
    assert_eq!(events(&mut watcher, 1).await[0].revision, wrote);
}
