//! `skiff:pod/identity`: what a guest may know of the pod it runs in. The interface is `wit/skiff-pod/pod.wit`.

use std::collections::BTreeMap;
use std::sync::Arc;

use skiff_runtime::{ContainerSpec, SandboxSpec};
use wasmtime::component::HasData;

use super::guest::{Guest, Linker};

mod bindings {
    wasmtime::component::bindgen!({ path: "../../wit/skiff-pod", world: "pod" });
}

use bindings::skiff::pod::identity::{self, Entry};

/// One container's answers, fixed when the container is created and shared by its instances.
pub(crate) struct Identity {
    sandbox: Arc<SandboxSpec>,
    container: String,
}

impl Identity {
    pub(crate) fn new(sandbox: Arc<SandboxSpec>, container: &ContainerSpec) -> Self {
        Self {
            sandbox,
            container: container.name.clone(),
        }
    }
}

struct HasIdentity;

impl HasData for HasIdentity {
    type Data<'a> = &'a Identity;
}

impl identity::Host for &Identity {
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

/// Provides the interface to every component of this linker.
pub(crate) fn add_to_linker(linker: &mut Linker) -> wasmtime::Result<()> {
    identity::add_to_linker::<Guest, HasIdentity>(linker, |guest| guest.identity())
}
