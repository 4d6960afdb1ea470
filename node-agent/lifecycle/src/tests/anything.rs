//! Whatever happens, in whatever order: the pod comes to rest (`World::line` fails if it does not), a terminal phase
//! stays, restart counts only grow, and nothing runs once the pod is gone.

use proptest::prelude::*;

use super::script::World;

const SPEC: &str = "
initContainers:
- {name: init, image: i}
- {name: side, image: i, restartPolicy: Always}
containers:
- {name: web, image: i, readinessProbe: {tcpSocket: {port: 1}}, livenessProbe: {tcpSocket: {port: 1}, failureThreshold: 1}}
- {name: two, image: i, lifecycle: {preStop: {sleep: {seconds: 1}}, postStart: {sleep: {seconds: 1}}}}";

const NAMES: [&str; 4] = ["init", "side", "web", "two"];

#[derive(Clone, Debug)]
enum Happening {
    Line(String),
    Exit(usize, i32),
}

fn happening() -> impl Strategy<Value = Happening> {
    let name = prop::sample::select(&NAMES[..]);
    let line = |text: &str| Just(Happening::Line(text.to_owned()));
    prop_oneof![
        4 => line("look"),
        6 => name.clone().prop_map(|name| Happening::Line(format!("image {name}"))),
        2 => name.clone().prop_map(|name| Happening::Line(format!("nopull {name}"))),
        1 => name.clone().prop_map(|name| Happening::Line(format!("noconfig {name} x"))),
        1 => name.clone().prop_map(|name| Happening::Line(format!("nostart {name}"))),
        1 => line("hook two"),
        2 => line("poststart two ok"),
        1 => line("poststart two no"),
        1 => line("probe web readiness ok"),
        1 => line("probe web liveness ok"),
        1 => line("probe web liveness no"),
        1 => line("lose sandbox"),
        1 => line("blind"),
        2 => line("see"),
        1 => line("restart"),
        1 => (0..60i64).prop_map(|grace| Happening::Line(format!("delete {grace}"))),
        6 => (0..4usize, 0..2i32).prop_map(|(at, code)| Happening::Exit(at, code)),
    ]
}

proptest! {
    #[test]
    fn a_pod_comes_to_rest(
        policy in prop::sample::select(&["Always", "OnFailure", "Never"][..]),
        happenings in prop::collection::vec((0..20u32, happening()), 1..60),
    ) {
        let mut world = World::new(&format!("restartPolicy: {policy}\n{SPEC}"));
        let (mut time, mut terminal, mut restarts) = (0, None, [0; 4]);
        for (passed, happening) in happenings {
            time += passed;
            let command = match happening {
                // Only what does not run can fail to start.
                Happening::Line(line) if line.strip_prefix("nostart ").is_some_and(|name| world.runs(name)) => continue,
                Happening::Line(line) => line,
                Happening::Exit(at, code) => {
                    let running = world.running();
                    if running.is_empty() {
                        continue;
                    }
                    format!("exit {} {code}", running[at % running.len()])
                }
            };
            world.line(&format!("{time}s {command}"));
            let phase = world.status.phase.clone().unwrap();
            if let Some(terminal) = &terminal {
                prop_assert_eq!(terminal, &phase);
            }
            if world.memory.terminal_phase.is_some() {
                terminal = Some(phase);
                prop_assert!(world.running().is_empty());
            }
            let statuses = world.status.init_container_statuses.iter().chain(&world.status.container_statuses).flatten();
            for (old, status) in restarts.iter_mut().zip(statuses) {
                prop_assert!(status.restart_count >= *old);
                *old = status.restart_count;
            }
        }
    }
}
