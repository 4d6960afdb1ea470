//! What can go wrong in a store, named for what the caller can do about it.

/// Errors of a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The revision asked for is compacted; list anew.
    #[error("the required revision has been compacted (oldest is {oldest})")]
    Compacted { oldest: u64 },
    /// The revision asked for lies in the future.
    #[error("the required revision {wanted} is newer than the store's {current}")]
    FutureRevision { wanted: u64, current: u64 },
    /// A transaction is over the size that every store accepts (`MAX_TXN_BYTES`). Nothing happened.
    #[error("the write of {size} bytes is over the store's limit of {limit} bytes")]
    TooLarge { size: usize, limit: usize },
    /// The write may or may not have happened.
    #[error("the outcome of the write is unknown: {why}")]
    Unknown { why: String },
    /// Nothing happened; try again later.
    #[error("the store is unavailable: {why}")]
    Unavailable { why: String },
    /// The store is damaged or its disk failed; it stops serving.
    #[error("the store failed: {why}")]
    Fatal { why: String },
}

impl StoreError {
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
