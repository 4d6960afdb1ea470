//! preStop hooks: sleep and httpGet.

use std::time::Duration;

use k8s_openapi::api::core::v1::Container;
use skiff_lifecycle::{EventKind, PodEvent};

use crate::probe;

/// Runs the hook, for no longer than `limit`. The error is for the user.
pub(crate) async fn pre_stop(container: &Container, pod_ip: Option<&str>, limit: Duration) -> Result<(), String> {
    let Some(hook) = container
        .lifecycle
        .as_ref()
        .and_then(|lifecycle| lifecycle.pre_stop.as_ref())
    else {
        return Ok(());
    };
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
    Ok(())
}

pub(crate) fn failed(container: &str, why: &str) -> PodEvent {
    PodEvent {
        kind: EventKind::Warning,
        reason: "FailedPreStopHook".to_owned(),
        message: format!("PreStopHook failed: {why}"),
        container: Some(container.to_owned()),
    }
}
