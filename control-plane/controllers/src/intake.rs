//! What the caches keep of objects: what no controller and no rule of the scheduler reads is dropped before an object is
//! kept, because the caches are most of the manager's memory. For pods the list says what stays, so that a field that
//! someone begins to read has to be added here.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateTerminated, ContainerStatus, Node, Pod, PodSpec, PodStatus, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::caches::controller_of;
use crate::job::{COMPLETION_INDEX, FAILURE_COUNT, IGNORED_FAILURE_COUNT};
use crate::pods;

/// kubectl's memory of what was applied: as large as the object, and of no use here.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The annotations of pods that somebody reads.
const ANNOTATIONS: [&str; 4] = [
    pods::DELETION_COST,
    COMPLETION_INDEX,
    FAILURE_COUNT,
    IGNORED_FAILURE_COUNT,
];

/// Any object's metadata without what only others' writes are about.
pub fn trim_metadata(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove(LAST_APPLIED);
    }
}

/// A node: the images that it has weigh more than the rest, and nobody asks for them.
pub fn trim_node(node: &mut Node) {
    if let Some(status) = &mut node.status {
        status.images = None;
    }
}

/// A pod: identity, ownership, what the scheduler asks for, and how it fares.
pub fn trim_pod(pod: &mut Pod) {
    let whole = std::mem::take(pod);
    let restarts = pods::restarts_max(&whole);
    let of_a_job = controller_of(&whole.metadata).is_some_and(|owner| owner.kind == "Job");
    *pod = Pod {
        metadata: kept_metadata(whole.metadata),
        spec: whole.spec.map(kept_spec),
        status: whole.status.map(|status| match of_a_job {
            true => kept_status_of_a_job(status),
            false => kept_status(status, restarts),
        }),
    };
}

fn kept_metadata(meta: ObjectMeta) -> ObjectMeta {
    let annotations = meta.annotations.map(|mut all| {
        all.retain(|key, _| ANNOTATIONS.contains(&key.as_str()));
        all
    });
    ObjectMeta {
        name: meta.name,
        namespace: meta.namespace,
        uid: meta.uid,
        resource_version: meta.resource_version,
        generation: meta.generation,
        labels: meta.labels,
        annotations: annotations.filter(|kept| !kept.is_empty()),
        owner_references: meta.owner_references,
        finalizers: meta.finalizers,
        creation_timestamp: meta.creation_timestamp,
        deletion_timestamp: meta.deletion_timestamp,
        ..ObjectMeta::default()
    }
}

fn kept_spec(spec: PodSpec) -> PodSpec {
    // Of volumes the scheduler asks for claims only. A volume is 3 KB in memory, so the list shrinks.
    let claims = |volumes: Vec<Volume>| -> Vec<Volume> {
        let are_claims = volumes.into_iter().filter(|one| one.persistent_volume_claim.is_some());
        are_claims.collect()
    };
    PodSpec {
        node_name: spec.node_name,
        scheduler_name: spec.scheduler_name,
        scheduling_gates: spec.scheduling_gates,
        preemption_policy: spec.preemption_policy,
        node_selector: spec.node_selector,
        affinity: spec.affinity,
        tolerations: spec.tolerations,
        topology_spread_constraints: spec.topology_spread_constraints,
        overhead: spec.overhead,
        resources: spec.resources,
        containers: spec.containers.into_iter().filter_map(kept_container).collect(),
        init_containers: spec
            .init_containers
            .map(|all| all.into_iter().filter_map(kept_container).collect::<Vec<_>>())
            .filter(|kept| !kept.is_empty()),
        volumes: spec.volumes.map(claims).filter(|kept| !kept.is_empty()),
        ..PodSpec::default()
    }
}

/// A container counts by its resources and by its ports on the node; one that has neither is not kept at all.
fn kept_container(container: Container) -> Option<Container> {
    let resources = container
        .resources
        .filter(|own| own.requests.is_some() || own.limits.is_some());
    let ports = container.ports.map(|mut ports| {
        ports.retain(|port| port.host_port.is_some());
        ports
    });
    let ports = ports.filter(|ports| !ports.is_empty());
    (resources.is_some() || ports.is_some()).then(|| Container {
        name: container.name,
        restart_policy: container.restart_policy,
        resources,
        ports,
        ..Container::default()
    })
}

/// Conditions are kept whole: who changes one writes the list. Of the containers' statuses only the most restarts count.
fn kept_status(status: PodStatus, restarts: i32) -> PodStatus {
    let most = ContainerStatus {
        restart_count: restarts,
        ..ContainerStatus::default()
    };
    PodStatus {
        phase: status.phase,
        conditions: status.conditions,
        container_statuses: (restarts > 0).then(|| vec![most]),
        ..PodStatus::default()
    }
}

/// A Job asks how each container ended, and how often it was started again.
fn kept_status_of_a_job(status: PodStatus) -> PodStatus {
    let kept = |all: Vec<ContainerStatus>| -> Vec<ContainerStatus> { all.into_iter().map(kept_end).collect() };
    PodStatus {
        phase: status.phase,
        conditions: status.conditions,
        container_statuses: status.container_statuses.map(kept),
        init_container_statuses: status.init_container_statuses.map(kept),
        ..PodStatus::default()
    }
}

fn kept_end(container: ContainerStatus) -> ContainerStatus {
    let ended = container
        .state
        .and_then(|state| state.terminated)
        .map(|ended| ContainerStateTerminated {
            exit_code: ended.exit_code,
            finished_at: ended.finished_at,
            ..ContainerStateTerminated::default()
        });
    ContainerStatus {
        name: container.name,
        restart_count: container.restart_count,
        state: ended.map(|terminated| ContainerState {
            terminated: Some(terminated),
            ..ContainerState::default()
        }),
        ..ContainerStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::from_yaml;

    const POD: &str = "
metadata:
  name: web-1
  generateName: web-
  namespace: d
  uid: u
  resourceVersion: '7'
  generation: 2
  labels: {app: web}
  annotations: {big: text, controller.kubernetes.io/pod-deletion-cost: '5'}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web, uid: set, controller: true}]
  finalizers: [mine]
  creationTimestamp: '2026-01-01T10:00:00Z'
  managedFields: [{manager: kubectl}]
spec:
  nodeName: n1
  schedulerName: default-scheduler
  serviceAccountName: default
  priority: 0
  restartPolicy: Always
  nodeSelector: {disk: ssd}
  tolerations: [{operator: Exists}]
  overhead: {cpu: 10m}
  volumes:
  - {name: token, projected: {sources: []}}
  - {name: data, persistentVolumeClaim: {claimName: data}}
  initContainers:
  - {name: sidecar, image: s, restartPolicy: Always, resources: {requests: {cpu: 50m}}}
  containers:
  - name: c
    image: x
    env: [{name: A, value: b}]
    command: [run]
    livenessProbe: {httpGet: {port: 80}}
    ports: [{containerPort: 80}, {containerPort: 81, hostPort: 8081}]
    resources: {limits: {memory: 1Gi}}
    volumeMounts: [{name: data, mountPath: /data}]
  - {name: silent, image: y, resources: {}}
status:
  phase: Running
  podIP: 10.42.0.5
  startTime: '2026-01-01T10:00:00Z'
  conditions: [{type: Ready, status: 'True', lastTransitionTime: '2026-01-01T10:00:09Z'}]
  containerStatuses:
  - {name: c, image: x, imageID: i, ready: true, restartCount: 3, state: {running: {}}}
  - {name: silent, image: y, imageID: i, ready: true, restartCount: 1}";

    #[test]
    fn a_pod_keeps_what_somebody_reads() {
        let mut pod = (*from_yaml::<Pod>(POD)).clone();
        let restarts = pods::restarts_max(&pod);
        trim_pod(&mut pod);
        expect![[r#"
            {
              "apiVersion": "v1",
              "kind": "Pod",
              "metadata": {
                "annotations": {
                  "controller.kubernetes.io/pod-deletion-cost": "5"
                },
                "creationTimestamp": "2026-01-01T10:00:00Z",
                "finalizers": [
                  "mine"
                ],
                "generation": 2,
                "labels": {
                  "app": "web"
                },
                "name": "web-1",
                "namespace": "d",
                "ownerReferences": [
                  {
                    "apiVersion": "apps/v1",
                    "controller": true,
                    "kind": "ReplicaSet",
                    "name": "web",
                    "uid": "set"
                  }
                ],
                "resourceVersion": "7",
                "uid": "u"
              },
              "spec": {
                "containers": [
                  {
                    "name": "c",
                    "ports": [
                      {
                        "containerPort": 81,
                        "hostPort": 8081
                      }
                    ],
                    "resources": {
                      "limits": {
                        "memory": "1Gi"
                      }
                    }
                  }
                ],
                "initContainers": [
                  {
                    "name": "sidecar",
                    "resources": {
                      "requests": {
                        "cpu": "50m"
                      }
                    },
                    "restartPolicy": "Always"
                  }
                ],
                "nodeName": "n1",
                "nodeSelector": {
                  "disk": "ssd"
                },
                "overhead": {
                  "cpu": "10m"
                },
                "schedulerName": "default-scheduler",
                "tolerations": [
                  {
                    "operator": "Exists"
                  }
                ],
                "volumes": [
                  {
                    "name": "data",
                    "persistentVolumeClaim": {
                      "claimName": "data"
                    }
                  }
                ]
              },
              "status": {
                "conditions": [
                  {
                    "lastTransitionTime": "2026-01-01T10:00:09Z",
                    "status": "True",
                    "type": "Ready"
                  }
                ],
                "containerStatuses": [
                  {
                    "image": "",
                    "imageID": "",
                    "name": "",
                    "ready": false,
                    "restartCount": 3
                  }
                ],
                "phase": "Running"
              }
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&pod).unwrap());
        assert_eq!(pods::restarts_max(&pod), restarts);
        let once = pod.clone();
        trim_pod(&mut pod);
        assert_eq!(pod, once);
    }

    #[test]
    fn a_pod_of_a_job_keeps_how_its_containers_ended() {
        let mut pod = (*from_yaml::<Pod>(
            "metadata: {name: p, annotations: {big: text, batch.kubernetes.io/job-completion-index: '3', batch.kubernetes.io/job-index-failure-count: '1'}, ownerReferences: [{apiVersion: batch/v1, kind: Job, name: j, uid: j, controller: true}]}
spec: {containers: []}
status:
  phase: Failed
  containerStatuses:
  - {name: c, image: x, imageID: i, ready: false, restartCount: 2, state: {terminated: {exitCode: 3, reason: Error, message: long, finishedAt: '2026-01-01T10:00:00Z'}}}",
        ))
        .clone();
        trim_pod(&mut pod);
        let kept = from_yaml::<Pod>(
            "metadata: {name: p, annotations: {batch.kubernetes.io/job-completion-index: '3', batch.kubernetes.io/job-index-failure-count: '1'}, ownerReferences: [{apiVersion: batch/v1, kind: Job, name: j, uid: j, controller: true}]}
spec: {containers: []}
status: {phase: Failed, containerStatuses: [{name: c, image: '', imageID: '', ready: false, restartCount: 2, state: {terminated: {exitCode: 3, finishedAt: '2026-01-01T10:00:00Z'}}}]}",
        );
        assert_eq!(pod, *kept);
    }

    #[test]
    fn other_objects_keep_all_but_what_others_remember() {
        let mut node = (*from_yaml::<Node>(
            "metadata: {name: n, annotations: {a: b, kubectl.kubernetes.io/last-applied-configuration: x}, managedFields: [{manager: m}]}
status: {images: [{names: [x]}], allocatable: {cpu: '1'}}",
        ))
        .clone();
        trim_metadata(&mut node.metadata);
        trim_node(&mut node);
        let kept: Node =
            (*from_yaml::<Node>("metadata: {name: n, annotations: {a: b}}\nstatus: {allocatable: {cpu: '1'}}")).clone();
        assert_eq!(node, kept);
    }
}
