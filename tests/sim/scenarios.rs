//! Scenarios by name: one thing goes wrong once, before each call of a rollout in turn.

use crate::api::Kind;
use crate::world::{Scripted, World};

/// A rollout of one deployment on a cluster at work. Returns how many calls it took, or what was broken.
fn roll_out(script: Option<(u64, Scripted)>) -> Result<u64, String> {
    let mut world = World::new(0, None);
    world.calm_down();
    world.calls = 0;
    world.set_image("web", 2);
    if script.is_none() {
        world.calm_down();
        return Ok(world.calls);
    }
    world.script = script;
    world.settle();
    if world.breaches.is_empty() {
        Ok(world.calls)
    } else {
        let from = world
            .log
            .iter()
            .position(|line| line.starts_with("before call"))
            .unwrap_or(0);
        Err(format!(
            "{script:?}:\n{}\n{}",
            world.log[from..].join("\n"),
            world.breaches.join("\n")
        ))
    }
}

/// `stride` 1 is every call.
fn at_each_call(scripted: Scripted, stride: usize) {
    let calls = roll_out(None).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(calls > 50, "a rollout of {calls} calls is none");
    let failures: Vec<String> = (1..=calls)
        .step_by(stride)
        .filter_map(|at| roll_out(Some((at, scripted))).err())
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {calls} calls, the first: {}",
        failures.len(),
        failures[0]
    );
}

#[test]
fn the_manager_crashes_before_each_call() {
    at_each_call(Scripted::CrashManager, 1);
}

#[test]
fn the_schedulers_crash_before_each_call() {
    at_each_call(Scripted::CrashSchedulers, 3);
}

#[test]
fn agents_die_before_each_call() {
    at_each_call(Scripted::KillAgents, 1);
}

#[test]
fn all_nodes_start_anew_before_each_call() {
    at_each_call(Scripted::Reboot, 3);
}

#[test]
fn caches_are_stale_from_each_call_on() {
    for kind in [Kind::Pod, Kind::ReplicaSet, Kind::Deployment, Kind::Node] {
        at_each_call(Scripted::HoldBack(kind), 7);
    }
}

#[test]
fn a_watch_is_lost_before_each_call() {
    for kind in [Kind::Pod, Kind::ReplicaSet, Kind::Deployment, Kind::Node] {
        at_each_call(Scripted::LoseWatch(kind), 11);
    }
}
