//! skiff-lifecycle
