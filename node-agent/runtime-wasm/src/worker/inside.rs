//! What the inspection shell is told of a container, gathered when it asks.

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use skiff_runtime::ContainerPhase;

use super::container::{self, Container};
use super::shell::facts::{ContainerRow, Facts, Handle, Identity, InstanceRow, Limit, Module};
use super::{Worker, storage};
use crate::limits;

mod handles;
mod module;

/// Guest code on a core is interrupted every tick; a throttled guest may wait for its share for about this long.
const STACK_PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Inside {
    worker: Arc<Worker>,
    container: Arc<Container>,
}

impl Inside {
    pub(super) fn new(worker: Arc<Worker>, container: Arc<Container>) -> Self {
        Self { worker, container }
    }

    fn storage(&self) -> (Option<u64>, u64) {
        let of = &self.container.surroundings;
        (of.spec.resources.ephemeral_storage_limit_bytes, storage::used(of))
    }
}

fn row(instance: &super::instances::Instance) -> InstanceRow {
    let sizes = instance.sizes();
    InstanceRow {
        id: instance.id,
        what: instance.what().to_string(),
        age: instance.since.elapsed(),
        memories: sizes.memories,
        tables: sizes.tables,
    }
}

fn container_row(container: &Container) -> ContainerRow {
    let state = container.state();
    let ends = if state.finished_at > 0 {
        state.finished_at
    } else {
        container::now()
    };
    let age = if state.started_at > 0 {
        (ends - state.started_at).max(0)
    } else {
        0
    };
    ContainerRow {
        name: state.name,
        state: match state.phase {
            ContainerPhase::Created => "Created",
            ContainerPhase::Running => "Running",
            ContainerPhase::Exited => "Exited",
        },
        cpu: Duration::from_nanos(state.cpu_nanos),
        memory: state.memory_bytes,
        instances: container.surroundings.instances.count(),
        age: Duration::from_secs(age as u64),
    }
}

impl Facts for Inside {
    fn identity(&self) -> Identity {
        let (spec, sandbox) = (self.container.spec(), &self.container.surroundings.services.sandbox);
        Identity {
            pod: sandbox.name.clone(),
            namespace: sandbox.namespace.clone(),
            container: spec.name.clone(),
            hostname: sandbox.hostname.clone(),
            image: spec.image.reference.clone(),
        }
    }

    fn env(&self) -> Vec<(String, String)> {
        self.container.spec().env.clone()
    }

    fn module(&self) -> Module {
        module::describe(&self.container.program)
    }

    fn limits(&self) -> Vec<Limit> {
        let resources = &self.container.spec().resources;
        let quantity = |value: Option<u64>, unit: &str| value.map_or("-".to_owned(), |value| format!("{value}{unit}"));
        let (storage_limit, storage_used) = self.storage();
        let cpu = Duration::from_nanos(self.container.cpu.used_nanos());
        let row = |what, value, used, over| Limit {
            what,
            value,
            used,
            over,
        };
        let unused = || "-".to_owned();
        let instances = self.container.surroundings.instances.all();
        let bounds = &self.container.surroundings.bounds;
        let [files, sockets, outgoing] = self.container.surroundings.counts.in_use();
        let elements = instances.iter().flat_map(|instance| instance.sizes().tables).max();
        vec![
            row(
                "memory (bytes)",
                quantity(resources.memory_limit_bytes, ""),
                self.container.surroundings.memory.used().to_string(),
                "ended, OOMKilled",
            ),
            row(
                "CPU",
                quantity(resources.cpu_limit_millis, "m"),
                format!("{}.{:03}s so far", cpu.as_secs(), cpu.subsec_millis()),
                "throttled",
            ),
            row(
                "CPU request",
                quantity(resources.cpu_request_millis, "m"),
                unused(),
                "waits for its turn",
            ),
            row(
                "ephemeral storage (bytes)",
                quantity(storage_limit, ""),
                storage_used.to_string(),
                "ended, Evicted",
            ),
            row(
                "log rate (bytes/s)",
                bounds.log_rate.to_string(),
                unused(),
                "lines dropped",
            ),
            row(
                "requests at once",
                bounds.requests.to_string(),
                unused(),
                "they wait, then 503",
            ),
            row(
                "time of a request (s)",
                bounds.request_deadline.as_secs().to_string(),
                unused(),
                "504",
            ),
            row(
                "connections from others",
                bounds.connections.to_string(),
                unused(),
                "closed at once",
            ),
            row(
                "open files",
                bounds.open_files.to_string(),
                files.to_string(),
                "error to the guest",
            ),
            row(
                "sockets",
                bounds.sockets.to_string(),
                sockets.to_string(),
                "error to the guest",
            ),
            row(
                "outgoing requests",
                bounds.outgoing_requests.to_string(),
                outgoing.to_string(),
                "error to the guest",
            ),
            row("component handles", bounds.handles.to_string(), unused(), "trap"),
            row(
                "elements of a table",
                limits::TABLE_ELEMENTS_MAX.to_string(),
                elements.map_or_else(unused, |most| most.to_string()),
                "growing fails",
            ),
            row(
                "guest stack (bytes)",
                limits::WASM_STACK_BYTES.to_string(),
                unused(),
                "trap",
            ),
            row(
                "bytes per host call",
                limits::HOSTCALL_FUEL.to_string(),
                unused(),
                "trap",
            ),
        ]
    }

    fn containers(&self) -> Vec<ContainerRow> {
        let pods = self.worker.pods();
        let pod = pods.get(&self.container.spec().pod_uid);
        let containers: Vec<_> = pod
            .into_iter()
            .flat_map(|pod| pod.containers.values().cloned())
            .collect();
        drop(pods);
        containers.iter().map(|container| container_row(container)).collect()
    }

    fn instances(&self) -> Vec<InstanceRow> {
        self.container
            .surroundings
            .instances
            .all()
            .iter()
            .map(|instance| row(instance))
            .collect()
    }

    fn handles(&self) -> Result<Vec<Handle>, String> {
        let of = &self.container.surroundings;
        handles::of_this_process(of.net.ip, &of.spec.mounts).map_err(|error| super::shell::files::reason(&error))
    }

    fn backtraces(&self) -> Vec<(InstanceRow, Option<Vec<String>>)> {
        let asked: Vec<_> = self
            .container
            .surroundings
            .instances
            .all()
            .into_iter()
            .map(|instance| {
                let answer = instance.ask();
                (instance, answer)
            })
            .collect();
        let until = Instant::now() + STACK_PATIENCE;
        let told = asked.into_iter().filter_map(|(instance, answer)| {
            match answer.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(frames) => Some((row(&instance), Some(frames))),
                Err(RecvTimeoutError::Timeout) => Some((row(&instance), None)),
                // It ended meanwhile.
                Err(RecvTimeoutError::Disconnected) => None,
            }
        });
        told.collect()
    }

    fn usage(&self) -> (Duration, u64) {
        let memory = self.container.surroundings.memory.used();
        (Duration::from_nanos(self.container.cpu.used_nanos()), memory)
    }

    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn room(&self) -> Option<u64> {
        let limit = self.container.spec().resources.ephemeral_storage_limit_bytes?;
        Some(limit.saturating_sub(self.storage().1))
    }
}
