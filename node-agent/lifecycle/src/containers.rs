//! Start order, keeping containers running, restart and back-off.

use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::action::{Action, Operation};
use crate::memory::{BackOff, ContainerMemory, PodMemory};
use crate::observed::ContainerPhase;
use crate::spec::{self, Role};
use crate::step::Plan;
use crate::{probes, termination, texts};

/// Containers of a pod that is to be running.
pub(crate) fn run(plan: &mut Plan<'_>) {
    set_up_volumes(plan);
    let spec = plan.spec;
    for (role, container) in spec::containers(spec) {
        match role {
            Role::Init if plan.memory.initialized => {}
            Role::Init => {
                if !init_succeeded(&plan.memory, container) {
                    keep_running(plan, role, container);
                    return plan.wait_for(format!("init container {}", container.name));
                }
            }
            Role::Sidecar => {
                keep_running(plan, role, container);
                if !plan.memory.initialized && !has_started(&plan.memory, container) {
                    return plan.wait_for(format!("sidecar {}", container.name));
                }
            }
            Role::Main => {
                plan.memory.initialized = true;
                keep_running(plan, role, container);
            }
        }
    }
}

/// Whether the pod has run to its end: all main containers exited for good, or an init container failed for good.
pub(crate) fn is_complete(spec: &PodSpec, memory: &PodMemory) -> bool {
    let over = |role: Role, container: &Container| {
        memory
            .container(&container.name)
            .and_then(|memory| memory.current.as_ref())
            .filter(|current| current.has_exited())
            .map(|current| (current.exit_code, !spec::restarts(spec, role, container, current)))
    };
    let mut mains = 0;
    let mut mains_over = 0;
    for (role, container) in spec::containers(spec) {
        match role {
            Role::Init => {
                if !memory.initialized && over(role, container).is_some_and(|(code, for_good)| for_good && code != 0) {
                    return true;
                }
            }
            Role::Sidecar => {}
            Role::Main => {
                mains += 1;
                mains_over += usize::from(over(role, container).is_some_and(|(_, for_good)| for_good));
            }
        }
    }
    mains > 0 && mains == mains_over
}

fn init_succeeded(memory: &PodMemory, container: &Container) -> bool {
    let current = memory
        .container(&container.name)
        .and_then(|memory| memory.current.as_ref());
    current.is_some_and(|current| current.has_exited() && current.exit_code == 0)
}

/// Running, and its postStart hook, if any, has succeeded.
pub(crate) fn is_up(state: &ContainerMemory, container: &Container) -> bool {
    state.is_running() && (spec::post_start(container).is_none() || state.post_start == Some(true))
}

/// Up, and its startup probe (if any) has succeeded.
pub(crate) fn has_started(memory: &PodMemory, container: &Container) -> bool {
    let Some(state) = memory.container(&container.name) else {
        return false;
    };
    is_up(state, container)
        && (container.startup_probe.is_none()
            || state
                .probe(crate::ProbeKind::Startup)
                .is_some_and(|probe| probe.result == Some(true)))
}

fn set_up_volumes(plan: &mut Plan<'_>) {
    if plan.memory.volumes_ready {
        return;
    }
    match plan.memory.volumes_problem.as_ref().map(|problem| problem.retry_at) {
        Some(retry_at) if retry_at > plan.now => plan.wake(retry_at),
        _ => {
            plan.begin(Operation::Volumes, Action::PrepareVolumes);
        }
    }
}

fn keep_running(plan: &mut Plan<'_>, role: Role, container: &Container) {
    let current = plan.memory.container_mut(&container.name).current.clone();
    match current {
        None => start(plan, container, None),
        Some(current) => match current.phase {
            ContainerPhase::Created => plan.actions.push(Action::StartContainer {
                container: container.name.clone(),
            }),
            ContainerPhase::Running => match is_up(plan.memory.container_mut(&container.name), container) {
                true => probes::run(plan, role, container),
                false => post_start(plan, container, current.attempt),
            },
            ContainerPhase::Exited => {
                if spec::restarts(plan.spec, role, container, &current) {
                    start(plan, container, current.finished_at.or(Some(plan.now)));
                }
            }
        },
    }
}

/// Runs the hook of a container that has just started; one whose hook failed is ended.
fn post_start(plan: &mut Plan<'_>, container: &Container, attempt: u32) {
    let name = container.name.clone();
    let state = plan.memory.container_mut(&name);
    if state.stop.is_some() {
        return termination::stop_again(plan, container);
    }
    if state.post_start == Some(false) {
        plan.events.push(texts::killing_after_post_start(&name));
        let grace = spec::grace_period_seconds(plan.pod);
        return termination::stop(plan, container, grace);
    }
    plan.wait_for(format!("postStart hook of {name}"));
    let action = Action::PostStart {
        container: name.clone(),
        attempt,
    };
    plan.begin(Operation::PostStart(name), action);
}

/// A container whose postStart hook has not succeeded yet: as long as there is one, no other is started.
fn starting<'a>(plan: &Plan<'a>) -> Option<&'a Container> {
    let mut hooked = spec::containers(plan.spec)
        .map(|(_, container)| container)
        .filter(|container| spec::post_start(container).is_some());
    hooked.find(|container| {
        let state = plan.memory.container(&container.name);
        let is_held = state.is_some_and(|state| state.is_running() && !is_up(state, container));
        let start = Action::StartContainer {
            container: container.name.clone(),
        };
        is_held || plan.actions.contains(&start)
    })
}

/// Starts the next attempt as soon as back-off, volumes, sandbox and image allow it.
fn start(plan: &mut Plan<'_>, container: &Container, exited_at: Option<jiff::Timestamp>) {
    let name = container.name.as_str();
    let now = plan.now;
    let state = plan.memory.container_mut(name);
    let attempt = state.next_attempt();
    if let Some(until) = exited_at.and_then(|at| BackOff::wait_until(state.crash_back_off.as_ref(), at))
        && until > now
    {
        if !std::mem::replace(&mut state.back_off_told, true) {
            plan.events
                .push(texts::crash_back_off(name, &spec::full_name(plan.pod)));
        }
        plan.wake(until);
        return plan.wait_for(format!("back-off of {name}"));
    }
    if let Some(retry_at) = state
        .problem
        .as_ref()
        .map(|problem| problem.retry_at)
        .filter(|at| *at > now)
    {
        plan.wake(retry_at);
        return plan.wait_for(format!("another try to create {name}"));
    }
    let has_image = has_image(plan, container, attempt);
    let has_sandbox = has_sandbox(plan);
    if !plan.memory.volumes_ready {
        plan.wait_for("volumes");
    }
    if !has_image || !has_sandbox || !plan.memory.volumes_ready {
        return;
    }
    if let Some(other) = starting(plan) {
        return plan.wait_for(format!("postStart hook of {}", other.name));
    }
    let leftover = plan.sandbox_view().is_some_and(|view| {
        view.containers
            .iter()
            .any(|view| view.name == name && view.phase != ContainerPhase::Exited)
    });
    if leftover {
        plan.actions.push(Action::RemoveContainer {
            container: name.to_owned(),
        });
    }
    plan.actions.push(Action::CreateContainer {
        container: name.to_owned(),
        attempt,
    });
    plan.actions.push(Action::StartContainer {
        container: name.to_owned(),
    });
}

fn has_image(plan: &mut Plan<'_>, container: &Container, attempt: u32) -> bool {
    let name = container.name.as_str();
    let now = plan.now;
    let state = plan.memory.container_mut(name);
    if state.pulled.as_ref().is_some_and(|pulled| pulled.attempt == attempt) {
        return true;
    }
    if let Some(problem) = state.pull_problem.clone()
        && problem.retry_at > now
    {
        let shown_until = problem.since + PULL_ERROR_SHOWN;
        if shown_until > now {
            plan.wake(shown_until);
        } else if problem.reason == "ErrImagePull" && !std::mem::replace(&mut state.pull_back_off_told, true) {
            plan.events.push(texts::pull_back_off(
                name,
                container.image.as_deref().unwrap_or_default(),
            ));
            plan.events.push(texts::error(name, "ImagePullBackOff"));
        }
        plan.wake(problem.retry_at);
        plan.wait_for(format!("image of {name}"));
        return false;
    }
    plan.begin(
        Operation::Image(name.to_owned()),
        Action::PullImage {
            container: name.to_owned(),
            attempt,
        },
    );
    plan.wait_for(format!("image of {name}"));
    false
}

/// How long a failed pull shows as ErrImagePull before it shows as ImagePullBackOff.
pub(crate) const PULL_ERROR_SHOWN: jiff::SignedDuration = jiff::SignedDuration::from_secs(3);

fn has_sandbox(plan: &mut Plan<'_>) -> bool {
    if plan.sandbox_view().is_some() || plan.actions.contains(&Action::CreateSandbox) {
        return true;
    }
    match plan.memory.sandbox_problem.as_ref().map(|problem| problem.retry_at) {
        Some(retry_at) if retry_at > plan.now => {
            plan.wake(retry_at);
            plan.wait_for("another try to create the sandbox");
            false
        }
        _ => {
            plan.actions.push(Action::CreateSandbox);
            true
        }
    }
}
