//! skiff-control-plane
