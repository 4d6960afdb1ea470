//! skiff-network
