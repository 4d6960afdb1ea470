//! Image garbage collection: when the disk fills, images that no pod of this node uses are given up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use skiff_lifecycle::EventKind;
use skiff_runtime::RuntimeError;
use tracing::info;

use crate::context::Context;
use crate::error::chain;
use crate::machine::disk_bytes;
use crate::pods::Pods;

/// How often the disk is looked at: kubelet's ImageGCPeriod.
const INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Used share of the disk from which images are given up: kubelet's default --image-gc-high-threshold.
const HIGH_THRESHOLD_PERCENT: u64 = 85;

pub(crate) async fn run(pods: Arc<Pods>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        if disk_bytes(&pods.context().config.data_dir).is_some_and(is_wanted) {
            collect(&pods).await;
        }
    }
}

/// Whether a disk of (total, available) bytes is full enough.
fn is_wanted((total, available): (u64, u64)) -> bool {
    total > 0 && total.saturating_sub(available) >= total / 100 * HIGH_THRESHOLD_PERCENT
}

/// A pod is known before its images are pulled, so an image that no known pod names is in nobody's use.
pub(crate) async fn collect(pods: &Pods) {
    let ctx = pods.context();
    let in_use: BTreeSet<String> = pods.all().iter().flat_map(|pod| images(pod)).collect();
    for (name, runtime) in &ctx.runtimes {
        match runtime.collect_images(&in_use).await {
            Ok(0) => {}
            Ok(bytes) => info!(
                runtime = name,
                bytes, "unused images are given up: the disk is nearly full"
            ),
            Err(error) => report(ctx, &error),
        }
    }
}

fn report(ctx: &Context, error: &RuntimeError) {
    if let Some(node) = &*ctx.node.borrow() {
        ctx.events.node(node, EventKind::Warning, "ImageGCFailed", chain(error));
    }
}

fn images(pod: &Pod) -> Vec<String> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let init = spec.init_containers.iter().flatten();
    init.chain(&spec.containers)
        .filter_map(|container| container.image.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_nearly_full_wants_it() {
        assert!(!is_wanted((1000, 200)));
        assert!(is_wanted((1000, 150)));
        assert!(!is_wanted((0, 0)));
    }
}
