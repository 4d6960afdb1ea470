//! skiff-manager
