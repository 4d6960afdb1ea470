//! What ends, and starts again.

use expect_test::expect;

use super::script::play;

fn spec(policy: &str) -> String {
    format!("restartPolicy: {policy}\ncontainers: [{{name: web, image: 'web:v1'}}]")
}

#[test]
fn a_crashing_container_waits_longer_each_time_and_is_forgiven_after_ten_minutes() {
    let script = "0s\n0s image web\n1s exit web 1\n1s image web\n2s exit web 1\n12s look\n12s image web\n13s exit web 1\n\
                  33s look\n33s image web\n700s exit web 1\n700s image web\n701s exit web 1";
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox
                                        | Pending; web: ContainerCreating
        0s    image web                | CreateContainer web/0, StartContainer web
                                        | Running ready; web: running
        1s    exit web 1               | PullImage web/1
                                        | Running; web: Error 1
        1s    image web                | CreateContainer web/1, StartContainer web
                                        | Running ready; web: running x1 last Error 1
        2s    exit web 1               | ! BackOff Back-off restarting failed container web in pod web_default(uid)
                                        | Running; web: CrashLoopBackOff (back-off 10s restarting failed container=web pod=web_default(uid)) x1 last Error 1  wake 12s
        12s   look                     | PullImage web/2
                                        | Running; web: Error 1 x1 last Error 1
        12s   image web                | CreateContainer web/2, StartContainer web
                                        | Running ready; web: running x2 last Error 1
        13s   exit web 1               | ! BackOff Back-off restarting failed container web in pod web_default(uid)
                                        | Running; web: CrashLoopBackOff (back-off 20s restarting failed container=web pod=web_default(uid)) x2 last Error 1  wake 33s
        33s   look                     | PullImage web/3
                                        | Running; web: Error 1 x2 last Error 1
        33s   image web                | CreateContainer web/3, StartContainer web
                                        | Running ready; web: running x3 last Error 1
        700s  exit web 1               | PullImage web/4
                                        | Running; web: Error 1 x3 last Error 1
        700s  image web                | CreateContainer web/4, StartContainer web
                                        | Running ready; web: running x4 last Error 1
        701s  exit web 1               | ! BackOff Back-off restarting failed container web in pod web_default(uid)
                                        | Running; web: CrashLoopBackOff (back-off 10s restarting failed container=web pod=web_default(uid)) x4 last Error 1  wake 711s
    "#]].assert_eq(&play(&spec("Always"), script));
}

#[test]
fn a_trap_is_told_once_with_its_backtrace() {
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox
                                        | Pending; web: ContainerCreating
        0s    image web                | CreateContainer web/0, StartContainer web
                                        | Running ready; web: running
        1s    trap web 134             | ! Trapped Container web trapped: wasm trap: unreachable; error while executing; 0: 0x1b - web!boom, RemoveSandbox, RemoveVolumes
                                        | Failed; web: Error 134
        2s    restart                  | 
                                        | Failed; web: Error 134
        3s    look                     | 
                                        | Failed; web: Error 134
    "#]].assert_eq(&play(
        &spec("Never"),
        "0s\n0s image web\n1s trap web 134\n2s restart\n3s look",
    ));
}

#[test]
fn on_failure_restarts_failures_only() {
    let script = "0s\n0s image web\n1s exit web 3\n1s image web\n2s exit web 0\n3s look";
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox
                                        | Pending; web: ContainerCreating
        0s    image web                | CreateContainer web/0, StartContainer web
                                        | Running ready; web: running
        1s    exit web 3               | PullImage web/1
                                        | Running; web: Error 3
        1s    image web                | CreateContainer web/1, StartContainer web
                                        | Running ready; web: running x1 last Error 3
        2s    exit web 0               | RemoveSandbox, RemoveVolumes
                                        | Succeeded; web: Completed 0 x1 last Error 3
        3s    look                     | 
                                        | Succeeded; web: Completed 0 x1 last Error 3
    "#]]
    .assert_eq(&play(&spec("OnFailure"), script));
}

#[test]
fn never_means_never() {
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox
                                        | Pending; web: ContainerCreating
        0s    image web                | CreateContainer web/0, StartContainer web
                                        | Running ready; web: running
        1s    exit web 3               | RemoveSandbox, RemoveVolumes
                                        | Failed; web: Error 3
        2s    look                     | 
                                        | Failed; web: Error 3
    "#]]
    .assert_eq(&play(&spec("Never"), "0s\n0s image web\n1s exit web 3\n2s look"));
}

#[test]
fn a_restarted_agent_changes_nothing_and_counts_on() {
    let script =
        "0s\n0s image web\n1s exit web 1\n1s image web\n2s restart\n3s exit web 1\n4s restart\n13s look\n13s image web";
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox
                                        | Pending; web: ContainerCreating
        0s    image web                | CreateContainer web/0, StartContainer web
                                        | Running ready; web: running
        1s    exit web 1               | PullImage web/1
                                        | Running; web: Error 1
        1s    image web                | CreateContainer web/1, StartContainer web
                                        | Running ready; web: running x1 last Error 1
        2s    restart                  | PrepareVolumes
                                        | Running ready; web: running x1 last Error 1
        3s    exit web 1               | ! BackOff Back-off restarting failed container web in pod web_default(uid)
                                        | Running; web: CrashLoopBackOff (back-off 10s restarting failed container=web pod=web_default(uid)) x1 last Error 1  wake 13s
        4s    restart                  | PrepareVolumes
                                        | Running; web: CrashLoopBackOff (back-off 10s restarting failed container=web pod=web_default(uid)) x1 last Error 1  wake 13s
        13s   look                     | PullImage web/2
                                        | Running; web: Error 1 x1 last Error 1
        13s   image web                | CreateContainer web/2, StartContainer web
                                        | Running ready; web: running x2 last Error 1
    "#]].assert_eq(&play(&spec("Always"), script));
}

#[test]
fn a_lost_sandbox_is_made_again_and_a_silent_runtime_means_nothing() {
    let script = "0s\n0s image web\n5s blind\n6s see\n7s lose sandbox\n8s image web";
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox
                                        | Pending; web: ContainerCreating
        0s    image web                | CreateContainer web/0, StartContainer web
                                        | Running ready; web: running
        5s    blind                    | 
                                        | Running ready; web: running
        6s    see                      | 
                                        | Running ready; web: running
        7s    lose sandbox             | PullImage web/1, CreateSandbox
                                        | Running; web: ContainerStatusUnknown 137
        8s    image web                | CreateContainer web/1, StartContainer web
                                        | Running ready; web: running x1 last ContainerStatusUnknown 137
    "#]]
    .assert_eq(&play(&spec("Always"), script));
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox
                                        | Pending; web: ContainerCreating
        0s    image web                | CreateContainer web/0, StartContainer web
                                        | Running ready; web: running
        7s    lose sandbox             | RemoveVolumes
                                        | Failed; web: ContainerStatusUnknown 137
        8s    look                     | 
                                        | Failed; web: ContainerStatusUnknown 137
    "#]]
    .assert_eq(&play(&spec("Never"), "0s\n0s image web\n7s lose sandbox\n8s look"));
}

#[test]
fn a_container_that_cannot_start_counts_as_failed() {
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox
                                        | Pending; web: ContainerCreating
                                        ! Failed Error: boom
        1s    nostart web              | 
                                        | Running; web: StartError 128
        2s    image web                | CreateContainer web/1, StartContainer web
                                        | Running ready; web: running x1 last StartError 128
    "#]]
    .assert_eq(&play(&spec("Always"), "0s\n1s nostart web\n2s image web"));
}
