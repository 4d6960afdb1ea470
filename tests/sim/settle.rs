//! The end of all faults: everything arrives, everyone runs, until nothing moves any more; then that it stays so.

use std::collections::BTreeSet;

use skiff_controllers::{ObjectKey, invariants};

use crate::api::{Kind, Typed};
use crate::ledger::{has_ended, node_of};
use crate::worker::Wrote;
use crate::world::{Fault, Mutation, World};

/// Rounds before "still moving" is a fault.
const ROUNDS_MAX: usize = 300;
/// Calls that one plan or one pod makes in a round at most.
const CALLS_MAX: usize = 64;
/// Pauses after which nothing may move: back-offs, gates, leases and progress deadlines lie between.
const PAUSES: [i64; 7] = [1, 11, 45, 120, 301, 700, 5000];

impl World {
    /// Everyone runs until nothing moves, and then once more after each pause. Breaches are noted.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..ROUNDS_MAX {
            let due = self.script.is_some();
            if self.round() || due != self.script.is_some() {
                quiet = 0;
                self.api.now += 1;
            } else if self.held.take().is_some() {
                quiet = 0;
            } else if quiet < PAUSES.len() {
                self.api.now += PAUSES[quiet];
                quiet += 1;
            } else {
                return self.check_settled();
            }
            if !self.breaches.is_empty() {
                return;
            }
        }
        self.breaches.push("it does not come to rest".to_owned());
    }

    /// Everyone runs until nothing moves.
    pub fn calm_down(&mut self) {
        let rounds = (0..ROUNDS_MAX).take_while(|_| self.round()).count();
        assert!(rounds < ROUNDS_MAX, "a cluster without faults does not come to rest");
    }

    /// Everything arrives and everyone runs; whether anything changed.
    pub fn round(&mut self) -> bool {
        let before = self.api.revision;
        let mut moved = false;
        for index in 0..self.machines.len() {
            moved |= self.machine_round(index);
        }
        for index in 0..self.schedulers.len() {
            self.scheduler_round(index);
        }
        self.manager_round();
        moved || self.api.revision != before
    }

    fn machine_round(&mut self, index: usize) -> bool {
        let mutation = self.mutation;
        let machine = &mut self.machines[index];
        if !machine.is_up() {
            machine.start_agent(mutation);
        }
        machine.heartbeat(&mut self.api, &mut self.leases);
        machine.expire_grace(self.api.time().as_second());
        while self.machines[index].deliver(&self.api) {}
        let mut moved = false;
        for uid in self.machines[index].pods() {
            for _ in 0..CALLS_MAX {
                self.call();
                let machine = &mut self.machines[index];
                let mut did = machine.go_on(&self.api, &uid, false, &mut self.breaches);
                while machine.background(&uid) > 0 {
                    did = Some(machine.answer(&uid, 0, true));
                }
                let wrote = machine.write(&mut self.api, &uid, Fault::None, &mut self.breaches);
                let done = did.is_none() && wrote == Wrote::Nothing;
                self.log
                    .extend(did.map(|did| format!("{uid} on {index}: {did}; writes {wrote:?}")));
                self.check();
                if done {
                    break;
                }
                moved = true;
            }
        }
        self.machines[index].flush();
        moved
    }

    fn scheduler_round(&mut self, index: usize) {
        for kind in [Kind::Node, Kind::Pod]
            .into_iter()
            .filter(|kind| self.held != Some(*kind))
        {
            while self.schedulers[index].deliver(&self.api, kind) {}
        }
        let compare = self.mutation != Some(Mutation::BindsWithoutCompare);
        for key in self.schedulers[index].waiting() {
            let node = self.schedulers[index].decide(&key);
            self.log.push(format!("scheduler {index} puts {key} on {node:?}"));
        }
        for _ in 0..CALLS_MAX {
            if self.schedulers[index].bindings() == 0 {
                break;
            }
            self.call();
            if self.schedulers[index].bindings() == 0 {
                break;
            }
            let text = self.schedulers[index].advance(&mut self.api, 0, Fault::None, compare);
            self.log.push(text);
            self.check();
        }
    }

    fn manager_round(&mut self) {
        self.deliver_to_manager();
        self.manager.hear(&self.api, &self.leases);
        self.finish_runs();
        for job in self.manager.jobs() {
            if self.manager.begin(&self.api, &job) {
                self.finish_runs();
                self.deliver_to_manager();
            }
        }
    }

    fn deliver_to_manager(&mut self) {
        for kind in Kind::ALL.into_iter().filter(|kind| self.held != Some(*kind)) {
            while self.manager.deliver(&self.api, kind) {}
        }
    }

    fn finish_runs(&mut self) {
        while self.manager.runs() > 0 {
            self.call();
            if self.manager.runs() == 0 {
                break;
            }
            let text = self.manager.advance(&mut self.api, 0, Fault::None, self.mutation);
            self.log.push(text);
            self.check();
        }
    }

    /// What must hold at rest, besides the invariants of the controllers: every pod runs where it should, and nothing
    /// else does.
    fn check_settled(&mut self) {
        let seen = self.api.observe();
        self.breaches.extend(invariants::settled(&seen));
        let mut wanted = BTreeSet::new();
        for pod in seen.pods.iter().filter(|pod| !has_ended(pod)) {
            let key = ObjectKey::of(&pod.metadata);
            let status = pod.status.clone().unwrap_or_default();
            let ready = status
                .conditions
                .iter()
                .flatten()
                .any(|one| one.type_ == "Ready" && one.status == "True");
            if status.phase.as_deref() != Some("Running") || !ready || pod.metadata.deletion_timestamp.is_some() {
                self.breaches
                    .push(format!("at rest pod {key} is {:?}, ready: {ready}", status.phase));
            }
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            wanted.insert((node_of(pod).unwrap_or("").to_owned(), uid));
        }
        let mut found = BTreeSet::new();
        for machine in &self.machines {
            let running = machine
                .sandboxes()
                .into_iter()
                .filter(|sandbox| !sandbox.containers.is_empty());
            found.extend(running.map(|sandbox| (machine.name.clone(), sandbox.pod_uid)));
        }
        if wanted != found {
            self.breaches
                .push(format!("at rest {wanted:?} should run and {found:?} do"));
        }
        for kind in [Kind::Pod, Kind::ReplicaSet] {
            for stored in self.api.list(kind) {
                let owners = stored.typed.meta().owner_references.iter().flatten();
                let lost = owners.filter(|owner| {
                    let key = ObjectKey::new(crate::world::NAMESPACE, owner.name.clone());
                    self.api.owner(&owner.kind, &key).and_then(|meta| meta.uid.as_deref()) != Some(&owner.uid)
                });
                let name = stored.typed.meta().name.as_deref().unwrap_or("");
                self.breaches
                    .extend(lost.map(|owner| format!("at rest {name} has lost its owner {}", owner.name)));
            }
        }
        for stored in self.api.list(Kind::Node) {
            if let Typed::Node(node) = &stored.typed
                && let Some(taints) = node.spec.as_ref().and_then(|spec| spec.taints.as_ref())
            {
                self.breaches
                    .push(format!("at rest node {:?} is tainted: {taints:?}", node.metadata.name));
            }
        }
    }
}
