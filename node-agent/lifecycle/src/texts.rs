//! The sentences of events and waiting states, as kubelet 1.36 words them.

use jiff::SignedDuration;

use crate::action::{EventKind, PodEvent, ProbeKind};

/// The waiting reason of a container whose module is being compiled for this node, and its event's.
pub const COMPILING: &str = "Compiling";

fn event(kind: EventKind, reason: &str, message: String, container: Option<&str>) -> PodEvent {
    PodEvent {
        kind,
        reason: reason.to_owned(),
        message,
        container: container.map(str::to_owned),
    }
}

pub fn pulling(container: &str, image: &str) -> PodEvent {
    event(
        EventKind::Normal,
        "Pulling",
        format!("Pulling image \"{image}\""),
        Some(container),
    )
}

pub fn compiling(container: &str, message: &str) -> PodEvent {
    event(EventKind::Normal, COMPILING, message.to_owned(), Some(container))
}

pub fn pulled(container: &str, image: &str, took: SignedDuration, waited: SignedDuration, bytes: u64) -> PodEvent {
    let (took, waited) = (go_duration(took), go_duration(waited));
    let message = format!(
        "Successfully pulled image \"{image}\" in {took} ({waited} including waiting). Image size: {bytes} bytes."
    );
    event(EventKind::Normal, "Pulled", message, Some(container))
}

pub fn already_present(container: &str, image: &str) -> PodEvent {
    let message = format!("Container image \"{image}\" already present on machine and can be accessed by the pod");
    event(EventKind::Normal, "Pulled", message, Some(container))
}

pub fn pull_failed(container: &str, image: &str, why: &str) -> PodEvent {
    event(
        EventKind::Warning,
        "Failed",
        format!("Failed to pull image \"{image}\": {why}"),
        Some(container),
    )
}

pub fn never_pull(container: &str, image: &str) -> PodEvent {
    let message = format!("Container image \"{image}\" is not present with pull policy of Never");
    event(EventKind::Warning, "ErrImageNeverPull", message, Some(container))
}

pub fn inspect_failed(container: &str, message: &str) -> PodEvent {
    event(EventKind::Warning, "InspectFailed", message.to_owned(), Some(container))
}

pub fn error(container: &str, why: &str) -> PodEvent {
    event(EventKind::Warning, "Failed", format!("Error: {why}"), Some(container))
}

pub fn pull_back_off(container: &str, image: &str) -> PodEvent {
    event(
        EventKind::Normal,
        "BackOff",
        format!("Back-off pulling image \"{image}\""),
        Some(container),
    )
}

pub fn created(container: &str) -> PodEvent {
    event(
        EventKind::Normal,
        "Created",
        "Container created".to_owned(),
        Some(container),
    )
}

pub fn started(container: &str) -> PodEvent {
    event(
        EventKind::Normal,
        "Started",
        "Container started".to_owned(),
        Some(container),
    )
}

pub fn killing(container: &str) -> PodEvent {
    event(
        EventKind::Normal,
        "Killing",
        format!("Stopping container {container}"),
        Some(container),
    )
}

pub fn killing_after_probe(container: &str, kind: ProbeKind, will_restart: bool) -> PodEvent {
    let word = kind.word().to_lowercase();
    let consequence = if will_restart { ", will be restarted" } else { "" };
    let message = format!("Container {container} failed {word} probe{consequence}");
    event(EventKind::Normal, "Killing", message, Some(container))
}

/// Kubelet leaves the reason out of the event; here it is what tells that a module has no exec.
pub fn post_start_failed(container: &str, why: &str) -> PodEvent {
    event(
        EventKind::Warning,
        "FailedPostStartHook",
        format!("PostStartHook failed: {why}"),
        Some(container),
    )
}

/// Kubelet's message for this is its reason code.
pub fn killing_after_post_start(container: &str) -> PodEvent {
    event(
        EventKind::Normal,
        "Killing",
        "FailedPostStartHook".to_owned(),
        Some(container),
    )
}

pub fn pre_stop_failed(container: &str, why: &str) -> PodEvent {
    event(
        EventKind::Warning,
        "FailedPreStopHook",
        format!("PreStopHook failed: {why}"),
        Some(container),
    )
}

pub fn unhealthy(container: &str, kind: ProbeKind, output: &str) -> PodEvent {
    let message = format!("{} probe failed: {output}", kind.word());
    event(EventKind::Warning, "Unhealthy", message, Some(container))
}

/// Exit code of a module that trapped, and of a program that aborted.
pub const TRAPPED: i32 = 134;
/// Lines of a trap's message that an event shows: the cause and the innermost frames. The container's status and log have all.
const TRAP_LINES: usize = 8;
/// Longest message of an event.
const EVENT_CHARS_MAX: usize = 1024;

/// `message` is the container's: cause first, then the backtrace.
pub fn trapped(container: &str, message: &str) -> PodEvent {
    let lines: Vec<&str> = message.lines().take(TRAP_LINES).map(str::trim).collect();
    let text = format!("Container {container} trapped: {}", lines.join("; "));
    let text = text.chars().take(EVENT_CHARS_MAX).collect();
    event(EventKind::Warning, "Trapped", text, Some(container))
}

pub fn crash_back_off(container: &str, pod: &str) -> PodEvent {
    let message = format!("Back-off restarting failed container {container} in pod {pod}");
    event(EventKind::Warning, "BackOff", message, Some(container))
}

pub fn sandbox_failed(why: &str) -> PodEvent {
    event(
        EventKind::Warning,
        "FailedCreatePodSandBox",
        format!("Failed to create pod sandbox: {why}"),
        None,
    )
}

pub fn mount_failed(message: &str) -> PodEvent {
    event(EventKind::Warning, "FailedMount", message.to_owned(), None)
}

pub const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";
pub const DEADLINE_MESSAGE: &str = "Pod was active on the node longer than the specified deadline";

pub fn deadline_exceeded() -> PodEvent {
    event(EventKind::Normal, DEADLINE_EXCEEDED, DEADLINE_MESSAGE.to_owned(), None)
}

pub fn rejected(reason: &str, message: &str) -> PodEvent {
    event(EventKind::Warning, reason, message.to_owned(), None)
}

/// A duration as Go prints it: `1.5s`, `12ms`, `2m40s`, `1h0m0s`. Rounded to milliseconds, as kubelet rounds pulls.
pub fn go_duration(duration: SignedDuration) -> String {
    let millis = duration.as_millis().max(0);
    if millis == 0 {
        return "0s".to_owned();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let (seconds, fraction) = (rest / 1000, rest % 1000);
    let mut text = match (minutes / 60, minutes % 60) {
        (0, 0) => String::new(),
        (0, minutes) => format!("{minutes}m"),
        (hours, minutes) => format!("{hours}h{minutes}m"),
    };
    text.push_str(&seconds.to_string());
    if fraction > 0 {
        text.push_str(format!(".{fraction:03}").trim_end_matches('0'));
    }
    text.push('s');
    text
}
