//! The suite that every runtime (fake, wasm, later oci) must pass: what the node agent relies on, one claim a function.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;

use crate::{
    ContainerPhase, ContainerSpec, ContainerState, Resources, Runtime, RuntimeError, SandboxSpec, SandboxState,
};

/// How long a state may take to appear before a case fails. Generous: CI machines are slow, and it only bounds failures.
const PATIENCE: Duration = Duration::from_secs(60);

/// A fresh runtime under test and the images that it can run.
pub struct Subject {
    pub runtime: Arc<dyn Runtime>,
    pub wakes: Receiver<String>,
    /// Image whose container ends at once with exit code 0.
    pub exits_0: String,
    /// … with exit code 3.
    pub exits_3: String,
    /// Image whose container runs until stopped.
    pub runs: String,
    /// Reference that no registry has.
    pub absent: String,
    /// Address that pods may be given.
    pub ip: IpAddr,
    pub log_dir: PathBuf,
}

/// Runs every case, each on a fresh subject.
pub async fn all<F: Future<Output = Subject>>(make: impl Fn() -> F) {
    an_image_that_nobody_has_is_an_error(make().await).await;
    an_image_is_not_pulled_unless_allowed(make().await).await;
    images_in_use_outlive_garbage_collection(make().await).await;
    making_a_sandbox_twice_makes_one(make().await).await;
    a_container_needs_its_sandbox(make().await).await;
    a_container_is_created_then_runs_then_exits_with_its_code(make().await).await;
    a_failing_container_tells_its_code_and_reason(make().await).await;
    creating_and_starting_twice_is_harmless(make().await).await;
    stopping_ends_a_running_container(make().await).await;
    an_exited_container_may_be_tried_again(make().await).await;
    removing_a_container_forgets_it(make().await).await;
    removing_a_sandbox_ends_all_of_the_pod(make().await).await;
    unknown_containers_are_not_found(make().await).await;
}

async fn an_image_that_nobody_has_is_an_error(subject: Subject) {
    let error = subject
        .runtime
        .ensure_image(&subject.absent, true, &[])
        .await
        .expect_err("nobody has it");
    assert_eq!(error.reason(), "ErrImagePull");
}

async fn an_image_is_not_pulled_unless_allowed(subject: Subject) {
    let error = subject
        .runtime
        .ensure_image(&subject.runs, false, &[])
        .await
        .expect_err("not here yet");
    assert_eq!(error.reason(), "ErrImageNeverPull");
    let pulled = subject
        .runtime
        .ensure_image(&subject.runs, true, &[])
        .await
        .expect("pull");
    let local = subject
        .runtime
        .ensure_image(&subject.runs, false, &[])
        .await
        .expect("now present");
    assert_eq!(pulled, local);
    assert!(pulled.digest.starts_with("sha256:"));
}

async fn images_in_use_outlive_garbage_collection(subject: Subject) {
    let runtime = &subject.runtime;
    for image in [&subject.runs, &subject.exits_0] {
        runtime.ensure_image(image, true, &[]).await.expect("pulled");
    }
    let freed = runtime.collect_images(&[subject.runs.clone()].into()).await;
    assert!(freed.expect("collected") > 0);
    assert!(runtime.ensure_image(&subject.runs, false, &[]).await.is_ok());
    let gone = runtime.ensure_image(&subject.exits_0, false, &[]).await;
    assert!(matches!(gone, Err(RuntimeError::ImageNeverPull { .. })), "{gone:?}");
}

async fn making_a_sandbox_twice_makes_one(subject: Subject) {
    let spec = subject.sandbox("twice");
    subject.runtime.create_sandbox(&spec).await.expect("first");
    subject.runtime.create_sandbox(&spec).await.expect("second");
    let listed = subject.runtime.list().await.expect("list");
    assert_eq!(listed.iter().filter(|s| s.pod_uid == spec.pod_uid).count(), 1);
    subject.end("twice").await;
}

async fn a_container_needs_its_sandbox(subject: Subject) {
    let spec = subject.container("lonely", "main", 0, &subject.exits_0).await;
    let error = subject.runtime.create_container(&spec).await.expect_err("no sandbox");
    assert!(matches!(error, RuntimeError::NotFound { .. }), "{error}");
}

async fn a_container_is_created_then_runs_then_exits_with_its_code(mut subject: Subject) {
    subject
        .runtime
        .create_sandbox(&subject.sandbox("exits"))
        .await
        .expect("sandbox");
    let spec = subject.container("exits", "main", 0, &subject.exits_0).await;
    subject.runtime.create_container(&spec).await.expect("create");
    let created = subject.state("exits", "main").await.expect("listed");
    assert_eq!((created.phase, created.started_at), (ContainerPhase::Created, 0));
    assert!(
        created.id.starts_with("wasm://") || created.id.contains("://"),
        "{}",
        created.id
    );
    subject.runtime.start_container("exits", "main").await.expect("start");
    let exited = subject
        .until("exits", "main", |c| c.phase == ContainerPhase::Exited)
        .await;
    assert_eq!((exited.exit_code, exited.reason.as_str()), (0, "Completed"));
    assert!(exited.started_at > 0 && exited.finished_at >= exited.started_at);
    subject.end("exits").await;
}

async fn a_failing_container_tells_its_code_and_reason(mut subject: Subject) {
    subject.start("fails", "main", 0, &subject.exits_3.clone()).await;
    let exited = subject
        .until("fails", "main", |c| c.phase == ContainerPhase::Exited)
        .await;
    assert_eq!((exited.exit_code, exited.reason.as_str()), (3, "Error"));
    subject.end("fails").await;
}

async fn creating_and_starting_twice_is_harmless(mut subject: Subject) {
    subject.start("again", "main", 0, &subject.runs.clone()).await;
    subject
        .until("again", "main", |c| c.phase == ContainerPhase::Running)
        .await;
    let spec = subject.container("again", "main", 0, &subject.runs).await;
    subject.runtime.create_container(&spec).await.expect("create again");
    subject
        .runtime
        .start_container("again", "main")
        .await
        .expect("start again");
    let state = subject.state("again", "main").await.expect("listed");
    assert_eq!((state.phase, state.attempt), (ContainerPhase::Running, 0));
    subject.end("again").await;
}

async fn stopping_ends_a_running_container(mut subject: Subject) {
    subject.start("stops", "main", 0, &subject.runs.clone()).await;
    subject
        .until("stops", "main", |c| c.phase == ContainerPhase::Running)
        .await;
    subject.runtime.stop_container("stops", "main", 30).await.expect("stop");
    subject
        .until("stops", "main", |c| c.phase == ContainerPhase::Exited)
        .await;
    subject
        .runtime
        .stop_container("stops", "main", 0)
        .await
        .expect("stop again");
    subject.end("stops").await;
}

async fn an_exited_container_may_be_tried_again(mut subject: Subject) {
    subject.start("retry", "main", 0, &subject.exits_3.clone()).await;
    subject
        .until("retry", "main", |c| c.phase == ContainerPhase::Exited)
        .await;
    let spec = subject.container("retry", "main", 1, &subject.exits_3).await;
    subject
        .runtime
        .create_container(&spec)
        .await
        .expect("create the next attempt");
    subject
        .runtime
        .start_container("retry", "main")
        .await
        .expect("start the next attempt");
    let second = subject
        .until("retry", "main", |c| c.attempt == 1 && c.phase == ContainerPhase::Exited)
        .await;
    assert_eq!(second.exit_code, 3);
    let listed = subject.runtime.list().await.expect("list");
    let pod = listed.iter().find(|s| s.pod_uid == "retry").expect("the pod");
    assert_eq!(pod.containers.len(), 1, "only the newest attempt is listed");
    subject.end("retry").await;
}

async fn removing_a_container_forgets_it(mut subject: Subject) {
    subject.start("forget", "main", 0, &subject.exits_0.clone()).await;
    subject
        .until("forget", "main", |c| c.phase == ContainerPhase::Exited)
        .await;
    subject
        .runtime
        .remove_container("forget", "main")
        .await
        .expect("remove");
    assert!(subject.state("forget", "main").await.is_none());
    subject
        .runtime
        .remove_container("forget", "main")
        .await
        .expect("remove again");
    subject.end("forget").await;
}

async fn removing_a_sandbox_ends_all_of_the_pod(mut subject: Subject) {
    subject.start("whole", "main", 0, &subject.runs.clone()).await;
    subject
        .until("whole", "main", |c| c.phase == ContainerPhase::Running)
        .await;
    subject.runtime.remove_sandbox("whole").await.expect("remove");
    let listed = subject.runtime.list().await.expect("list");
    assert!(listed.iter().all(|s| s.pod_uid != "whole"));
    subject.runtime.remove_sandbox("whole").await.expect("remove again");
}

async fn unknown_containers_are_not_found(subject: Subject) {
    let error = subject
        .runtime
        .start_container("nobody", "main")
        .await
        .expect_err("unknown");
    assert!(matches!(error, RuntimeError::NotFound { .. }), "{error}");
    let error = subject
        .runtime
        .stop_container("nobody", "main", 0)
        .await
        .expect_err("unknown");
    assert!(matches!(error, RuntimeError::NotFound { .. }), "{error}");
}

impl Subject {
    /// A sandbox of this uid in the namespace `contract`.
    pub fn sandbox(&self, uid: &str) -> SandboxSpec {
        SandboxSpec {
            pod_uid: uid.into(),
            namespace: "contract".into(),
            name: uid.into(),
            ip: self.ip,
            hostname: uid.into(),
            log_dir: self.log_dir.join(uid),
            labels: Default::default(),
            annotations: Default::default(),
        }
    }

    /// A container of this image, which is pulled.
    pub async fn container(&self, uid: &str, name: &str, attempt: u32, image: &str) -> ContainerSpec {
        ContainerSpec {
            pod_uid: uid.into(),
            name: name.into(),
            attempt,
            image: self
                .runtime
                .ensure_image(image, true, &[])
                .await
                .expect("pull the image"),
            args: Vec::new(),
            env: Vec::new(),
            mounts: Vec::new(),
            resources: Resources::default(),
            config: Vec::new(),
            ports: Vec::new(),
            stdin: Default::default(),
        }
    }

    /// Sandbox, container, start.
    pub async fn start(&self, uid: &str, name: &str, attempt: u32, image: &str) {
        self.runtime
            .create_sandbox(&self.sandbox(uid))
            .await
            .expect("create the sandbox");
        let spec = self.container(uid, name, attempt, image).await;
        self.runtime
            .create_container(&spec)
            .await
            .expect("create the container");
        self.runtime
            .start_container(uid, name)
            .await
            .expect("start the container");
    }

    pub async fn state(&self, uid: &str, name: &str) -> Option<ContainerState> {
        let listed: Vec<SandboxState> = self.runtime.list().await.expect("list");
        listed
            .into_iter()
            .find(|s| s.pod_uid == uid)?
            .containers
            .into_iter()
            .find(|c| c.name == name)
    }

    /// Waits, looking again at each wake, until the container's state pleases. Panics after a minute.
    pub async fn until(&mut self, uid: &str, name: &str, pleases: impl Fn(&ContainerState) -> bool) -> ContainerState {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let state = self.state(uid, name).await;
            if let Some(state) = state.as_ref().filter(|s| pleases(s)) {
                return state.clone();
            }
            match tokio::time::timeout_at(deadline, self.wakes.recv()).await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the runtime dropped its wake sender; last state: {state:?}"),
                Err(_) => panic!("{uid}/{name} did not get there in time; last state: {state:?}"),
            }
        }
    }

    async fn end(&self, uid: &str) {
        self.runtime.remove_sandbox(uid).await.expect("remove the sandbox");
    }
}
