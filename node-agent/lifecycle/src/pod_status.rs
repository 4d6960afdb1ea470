//! The phase and the whole of `status`, derived from spec and memory.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{HostIP, Pod, PodIP, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::container_status::{self, Shown};
use crate::memory::PodMemory;
use crate::observed::{Observed, Sandbox};
use crate::spec::{self, Role};
use crate::{conditions, containers};

pub(crate) fn derive(
    pod: &Pod,
    spec: &PodSpec,
    observed: &Observed,
    memory: &mut PodMemory,
    all_stopped: bool,
    now: Timestamp,
) -> PodStatus {
    let old = pod.status.clone().unwrap_or_default();
    let host_ip = Some(observed.host_ip.clone()).filter(|ip| !ip.is_empty());
    let mut status = PodStatus {
        observed_generation: pod.metadata.generation,
        qos_class: old.qos_class.clone(),
        start_time: memory.start_time.map(Time),
        host_ips: host_ip.clone().map(|ip| vec![HostIP { ip }]),
        host_ip,
        ..PodStatus::default()
    };
    if let Some(failure) = memory.failure.as_ref().filter(|failure| failure.at_admission) {
        status.phase = Some("Failed".to_owned());
        status.reason = Some(failure.reason.clone());
        status.message = Some(failure.message.clone());
        status.conditions = old.conditions;
        memory.terminal_phase = status.phase.clone();
        return status;
    }
    let ready_to_start = matches!(observed.sandbox, Sandbox::Known(_)) && !all_stopped
        || observed.sandbox == Sandbox::Unknown && memory.sandbox_made && !all_stopped;
    status.pod_ip = memory.pod_ip.clone();
    status.pod_ips = memory.pod_ip.clone().map(|ip| vec![PodIP { ip }]);
    let shown = container_status::all(pod, spec, memory, all_stopped, now);
    let phase = match (&memory.terminal_phase, &memory.failure) {
        (Some(phase), _) => phase.clone(),
        (None, Some(_)) => "Failed".to_owned(),
        (None, None) => {
            let phase = phase(spec, memory, &shown, all_stopped);
            let terminal = phase == "Failed" || phase == "Succeeded";
            if all_stopped && !terminal { "Failed" } else { phase }.to_owned()
        }
    };
    if all_stopped {
        memory.terminal_phase = Some(phase.clone());
    }
    if let Some(failure) = &memory.failure {
        status.reason = Some(failure.reason.clone());
        status.message = Some(failure.message.clone());
    }
    status.conditions = Some(conditions::derive(
        pod,
        spec,
        memory,
        &shown,
        &phase,
        ready_to_start,
        now,
    ));
    status.phase = Some(phase);
    let (init, main): (Vec<_>, Vec<_>) = shown.into_iter().partition(|shown| shown.role != Role::Main);
    let statuses = |shown: Vec<Shown>| shown.into_iter().map(|shown| shown.status).collect::<Vec<_>>();
    status.init_container_statuses = Some(statuses(init)).filter(|list| !list.is_empty());
    status.container_statuses = Some(statuses(main));
    status
}

/// Counts containers by state, as kubelet's getPhase does.
fn phase(spec: &PodSpec, memory: &PodMemory, shown: &[Shown], is_terminal: bool) -> &'static str {
    let (mut pending_init, mut pending_sidecars, mut failed_init) = (0, 0, false);
    let (mut running, mut waiting, mut stopped, mut succeeded) = (0, 0, 0, 0);
    for shown in shown {
        let state = shown.status.state.clone().unwrap_or_default();
        let last = shown
            .status
            .last_state
            .as_ref()
            .and_then(|state| state.terminated.as_ref());
        match shown.role {
            Role::Init => match (&state.terminated, &state.running, last) {
                (Some(terminated), _, _) => failed_init |= terminated.exit_code != 0,
                (None, Some(_), _) | (None, None, None) => pending_init += 1,
                (None, None, Some(last)) => failed_init |= last.exit_code != 0,
            },
            Role::Sidecar => {
                if state.running.is_some() {
                    pending_sidecars += i32::from(shown.status.started != Some(true));
                    running += 1;
                } else if state.terminated.is_none() && last.is_none() {
                    pending_sidecars += 1;
                    waiting += 1;
                }
            }
            Role::Main => {
                if state.running.is_some() {
                    running += 1;
                } else if let Some(terminated) = &state.terminated {
                    stopped += 1;
                    succeeded += i32::from(terminated.exit_code == 0);
                } else if last.is_some() {
                    stopped += 1;
                } else {
                    waiting += 1;
                }
            }
        }
    }
    let policy = spec::restart_policy(spec);
    if failed_init && (policy == "Never" || containers::is_complete(spec, memory) && !memory.initialized) {
        return "Failed";
    }
    if pending_init > 0 || failed_init && !memory.initialized || (pending_sidecars > 0 && !memory.initialized) {
        return "Pending";
    }
    if waiting > 0 {
        return "Pending";
    }
    if running > 0 {
        return "Running";
    }
    if stopped == 0 {
        return "Pending";
    }
    let over = is_terminal || containers::is_complete(spec, memory);
    match (over, stopped == succeeded) {
        (true, true) => "Succeeded",
        (true, false) => "Failed",
        (false, _) => "Running",
    }
}
