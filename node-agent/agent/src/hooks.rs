//! postStart and preStop hooks: sleep and httpGet.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use crate::probe;

/// A postStart request is given up after this time, so that a server that never answers does not hold the pod for good.
/// Kubelet has no limit of its own there; this is its limit for calls of the runtime, which exec hooks are.
const POST_START_REQUEST_MAX: Duration = Duration::from_secs(120);

/// Runs the hook of a container that has started. The error is for the user.
pub(crate) async fn post_start(
    container: &Container,
    hook: &LifecycleHandler,
    pod_ip: Option<&str>,
) -> Result<(), String> {
    // The pod's validation bounds the sleep by the grace period.
    let limit = hook.sleep.as_ref().map_or(POST_START_REQUEST_MAX, |_| Duration::MAX);
    run(container, hook, pod_ip, limit).await
}

/// Runs the hook, for no longer than `limit`. The error is for the user.
pub(crate) async fn run(
    container: &Container,
    hook: &LifecycleHandler,
    pod_ip: Option<&str>,
    limit: Duration,
) -> Result<(), String> {
    if let Some(sleep) = &hook.sleep {
        let wanted = Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0));
        tokio::time::sleep(wanted.min(limit)).await;
        return Ok(());
    }
    if let Some(action) = &hook.http_get {
        let ip = pod_ip.and_then(|ip| ip.parse().ok()).ok_or("the pod has no address")?;
        let (success, why) = probe::http_get(container, action, ip, limit).await;
        return if success { Ok(()) } else { Err(why) };
    }
    if hook.exec.is_some() {
        return Err("exec hooks are not available for WASM containers, use sleep or httpGet".to_owned());
    }
    // The old tcpSocket, which does nothing in Kubernetes either.
    Ok(())
}
