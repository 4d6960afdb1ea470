//! Deletion, deadlines, and the order of ends.

use expect_test::expect;

use super::script::{World, play};

const ONE: &str = "containers: [{name: web, image: 'web:v1'}]";

#[test]
fn a_deleted_pod_ends_within_its_grace_period_and_is_gone() {
    let script = "0s\n0s image web\n5s delete 30\n6s look\n7s exit web 0\n8s look";
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox
                                        | Pending; web: ContainerCreating
        0s    image web                | CreateContainer web/0, StartContainer web
                                        | Running ready; web: running
        5s    delete 30                | ! Killing Stopping container web, StopContainer web 30s
                                        | Running ready; web: running  wake 45s
        6s    look                     | 
                                        | Running ready; web: running  wake 45s
        7s    exit web 0               | RemoveSandbox, RemoveVolumes, Finish
                                        | Succeeded; web: Completed 0
        8s    look                     | 
                                        | Succeeded; web: Completed 0
    "#]]
    .assert_eq(&play(ONE, script));
}

#[test]
fn a_shorter_grace_period_counts_from_the_first_deletion() {
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox
                                        | Pending; web: ContainerCreating
        0s    image web                | CreateContainer web/0, StartContainer web
                                        | Running ready; web: running
        5s    delete 30                | ! Killing Stopping container web, StopContainer web 30s
                                        | Running ready; web: running  wake 45s
        6s    delete 2                 | StopContainer web 1s
                                        | Running ready; web: running  wake 17s
        7s    delete 0                 | StopContainer web 0s, RemoveSandbox, RemoveVolumes, Finish
                                        | Failed; web: Error 137
    "#]]
    .assert_eq(&play(ONE, "0s\n0s image web\n5s delete 30\n6s delete 2\n7s delete 0"));
}

#[test]
fn a_pod_deleted_before_it_ran_fails() {
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox
                                        | Pending; web: ContainerCreating
        1s    delete 30                | RemoveSandbox, RemoveVolumes, Finish
                                        | Failed; web: ContainerStatusUnknown 137
        2s    look                     | 
                                        | Failed; web: ContainerStatusUnknown 137
    "#]]
    .assert_eq(&play(ONE, "0s\n1s delete 30\n2s look"));
}

#[test]
fn sidecars_end_last_and_in_reverse_order() {
    let spec = "
initContainers:
- {name: one, image: i, restartPolicy: Always}
- {name: two, image: i, restartPolicy: Always}
containers: [{name: web, image: i}]";
    let script =
        "0s\n0s image one\n0s image two\n0s image web\n5s delete 10\n6s exit web 0\n7s exit two 0\n8s exit one 1";
    expect![[r#"
        0s                             | PrepareVolumes, PullImage one/0, CreateSandbox
                                        | Pending; one: PodInitializing; two: PodInitializing; web: PodInitializing
        0s    image one                | CreateContainer one/0, StartContainer one, PullImage two/0
                                        | Pending; one: running; two: PodInitializing; web: PodInitializing
        0s    image two                | CreateContainer two/0, StartContainer two, PullImage web/0
                                        | Pending; one: running; two: running; web: PodInitializing
        0s    image web                | CreateContainer web/0, StartContainer web
                                        | Running ready; one: running; two: running; web: running
        5s    delete 10                | ! Killing Stopping container web, StopContainer web 10s
                                        | Running ready; one: running; two: running; web: running  wake 25s
        6s    exit web 0               | ! Killing Stopping container two, StopContainer two 9s
                                        | Running; one: running; two: running; web: Completed 0  wake 25s
        7s    exit two 0               | ! Killing Stopping container one, StopContainer one 8s
                                        | Running; one: running; two: Completed 0; web: Completed 0  wake 25s
        8s    exit one 1               | RemoveSandbox, RemoveVolumes, Finish
                                        | Succeeded; one: Error 1; two: Completed 0; web: Completed 0
    "#]]
    .assert_eq(&play(spec, script));
    let job = format!("restartPolicy: Never\n{spec}");
    let script = "0s\n0s image one\n0s image two\n0s image web\n5s exit web 0\n6s exit two 0\n7s exit one 0";
    expect![[r#"
        0s                             | PrepareVolumes, PullImage one/0, CreateSandbox
                                        | Pending; one: PodInitializing; two: PodInitializing; web: PodInitializing
        0s    image one                | CreateContainer one/0, StartContainer one, PullImage two/0
                                        | Pending; one: running; two: PodInitializing; web: PodInitializing
        0s    image two                | CreateContainer two/0, StartContainer two, PullImage web/0
                                        | Pending; one: running; two: running; web: PodInitializing
        0s    image web                | CreateContainer web/0, StartContainer web
                                        | Running ready; one: running; two: running; web: running
        5s    exit web 0               | ! Killing Stopping container two, StopContainer two 30s
                                        | Running; one: running; two: running; web: Completed 0  wake 45s
        6s    exit two 0               | ! Killing Stopping container one, StopContainer one 29s
                                        | Running; one: running; two: Completed 0; web: Completed 0  wake 45s
        7s    exit one 0               | RemoveSandbox, RemoveVolumes
                                        | Succeeded; one: Completed 0; two: Completed 0; web: Completed 0
    "#]]
    .assert_eq(&play(&job, script));
}

#[test]
fn a_hook_runs_before_the_stop_and_takes_from_the_grace_period() {
    let spec = "containers: [{name: web, image: i, lifecycle: {preStop: {sleep: {seconds: 3}}}}]";
    let script = "0s\n0s image web\n5s delete 10\n8s hook web\n9s exit web 0";
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox
                                        | Pending; web: ContainerCreating
        0s    image web                | CreateContainer web/0, StartContainer web
                                        | Running ready; web: running
        5s    delete 10                | ! Killing Stopping container web, PreStop web
                                        | Running ready; web: running  wake 15s
        8s    hook web                 | StopContainer web 7s
                                        | Running ready; web: running  wake 25s
        9s    exit web 0               | RemoveSandbox, RemoveVolumes, Finish
                                        | Succeeded; web: Completed 0
    "#]]
    .assert_eq(&play(spec, script));
    let script = "0s\n0s image web\n5s delete 4\n9s look\n9s hook web";
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox
                                        | Pending; web: ContainerCreating
        0s    image web                | CreateContainer web/0, StartContainer web
                                        | Running ready; web: running
        5s    delete 4                 | ! Killing Stopping container web, PreStop web
                                        | Running ready; web: running  wake 9s
        9s    look                     | StopContainer web 2s
                                        | Running ready; web: running  wake 19s
        9s    hook web                 | 
                                        | Running ready; web: running  wake 19s
    "#]]
    .assert_eq(&play(spec, script));
}

#[test]
fn a_pod_has_until_its_deadline() {
    let spec = format!("activeDeadlineSeconds: 20\nterminationGracePeriodSeconds: 1\n{ONE}");
    let mut world = World::new(&spec);
    for line in ["0s", "0s image web", "20s look", "21s exit web 143"] {
        world.line(line);
    }
    assert_eq!(world.status.phase.as_deref(), Some("Failed"));
    assert_eq!(world.status.reason.as_deref(), Some("DeadlineExceeded"));
    let message = world.status.message.as_deref();
    assert_eq!(
        message,
        Some("Pod was active on the node longer than the specified deadline")
    );
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox
                                        | Pending; web: ContainerCreating  wake 20s
        0s    image web                | CreateContainer web/0, StartContainer web
                                        | Running ready; web: running  wake 20s
        20s   look                     | ! DeadlineExceeded Pod was active on the node longer than the specified deadline, ! Killing Stopping container web, StopContainer web 1s
                                        | Failed DeadlineExceeded; web: running  wake 31s
        21s   exit web 143             | RemoveSandbox, RemoveVolumes
                                        | Failed DeadlineExceeded; web: Error 143
    "#]].assert_eq(&play(&spec, "0s\n0s image web\n20s look\n21s exit web 143"));
}
