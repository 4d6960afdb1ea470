//! From what a runtime shows to what lifecycle looks at.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use skiff_lifecycle::{ContainerPhase, ContainerView, SandboxView, spec};
use skiff_runtime::{ContainerState, Image, SandboxState};

use crate::context::Context;
use crate::logs;
use crate::perform::namespace_and_name;

/// The end of a failed container's log that becomes its message, when the pod asks for it. Kubelet's limits.
const FALLBACK_BYTES_MAX: u64 = 2048;
const FALLBACK_LINES_MAX: usize = 80;

pub(crate) fn sandbox(ctx: &Context, pod: &Pod, state: SandboxState) -> SandboxView {
    let containers = state
        .containers
        .into_iter()
        .map(|container| view(ctx, pod, container))
        .collect();
    SandboxView {
        ip: state.ip.to_string(),
        containers,
    }
}

fn view(ctx: &Context, pod: &Pod, state: ContainerState) -> ContainerView {
    let phase = match state.phase {
        skiff_runtime::ContainerPhase::Created => ContainerPhase::Created,
        skiff_runtime::ContainerPhase::Running => ContainerPhase::Running,
        skiff_runtime::ContainerPhase::Exited => ContainerPhase::Exited,
    };
    let message = match phase {
        ContainerPhase::Exited if state.message.is_empty() && state.exit_code != 0 => end_of_log(ctx, pod, &state),
        _ => state.message,
    };
    ContainerView {
        name: state.name,
        attempt: state.attempt,
        phase,
        id: state.id,
        image_id: image_id(&state.image),
        image: state.image.reference,
        started_at: time(state.started_at),
        finished_at: time(state.finished_at),
        exit_code: state.exit_code,
        reason: state.reason,
        message,
        ready: state.ready,
    }
}

fn end_of_log(ctx: &Context, pod: &Pod, state: &ContainerState) -> String {
    let container = pod.spec.as_ref().and_then(|spec| spec::find(spec, &state.name));
    let policy = container.and_then(|(_, container)| container.termination_message_policy.as_deref());
    if policy != Some("FallbackToLogsOnError") {
        return String::new();
    }
    let (namespace, name) = namespace_and_name(pod);
    let directory = ctx.pod_log_directory(namespace, name, &state.pod_uid).join(&state.name);
    logs::tail(&directory, state.attempt, FALLBACK_LINES_MAX, FALLBACK_BYTES_MAX)
}

fn time(seconds: i64) -> Option<Timestamp> {
    if seconds == 0 {
        None
    } else {
        Timestamp::from_second(seconds).ok()
    }
}

/// `ghcr.io/x/y@sha256:…` of `ghcr.io/x/y:tag`.
pub(crate) fn image_id(image: &Image) -> String {
    let name = image.reference.split('@').next().unwrap_or_default();
    let path_from = name.rfind('/').map_or(0, |slash| slash + 1);
    let repository = match name[path_from..].find(':') {
        Some(colon) => &name[..path_from + colon],
        None => name,
    };
    format!("{repository}@{}", image.digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_id_names_repository_and_digest() {
        let of = |reference: &str| {
            image_id(&Image {
                reference: reference.to_owned(),
                digest: "sha256:1".to_owned(),
                size_bytes: 0,
            })
        };
        assert_eq!(of("skiff.local/hello:v1"), "skiff.local/hello@sha256:1");
        assert_eq!(of("localhost:5000/a/b"), "localhost:5000/a/b@sha256:1");
        assert_eq!(of("hello:v1@sha256:2"), "hello@sha256:1");
        assert_eq!(of("hello"), "hello@sha256:1");
    }
}
