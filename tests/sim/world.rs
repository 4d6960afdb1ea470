//! Everything together, and the moves that chance picks from.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use skiff_controllers::invariants;

use crate::api::{Api, Kind};
use crate::machine::Machine;
use crate::manager::Manager;
use crate::rng::Rng;
use crate::scheduler::Scheduler;
use crate::worker::Wrote;

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    RequestLost,
    /// It was carried out, and the answer says nothing of it.
    ReplyLost,
}

/// Bugs that are put in to see that they are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    BindsWithoutCompare,
    CollectsFromStaleCache,
    AgentForgets,
}

/// What a scenario does once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scripted {
    CrashManager,
    CrashSchedulers,
    KillAgents,
    Reboot,
    /// From here on, until nothing else moves, changes of this kind reach no control plane component.
    HoldBack(Kind),
    /// The watches of this kind end; everyone lists again.
    LoseWatch(Kind),
}

pub const NAMESPACE: &str = "shop";
pub const DEPLOYMENTS: [&str; 2] = ["web", "api"];
pub const NODES: usize = 3;
/// Moves that turn out to change nothing, before a step is given up.
const TRIES: usize = 12;
/// Keys that are looked at until one has something to do.
const JOBS_TRIED: usize = 6;
/// As in the manager.
const GATE_SECONDS: i64 = 10;
pub const SURGE: i64 = 1;

pub struct World {
    pub api: Api,
    pub manager: Manager,
    /// The process that does not lead: its caches lag on their own, and it takes over with what they show.
    standby: Manager,
    pub schedulers: Vec<Scheduler>,
    pub machines: Vec<Machine>,
    pub leases: BTreeMap<String, i64>,
    pub log: Vec<String>,
    /// What a scenario does, and before which call it does it.
    pub script: Option<(u64, Scripted)>,
    pub calls: u64,
    /// Nothing of this kind reaches anyone.
    pub held: Option<Kind>,
    pub breaches: Vec<String>,
    pub rng: Rng,
    pub mutation: Option<Mutation>,
    /// No standby takes over and no key gives up waiting for its own writes: then no set and no deployment may ever have
    /// more than it was ever asked for, whatever replies are lost.
    pub strict: bool,
    most: BTreeMap<String, usize>,
    most_wanted: BTreeMap<String, i64>,
    /// Sets that were seen without an owner.
    orphans: BTreeSet<String>,
    checked: u64,
}

#[derive(Clone, Copy)]
enum Move {
    DeliverManager,
    DeliverScheduler,
    DeliverAgent,
    Begin,
    Advance,
    Decide,
    Bind,
    Pod,
    Answer,
    Write,
    Flush,
    Heartbeat,
    Hear,
    ExpireGrace,
    Relist,
    CrashManager,
    DeliverStandby,
    TakeOver,
    CrashScheduler,
    KillAgent,
    StartAgent,
    EndContainer,
    CrashWorker,
    Reboot,
    User,
    Wait,
}

/// How likely each move is, against the others.
const WEIGHTS: [(Move, usize); 26] = [
    (Move::DeliverManager, 200),
    (Move::DeliverScheduler, 90),
    (Move::DeliverAgent, 90),
    (Move::Begin, 130),
    (Move::Advance, 200),
    (Move::Decide, 60),
    (Move::Bind, 90),
    (Move::Pod, 160),
    (Move::Answer, 60),
    (Move::Write, 60),
    (Move::Flush, 30),
    (Move::Heartbeat, 25),
    (Move::Hear, 25),
    (Move::ExpireGrace, 8),
    (Move::Relist, 6),
    (Move::CrashManager, 4),
    (Move::DeliverStandby, 60),
    (Move::TakeOver, 6),
    (Move::CrashScheduler, 4),
    (Move::KillAgent, 5),
    (Move::StartAgent, 20),
    (Move::EndContainer, 5),
    (Move::CrashWorker, 3),
    (Move::Reboot, 3),
    (Move::User, 12),
    (Move::Wait, 6),
];

impl World {
    pub fn new(seed: u64, mutation: Option<Mutation>) -> Self {
        let mut api = Api::default();
        api.create(Kind::Namespace, json!({"metadata": {"name": NAMESPACE}}))
            .expect("the first object");
        let strict = seed.is_multiple_of(2);
        let gate_seconds = if strict { i64::MAX } else { GATE_SECONDS };
        let mut world = World {
            manager: Manager::start(&api, gate_seconds),
            standby: Manager::start(&api, gate_seconds),
            schedulers: (0..2).map(|index| Scheduler::start(&api, seed + index)).collect(),
            machines: (0..NODES).map(|index| Machine::new(format!("node-{index}"))).collect(),
            leases: BTreeMap::new(),
            log: Vec::new(),
            script: None,
            calls: 0,
            held: None,
            breaches: Vec::new(),
            rng: Rng::new(seed),
            mutation,
            strict,
            most: BTreeMap::new(),
            most_wanted: BTreeMap::new(),
            orphans: BTreeSet::new(),
            checked: 0,
            api,
        };
        for machine in &mut world.machines {
            machine.start_agent(mutation);
            machine.heartbeat(&mut world.api, &mut world.leases);
        }
        DEPLOYMENTS.iter().for_each(|name| world.deploy(name, 3, 0));
        world
    }

    pub fn gate_seconds(&self) -> i64 {
        if self.strict { i64::MAX } else { GATE_SECONDS }
    }

    /// One move; its text ends up in the list that a failure prints.
    pub fn step(&mut self) {
        self.api.now += i64::from(self.rng.chance(30));
        for _ in 0..TRIES {
            let chosen = self.choose();
            if let Some(text) = self.make(chosen) {
                self.log.push(text);
                self.check();
                return;
            }
        }
    }

    fn choose(&mut self) -> Move {
        let total = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut roll = self.rng.below(total);
        for (one, weight) in WEIGHTS {
            if roll < weight {
                return one;
            }
            roll -= weight;
        }
        Move::Wait
    }

    fn fault(&mut self) -> Fault {
        match self.rng.below(100) {
            0..4 => Fault::RequestLost,
            4..8 => Fault::ReplyLost,
            _ => Fault::None,
        }
    }

    fn pick_pod(&mut self) -> Option<(usize, String)> {
        let index = self.rng.below(NODES);
        let pods = self.machines[index].pods();
        let uid = pods.get(self.rng.below(pods.len()))?.clone();
        Some((index, uid))
    }

    fn make(&mut self, chosen: Move) -> Option<String> {
        let at = self.rng.below(NODES);
        let which = self.rng.below(self.schedulers.len());
        let mut kinds = Kind::ALL;
        let first = self.rng.below(kinds.len());
        kinds.rotate_left(first);
        let kind = kinds[0];
        match chosen {
            Move::DeliverManager => {
                let seen = kinds.into_iter().find(|kind| self.manager.deliver(&self.api, *kind))?;
                Some(format!("manager sees a {seen:?}"))
            }
            Move::DeliverScheduler => {
                let seen = kinds
                    .into_iter()
                    .find(|kind| self.schedulers[which].deliver(&self.api, *kind))?;
                Some(format!("scheduler {which} sees a {seen:?}"))
            }
            Move::DeliverAgent => self.machines[at]
                .deliver(&self.api)
                .then(|| format!("agent {at} sees a pod")),
            Move::Begin => {
                let mut jobs = self.manager.jobs();
                let middle = self.rng.below(jobs.len());
                jobs.rotate_left(middle);
                let job = jobs
                    .into_iter()
                    .take(JOBS_TRIED)
                    .find(|job| self.manager.begin(&self.api, job))?;
                Some(format!("begin {:?} {}", job.0, job.1))
            }
            Move::Advance => {
                let runs = self.manager.runs();
                let (index, fault) = (self.rng.below(runs), self.fault());
                let (manager, mutation) = (&mut self.manager, self.mutation);
                (runs > 0).then(|| format!("{} ({fault:?})", manager.advance(&mut self.api, index, fault, mutation)))
            }
            Move::Decide => {
                let waiting = self.schedulers[which].waiting();
                let key = waiting.get(self.rng.below(waiting.len()))?;
                Some(format!(
                    "scheduler {which} puts {key} on {:?}",
                    self.schedulers[which].decide(key)
                ))
            }
            Move::Bind => {
                let (bindings, fault) = (self.schedulers[which].bindings(), self.fault());
                let index = self.rng.below(bindings);
                let compare = self.mutation != Some(Mutation::BindsWithoutCompare);
                let scheduler = &mut self.schedulers[which];
                (bindings > 0).then(|| {
                    let text = scheduler.advance(&mut self.api, index, fault, compare);
                    format!("scheduler {which}: {text} ({fault:?})")
                })
            }
            Move::Pod => {
                let (index, uid) = self.pick_pod()?;
                let trouble = self.rng.chance(5);
                let did = self.machines[index].go_on(&self.api, &uid, trouble, &mut self.breaches)?;
                Some(format!(
                    "{uid} on {index}: {did}{}",
                    if trouble { " (fails)" } else { "" }
                ))
            }
            Move::Answer => {
                let (index, uid) = self.pick_pod()?;
                let background = self.machines[index].background(&uid);
                let (one, well) = (self.rng.below(background), !self.rng.chance(10));
                (background > 0).then(|| format!("{uid} on {index}: {}", self.machines[index].answer(&uid, one, well)))
            }
            Move::Write => {
                let (index, uid) = self.pick_pod()?;
                let fault = self.fault();
                let wrote = self.machines[index].write(&mut self.api, &uid, fault, &mut self.breaches);
                (wrote != Wrote::Nothing || fault != Fault::None)
                    .then(|| format!("{uid} on {index}: writes {wrote:?} ({fault:?})"))
            }
            Move::Flush => self.machines[at]
                .flush()
                .then(|| format!("checkpoints of {at} are on disk")),
            Move::Heartbeat => {
                let beats = self.machines[at].heartbeat(&mut self.api, &mut self.leases);
                beats.then(|| format!("heartbeat of {at}"))
            }
            Move::Hear => {
                self.manager.hear(&self.api, &self.leases);
                Some("manager hears of leases".to_owned())
            }
            Move::ExpireGrace => {
                self.machines[at].expire_grace(self.api.time().as_second());
                Some(format!("grace is over on {at}"))
            }
            Move::Relist => Some(self.lose_watch(kind, at, which)),
            Move::CrashManager => {
                self.manager = Manager::start(&self.api, self.gate_seconds());
                Some("manager crashes and starts".to_owned())
            }
            Move::DeliverStandby => {
                let seen = kinds.into_iter().find(|kind| self.standby.deliver(&self.api, *kind))?;
                Some(format!("the standby sees a {seen:?}"))
            }
            // Two leaders' views differ, so a set may have more for a moment than it ever wanted.
            Move::TakeOver if self.strict => None,
            Move::TakeOver => {
                std::mem::swap(&mut self.manager, &mut self.standby);
                self.standby = Manager::start(&self.api, self.gate_seconds());
                Some("the standby takes over".to_owned())
            }
            Move::CrashScheduler => {
                self.schedulers[which] = Scheduler::start(&self.api, self.rng.next());
                Some(format!("scheduler {which} crashes and starts"))
            }
            Move::KillAgent => {
                self.machines[at].kill_agent();
                Some(format!("agent {at} dies"))
            }
            Move::StartAgent => (!self.machines[at].is_up()).then(|| {
                self.machines[at].start_agent(self.mutation);
                format!("agent {at} starts")
            }),
            Move::EndContainer => {
                let one = self.rng.below(8);
                let ended = self.machines[at].end_containers(self.api.time().as_second(), Some(one));
                (ended > 0).then(|| format!("a container on {at} ends"))
            }
            Move::CrashWorker => {
                let ended = self.machines[at].end_containers(self.api.time().as_second(), None);
                (ended > 0).then(|| format!("the worker on {at} crashes with {ended} containers"))
            }
            Move::Reboot => {
                self.machines[at].reboot();
                Some(format!("machine {at} starts anew"))
            }
            Move::User => Some(self.user()),
            Move::Wait => {
                let seconds = [5, 20, 60][self.rng.below(3)];
                self.api.now += seconds;
                Some(format!("{seconds} s pass"))
            }
        }
    }

    fn lose_watch(&mut self, kind: Kind, at: usize, which: usize) -> String {
        match self.rng.below(3) {
            0 => {
                self.manager.list_again(&self.api, kind);
                format!("manager lists {kind:?} again")
            }
            1 => {
                self.schedulers[which].list_again(&self.api, kind);
                format!("scheduler {which} lists {kind:?} again")
            }
            _ => {
                self.machines[at].list_again(&self.api);
                format!("agent {at} lists again")
            }
        }
    }

    /// A call is about to be made: the scenario's moment may have come.
    pub fn call(&mut self) {
        self.calls += 1;
        let Some((_, scripted)) = self.script.take_if(|(at, _)| *at == self.calls) else {
            return;
        };
        self.log.push(format!("before call {}: {scripted:?}", self.calls));
        match scripted {
            Scripted::CrashManager => self.manager = Manager::start(&self.api, self.gate_seconds()),
            Scripted::CrashSchedulers => {
                (0..2).for_each(|index| self.schedulers[index] = Scheduler::start(&self.api, index as u64));
            }
            Scripted::KillAgents => self.machines.iter_mut().for_each(Machine::kill_agent),
            Scripted::Reboot => self.machines.iter_mut().for_each(Machine::reboot),
            Scripted::HoldBack(kind) => self.held = Some(kind),
            Scripted::LoseWatch(kind) => {
                self.manager.list_again(&self.api, kind);
                self.schedulers
                    .iter_mut()
                    .for_each(|scheduler| scheduler.list_again(&self.api, kind));
                self.machines
                    .iter_mut()
                    .for_each(|machine| machine.list_again(&self.api));
            }
        }
    }

    /// What must hold after every move.
    pub fn check(&mut self) {
        self.breaches.append(&mut self.api.breaches);
        let mut instances = BTreeMap::new();
        for machine in &self.machines {
            machine.check(&mut self.breaches, &mut instances);
        }
        let twice = instances.iter().filter(|(_, count)| **count > 1);
        self.breaches
            .extend(twice.map(|(uid, count)| format!("pod {uid} runs {count} times")));
        if self.checked == self.api.revision {
            return;
        }
        self.checked = self.api.revision;
        let seen = self.api.observe();
        self.breaches.extend(invariants::always(&seen));
        let over = invariants::no_set_has_more_pods_than_it_ever_wanted(&seen, &mut self.most);
        let mut wanted_by_sets: BTreeMap<String, i64> = BTreeMap::new();
        for set in &seen.replica_sets {
            let owner = skiff_controllers::controller_of(&set.metadata).map(|owner| owner.uid.clone());
            let wants = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let uid = set.metadata.uid.clone().unwrap_or_default();
            match &owner {
                None => drop(self.orphans.insert(uid)),
                // What a deployment adopts may be more than it wants.
                Some(owner) if self.orphans.remove(&uid) => {
                    *self.most_wanted.entry(owner.clone()).or_default() += i64::from(wants);
                }
                Some(_) => {}
            }
            *wanted_by_sets.entry(owner.unwrap_or_default()).or_default() += i64::from(wants);
        }
        let mut surplus = Vec::new();
        for deployment in &seen.deployments {
            let uid = deployment.metadata.uid.clone().unwrap_or_default();
            let wants = i64::from(deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1));
            let most = self.most_wanted.entry(uid.clone()).or_default();
            *most = (*most).max(wants);
            let have = wanted_by_sets.get(&uid).copied().unwrap_or(0);
            if have > *most + SURGE {
                surplus.push(format!(
                    "deployment {uid} has sets for {have} and never wanted more than {most}"
                ));
            }
        }
        if self.strict {
            self.breaches.extend(over);
            self.breaches.extend(surplus);
        }
    }
}
