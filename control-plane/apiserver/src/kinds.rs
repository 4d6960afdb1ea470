//! The kinds that are served: one row each. Adding a kind is one file in `kinds/` and one row here.

pub(crate) mod common;
mod config_map;
mod controller_revision;
mod cron_job;
mod deployment;
pub mod event;
mod job;
mod lease;
mod namespace;
mod node;
pub(crate) mod pod;
mod pod_template;
mod priority_class;
mod replica_set;
mod role;
mod role_binding;
mod runtime_class;
mod secret;
mod service_account;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod validate;

use std::sync::Arc;

use crate::strategy::Strategy;

/// Every served kind.
pub fn all() -> Vec<Arc<dyn Strategy>> {
    vec![
        Arc::new(config_map::ConfigMapStrategy),
        Arc::new(event::EventStrategy),
        Arc::new(namespace::NamespaceStrategy),
        Arc::new(node::NodeStrategy),
        Arc::new(pod::PodStrategy),
        Arc::new(pod_template::PodTemplateStrategy),
        Arc::new(secret::SecretStrategy),
        Arc::new(service_account::ServiceAccountStrategy),
        Arc::new(controller_revision::ControllerRevisionStrategy),
        Arc::new(deployment::DeploymentStrategy),
        Arc::new(replica_set::ReplicaSetStrategy),
        Arc::new(cron_job::CronJobStrategy),
        Arc::new(job::JobStrategy),
        Arc::new(lease::LeaseStrategy),
        Arc::new(event::EventsV1Strategy),
        Arc::new(runtime_class::RuntimeClassStrategy),
        Arc::new(role_binding::ClusterRoleBindingStrategy),
        Arc::new(role::ClusterRoleStrategy),
        Arc::new(role_binding::RoleBindingStrategy),
        Arc::new(role::RoleStrategy),
        Arc::new(priority_class::PriorityClassStrategy),
    ]
}
