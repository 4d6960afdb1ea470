//! Reading a pod's spec: which containers there are, in which role, and what their policies say.

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod, PodSpec, Probe};

use crate::action::ProbeKind;
use crate::observed::ContainerView;

/// Kubernetes' default for `terminationGracePeriodSeconds`.
const GRACE_PERIOD_DEFAULT: i64 = 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next one.
    Init,
    /// An init container with restartPolicy Always: started in order, kept running, stopped last.
    Sidecar,
    Main,
}

/// All containers with their roles, init containers first.
pub fn containers(spec: &PodSpec) -> impl Iterator<Item = (Role, &Container)> {
    let init = spec
        .init_containers
        .iter()
        .flatten()
        .map(|container| (init_role(container), container));
    init.chain(spec.containers.iter().map(|container| (Role::Main, container)))
}

pub fn find<'a>(spec: &'a PodSpec, name: &str) -> Option<(Role, &'a Container)> {
    containers(spec).find(|(_, container)| container.name == name)
}

fn init_role(container: &Container) -> Role {
    if container.restart_policy.as_deref() == Some("Always") {
        Role::Sidecar
    } else {
        Role::Init
    }
}

/// `spec.containers{web}` or `spec.initContainers{web}`, as an Event's fieldPath.
pub fn field_path(spec: &PodSpec, name: &str) -> Option<String> {
    let (role, _) = find(spec, name)?;
    Some(match role {
        Role::Main => format!("spec.containers{{{name}}}"),
        Role::Init | Role::Sidecar => format!("spec.initContainers{{{name}}}"),
    })
}

/// Whether an exited container runs again.
pub fn restarts(spec: &PodSpec, role: Role, container: &Container, exited: &ContainerView) -> bool {
    for rule in container.restart_policy_rules.iter().flatten() {
        let Some(codes) = &rule.exit_codes else { continue };
        let listed = codes.values.iter().flatten().any(|code| *code == exited.exit_code);
        let matches = if codes.operator == "NotIn" { !listed } else { listed };
        if matches && rule.action == "Restart" {
            return true;
        }
    }
    let policy = match (role, container.restart_policy.as_deref()) {
        (Role::Sidecar, _) => "Always",
        (_, Some(policy)) => policy,
        (_, None) => restart_policy(spec),
    };
    match (role, policy) {
        (_, "Never") => false,
        // An init container that succeeded is done, whatever the policy.
        (Role::Init, _) | (_, "OnFailure") => exited.exit_code != 0,
        _ => true,
    }
}

pub fn restart_policy(spec: &PodSpec) -> &str {
    spec.restart_policy.as_deref().unwrap_or("Always")
}

pub fn probe(container: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => container.startup_probe.as_ref(),
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
    }
}

pub fn post_start(container: &Container) -> Option<&LifecycleHandler> {
    container.lifecycle.as_ref()?.post_start.as_ref()
}

pub fn pre_stop(container: &Container) -> Option<&LifecycleHandler> {
    container.lifecycle.as_ref()?.pre_stop.as_ref()
}

/// The grace period that applies when the pod is stopped now.
pub fn grace_period_seconds(pod: &Pod) -> i64 {
    let of_spec = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    pod.metadata
        .deletion_grace_period_seconds
        .or(of_spec)
        .unwrap_or(GRACE_PERIOD_DEFAULT)
        .max(0)
}

/// `web_default(uid)`, as kubelet names a pod in messages.
pub fn full_name(pod: &Pod) -> String {
    let meta = &pod.metadata;
    let part = |value: &Option<String>| value.clone().unwrap_or_default();
    format!("{}_{}({})", part(&meta.name), part(&meta.namespace), part(&meta.uid))
}
