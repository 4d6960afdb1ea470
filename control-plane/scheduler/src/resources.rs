//! Amounts of resources as integers: CPU in millicores, everything else in its own unit, rounded up.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

pub const CPU: &str = "cpu";
pub const MEMORY: &str = "memory";
pub const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
pub const PODS: &str = "pods";
/// What a pod without requests counts as when nodes are compared: otherwise such pods would all go to one node
/// (Kubernetes' 100m and 200Mi).
const UNSAID_CPU_MILLI: i64 = 100;
const UNSAID_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts by name of the resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    pub cpu_milli: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// Everything else that is counted: `example.com/device`, `hugepages-2Mi`.
    pub others: BTreeMap<String, i64>,
}

fn amount(name: &str, quantity: &Quantity) -> i64 {
    match skiff_api::quantity::Quantity::parse(&quantity.0) {
        Ok(parsed) if name == CPU => parsed.milli_value(),
        Ok(parsed) => parsed.value(),
        Err(_) => 0,
    }
}

impl Resources {
    pub fn from_list(list: Option<&BTreeMap<String, Quantity>>) -> Self {
        let mut resources = Resources::default();
        for (name, quantity) in list.into_iter().flatten() {
            *resources.slot(name) = amount(name, quantity);
        }
        resources.others.remove(PODS);
        resources
    }

    fn slot(&mut self, name: &str) -> &mut i64 {
        match name {
            CPU => &mut self.cpu_milli,
            MEMORY => &mut self.memory,
            EPHEMERAL_STORAGE => &mut self.ephemeral_storage,
            _ => self.others.entry(name.to_owned()).or_insert(0),
        }
    }

    pub fn add(&mut self, other: &Resources) {
        self.combine(other, |a, b| a.saturating_add(b));
    }

    pub fn subtract(&mut self, other: &Resources) {
        self.combine(other, |a, b| a.saturating_sub(b));
        self.others.retain(|_, amount| *amount != 0);
    }

    fn raise_to(&mut self, other: &Resources) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Resources, join: impl Fn(i64, i64) -> i64) {
        self.cpu_milli = join(self.cpu_milli, other.cpu_milli);
        self.memory = join(self.memory, other.memory);
        self.ephemeral_storage = join(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.others {
            let slot = self.others.entry(name.clone()).or_insert(0);
            *slot = join(*slot, *amount);
        }
    }

    /// A copy in which unsaid CPU and memory count for something.
    pub(crate) fn for_comparison(&self) -> (i64, i64) {
        let or = |amount: i64, unsaid: i64| if amount == 0 { unsaid } else { amount };
        (or(self.cpu_milli, UNSAID_CPU_MILLI), or(self.memory, UNSAID_MEMORY))
    }
}

/// Requests; a limit without a request counts as one.
fn requests(requirements: Option<&ResourceRequirements>) -> Resources {
    let mut all = requirements.and_then(|own| own.limits.clone()).unwrap_or_default();
    all.extend(requirements.and_then(|own| own.requests.clone()).unwrap_or_default());
    Resources::from_list(Some(&all))
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// What a pod needs at its busiest: its containers and sidecars together, or an init container with the sidecars that
/// started before it; then its own pod-level requests, then its overhead. Kubernetes' rule.
pub fn pod_requests(spec: &PodSpec) -> Resources {
    let mut total = Resources::default();
    for container in &spec.containers {
        total.add(&requests(container.resources.as_ref()));
    }
    let mut peak = Resources::default();
    let mut sidecars = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let mut own = requests(container.resources.as_ref());
        if is_sidecar(container) {
            total.add(&own);
            sidecars.add(&own);
            own = sidecars.clone();
        } else {
            own.add(&sidecars);
        }
        peak.raise_to(&own);
    }
    total.raise_to(&peak);
    if let Some(own) = spec
        .resources
        .as_ref()
        .and_then(|own| own.requests.as_ref().or(own.limits.as_ref()))
    {
        for (name, quantity) in own {
            *total.slot(name) = amount(name, quantity);
        }
    }
    total.add(&Resources::from_list(spec.overhead.as_ref()));
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(yaml: &str) -> Resources {
        let value: serde_json::Value = serde_saphyr::from_str(yaml).unwrap();
        pod_requests(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn containers_add_up_and_init_containers_take_turns() {
        let sum = of("
            containers: [{name: a, resources: {requests: {cpu: 100m, memory: 1Gi}}}, {name: b, resources: {limits: {cpu: '1', example.com/dev: '2'}}}]
            initContainers: [{name: i, resources: {requests: {cpu: '3'}}}, {name: j, resources: {requests: {memory: 10Mi}}}]
            overhead: {cpu: 50m}");
        assert_eq!((sum.cpu_milli, sum.memory), (3050, 1 << 30));
        assert_eq!(sum.others["example.com/dev"], 2);
    }

    #[test]
    fn sidecars_count_with_what_starts_after_them() {
        let sum = of("
            containers: [{name: a, resources: {requests: {cpu: 100m}}}]
            initContainers:
            - {name: s, restartPolicy: Always, resources: {requests: {cpu: 200m}}}
            - {name: i, resources: {requests: {cpu: 500m}}}");
        assert_eq!(sum.cpu_milli, 700);
    }

    #[test]
    fn requests_of_the_pod_itself_win() {
        assert_eq!(
            of("{containers: [{name: a, resources: {requests: {cpu: '1'}}}], resources: {requests: {cpu: '2'}}}")
                .cpu_milli,
            2000
        );
    }
}
