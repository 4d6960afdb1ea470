//! A scriptable runtime for tests of everything above the port. It runs nothing: containers change when the test says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;

use crate::{
    ContainerPhase, ContainerSpec, ContainerState, Image, PullCredentials, Runtime, RuntimeError, SandboxSpec,
    SandboxState, WakeSender,
};

/// What a container of an image does once it is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Runs until stopped or until the test ends it with [`FakeRuntime::exit`].
    Runs,
    /// Ends as soon as it was started.
    Exits { code: i32 },
    /// Runs and does not heed a stop until [`FakeRuntime::expire_grace`] is called.
    IgnoresStop,
}

#[derive(Default)]
struct State {
    images: BTreeMap<String, (Image, bool, Behaviour)>,
    sandboxes: BTreeMap<String, SandboxState>,
    specs: BTreeMap<(String, String), ContainerSpec>,
    /// Containers asked to stop that ignore it.
    stopping: Vec<(String, String)>,
    failures: VecDeque<(String, RuntimeError)>,
    calls: Vec<String>,
}

/// Implements [`Runtime`] from a script. Image references that were not added do not exist.
pub struct FakeRuntime {
    state: Mutex<State>,
    wake: WakeSender,
    now: AtomicI64,
}

impl FakeRuntime {
    pub fn new(wake: WakeSender) -> Self {
        Self {
            state: Mutex::default(),
            wake,
            now: AtomicI64::new(1),
        }
    }

    /// Adds an image; `present` says whether it is on the node already.
    pub fn add_image(&self, reference: &str, present: bool, behaviour: Behaviour) {
        let image = Image {
            reference: reference.into(),
            digest: format!("sha256:fake-{reference}"),
            size_bytes: 1000,
        };
        self.lock().images.insert(reference.into(), (image, present, behaviour));
    }

    /// Seconds since the epoch that following changes are stamped with.
    pub fn set_now(&self, seconds: i64) {
        self.now.store(seconds, Ordering::SeqCst);
    }

    /// The next call of this method (`create_container`, …) answers with this error.
    pub fn fail_next(&self, method: &str, error: RuntimeError) {
        self.lock().failures.push_back((method.into(), error));
    }

    /// What was called so far, one line each (`start_container UID web`), and forgets it.
    pub fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().calls)
    }

    /// The spec that the container was last created with.
    pub fn spec(&self, pod_uid: &str, name: &str) -> Option<ContainerSpec> {
        self.lock().specs.get(&(pod_uid.into(), name.into())).cloned()
    }

    /// Ends a running container and wakes its pod.
    pub fn exit(&self, pod_uid: &str, name: &str, code: i32, reason: &str, message: &str) {
        let now = self.now.load(Ordering::SeqCst);
        self.change(pod_uid, name, |c| end(c, code, reason, message, now));
    }

    /// Ends every container that ignored a stop, as at the end of its grace period.
    pub fn expire_grace(&self) {
        let stopping = std::mem::take(&mut self.lock().stopping);
        for (uid, name) in stopping {
            self.exit(&uid, &name, 137, "Error", "");
        }
    }

    /// Forgets a sandbox behind the agent's back, as when the node rebooted.
    pub fn lose_sandbox(&self, pod_uid: &str) {
        self.lock().sandboxes.remove(pod_uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic happens while the state is held")
    }

    fn change(&self, pod_uid: &str, name: &str, change: impl FnOnce(&mut ContainerState)) {
        if let Some(container) = find(&mut self.lock(), pod_uid, name) {
            change(container);
        }
        // A full channel means that a look is due anyway.
        let _ = self.wake.try_send(pod_uid.to_owned());
    }

    fn enter(&self, method: &str, line: String) -> Result<std::sync::MutexGuard<'_, State>, RuntimeError> {
        let mut state = self.lock();
        state.calls.push(line);
        match state.failures.iter().position(|(m, _)| m == method) {
            Some(at) => Err(state.failures.remove(at).expect("position is within the queue").1),
            None => Ok(state),
        }
    }
}

fn find<'a>(state: &'a mut State, pod_uid: &str, name: &str) -> Option<&'a mut ContainerState> {
    state
        .sandboxes
        .get_mut(pod_uid)?
        .containers
        .iter_mut()
        .find(|c| c.name == name)
}

fn end(container: &mut ContainerState, code: i32, reason: &str, message: &str, now: i64) {
    if container.phase == ContainerPhase::Exited {
        return;
    }
    container.phase = ContainerPhase::Exited;
    container.exit_code = code;
    container.reason = reason.into();
    container.message = message.into();
    container.finished_at = now;
}

#[async_trait]
impl Runtime for FakeRuntime {
    fn name(&self) -> &'static str {
        "wasm"
    }

    async fn ensure_image(
        &self,
        reference: &str,
        pull: bool,
        _credentials: &[PullCredentials],
    ) -> Result<Image, RuntimeError> {
        let mut state = self.enter("ensure_image", format!("ensure_image {reference} pull={pull}"))?;
        match state.images.get_mut(reference) {
            Some((image, present, _)) if *present || pull => {
                *present = true;
                Ok(image.clone())
            }
            None if pull => Err(RuntimeError::Pull {
                reference: reference.into(),
                why: "not found".into(),
            }),
            _ => Err(RuntimeError::ImageNeverPull {
                reference: reference.into(),
            }),
        }
    }

    async fn collect_images(&self, in_use: &BTreeSet<String>) -> Result<u64, RuntimeError> {
        let mut state = self.enter("collect_images", format!("collect_images {in_use:?}"))?;
        let mut freed = 0;
        for (reference, (image, present, _)) in &mut state.images {
            if *present && !in_use.contains(reference) {
                *present = false;
                freed += image.size_bytes;
            }
        }
        Ok(freed)
    }

    async fn create_sandbox(&self, spec: &SandboxSpec) -> Result<(), RuntimeError> {
        let created_at = self.now.load(Ordering::SeqCst);
        let mut state = self.enter("create_sandbox", format!("create_sandbox {}", spec.pod_uid))?;
        state
            .sandboxes
            .entry(spec.pod_uid.clone())
            .or_insert_with(|| SandboxState {
                pod_uid: spec.pod_uid.clone(),
                namespace: spec.namespace.clone(),
                name: spec.name.clone(),
                ip: spec.ip,
                created_at,
                containers: Vec::new(),
            });
        Ok(())
    }

    async fn remove_sandbox(&self, pod_uid: &str) -> Result<(), RuntimeError> {
        self.enter("remove_sandbox", format!("remove_sandbox {pod_uid}"))?
            .sandboxes
            .remove(pod_uid);
        let _ = self.wake.try_send(pod_uid.to_owned());
        Ok(())
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        let line = format!(
            "create_container {} {} attempt={}",
            spec.pod_uid, spec.name, spec.attempt
        );
        let mut state = self.enter("create_container", line)?;
        let key = (spec.pod_uid.clone(), spec.name.clone());
        let missing = || RuntimeError::NotFound {
            what: format!("sandbox {}", spec.pod_uid),
        };
        let sandbox = state.sandboxes.get_mut(&spec.pod_uid).ok_or_else(missing)?;
        if let Some(old) = sandbox.containers.iter().find(|c| c.name == spec.name) {
            if old.attempt == spec.attempt {
                return Ok(());
            }
            if old.phase != ContainerPhase::Exited {
                return Err(RuntimeError::Create {
                    why: format!("container {} is in use", spec.name),
                });
            }
        }
        sandbox.containers.retain(|c| c.name != spec.name);
        sandbox.containers.push(ContainerState {
            pod_uid: spec.pod_uid.clone(),
            name: spec.name.clone(),
            attempt: spec.attempt,
            phase: ContainerPhase::Created,
            id: format!("wasm://{}/{}/{}", spec.pod_uid, spec.name, spec.attempt),
            image: spec.image.clone(),
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            cpu_nanos: 0,
            memory_bytes: 0,
            ready: true,
        });
        state.specs.insert(key, spec.clone());
        Ok(())
    }

    async fn start_container(&self, pod_uid: &str, name: &str) -> Result<(), RuntimeError> {
        let now = self.now.load(Ordering::SeqCst);
        {
            let mut state = self.enter("start_container", format!("start_container {pod_uid} {name}"))?;
            let behaviours: BTreeMap<String, Behaviour> =
                state.images.iter().map(|(k, v)| (k.clone(), v.2.clone())).collect();
            let container = find(&mut state, pod_uid, name).ok_or_else(|| RuntimeError::NotFound {
                what: format!("container {pod_uid}/{name}"),
            })?;
            if container.phase != ContainerPhase::Created {
                return Ok(());
            }
            container.phase = ContainerPhase::Running;
            container.started_at = now;
            if let Some(Behaviour::Exits { code }) = behaviours.get(&container.image.reference) {
                end(
                    container,
                    *code,
                    if *code == 0 { "Completed" } else { "Error" },
                    "",
                    now,
                );
            }
        }
        let _ = self.wake.try_send(pod_uid.to_owned());
        Ok(())
    }

    async fn stop_container(&self, pod_uid: &str, name: &str, grace_period_seconds: u64) -> Result<(), RuntimeError> {
        let now = self.now.load(Ordering::SeqCst);
        {
            let line = format!("stop_container {pod_uid} {name} grace={grace_period_seconds}");
            let mut state = self.enter("stop_container", line)?;
            let Some(container) = find(&mut state, pod_uid, name) else {
                return Err(RuntimeError::NotFound {
                    what: format!("container {pod_uid}/{name}"),
                });
            };
            let reference = container.image.reference.clone();
            let ignores = matches!(state.images.get(&reference), Some((_, _, Behaviour::IgnoresStop)));
            if ignores && grace_period_seconds > 0 {
                state.stopping.push((pod_uid.into(), name.into()));
            } else if let Some(container) = find(&mut state, pod_uid, name) {
                end(container, if ignores { 137 } else { 143 }, "Error", "", now);
            }
        }
        let _ = self.wake.try_send(pod_uid.to_owned());
        Ok(())
    }

    async fn remove_container(&self, pod_uid: &str, name: &str) -> Result<(), RuntimeError> {
        let mut state = self.enter("remove_container", format!("remove_container {pod_uid} {name}"))?;
        if find(&mut state, pod_uid, name).is_some_and(|c| c.phase == ContainerPhase::Running) {
            return Err(RuntimeError::Create {
                why: format!("container {name} is running"),
            });
        }
        if let Some(sandbox) = state.sandboxes.get_mut(pod_uid) {
            sandbox.containers.retain(|c| c.name != name);
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<SandboxState>, RuntimeError> {
        Ok(self.enter("list", "list".into())?.sandboxes.values().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{self, Subject};

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        contract::all(|| async {
            let (wake, wakes) = tokio::sync::mpsc::channel(64);
            let fake = FakeRuntime::new(wake);
            fake.add_image("exits-0", false, Behaviour::Exits { code: 0 });
            fake.add_image("exits-3", false, Behaviour::Exits { code: 3 });
            fake.add_image("runs", false, Behaviour::Runs);
            Subject {
                runtime: std::sync::Arc::new(fake),
                wakes,
                exits_0: "exits-0".into(),
                exits_3: "exits-3".into(),
                runs: "runs".into(),
                absent: "absent".into(),
                ip: std::net::Ipv4Addr::LOCALHOST.into(),
                log_dir: std::env::temp_dir(),
            }
        })
        .await;
    }

    #[tokio::test]
    async fn a_scripted_failure_is_answered_once() {
        let (wake, _wakes) = tokio::sync::mpsc::channel(4);
        let fake = FakeRuntime::new(wake);
        fake.fail_next("list", RuntimeError::Unavailable { why: "gone".into() });
        assert!(fake.list().await.is_err());
        assert!(fake.list().await.is_ok());
        assert_eq!(fake.take_calls(), ["list", "list"]);
    }
}
