//! Fields of the internal structs, in declaration order.

use super::Field;
use super::Shape::{Any, Flag, Foreign, List, Number, Pointer, Struct, Text};
use super::field;

pub(in crate::kinds::pod) static POD_SPEC: [Field; 36] = [
    field("Volumes", "volumes", List(&VOLUME)),
    field("InitContainers", "initContainers", List(&CONTAINER)),
    field("Containers", "containers", List(&CONTAINER)),
    field("EphemeralContainers", "ephemeralContainers", List(&CONTAINER)),
    field("RestartPolicy", "restartPolicy", Text),
    field("TerminationGracePeriodSeconds", "terminationGracePeriodSeconds", Any),
    field("ActiveDeadlineSeconds", "activeDeadlineSeconds", Any),
    field("DNSPolicy", "dnsPolicy", Text),
    field("NodeSelector", "nodeSelector", Any),
    field("ServiceAccountName", "serviceAccountName", Text),
    field("AutomountServiceAccountToken", "automountServiceAccountToken", Any),
    field("NodeName", "nodeName", Text),
    field("SecurityContext", "securityContext", Pointer(&POD_SECURITY_CONTEXT)),
    field("ImagePullSecrets", "imagePullSecrets", List(&NAMED)),
    field("Hostname", "hostname", Text),
    field("Subdomain", "subdomain", Text),
    field("SetHostnameAsFQDN", "setHostnameAsFQDN", Any),
    field("Affinity", "affinity", Pointer(&AFFINITY)),
    field("SchedulerName", "schedulerName", Text),
    field("Tolerations", "tolerations", List(&TOLERATION)),
    field("HostAliases", "hostAliases", List(&HOST_ALIAS)),
    field("PriorityClassName", "priorityClassName", Text),
    field("Priority", "priority", Any),
    field("PreemptionPolicy", "preemptionPolicy", Any),
    field("DNSConfig", "dnsConfig", Pointer(&DNS_CONFIG)),
    field("ReadinessGates", "readinessGates", List(&READINESS_GATE)),
    field("RuntimeClassName", "runtimeClassName", Any),
    field("Overhead", "overhead", Any),
    field("EnableServiceLinks", "enableServiceLinks", Any),
    field("TopologySpreadConstraints", "topologySpreadConstraints", List(&SPREAD)),
    field("OS", "os", Pointer(&NAMED)),
    field("SchedulingGates", "schedulingGates", List(&NAMED)),
    field("ResourceClaims", "resourceClaims", List(&CLAIM)),
    field("Resources", "resources", Pointer(&RESOURCES)),
    field("HostnameOverride", "hostnameOverride", Any),
    field("SchedulingGroup", "schedulingGroup", Any),
];

static NAMED: [Field; 1] = [field("Name", "name", Text)];

pub(in crate::kinds::pod) static CONTAINER: [Field; 25] = [
    field("Name", "name", Text),
    field("Image", "image", Text),
    field("Command", "command", Any),
    field("Args", "args", Any),
    field("WorkingDir", "workingDir", Text),
    field("Ports", "ports", List(&PORT)),
    field("EnvFrom", "envFrom", List(&ENV_FROM)),
    field("Env", "env", List(&ENV)),
    field("Resources", "resources", Struct(&RESOURCES)),
    field("ResizePolicy", "resizePolicy", List(&RESIZE)),
    field("RestartPolicy", "restartPolicy", Any),
    field("RestartPolicyRules", "restartPolicyRules", Any),
    field("VolumeMounts", "volumeMounts", List(&MOUNT)),
    field("VolumeDevices", "volumeDevices", List(&DEVICE)),
    field("LivenessProbe", "livenessProbe", Pointer(&PROBE)),
    field("ReadinessProbe", "readinessProbe", Pointer(&PROBE)),
    field("StartupProbe", "startupProbe", Pointer(&PROBE)),
    field("Lifecycle", "lifecycle", Pointer(&LIFECYCLE)),
    field("TerminationMessagePath", "terminationMessagePath", Text),
    field("TerminationMessagePolicy", "terminationMessagePolicy", Text),
    field("ImagePullPolicy", "imagePullPolicy", Text),
    field("SecurityContext", "securityContext", Pointer(&SECURITY_CONTEXT)),
    field("Stdin", "stdin", Flag),
    field("StdinOnce", "stdinOnce", Flag),
    field("TTY", "tty", Flag),
];

static PORT: [Field; 5] = [
    field("Name", "name", Text),
    field("HostPort", "hostPort", Number),
    field("ContainerPort", "containerPort", Number),
    field("Protocol", "protocol", Text),
    field("HostIP", "hostIP", Text),
];

static ENV_FROM: [Field; 3] = [
    field("Prefix", "prefix", Text),
    field("ConfigMapRef", "configMapRef", Pointer(&OPTIONAL_NAMED)),
    field("SecretRef", "secretRef", Pointer(&OPTIONAL_NAMED)),
];
static OPTIONAL_NAMED: [Field; 2] = [field("Name", "name", Text), field("Optional", "optional", Any)];

static ENV: [Field; 3] = [
    field("Name", "name", Text),
    field("Value", "value", Text),
    field("ValueFrom", "valueFrom", Pointer(&ENV_SOURCE)),
];
static ENV_SOURCE: [Field; 5] = [
    field("FieldRef", "fieldRef", Pointer(&FIELD_REF)),
    field("ResourceFieldRef", "resourceFieldRef", Pointer(&RESOURCE_REF)),
    field("ConfigMapKeyRef", "configMapKeyRef", Pointer(&KEY_REF)),
    field("SecretKeyRef", "secretKeyRef", Pointer(&KEY_REF)),
    field("FileKeyRef", "fileKeyRef", Any),
];
static FIELD_REF: [Field; 2] = [
    field("APIVersion", "apiVersion", Text),
    field("FieldPath", "fieldPath", Text),
];
static RESOURCE_REF: [Field; 3] = [
    field("ContainerName", "containerName", Text),
    field("Resource", "resource", Text),
    field("Divisor", "divisor", Text),
];
static KEY_REF: [Field; 3] = [
    field("Name", "name", Text),
    field("Key", "key", Text),
    field("Optional", "optional", Any),
];

static RESOURCES: [Field; 3] = [
    field("Limits", "limits", Any),
    field("Requests", "requests", Any),
    field("Claims", "claims", Any),
];
static RESIZE: [Field; 2] = [
    field("ResourceName", "resourceName", Text),
    field("RestartPolicy", "restartPolicy", Text),
];

static MOUNT: [Field; 7] = [
    field("Name", "name", Text),
    field("ReadOnly", "readOnly", Flag),
    field("RecursiveReadOnly", "recursiveReadOnly", Any),
    field("MountPath", "mountPath", Text),
    field("SubPath", "subPath", Text),
    field("MountPropagation", "mountPropagation", Any),
    field("SubPathExpr", "subPathExpr", Text),
];
static DEVICE: [Field; 2] = [field("Name", "name", Text), field("DevicePath", "devicePath", Text)];

static PROBE: [Field; 10] = [
    field("Exec", "exec", Pointer(&EXEC)),
    field("HTTPGet", "httpGet", Pointer(&HTTP_GET)),
    field("TCPSocket", "tcpSocket", Pointer(&TCP)),
    field("GRPC", "grpc", Pointer(&GRPC)),
    field("InitialDelaySeconds", "initialDelaySeconds", Number),
    field("TimeoutSeconds", "timeoutSeconds", Number),
    field("PeriodSeconds", "periodSeconds", Number),
    field("SuccessThreshold", "successThreshold", Number),
    field("FailureThreshold", "failureThreshold", Number),
    field("TerminationGracePeriodSeconds", "terminationGracePeriodSeconds", Any),
];
static LIFECYCLE: [Field; 3] = [
    field("PostStart", "postStart", Pointer(&HOOK)),
    field("PreStop", "preStop", Pointer(&HOOK)),
    field("StopSignal", "stopSignal", Any),
];
static HOOK: [Field; 4] = [
    field("Exec", "exec", Pointer(&EXEC)),
    field("HTTPGet", "httpGet", Pointer(&HTTP_GET)),
    field("TCPSocket", "tcpSocket", Pointer(&TCP)),
    field("Sleep", "sleep", Pointer(&SLEEP)),
];
static EXEC: [Field; 1] = [field("Command", "command", Any)];
static HTTP_GET: [Field; 5] = [
    field("Path", "path", Text),
    field("Port", "port", Number),
    field("Host", "host", Text),
    field("Scheme", "scheme", Text),
    field("HTTPHeaders", "httpHeaders", List(&HEADER)),
];
static HEADER: [Field; 2] = [field("Name", "name", Text), field("Value", "value", Text)];
static TCP: [Field; 2] = [field("Port", "port", Number), field("Host", "host", Text)];
static GRPC: [Field; 2] = [field("Port", "port", Number), field("Service", "service", Any)];
static SLEEP: [Field; 1] = [field("Seconds", "seconds", Number)];

pub(in crate::kinds::pod) static SECURITY_CONTEXT: [Field; 12] = [
    field("Capabilities", "capabilities", Pointer(&CAPABILITIES)),
    field("Privileged", "privileged", Any),
    field("SELinuxOptions", "seLinuxOptions", Pointer(&SELINUX)),
    field("WindowsOptions", "windowsOptions", Any),
    field("RunAsUser", "runAsUser", Any),
    field("RunAsGroup", "runAsGroup", Any),
    field("RunAsNonRoot", "runAsNonRoot", Any),
    field("ReadOnlyRootFilesystem", "readOnlyRootFilesystem", Any),
    field("AllowPrivilegeEscalation", "allowPrivilegeEscalation", Any),
    field("ProcMount", "procMount", Any),
    field("SeccompProfile", "seccompProfile", Pointer(&PROFILE)),
    field("AppArmorProfile", "appArmorProfile", Pointer(&PROFILE)),
];
static CAPABILITIES: [Field; 2] = [field("Add", "add", Any), field("Drop", "drop", Any)];
static SELINUX: [Field; 4] = [
    field("User", "user", Text),
    field("Role", "role", Text),
    field("Type", "type", Text),
    field("Level", "level", Text),
];
static PROFILE: [Field; 2] = [
    field("Type", "type", Text),
    field("LocalhostProfile", "localhostProfile", Any),
];

static POD_SECURITY_CONTEXT: [Field; 18] = [
    field("HostNetwork", "hostNetwork", Flag),
    field("HostPID", "hostPID", Flag),
    field("HostIPC", "hostIPC", Flag),
    field("ShareProcessNamespace", "shareProcessNamespace", Any),
    field("HostUsers", "hostUsers", Any),
    field("SELinuxOptions", "seLinuxOptions", Pointer(&SELINUX)),
    field("WindowsOptions", "windowsOptions", Any),
    field("RunAsUser", "runAsUser", Any),
    field("RunAsGroup", "runAsGroup", Any),
    field("RunAsNonRoot", "runAsNonRoot", Any),
    field("SupplementalGroups", "supplementalGroups", Any),
    field("SupplementalGroupsPolicy", "supplementalGroupsPolicy", Any),
    field("FSGroup", "fsGroup", Any),
    field("FSGroupChangePolicy", "fsGroupChangePolicy", Any),
    field("Sysctls", "sysctls", List(&HEADER)),
    field("SeccompProfile", "seccompProfile", Pointer(&PROFILE)),
    field("AppArmorProfile", "appArmorProfile", Pointer(&PROFILE)),
    field("SELinuxChangePolicy", "seLinuxChangePolicy", Any),
];

static TOLERATION: [Field; 5] = [
    field("Key", "key", Text),
    field("Operator", "operator", Text),
    field("Value", "value", Text),
    field("Effect", "effect", Text),
    field("TolerationSeconds", "tolerationSeconds", Any),
];
static HOST_ALIAS: [Field; 2] = [field("IP", "ip", Text), field("Hostnames", "hostnames", Any)];
static DNS_CONFIG: [Field; 3] = [
    field("Nameservers", "nameservers", Any),
    field("Searches", "searches", Any),
    field("Options", "options", List(&DNS_OPTION)),
];
static DNS_OPTION: [Field; 2] = [field("Name", "name", Text), field("Value", "value", Any)];
static READINESS_GATE: [Field; 1] = [field("ConditionType", "conditionType", Text)];
static CLAIM: [Field; 3] = [
    field("Name", "name", Text),
    field("ResourceClaimName", "resourceClaimName", Any),
    field("ResourceClaimTemplateName", "resourceClaimTemplateName", Any),
];
static SPREAD: [Field; 8] = [
    field("MaxSkew", "maxSkew", Number),
    field("TopologyKey", "topologyKey", Text),
    field("WhenUnsatisfiable", "whenUnsatisfiable", Text),
    field("LabelSelector", "labelSelector", Foreign(&LABEL_SELECTOR)),
    field("MinDomains", "minDomains", Any),
    field("NodeAffinityPolicy", "nodeAffinityPolicy", Any),
    field("NodeTaintsPolicy", "nodeTaintsPolicy", Any),
    field("MatchLabelKeys", "matchLabelKeys", Any),
];
static LABEL_SELECTOR: [Field; 2] = [
    field("matchLabels", "matchLabels", Any),
    field("matchExpressions", "matchExpressions", List(&SELECTOR_REQUIREMENT)),
];
static SELECTOR_REQUIREMENT: [Field; 3] = [
    field("key", "key", Text),
    field("operator", "operator", Text),
    field("values", "values", Any),
];

static AFFINITY: [Field; 3] = [
    field("NodeAffinity", "nodeAffinity", Pointer(&NODE_AFFINITY)),
    field("PodAffinity", "podAffinity", Pointer(&POD_AFFINITY)),
    field("PodAntiAffinity", "podAntiAffinity", Pointer(&POD_AFFINITY)),
];
const REQUIRED: [&str; 2] = [
    "RequiredDuringSchedulingIgnoredDuringExecution",
    "requiredDuringSchedulingIgnoredDuringExecution",
];
const PREFERRED: [&str; 2] = [
    "PreferredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
];
static NODE_AFFINITY: [Field; 2] = [
    field(REQUIRED[0], REQUIRED[1], Pointer(&NODE_SELECTOR)),
    field(PREFERRED[0], PREFERRED[1], List(&PREFERRED_NODE)),
];
static NODE_SELECTOR: [Field; 1] = [field("NodeSelectorTerms", "nodeSelectorTerms", List(&NODE_TERM))];
static PREFERRED_NODE: [Field; 2] = [
    field("Weight", "weight", Number),
    field("Preference", "preference", Struct(&NODE_TERM)),
];
static NODE_TERM: [Field; 2] = [
    field("MatchExpressions", "matchExpressions", List(&NODE_REQUIREMENT)),
    field("MatchFields", "matchFields", List(&NODE_REQUIREMENT)),
];
static NODE_REQUIREMENT: [Field; 3] = [
    field("Key", "key", Text),
    field("Operator", "operator", Text),
    field("Values", "values", Any),
];
static POD_AFFINITY: [Field; 2] = [
    field(REQUIRED[0], REQUIRED[1], List(&POD_TERM)),
    field(PREFERRED[0], PREFERRED[1], List(&PREFERRED_POD)),
];
static PREFERRED_POD: [Field; 2] = [
    field("Weight", "weight", Number),
    field("PodAffinityTerm", "podAffinityTerm", Struct(&POD_TERM)),
];
static POD_TERM: [Field; 6] = [
    field("LabelSelector", "labelSelector", Foreign(&LABEL_SELECTOR)),
    field("Namespaces", "namespaces", Any),
    field("TopologyKey", "topologyKey", Text),
    field("NamespaceSelector", "namespaceSelector", Foreign(&LABEL_SELECTOR)),
    field("MatchLabelKeys", "matchLabelKeys", Any),
    field("MismatchLabelKeys", "mismatchLabelKeys", Any),
];

static VOLUME: [Field; 31] = [
    field("Name", "name", Text),
    field("HostPath", "hostPath", Pointer(&HOST_PATH)),
    field("EmptyDir", "emptyDir", Pointer(&EMPTY_DIR)),
    field("GCEPersistentDisk", "gcePersistentDisk", Any),
    field("AWSElasticBlockStore", "awsElasticBlockStore", Any),
    field("GitRepo", "gitRepo", Any),
    field("Secret", "secret", Pointer(&SECRET_VOLUME)),
    field("NFS", "nfs", Any),
    field("ISCSI", "iscsi", Any),
    field("Glusterfs", "glusterfs", Any),
    field("PersistentVolumeClaim", "persistentVolumeClaim", Pointer(&CLAIM_VOLUME)),
    field("RBD", "rbd", Any),
    field("Quobyte", "quobyte", Any),
    field("FlexVolume", "flexVolume", Any),
    field("Cinder", "cinder", Any),
    field("CephFS", "cephfs", Any),
    field("Flocker", "flocker", Any),
    field("DownwardAPI", "downwardAPI", Pointer(&DOWNWARD_VOLUME)),
    field("FC", "fc", Any),
    field("AzureFile", "azureFile", Any),
    field("ConfigMap", "configMap", Pointer(&CONFIG_MAP_VOLUME)),
    field("VsphereVolume", "vsphereVolume", Any),
    field("AzureDisk", "azureDisk", Any),
    field("PhotonPersistentDisk", "photonPersistentDisk", Any),
    field("Projected", "projected", Pointer(&PROJECTED)),
    field("PortworxVolume", "portworxVolume", Any),
    field("ScaleIO", "scaleIO", Any),
    field("StorageOS", "storageos", Any),
    field("CSI", "csi", Any),
    field("Ephemeral", "ephemeral", Any),
    field("Image", "image", Pointer(&IMAGE_VOLUME)),
];
static HOST_PATH: [Field; 2] = [field("Path", "path", Text), field("Type", "type", Any)];
static EMPTY_DIR: [Field; 2] = [field("Medium", "medium", Text), field("SizeLimit", "sizeLimit", Any)];
static SECRET_VOLUME: [Field; 4] = [
    field("SecretName", "secretName", Text),
    field("Items", "items", List(&KEY_PATH)),
    field("DefaultMode", "defaultMode", Any),
    field("Optional", "optional", Any),
];
static CONFIG_MAP_VOLUME: [Field; 4] = [
    field("Name", "name", Text),
    field("Items", "items", List(&KEY_PATH)),
    field("DefaultMode", "defaultMode", Any),
    field("Optional", "optional", Any),
];
static CLAIM_VOLUME: [Field; 2] = [
    field("ClaimName", "claimName", Text),
    field("ReadOnly", "readOnly", Flag),
];
static DOWNWARD_VOLUME: [Field; 2] = [
    field("Items", "items", List(&DOWNWARD_FILE)),
    field("DefaultMode", "defaultMode", Any),
];
static IMAGE_VOLUME: [Field; 2] = [
    field("Reference", "reference", Text),
    field("PullPolicy", "pullPolicy", Text),
];
static PROJECTED: [Field; 2] = [
    field("Sources", "sources", List(&PROJECTION)),
    field("DefaultMode", "defaultMode", Any),
];
static PROJECTION: [Field; 6] = [
    field("Secret", "secret", Pointer(&KEYED_PROJECTION)),
    field("DownwardAPI", "downwardAPI", Pointer(&DOWNWARD_PROJECTION)),
    field("ConfigMap", "configMap", Pointer(&KEYED_PROJECTION)),
    field("ServiceAccountToken", "serviceAccountToken", Pointer(&TOKEN_PROJECTION)),
    field("ClusterTrustBundle", "clusterTrustBundle", Any),
    field("PodCertificate", "podCertificate", Any),
];
static KEYED_PROJECTION: [Field; 3] = [
    field("Name", "name", Text),
    field("Items", "items", List(&KEY_PATH)),
    field("Optional", "optional", Any),
];
static DOWNWARD_PROJECTION: [Field; 1] = [field("Items", "items", List(&DOWNWARD_FILE))];
static TOKEN_PROJECTION: [Field; 3] = [
    field("Audience", "audience", Text),
    field("ExpirationSeconds", "expirationSeconds", Number),
    field("Path", "path", Text),
];
static KEY_PATH: [Field; 3] = [
    field("Key", "key", Text),
    field("Path", "path", Text),
    field("Mode", "mode", Any),
];
static DOWNWARD_FILE: [Field; 4] = [
    field("Path", "path", Text),
    field("FieldRef", "fieldRef", Pointer(&FIELD_REF)),
    field("ResourceFieldRef", "resourceFieldRef", Pointer(&RESOURCE_REF)),
    field("Mode", "mode", Any),
];
