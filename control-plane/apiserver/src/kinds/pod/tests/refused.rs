//! What is wrong with pods, in Kubernetes' words.

use expect_test::{Expect, expect};

use super::{with_container, with_spec};
use crate::kinds::pod::PodStrategy;
use crate::kinds::testing::{check_invalid, check_invalid_update, check_valid};

fn container(fields: &str, expected: Expect) {
    check_invalid(&PodStrategy, &with_container(fields), expected);
}

fn spec(fields: &str, expected: Expect) {
    check_invalid(&PodStrategy, &with_spec(fields), expected);
}

#[test]
fn containers_have_names_and_images() {
    check_invalid(
        &PodStrategy,
        "{metadata: {name: v}, spec: {containers: [{name: Bad_, image: ' x '}, {}]}}",
        expect![[r#"
            spec.containers[0].name: Invalid value: "Bad_": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.containers[1].name: Required value
            spec.containers[1].image: Required value
            spec.containers[0].image: Invalid value: " x ": must not have leading or trailing whitespace
        "#]],
    );
    check_invalid(
        &PodStrategy,
        "{metadata: {name: v}}",
        expect![[r#"
            spec.containers: Required value
        "#]],
    );
}

#[test]
fn ports() {
    container(
        "ports: [{containerPort: 0}, {containerPort: 70000, hostPort: -1, protocol: ICMP}, {containerPort: 80, name: UP}]",
        expect![[r#"
            spec.containers[0].ports[0].containerPort: Required value
            spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive
            spec.containers[0].ports[1].hostPort: Invalid value: -1: must be between 1 and 65535, inclusive
            spec.containers[0].ports[1].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"
            spec.containers[0].ports[2].name: Invalid value: "UP": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
            spec.containers[0].ports[2].name: Invalid value: "UP": must contain at least one letter (a-z)
        "#]],
    );
}

#[test]
fn environment() {
    container(
        "env: [{name: ''}, {name: a=b}, {name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: B, valueFrom: {}}, {name: C, valueFrom: {fieldRef: {fieldPath: spec.bogus}}}, {name: D, valueFrom: {resourceFieldRef: {resource: limits.bogus}}}], envFrom: [{prefix: a}]",
        expect![[r#"
            spec.containers[0].env[0].name: Required value
            spec.containers[0].env[1].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='
            spec.containers[0].env[2].valueFrom: Invalid value: "": may not be specified when `value` is not empty
            spec.containers[0].env[3].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`
            spec.containers[0].env[4].valueFrom.fieldRef.fieldPath: Invalid value: "spec.bogus": error converting fieldPath: field label not supported: spec.bogus
            spec.containers[0].env[5].valueFrom.resourceFieldRef.resource: Unsupported value: "limits.bogus": supported values: "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"
            spec.containers[0].envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`
        "#]],
    );
}

#[test]
fn resources() {
    container(
        "resources: {requests: {cpu: '2', bogus: '1', example.com/dev: '1', memory: '-1'}, limits: {cpu: '1'}}",
        expect![[r#"
            spec.containers[0].resources.requests[bogus]: Invalid value: "bogus": must be a standard resource type or fully qualified
            spec.containers[0].resources.requests[bogus]: Invalid value: "bogus": must be a standard resource for containers
            spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1
            spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources
            spec.containers[0].resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0
        "#]],
    );
    container(
        "resources: {limits: {hugepages-2Mi: 2Mi, example.com/dev: '1.5'}}",
        expect![[r#"
            spec.containers[0].resources.limits[example.com/dev]: Invalid value: "1500m": must be an integer
            spec.containers[0].resources.requests[example.com/dev]: Invalid value: "1500m": must be an integer
            spec.containers[0].resources: Forbidden: HugePages require cpu or memory
        "#]],
    );
}

#[test]
fn probes_and_hooks() {
    container(
        "livenessProbe: {httpGet: {port: x_}, tcpSocket: {port: 1}, periodSeconds: -1, successThreshold: 2}, readinessProbe: {exec: {}}, startupProbe: {}, lifecycle: {preStop: {}}",
        expect![[r#"
            spec.containers[0].lifecycle.preStop: Required value: must specify a handler type
            spec.containers[0].livenessProbe.httpGet.port: Invalid value: "x_": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
            spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type
            spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0
            spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1
            spec.containers[0].readinessProbe.exec.command: Required value
            spec.containers[0].startupProbe: Required value: must specify a handler type
        "#]],
    );
}

#[test]
fn mounts_refer_to_volumes() {
    container(
        "volumeMounts: [{name: none, mountPath: /x}, {name: none, mountPath: /x, subPath: ../y}]",
        expect![[r#"
            spec.containers[0].volumeMounts[0].name: Not found: "none"
            spec.containers[0].volumeMounts[1].name: Not found: "none"
            spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/x": must be unique
            spec.containers[0].volumeMounts[1].subPath: Invalid value: "../y": must not contain '..'
        "#]],
    );
    spec(
        "volumes: [{name: a, emptyDir: {}, hostPath: {path: /x}}, {name: b, secret: {defaultMode: 1000}}, {name: c, configMap: {name: m, items: [{key: k, path: /abs}]}}]",
        expect![[r#"
            spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type
            spec.volumes[1].secret.secretName: Required value
            spec.volumes[1].secret.defaultMode: Invalid value: 1000: must be a number between 0 and 0777 (octal), both inclusive
            spec.volumes[2].configMap.items[0].path: Invalid value: "/abs": must be a relative path
        "#]],
    );
}

#[test]
fn security_contexts() {
    container(
        "securityContext: {runAsUser: -1, privileged: true, allowPrivilegeEscalation: false, seccompProfile: {type: Localhost}}",
        expect![[r#"
            spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive
            spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost
            spec.containers[0].securityContext: Invalid value: {"Capabilities":null,"Privileged":true,"SELinuxOptions":null,"WindowsOptions":null,"RunAsUser":-1,"RunAsGroup":null,"RunAsNonRoot":null,"ReadOnlyRootFilesystem":null,"AllowPrivilegeEscalation":false,"ProcMount":null,"SeccompProfile":{"Type":"Localhost","LocalhostProfile":null},"AppArmorProfile":null}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true
        "#]],
    );
}

#[test]
fn the_rest_of_the_spec() {
    spec(
        "restartPolicy: Maybe, dnsPolicy: None, nodeName: Bad Node, subdomain: a.b, activeDeadlineSeconds: 0, nodeSelector: {a: b c}, schedulingGates: [{name: g}], tolerations: [{operator: Equal}, {key: a, operator: Odd, tolerationSeconds: 1}]",
        expect![[r#"
            spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "OnFailure", "Never"
            spec.nodeSelector: Invalid value: "b c": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
            spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None
            spec.nodeName: Invalid value: "Bad Node": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive
            spec.subdomain: Invalid value: "a.b": must not contain dots
            spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values and all keys"
            spec.tolerations[1].effect: Invalid value: "": effect must be 'NoExecute' when `tolerationSeconds` is set
            spec.tolerations[1].operator: Unsupported value: "Odd": supported values: "Equal", "Exists"
            spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared
        "#]],
    );
}

#[test]
fn affinity() {
    spec(
        "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: []}, preferredDuringSchedulingIgnoredDuringExecution: [{weight: 0, preference: {matchExpressions: [{key: a, operator: Gt}]}}]}, podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {a: b}}}]}}",
        expect![[r#"
            spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term
            spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100
            spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'
            spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty
            spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must be non-empty
            spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        "#]],
    );
}

#[test]
fn init_containers() {
    spec(
        "initContainers: [{name: c, image: x}, {name: i, image: x, readinessProbe: {exec: {command: [x]}}}, {name: s, image: x, restartPolicy: Always, readinessProbe: {exec: {command: [x]}}}], ephemeralContainers: [{name: e, image: x}]",
        expect![[r#"
            spec.initContainers[0].name: Duplicate value: "c"
            spec.initContainers[1].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always
            spec.ephemeralContainers: Forbidden: cannot be set on create
        "#]],
    );
}

#[test]
fn ports_of_the_host() {
    check_valid(
        &PodStrategy,
        &with_spec("hostNetwork: true, initContainers: [{name: i, image: x, ports: [{containerPort: 80}]}]"),
    );
    spec(
        "hostNetwork: true, initContainers: [{name: i, image: x, ports: [{containerPort: 80, hostPort: 81}]}]",
        expect![[r#"
            spec.initContainers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true
        "#]],
    );
    container(
        "ports: [{containerPort: 80, hostPort: 8080}, {containerPort: 81, hostPort: 8080}]",
        expect![[r#"
            spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//8080"
        "#]],
    );
}

#[test]
fn little_of_a_pod_may_change() {
    let old = "{metadata: {name: p}, spec: {containers: [{name: c, image: 'x:1'}], activeDeadlineSeconds: 100, tolerations: [{key: t, operator: Exists}]}}";
    let allowed = old.replace("x:1", "x:2").replace("100", "50").replace(
        "{key: t, operator: Exists}",
        "{key: t, operator: Exists}, {key: u, operator: Exists}",
    );
    check_invalid_update(&PodStrategy, old, &allowed, expect![""]);
    check_invalid_update(
        &PodStrategy,
        old,
        &old.replace("100", "200"),
        expect![[r#"
            spec.activeDeadlineSeconds: Invalid value: 200: must be less than or equal to previous value
        "#]],
    );
    check_invalid_update(
        &PodStrategy,
        old,
        &old.replace("key: t", "key: u"),
        expect![[r#"
            spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds
        "#]],
    );
    check_invalid_update(
        &PodStrategy,
        old,
        &old.replace(
            "[{name: c, image: 'x:1'}]",
            "[{name: c, image: 'x:1'}, {name: d, image: x}]",
        ),
        expect![[r#"
            spec.containers: Forbidden: pod updates may not add or remove containers
        "#]],
    );
}

#[test]
fn other_changes_are_shown_as_a_diff() {
    let old = "{metadata: {name: p}, spec: {containers: [{name: c, image: 'x:1'}], nodeSelector: {a: b}}}";
    check_invalid_update(
        &PodStrategy,
        old,
        &old.replace("{a: b}", "{a: b, c: d}")
            .replace("name: c,", "name: c, env: [{name: A, value: b}],"),
        expect![[r#"
            spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
            @@ -10,7 +10,13 @@
                "WorkingDir": "",
                "Ports": null,
                "EnvFrom": null,
            -   "Env": null,
            +   "Env": [
            +    {
            +     "Name": "A",
            +     "Value": "b",
            +     "ValueFrom": null
            +    }
            +   ],
                "Resources": {
                 "Limits": null,
                 "Requests": null,
            @@ -40,7 +46,8 @@
              "ActiveDeadlineSeconds": null,
              "DNSPolicy": "ClusterFirst",
              "NodeSelector": {
            -  "a": "b"
            +  "a": "b",
            +  "c": "d"
              },
              "ServiceAccountName": "",
              "AutomountServiceAccountToken": null,

        "#]],
    );
}

#[test]
fn settings_in_annotations_are_read_at_once_and_on_change_only() {
    let pod = |settings: &str| {
        format!(
            "{{metadata: {{name: v, annotations: {{{settings}}}}}, spec: {{containers: [{{name: c, image: 'x:1'}}]}}}}"
        )
    };
    check_invalid(
        &PodStrategy,
        &pod("skiff.dev/egress: 'all', sockets.skiff.dev/c: many, kubernetes.io/ingress-bandwidth: '5'"),
        expect![[r#"
            metadata.annotations[kubernetes.io/ingress-bandwidth]: Invalid value: "5": resource is unreasonably small (< 1kbit)
            metadata.annotations[sockets.skiff.dev/c]: Invalid value: "many": must be a whole number from 0 to 1000000
        "#]],
    );
    check_invalid_update(
        &PodStrategy,
        &pod("skiff.dev/sockets: many"),
        &pod("skiff.dev/sockets: many, skiff.dev/requests: '0'").replace("name: v", "name: v, resourceVersion: '7'"),
        expect![[r#"
            metadata.annotations[skiff.dev/requests]: Invalid value: "0": must be a whole number from 1 to 1000000
        "#]],
    );
}
