//! From bound to running.

use expect_test::expect;

use super::script::{World, play};

const ONE: &str = "containers: [{name: web, image: 'web:v1'}]";

#[test]
fn a_pod_starts_as_soon_as_volumes_image_and_sandbox_are_there() {
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox
                                        | Pending; web: ContainerCreating
        1s    image web                | CreateContainer web/0, StartContainer web
                                        | Running ready; web: running
        2s    look                     | 
                                        | Running ready; web: running
    "#]]
    .assert_eq(&play(ONE, "0s\n1s image web\n2s look"));
}

#[test]
fn a_failed_pull_is_told_and_tried_again_with_growing_waits() {
    let script = "0s\n1s nopull web\n4s look\n11s look\n12s nopull web\n32s look\n33s image web";
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox
                                        | Pending; web: ContainerCreating
                                        ! Failed Failed to pull image "web:v1": not found
                                        ! Failed Error: ErrImagePull
        1s    nopull web               | 
                                        | Pending; web: ErrImagePull (not found)  wake 4s
        4s    look                     | ! BackOff Back-off pulling image "web:v1", ! Failed Error: ImagePullBackOff
                                        | Pending; web: ImagePullBackOff (Back-off pulling image "web:v1": ErrImagePull: not found)  wake 11s
        11s   look                     | PullImage web/0
                                        | Pending; web: ImagePullBackOff (Back-off pulling image "web:v1": ErrImagePull: not found)
                                        ! Failed Failed to pull image "web:v1": not found
                                        ! Failed Error: ErrImagePull
        12s   nopull web               | 
                                        | Pending; web: ErrImagePull (not found)  wake 15s
        32s   look                     | PullImage web/0
                                        | Pending; web: ImagePullBackOff (Back-off pulling image "web:v1": ErrImagePull: not found)
        33s   image web                | CreateContainer web/0, StartContainer web
                                        | Running ready; web: running
    "#]].assert_eq(&play(ONE, script));
}

#[test]
fn init_containers_run_in_order_and_sidecars_stay() {
    let spec = "
initContainers:
- {name: first, image: i}
- {name: side, image: i, restartPolicy: Always}
- {name: second, image: i}
containers: [{name: web, image: i}]";
    let script = "0s\n1s image first\n2s exit first 0\n3s image side\n4s image second\n5s exit second 0\n6s image web\n\
                  7s exit side 1\n8s image side";
    expect![[r#"
        0s                             | PrepareVolumes, PullImage first/0, CreateSandbox
                                        | Pending; first: PodInitializing; side: PodInitializing; second: PodInitializing; web: PodInitializing
        1s    image first              | CreateContainer first/0, StartContainer first
                                        | Pending; first: running; side: PodInitializing; second: PodInitializing; web: PodInitializing
        2s    exit first 0             | PullImage side/0
                                        | Pending; first: Completed 0; side: PodInitializing; second: PodInitializing; web: PodInitializing
        3s    image side               | CreateContainer side/0, StartContainer side, PullImage second/0
                                        | Pending; first: Completed 0; side: running; second: PodInitializing; web: PodInitializing
        4s    image second             | CreateContainer second/0, StartContainer second
                                        | Pending; first: Completed 0; side: running; second: running; web: PodInitializing
        5s    exit second 0            | PullImage web/0
                                        | Pending; first: Completed 0; side: running; second: Completed 0; web: PodInitializing
        6s    image web                | CreateContainer web/0, StartContainer web
                                        | Running ready; first: Completed 0; side: running; second: Completed 0; web: running
        7s    exit side 1              | PullImage side/1
                                        | Running; first: Completed 0; side: Error 1; second: Completed 0; web: running
        8s    image side               | CreateContainer side/1, StartContainer side
                                        | Running ready; first: Completed 0; side: running x1 last Error 1; second: Completed 0; web: running
    "#]].assert_eq(&play(spec, script));
}

#[test]
fn an_init_container_that_fails_runs_again_or_fails_the_pod() {
    let spec = |policy: &str| {
        format!(
            "restartPolicy: {policy}\ninitContainers: [{{name: init, image: i}}]\ncontainers: [{{name: web, image: i}}]"
        )
    };
    let script = "0s\n1s image init\n2s exit init 1\n3s image init\n4s exit init 1";
    expect![[r#"
        0s                             | PrepareVolumes, PullImage init/0, CreateSandbox
                                        | Pending; init: PodInitializing; web: PodInitializing
        1s    image init               | CreateContainer init/0, StartContainer init
                                        | Pending; init: running; web: PodInitializing
        2s    exit init 1              | PullImage init/1
                                        | Pending; init: Error 1; web: PodInitializing
        3s    image init               | CreateContainer init/1, StartContainer init
                                        | Pending; init: running x1 last Error 1; web: PodInitializing
        4s    exit init 1              | ! BackOff Back-off restarting failed container init in pod web_default(uid)
                                        | Pending; init: CrashLoopBackOff (back-off 10s restarting failed container=init pod=web_default(uid)) x1 last Error 1; web: PodInitializing  wake 14s
    "#]].assert_eq(&play(&spec("Always"), script));
    expect![[r#"
        0s                             | PrepareVolumes, PullImage init/0, CreateSandbox
                                        | Pending; init: PodInitializing; web: PodInitializing
        1s    image init               | CreateContainer init/0, StartContainer init
                                        | Pending; init: running; web: PodInitializing
        2s    exit init 1              | RemoveSandbox, RemoveVolumes
                                        | Failed; init: Error 1; web: PodInitializing
        3s    look                     | 
                                        | Failed; init: Error 1; web: PodInitializing
    "#]]
    .assert_eq(&play(&spec("Never"), "0s\n1s image init\n2s exit init 1\n3s look"));
}

#[test]
fn a_container_that_cannot_be_made_waits_with_kubelets_reason() {
    let script = "0s\n0.5s noconfig web configmap \"c\" not found\n1s image web\n10.5s look";
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox
                                        | Pending; web: ContainerCreating
                                        ! Failed Error: configmap "c" not found
        0.5s  noconfig web configmap "c" not found | 
                                        | Pending; web: CreateContainerConfigError (configmap "c" not found)  wake 10.5s
        1s    image web                | 
                                        | Pending; web: CreateContainerConfigError (configmap "c" not found)  wake 10.5s
        10.5s look                     | CreateContainer web/0, StartContainer web
                                        | Running ready; web: running
    "#]]
    .assert_eq(&play(ONE, script));
}

#[test]
fn volumes_that_fail_are_tried_again() {
    let mut world = World::new(ONE);
    world.pod.metadata.annotations = Some([("slow".to_owned(), "volumes".to_owned())].into());
    let shown = [
        "0s",
        "0s volumes fail it failed",
        "0s image web",
        "0.5s look",
        "0.5s volumes fail again",
        "1.5s volumes ready",
    ];
    for line in shown {
        world.line(line);
    }
    assert_eq!(world.status.phase.as_deref(), Some("Running"));
}

#[test]
fn the_whole_status_of_a_running_pod_is_kubelets() {
    let spec = "
containers:
- name: web
  image: 'web:v1'
  resources: {requests: {cpu: 100m}, limits: {memory: 64Mi}}
  volumeMounts: [{name: v, mountPath: /v, readOnly: true}]";
    let mut world = World::new(spec);
    world.pod.metadata.generation = Some(1);
    world.line("0s");
    world.line("1s image web");
    let text = serde_json::to_string_pretty(&world.status).unwrap();
    expect![[r#"
        {
          "conditions": [
            {
              "lastTransitionTime": "2026-01-01T00:00:00Z",
              "observedGeneration": 1,
              "status": "True",
              "type": "PodReadyToStartContainers"
            },
            {
              "lastTransitionTime": "2026-01-01T00:00:00Z",
              "observedGeneration": 1,
              "status": "True",
              "type": "Initialized"
            },
            {
              "lastTransitionTime": "2026-01-01T00:00:01Z",
              "observedGeneration": 1,
              "status": "True",
              "type": "Ready"
            },
            {
              "lastTransitionTime": "2026-01-01T00:00:01Z",
              "observedGeneration": 1,
              "status": "True",
              "type": "ContainersReady"
            },
            {
              "lastTransitionTime": "2026-01-01T00:00:00Z",
              "observedGeneration": 1,
              "status": "True",
              "type": "PodScheduled"
            }
          ],
          "containerStatuses": [
            {
              "allocatedResources": {
                "cpu": "100m"
              },
              "containerID": "wasm://web-0",
              "image": "web:v1",
              "imageID": "web@sha256:1",
              "lastState": {},
              "name": "web",
              "ready": true,
              "resources": {
                "limits": {
                  "memory": "64Mi"
                },
                "requests": {
                  "cpu": "100m"
                }
              },
              "restartCount": 0,
              "started": true,
              "state": {
                "running": {
                  "startedAt": "2026-01-01T00:00:01Z"
                }
              },
              "volumeMounts": [
                {
                  "mountPath": "/v",
                  "name": "v",
                  "readOnly": true,
                  "recursiveReadOnly": "Disabled"
                }
              ]
            }
          ],
          "hostIP": "192.0.2.1",
          "hostIPs": [
            {
              "ip": "192.0.2.1"
            }
          ],
          "observedGeneration": 1,
          "phase": "Running",
          "podIP": "10.42.0.2",
          "podIPs": [
            {
              "ip": "10.42.0.2"
            }
          ],
          "startTime": "2026-01-01T00:00:00Z"
        }"#]]
    .assert_eq(&text);
}

#[test]
fn a_container_runs_once_its_hook_returned_and_the_next_starts_after_it() {
    let spec = "
containers:
- {name: web, image: i, lifecycle: {postStart: {sleep: {seconds: 3}}}, readinessProbe: {tcpSocket: {port: 80}}}
- {name: two, image: i}";
    let script =
        "0s\n0s image web\n0s image two\n3s poststart web ok\n4s probe web readiness ok\n5s exit two 0\n5s image two";
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox, PullImage two/0
                                        | Pending; web: ContainerCreating; two: ContainerCreating
        0s    image web                | CreateContainer web/0, StartContainer web, PostStart web/0
                                        | Pending; web: ContainerCreating; two: ContainerCreating
        0s    image two                | 
                                        | Pending; web: ContainerCreating; two: ContainerCreating
        3s    poststart web ok         | Probe web Readiness, CreateContainer two/0, StartContainer two
                                        | Running; web: running; two: running
        4s    probe web readiness ok   | 
                                        | Running ready; web: running; two: running  wake 14s
        5s    exit two 0               | PullImage two/1
                                        | Running; web: running; two: Completed 0  wake 14s
        5s    image two                | CreateContainer two/1, StartContainer two
                                        | Running ready; web: running; two: running x1 last Completed 0  wake 14s
    "#]]
    .assert_eq(&play(spec, script));
}

#[test]
fn a_container_whose_hook_fails_is_ended_and_starts_again() {
    let spec = "containers: [{name: web, image: i, lifecycle: {postStart: {sleep: {seconds: 3}}}}]";
    let script = "0s\n0s image web\n1s poststart web no\n1s restart\n2s exit web 143\n2s image web\n3s exit web 0\n\
                  13s image web\n13s restart\n14s poststart web ok\n14s restart";
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox
                                        | Pending; web: ContainerCreating
        0s    image web                | CreateContainer web/0, StartContainer web, PostStart web/0
                                        | Pending; web: ContainerCreating
                                        ! FailedPostStartHook PostStartHook failed: no
        1s    poststart web no         | ! Killing FailedPostStartHook, StopContainer web 30s
                                        | Pending; web: ContainerCreating  wake 41s
        1s    restart                  | PrepareVolumes
                                        | Pending; web: ContainerCreating  wake 41s
        2s    exit web 143             | PullImage web/1
                                        | Running; web: Error 143
        2s    image web                | CreateContainer web/1, StartContainer web, PostStart web/1
                                        | Running; web: ContainerCreating x1 last Error 143
        3s    exit web 0               | ! BackOff Back-off restarting failed container web in pod web_default(uid)
                                        | Running; web: CrashLoopBackOff (back-off 10s restarting failed container=web pod=web_default(uid)) x1 last Completed 0  wake 13s
        13s   image web                | CreateContainer web/2, StartContainer web
                                        | Running; web: ContainerCreating x2 last Completed 0
        13s   restart                  | PrepareVolumes, PostStart web/2
                                        | Running; web: ContainerCreating x2 last Completed 0
        14s   poststart web ok         | 
                                        | Running ready; web: running x2 last Completed 0
        14s   restart                  | PrepareVolumes
                                        | Running ready; web: running x2 last Completed 0
    "#]].assert_eq(&play(spec, script));
}

#[test]
fn a_container_whose_module_is_being_compiled_says_so_once_in_an_event_and_always_in_its_status() {
    let spec = "containers: [{name: web, image: i}]";
    let script = "0s\n1s waits web after 2 others\n2s waits web compiling\n3s image web\n4s waits web too late\n\
                  5s exit web 1\n5s waits web again\n6s nopull web\n6s look";
    expect![[r#"
        0s                             | PrepareVolumes, PullImage web/0, CreateSandbox
                                        | Pending; web: ContainerCreating
                                        ! Compiling after 2 others
        1s    waits web after 2 others | 
                                        | Pending; web: Compiling (after 2 others)
        2s    waits web compiling      | 
                                        | Pending; web: Compiling (compiling)
        3s    image web                | CreateContainer web/0, StartContainer web
                                        | Running ready; web: running
        4s    waits web too late       | 
                                        | Running ready; web: running
        5s    exit web 1               | PullImage web/1
                                        | Running; web: Error 1
                                        ! Compiling again
        5s    waits web again          | 
                                        | Running; web: Compiling (again) last Error 1
                                        ! Failed Failed to pull image "i": not found
                                        ! Failed Error: ErrImagePull
        6s    nopull web               | 
                                        | Running; web: ErrImagePull (not found) last Error 1  wake 9s
        6s    look                     | 
                                        | Running; web: ErrImagePull (not found) last Error 1  wake 9s
    "#]]
    .assert_eq(&play(spec, script));
}
