//! `status.conditions`: ours derived, others kept.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::container_status::Shown;
use crate::memory::{ConditionMemory, PodMemory};
use crate::spec::Role;

const OURS: [&str; 5] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
];

struct Verdict {
    status: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn yes() -> Self {
        Self {
            status: true,
            reason: None,
            message: None,
        }
    }
    fn no(reason: Option<&'static str>, message: Option<String>) -> Self {
        Self {
            status: false,
            reason,
            message,
        }
    }
}

pub(crate) fn derive(
    pod: &Pod,
    spec: &PodSpec,
    memory: &mut PodMemory,
    shown: &[Shown],
    phase: &str,
    ready_to_start: bool,
    now: Timestamp,
) -> Vec<PodCondition> {
    let old: Vec<PodCondition> = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .cloned()
        .collect();
    let containers_ready = containers_ready(shown, phase);
    let ready = ready(spec, &old, &containers_ready);
    let verdicts = [
        if ready_to_start {
            Verdict::yes()
        } else {
            Verdict::no(None, None)
        },
        initialized(memory, shown, phase),
        ready,
        containers_ready,
        Verdict::yes(),
    ];
    let mut conditions: Vec<PodCondition> = Vec::with_capacity(OURS.len() + old.len());
    for (type_, verdict) in OURS.into_iter().zip(verdicts) {
        let status = if verdict.status { "True" } else { "False" };
        let old = old.iter().find(|condition| condition.type_ == type_);
        conditions.push(PodCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: verdict.reason.map(str::to_owned),
            message: verdict.message,
            last_transition_time: Some(Time(transition(memory, type_, status, old, now))),
            last_probe_time: None,
            observed_generation: pod.metadata.generation,
        });
    }
    conditions.extend(
        old.into_iter()
            .filter(|condition| !OURS.contains(&condition.type_.as_str())),
    );
    conditions
}

/// When the condition took its present status: from memory, else from the API object, else now.
fn transition(
    memory: &mut PodMemory,
    type_: &str,
    status: &str,
    old: Option<&PodCondition>,
    now: Timestamp,
) -> Timestamp {
    let since = match memory.conditions.get(type_) {
        Some(known) if known.status == status => known.since,
        Some(_) => now,
        None => old
            .filter(|old| old.status == status)
            .and_then(|old| old.last_transition_time.as_ref())
            .map_or(now, |time| time.0),
    };
    memory.conditions.insert(
        type_.to_owned(),
        ConditionMemory {
            status: status.to_owned(),
            since,
        },
    );
    since
}

fn containers_ready(shown: &[Shown], phase: &str) -> Verdict {
    match phase {
        "Succeeded" => return Verdict::no(Some("PodCompleted"), None),
        "Failed" => return Verdict::no(Some("PodFailed"), None),
        _ => {}
    }
    let unready = shown
        .iter()
        .filter(|shown| shown.role != Role::Init && !shown.status.ready);
    match names(unready) {
        None => Verdict::yes(),
        Some(names) => Verdict::no(
            Some("ContainersNotReady"),
            Some(format!("containers with unready status: {names}")),
        ),
    }
}

fn ready(spec: &PodSpec, old: &[PodCondition], containers: &Verdict) -> Verdict {
    if !containers.status {
        return Verdict::no(containers.reason, containers.message.clone());
    }
    let mut problems = Vec::new();
    for gate in spec.readiness_gates.iter().flatten() {
        let name = &gate.condition_type;
        match old.iter().find(|condition| &condition.type_ == name) {
            None => problems.push(format!(
                "corresponding condition of pod readiness gate \"{name}\" does not exist."
            )),
            Some(condition) if condition.status != "True" => problems.push(format!(
                "the status of pod readiness gate \"{name}\" is not \"True\", but {}",
                condition.status
            )),
            Some(_) => {}
        }
    }
    if problems.is_empty() {
        Verdict::yes()
    } else {
        Verdict::no(Some("ReadinessGatesNotReady"), Some(problems.join(", ")))
    }
}

fn initialized(memory: &PodMemory, shown: &[Shown], phase: &str) -> Verdict {
    if phase == "Succeeded" {
        return Verdict {
            status: true,
            reason: Some("PodCompleted"),
            message: None,
        };
    }
    if memory.initialized {
        return Verdict::yes();
    }
    let incomplete = shown.iter().filter(|shown| match shown.role {
        Role::Init => !shown.status.ready,
        Role::Sidecar => shown.status.started != Some(true),
        Role::Main => false,
    });
    match names(incomplete) {
        None => Verdict::yes(),
        Some(names) => {
            let message = format!("containers with incomplete status: {names}");
            Verdict::no(Some("ContainersNotInitialized"), Some(message))
        }
    }
}

/// `[a b]`, or None for none.
fn names<'a>(shown: impl Iterator<Item = &'a Shown>) -> Option<String> {
    let names: Vec<&str> = shown.map(|shown| shown.status.name.as_str()).collect();
    (!names.is_empty()).then(|| format!("[{}]", names.join(" ")))
}
