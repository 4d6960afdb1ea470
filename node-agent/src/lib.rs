//! skiff-node-agent
