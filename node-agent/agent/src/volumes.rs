//! Volumes: each a directory `pods/<uid>/volumes/<name>`, made before containers start and, where it comes from API
//! objects, compared with them now and then. What goes into it is said by one file a source.

mod atomic;
mod host_path;
mod payload;

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Container, Pod, Volume};
use skiff_lifecycle::spec;
use skiff_runtime::Mount;

use crate::context::Context;
use crate::env::{self, Facts};
use crate::error::chain;
use crate::files;
use crate::pods::uid;

/// Makes or refreshes all volumes that containers mount. The error is the text of a FailedMount event.
pub(crate) async fn prepare(ctx: &Arc<Context>, pod: &Pod, pod_ip: Option<String>) -> Result<(), String> {
    let facts = Facts::new(ctx, pod_ip);
    // Closed to other users of the machine, since Secrets lie below.
    files::create_directory(&ctx.pod_directory(&uid(pod))).map_err(|error| chain(&error))?;
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let used = volumes.filter(|volume| is_mounted(pod, &volume.name));
    let all = used.map(|volume| {
        let facts = &facts;
        async move {
            let failed = |why| format!("MountVolume.SetUp failed for volume \"{}\" : {why}", volume.name);
            prepare_one(ctx, pod, volume, facts).await.map_err(failed)
        }
    });
    try_join_all(all).await.map(|_| ())
}

fn is_mounted(pod: &Pod, volume: &str) -> bool {
    let Some(pod_spec) = &pod.spec else { return false };
    spec::containers(pod_spec).any(|(_, container)| {
        container
            .volume_mounts
            .iter()
            .flatten()
            .any(|mount| mount.name == volume)
    })
}

fn directory(ctx: &Context, pod: &Pod, volume: &str) -> PathBuf {
    ctx.pod_directory(&uid(pod)).join("volumes").join(volume)
}

async fn prepare_one(ctx: &Arc<Context>, pod: &Pod, volume: &Volume, facts: &Facts) -> Result<(), String> {
    let directory = directory(ctx, pod, &volume.name);
    if let Some(source) = &volume.host_path {
        return host_path::check(&source.path, source.type_.as_deref().unwrap_or_default());
    }
    if volume.empty_dir.is_some() {
        return files::create_directory(&directory).map_err(|error| chain(&error));
    }
    let payload = payload::gather(ctx, pod, volume, facts).await?;
    let written = tokio::task::spawn_blocking(move || atomic::write(&directory, &payload)).await;
    written
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())
}

/// What the container sees of its volumes.
pub(crate) fn mounts(
    ctx: &Context,
    pod: &Pod,
    container: &Container,
    variables: &[(String, String)],
) -> Result<Vec<Mount>, String> {
    let volumes: Vec<&Volume> = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).collect();
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = volumes.iter().find(|volume| volume.name == mount.name);
        let volume = volume.ok_or_else(|| format!("volume \"{}\" not found", mount.name))?;
        let (root, is_ours) = match &volume.host_path {
            Some(source) => (PathBuf::from(&source.path), false),
            None => (directory(ctx, pod, &volume.name), volume.empty_dir.is_none()),
        };
        let sub_path = match &mount.sub_path_expr {
            Some(expression) => env::expand(expression, variables),
            None => mount.sub_path.clone().unwrap_or_default(),
        };
        let host_path = if sub_path.is_empty() {
            root
        } else {
            inside(&root, &sub_path, !is_ours)?
        };
        mounts.push(Mount {
            host_path,
            container_path: mount.mount_path.clone(),
            read_only: mount.read_only == Some(true) || is_ours,
        });
    }
    Ok(mounts)
}

/// `root/sub_path`, which must not lead out of `root`, by `..` or by a link that a container planted.
fn inside(root: &Path, sub_path: &str, create: bool) -> Result<PathBuf, String> {
    let relative = Path::new(sub_path);
    if !relative
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    {
        return Err(format!(
            "subPath {sub_path:?} must be relative and must not contain '..'"
        ));
    }
    let failed = |error: std::io::Error| format!("failed to prepare subPath {sub_path:?}: {error}");
    let root = root.canonicalize().map_err(failed)?;
    if create {
        // Step by step, so that no directory is made behind a link that leads out.
        let mut path = root.clone();
        for part in relative.components() {
            path.push(part);
            if path.symlink_metadata().is_err() {
                std::fs::create_dir(&path).map_err(failed)?;
            }
            let real = path.canonicalize().map_err(failed)?;
            if !real.starts_with(&root) {
                return Err(format!("subPath {sub_path:?} is not within the volume"));
            }
        }
    }
    let real = root.join(relative).canonicalize().map_err(failed)?;
    if !real.starts_with(&root) {
        return Err(format!("subPath {sub_path:?} is not within the volume"));
    }
    Ok(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_path_cannot_leave_its_volume() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("volume");
        std::fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("link")).unwrap();
        assert!(inside(&root, "a/b", true).unwrap().ends_with("volume/a/b"));
        assert!(inside(&root, "../x", true).is_err());
        assert!(inside(&root, "/etc", true).is_err());
        assert!(inside(&root, "link/x", true).is_err());
        assert!(inside(&root, "missing", false).is_err());
    }
}
