//! Probes and their thresholds.

use expect_test::expect;

use super::script::play;

#[test]
fn readiness_follows_its_probe() {
    let spec = "
containers:
- name: web
  image: i
  readinessProbe: {httpGet: {port: 80}, periodSeconds: 5, failureThreshold: 2, initialDelaySeconds: 1}";
    let script = "0s\n0s image web\n1s look\n1s probe web readiness no\n6s look\n6s probe web readiness ok\n11s look\n\
                  11s probe web readiness no\n16s look\n16s probe web readiness no";
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox
                                        | Pending; web: ContainerCreating
        0s    image web                | CreateContainer web/0, StartContainer web
                                        | Running; web: running  wake 1s
        1s    look                     | Probe web Readiness
                                        | Running; web: running
                                        ! Unhealthy Readiness probe failed: no
        1s    probe web readiness no   | 
                                        | Running; web: running  wake 6s
        6s    look                     | Probe web Readiness
                                        | Running; web: running
        6s    probe web readiness ok   | 
                                        | Running ready; web: running  wake 11s
        11s   look                     | Probe web Readiness
                                        | Running ready; web: running
                                        ! Unhealthy Readiness probe failed: no
        11s   probe web readiness no   | 
                                        | Running ready; web: running  wake 16s
        16s   look                     | Probe web Readiness
                                        | Running ready; web: running
                                        ! Unhealthy Readiness probe failed: no
        16s   probe web readiness no   | 
                                        | Running; web: running  wake 21s
    "#]]
    .assert_eq(&play(spec, script));
}

#[test]
fn a_container_that_fails_its_liveness_probe_is_restarted() {
    let spec = "
containers:
- name: web
  image: i
  startupProbe: {tcpSocket: {port: 80}, periodSeconds: 1}
  livenessProbe: {tcpSocket: {port: 80}, periodSeconds: 10, failureThreshold: 1, terminationGracePeriodSeconds: 3}";
    let script = "0s\n0s image web\n0s probe web startup no\n1s look\n1s probe web startup ok\n1s probe web liveness no\n\
                  2s look\n4s exit web 143\n4s image web";
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox
                                        | Pending; web: ContainerCreating
        0s    image web                | CreateContainer web/0, StartContainer web, Probe web Startup
                                        | Running; web: running
                                        ! Unhealthy Startup probe failed: no
        0s    probe web startup no     | 
                                        | Running; web: running  wake 1s
        1s    look                     | Probe web Startup
                                        | Running; web: running
        1s    probe web startup ok     | Probe web Liveness
                                        | Running ready; web: running
                                        ! Unhealthy Liveness probe failed: no
        1s    probe web liveness no    | ! Killing Container web failed liveness probe, will be restarted, StopContainer web 3s
                                        | Running ready; web: running  wake 14s
        2s    look                     | 
                                        | Running ready; web: running  wake 14s
        4s    exit web 143             | PullImage web/1
                                        | Running; web: Error 143
        4s    image web                | CreateContainer web/1, StartContainer web, Probe web Startup
                                        | Running; web: running x1 last Error 143
    "#]].assert_eq(&play(spec, script));
}

#[test]
fn a_container_that_never_starts_up_is_ended() {
    let spec = "
restartPolicy: Never
containers:
- name: web
  image: i
  startupProbe: {tcpSocket: {port: 80}, periodSeconds: 1, failureThreshold: 1}";
    let script = "0s\n0s image web\n0s probe web startup no\n1s exit web 143";
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox
                                        | Pending; web: ContainerCreating
        0s    image web                | CreateContainer web/0, StartContainer web, Probe web Startup
                                        | Running; web: running
                                        ! Unhealthy Startup probe failed: no
        0s    probe web startup no     | ! Killing Container web failed startup probe, StopContainer web 30s
                                        | Running; web: running  wake 40s
        1s    exit web 143             | RemoveSandbox, RemoveVolumes
                                        | Failed; web: Error 143
    "#]]
    .assert_eq(&play(spec, script));
}

#[test]
fn a_container_may_say_itself_that_it_is_not_ready() {
    let spec = "
containers:
- name: web
  image: i
  readinessProbe: {tcpSocket: {port: 80}}";
    let script = "0s\n0s image web\n0s probe web readiness ok\n1s unready web\n2s restart\n3s ready web";
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox
                                        | Pending; web: ContainerCreating
        0s    image web                | CreateContainer web/0, StartContainer web, Probe web Readiness
                                        | Running; web: running
        0s    probe web readiness ok   | 
                                        | Running ready; web: running  wake 10s
        1s    unready web              | 
                                        | Running; web: running  wake 10s
        2s    restart                  | PrepareVolumes, Probe web Readiness
                                        | Running; web: running
        3s    ready web                | 
                                        | Running ready; web: running
    "#]]
    .assert_eq(&play(spec, script));
}
