//! The contract that every runtime keeps, kept by this one, over real worker processes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Mutex;

#[tokio::test]
async fn the_wasm_runtime_keeps_the_contract() {
    let nodes = Mutex::new(Vec::new());
    skiff_runtime::contract::all(|| async {
        let node = common::Node::new();
        let subject = node.runtime().await;
        nodes.lock().unwrap().push(node);
        subject
    })
    .await;
}
