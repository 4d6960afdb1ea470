//! `skiff run FILE.wasm`: push, deploy, follow to Running, say how to reach it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use skiff_runtime_wasm::{Inspection, Kind};

use crate::artifact::{self, Reference};
use crate::client::{Cluster, ClusterArgs};
use crate::output::Progress;

/// Where an http component listens unless told otherwise.
const HTTP_PORT: u16 = 8080;
/// A pod that is not running by then will hardly do it later; the user is told what it waits for.
const RUNNING_TIMEOUT: Duration = Duration::from_secs(120);
const FIELD_MANAGER: &str = "skiff-run";
/// Which template a Deployment's pod is of.
const TEMPLATE_HASH: &str = "pod-template-hash";

#[derive(clap::Args)]
pub struct Args {
    /// The .wasm file: a WASI command or a wasi:http component
    file: PathBuf,
    /// Name of the pod or Deployment [default: the file's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Port that an http component serves
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Environment variable, may be repeated
    #[arg(short, long, value_name = "K=V")]
    env: Vec<String>,
    /// Memory limit, such as 64Mi
    #[arg(long, value_name = "QUANTITY")]
    memory: Option<String>,
    /// CPU limit, such as 250m
    #[arg(long, value_name = "QUANTITY")]
    cpu: Option<String>,
    /// Run as a Deployment of this many pods [default: 1 for http components; commands run as a single pod]
    #[arg(long, value_name = "N")]
    replicas: Option<u32>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Arguments for the module
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

pub fn run(args: Args) -> Result<()> {
    let (module, inspection) = super::push::read_module(&args.file)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_of(&args.file)?,
    };
    if let Some(why) = skiff_api::names::dns1123_label(&name).first() {
        bail!("--name {name:?}: {why}");
    }
    let digest = artifact::digest(&module);
    let tag = digest.trim_start_matches("sha256:")[..12].to_owned();
    let reference = Reference {
        repository: name.clone(),
        tag,
    };
    let template = pod_template(&args, &name, &reference.pullable(), &inspection)?;
    super::block_on(super::CLIENT_THREADS, async {
        let cluster = args.cluster.connect().await?;
        let mut progress = Progress::new();
        progress.say(&format!("pushing {}", args.file.display()));
        artifact::push(&cluster.client, &module, &inspection, &reference).await?;

        let deployed = is_http(&inspection) || args.replicas.is_some();
        progress.say(&format!("creating {name}"));
        let pod = tokio::time::timeout(RUNNING_TIMEOUT, async {
            let pods = if deployed {
                let deployment = create_deployment(&cluster, &name, template, args.replicas.unwrap_or(1)).await?;
                newest_pods(&cluster, &name, &deployment).await?
            } else {
                create_pod(&cluster, &name, template).await?;
                watcher::Config::default().fields(&format!("metadata.name={name}"))
            };
            follow(&cluster, pods, &mut progress).await
        })
        .await
        .with_context(|| {
            format!(
                "{name} is not running after {} s; see: kubectl describe pod -l app={name}",
                RUNNING_TIMEOUT.as_secs()
            )
        })??;
        let seconds = progress.done();
        report(&name, &pod, &inspection, deployed, args.port, seconds);
        Ok(())
    })
}

fn is_http(inspection: &Inspection) -> bool {
    inspection.kind.is_some_and(Kind::is_http)
}

/// `Hello_World.wasm` → `hello-world`.
fn name_of(file: &Path) -> Result<String> {
    let stem = file
        .file_stem()
        .and_then(|s| s.to_str())
        .context("the file has no name; give one with --name")?;
    let name: String = stem
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(52)
        .collect();
    let name = name.trim_matches('-').to_owned();
    if name.is_empty() {
        bail!("{stem:?} makes no pod name; give one with --name");
    }
    Ok(name)
}

fn pod_template(args: &Args, name: &str, image: &str, inspection: &Inspection) -> Result<Value> {
    let mut container = json!({"name": name, "image": image});
    if !args.args.is_empty() {
        container["args"] = json!(args.args);
    }
    let env = args
        .env
        .iter()
        .map(|pair| {
            let (key, value) = pair
                .split_once('=')
                .with_context(|| format!("--env: {pair:?} is not K=V"))?;
            Ok(json!({"name": key, "value": value}))
        })
        .collect::<Result<Vec<_>>>()?;
    if !env.is_empty() {
        container["env"] = env.into();
    }
    if is_http(inspection) || args.port.is_some() {
        container["ports"] = json!([{"containerPort": args.port.unwrap_or(HTTP_PORT), "name": "http"}]);
    }
    for (key, quantity) in [("memory", &args.memory), ("cpu", &args.cpu)] {
        if let Some(quantity) = quantity {
            skiff_api::quantity::Quantity::parse(quantity)
                .map_err(|why| anyhow::anyhow!("--{key} {quantity:?}: {why}"))?;
            container["resources"]["limits"][key] = json!(quantity);
        }
    }
    Ok(json!({
        "metadata": {"labels": {"app": name}},
        "spec": {"runtimeClassName": "wasm", "containers": [container]},
    }))
}

fn apply() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

async fn create_deployment(cluster: &Cluster, name: &str, template: Value, replicas: u32) -> Result<Deployment> {
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template},
    });
    deployments
        .patch(name, &apply(), &Patch::Apply(&object))
        .await
        .with_context(|| format!("create deployment {name}"))
}

/// The pods of a Deployment's template as it is now: those of an earlier `skiff run` may still be there and running.
async fn newest_pods(cluster: &Cluster, name: &str, deployment: &Deployment) -> Result<watcher::Config> {
    let sets: Api<ReplicaSet> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let config = watcher::Config::default().labels(&format!("app={name}"));
    let wanted = deployment.spec.as_ref().map(|spec| &spec.template);
    let mut events = std::pin::pin!(watcher(sets, config).applied_objects());
    while let Some(set) = events.try_next().await.context("watch the replica sets")? {
        let owned = set
            .owner_references()
            .iter()
            .any(|owner| Some(&owner.uid) == deployment.metadata.uid.as_ref());
        let mut template = set.spec.and_then(|spec| spec.template);
        let labels = template.as_mut().and_then(|t| t.metadata.as_mut()?.labels.as_mut());
        let Some(hash) = labels.and_then(|labels| labels.remove(TEMPLATE_HASH)) else {
            continue;
        };
        if owned && template.as_ref() == wanted {
            return Ok(watcher::Config::default().labels(&format!("app={name},{TEMPLATE_HASH}={hash}")));
        }
    }
    bail!("the watch ended before deployment {name} had a replica set")
}

async fn create_pod(cluster: &Cluster, name: &str, mut template: Value) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    template["apiVersion"] = json!("v1");
    template["kind"] = json!("Pod");
    template["metadata"]["name"] = json!(name);
    template["spec"]["restartPolicy"] = json!("Never");
    let pod: Pod = serde_json::from_value(template).context("build the pod")?;
    match pods.create(&kube::api::PostParams::default(), &pod).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => bail!(
            "pod {name} exists already in namespace {}; delete it (kubectl delete pod {name}) or choose another --name",
            cluster.namespace
        ),
        Err(error) => Err(error).with_context(|| format!("create pod {name}")),
    }
}

/// Waits until one of the pods runs (or has run); shows what it waits for.
async fn follow(cluster: &Cluster, which: watcher::Config, progress: &mut Progress) -> Result<Pod> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let mut events = std::pin::pin!(watcher(pods, which).applied_objects());
    while let Some(pod) = events.try_next().await.context("watch the pod")? {
        if pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        match state_of(&pod) {
            State::Running => return Ok(pod),
            State::Failed(why) => {
                bail!(
                    "pod {} failed: {why}; its output: kubectl logs {}",
                    pod.name_any(),
                    pod.name_any()
                )
            }
            State::Waiting(what) => progress.say(&format!("pod {}: {what}", pod.name_any())),
        }
    }
    bail!("the watch ended before the pod ran")
}

enum State {
    Waiting(String),
    Running,
    Failed(String),
}

fn state_of(pod: &Pod) -> State {
    let Some(status) = &pod.status else {
        return State::Waiting("waiting to be scheduled".into());
    };
    let container = status.container_statuses.as_ref().and_then(|c| c.first());
    let reason = container.and_then(|c| c.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
    // It has ended and will be started again, and again: the user wants to know now.
    if reason == Some("CrashLoopBackOff") {
        let last = container.and_then(|c| c.last_state.as_ref()?.terminated.as_ref());
        return State::Failed(
            last.map_or_else(|| "it keeps ending".into(), |t| format!("it keeps ending: {}", how(t))),
        );
    }
    let ended = container.and_then(|c| c.state.as_ref()?.terminated.as_ref());
    match status.phase.as_deref() {
        Some("Succeeded") => return State::Running,
        Some("Failed") => {
            let why = ended.map(how);
            return State::Failed(
                why.or(status.message.clone())
                    .unwrap_or_else(|| "no reason given".into()),
            );
        }
        _ => {}
    }
    if container.is_some_and(|c| c.ready && c.state.as_ref().is_some_and(|s| s.running.is_some())) {
        return State::Running;
    }
    if let Some(waiting) = container.and_then(|c| c.state.as_ref()?.waiting.as_ref()) {
        let message = waiting.message.as_deref().map(|m| format!(": {m}")).unwrap_or_default();
        return State::Waiting(format!("{}{message}", waiting.reason.as_deref().unwrap_or("waiting")));
    }
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False");
    match unscheduled.and_then(|c| c.message.clone()) {
        Some(message) => State::Waiting(message),
        None => State::Waiting(status.phase.clone().unwrap_or_else(|| "Pending".into())),
    }
}

/// `Error (exit code 134): wasm trap: …`.
fn how(ended: &ContainerStateTerminated) -> String {
    let message = ended
        .message
        .as_deref()
        .and_then(|text| text.lines().next())
        .unwrap_or("");
    let separator = if message.is_empty() { "" } else { ": " };
    let reason = ended.reason.as_deref().unwrap_or("Error");
    format!("{reason} (exit code {}){separator}{message}", ended.exit_code)
}

fn report(name: &str, pod: &Pod, inspection: &Inspection, deployed: bool, port: Option<u16>, seconds: f64) {
    let status = pod.status.clone().unwrap_or_default();
    let address = status.pod_ip.unwrap_or_default();
    println!(
        "pod/{} is {} after {seconds:.2} s",
        pod.name_any(),
        status.phase.unwrap_or_default()
    );
    if is_http(inspection) {
        println!("  curl http://{address}:{}/", port.unwrap_or(HTTP_PORT));
    }
    if deployed {
        println!("  kubectl logs -f deployment/{name}");
        println!("  kubectl delete deployment {name}");
    } else {
        println!("  kubectl logs -f {name}");
        println!("  kubectl delete pod {name}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_become_pod_names() {
        assert_eq!(name_of(Path::new("/a/Hello_World.wasm")).unwrap(), "hello-world");
        assert!(name_of(Path::new("___.wasm")).is_err());
    }

    #[test]
    fn a_failed_pod_says_why() {
        let pod: Pod = serde_json::from_value(json!({
            "status": {"phase": "Failed", "containerStatuses": [{
                "name": "x", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]}
        }))
        .unwrap();
        assert!(matches!(state_of(&pod), State::Failed(why) if why.starts_with("OOMKilled (exit code 137)")));
    }

    #[test]
    fn a_pod_that_keeps_ending_is_not_waited_for() {
        let pod: Pod = serde_json::from_value(json!({
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "x", "image": "x", "imageID": "", "ready": false, "restartCount": 1,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 134, "reason": "Error", "message": "wasm trap: y\n 0: z"}}}]}
        }))
        .unwrap();
        let State::Failed(why) = state_of(&pod) else {
            panic!("waits")
        };
        assert_eq!(why, "it keeps ending: Error (exit code 134): wasm trap: y");
    }
}
