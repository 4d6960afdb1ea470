//! The cache over the embedded store.
