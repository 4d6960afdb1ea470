//! `skiff:pod/identity`: what a guest may know of the pod it runs in, fixed when the container is created.

use std::collections::BTreeMap;

use super::Services;
use super::pod::skiff::pod::identity::{Entry, Host};

impl Host for &Services {
    fn name(&mut self) -> String {
        self.sandbox.name.clone()
    }
    fn namespace(&mut self) -> String {
        self.sandbox.namespace.clone()
    }
    fn uid(&mut self) -> String {
        self.sandbox.pod_uid.clone()
    }
    fn container(&mut self) -> String {
        self.container.clone()
    }
    fn ip(&mut self) -> String {
        self.sandbox.ip.to_string()
    }
    fn labels(&mut self) -> Vec<Entry> {
        entries(&self.sandbox.labels)
    }
    fn annotations(&mut self) -> Vec<Entry> {
        entries(&self.sandbox.annotations)
    }
}

fn entries(map: &BTreeMap<String, String>) -> Vec<Entry> {
    map.iter()
        .map(|(key, value)| Entry {
            key: key.clone(),
            value: value.clone(),
        })
        .collect()
}
