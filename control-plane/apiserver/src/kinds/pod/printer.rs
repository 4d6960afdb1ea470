//! The table row of a pod: what `kubectl get pods` shows.

use serde_json::{Value, json};
use skiff_api::object::{bool_at, int_at, list_at, name, str_at};
use skiff_api::time;

use crate::kinds::common::{AGE, NAME, age, condition, condition_is_true, or, text, wide};
use crate::strategy::Column;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text("Ready"),
    text("Status"),
    text("Restarts"),
    AGE,
    wide("IP"),
    wide("Node"),
    wide("Nominated Node"),
    wide("Readiness Gates"),
];

pub(super) fn row(pod: &Value, now: i64) -> Vec<Value> {
    let summary = Summary::of(pod);
    let restarts = match summary.last_restart {
        Some(last) if summary.restarts != 0 => {
            format!("{} ({} ago)", summary.restarts, time::human_duration(now - last))
        }
        _ => summary.restarts.to_string(),
    };
    vec![
        name(pod).into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(pod, now),
        or(
            str_at(pod, "/status/podIPs/0/ip"),
            or(str_at(pod, "/status/podIP"), "<none>"),
        )
        .into(),
        or(str_at(pod, "/spec/nodeName"), "<none>").into(),
        or(str_at(pod, "/status/nominatedNodeName"), "<none>").into(),
        readiness_gates(pod).into(),
    ]
}

pub(super) fn conditions(pod: &Value) -> Vec<Value> {
    let completed = |reason: &str, message: &str| {
        vec![json!({"type": "Completed", "status": "True", "reason": reason, "message": message})]
    };
    match str_at(pod, "/status/phase") {
        "Succeeded" => completed("Succeeded", "The pod has completed successfully."),
        "Failed" => completed("Failed", "The pod failed."),
        _ => Vec::new(),
    }
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list_at(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let passed = gates
        .iter()
        .filter(|gate| condition_is_true(pod, str_at(gate, "/conditionType")))
        .count();
    format!("{passed}/{}", gates.len())
}

/// What the container statuses add up to.
#[derive(Default)]
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    /// Seconds since the epoch.
    last_restart: Option<i64>,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let mut summary = Self {
            reason: or(str_at(pod, "/status/reason"), str_at(pod, "/status/phase")).to_owned(),
            total: list_at(pod, "/spec/containers").len()
                + list_at(pod, "/spec/initContainers")
                    .iter()
                    .filter(|c| is_sidecar(c))
                    .count(),
            ..Self::default()
        };
        if condition(pod, "PodScheduled").is_some_and(|c| str_at(c, "/reason") == "SchedulingGated") {
            summary.reason = "SchedulingGated".to_owned();
        }
        let sidecars = summary.init_containers(pod);
        if let Some(sidecars) = sidecars {
            summary.restarts = sidecars.restarts;
            summary.last_restart = sidecars.last_restart;
            summary.containers(pod);
        }
        if pod.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string) {
            if str_at(pod, "/status/reason") == "NodeLost" {
                summary.reason = "Unknown".to_owned();
            } else if !matches!(str_at(pod, "/status/phase"), "Succeeded" | "Failed") {
                summary.reason = "Terminating".to_owned();
            }
        }
        summary
    }

    /// Walks the init containers up to the first that is not done. Once initialization is over, answers what the
    /// sidecars' restarts add up to: from then on theirs are the only ones among init containers that count.
    fn init_containers(&mut self, pod: &Value) -> Option<Summary> {
        let specs = list_at(pod, "/spec/initContainers");
        let mut sidecars = Summary::default();
        let mut initializing = false;
        for (i, status) in list_at(pod, "/status/initContainerStatuses").iter().enumerate() {
            let sidecar = specs
                .iter()
                .any(|c| str_at(c, "/name") == str_at(status, "/name") && is_sidecar(c));
            self.count_restarts(status);
            if sidecar {
                sidecars.count_restarts(status);
            }
            let terminated = status.pointer("/state/terminated");
            if terminated.is_some_and(|t| int_at(t, "/exitCode").unwrap_or(0) == 0) {
                continue;
            }
            if sidecar && bool_at(status, "/started") {
                self.ready += usize::from(bool_at(status, "/ready"));
                continue;
            }
            let waiting = str_at(status, "/state/waiting/reason");
            self.reason = if let Some(terminated) = terminated {
                format!("Init:{}", exit_reason(terminated))
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{i}/{}", specs.len())
            };
            initializing = true;
            break;
        }
        (!initializing || condition_is_true(pod, "Initialized")).then_some(sidecars)
    }

    fn containers(&mut self, pod: &Value) {
        let mut running = false;
        for status in list_at(pod, "/status/containerStatuses").iter().rev() {
            self.count_restarts(status);
            let waiting = str_at(status, "/state/waiting/reason");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(terminated) = status.pointer("/state/terminated") {
                self.reason = exit_reason(terminated);
            } else if bool_at(status, "/ready") && status.pointer("/state/running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            self.reason = if condition_is_true(pod, "Ready") {
                "Running"
            } else {
                "NotReady"
            }
            .to_owned();
        }
    }

    fn count_restarts(&mut self, status: &Value) {
        self.restarts += int_at(status, "/restartCount").unwrap_or(0);
        let finished = time::parse_rfc3339(str_at(status, "/lastState/terminated/finishedAt"));
        self.last_restart = self.last_restart.max(finished);
    }
}

fn exit_reason(terminated: &Value) -> String {
    let reason = str_at(terminated, "/reason");
    if !reason.is_empty() {
        return reason.to_owned();
    }
    match int_at(terminated, "/signal") {
        Some(signal) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", int_at(terminated, "/exitCode").unwrap_or(0)),
    }
}

/// An init container that keeps running beside the others.
fn is_sidecar(container: &Value) -> bool {
    str_at(container, "/restartPolicy") == "Always"
}
