//! Getting a container's image, as its pull policy says, and telling about it.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use serde_json::Value;
use skiff_lifecycle::{Outcome, texts};
use skiff_runtime::{Image, PullCredentials, Runtime, RuntimeError, Says};
use tracing::debug;

use crate::context::Context;
use crate::error::chain;
use crate::observe::image_id;
use crate::perform::namespace_and_name;

pub(crate) async fn pull(
    ctx: &Arc<Context>,
    runtime: &dyn Runtime,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    says: Says<'_>,
) -> Outcome {
    let name = &container.name;
    let reference = container.image.clone().unwrap_or_default();
    let policy = container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
    if policy != "Always" {
        match runtime.ensure_image_saying(&reference, false, &[], says).await {
            Ok(image) => {
                ctx.events.pod(pod, texts::already_present(name, &reference));
                return ready(name, attempt, &reference, &image);
            }
            Err(RuntimeError::ImageNeverPull { .. } | RuntimeError::NotFound { .. }) if policy == "IfNotPresent" => {}
            Err(RuntimeError::ImageNeverPull { .. } | RuntimeError::NotFound { .. }) => {
                let message = format!("Container image \"{reference}\" is not present with pull policy of Never");
                return failed(name, "ErrImageNeverPull", &message);
            }
            Err(error) => return failed(name, error.reason(), &why(&error)),
        }
    }
    ctx.events.pod(pod, texts::pulling(name, &reference));
    let started = Instant::now();
    let credentials = credentials(ctx, pod, &reference).await;
    match runtime.ensure_image_saying(&reference, true, &credentials, says).await {
        Ok(image) => {
            let took = SignedDuration::try_from(started.elapsed()).unwrap_or(SignedDuration::ZERO);
            ctx.events
                .pod(pod, texts::pulled(name, &reference, took, took, image.size_bytes));
            ready(name, attempt, &reference, &image)
        }
        Err(error) => {
            // A pod that ran here before goes on with the image that it had: a container must be able to start again
            // while the registry is out of reach, whatever its pull policy.
            if attempt > 0
                && let Ok(image) = runtime.ensure_image(&reference, false, &[]).await
            {
                ctx.events.pod(pod, texts::pull_failed(name, &reference, &why(&error)));
                ctx.events.pod(pod, texts::already_present(name, &reference));
                return ready(name, attempt, &reference, &image);
            }
            failed(name, error.reason(), &why(&error))
        }
    }
}

fn ready(container: &str, attempt: u32, reference: &str, image: &Image) -> Outcome {
    Outcome::ImageReady {
        container: container.to_owned(),
        attempt,
        image: reference.to_owned(),
        image_id: image_id(image),
        size_bytes: image.size_bytes,
    }
}

pub(crate) fn failed(container: &str, reason: &str, message: &str) -> Outcome {
    // A runtime that is away for a moment is to the user a pull that failed.
    let reason = if reason == "RuntimeUnavailable" {
        "ErrImagePull"
    } else {
        reason
    };
    Outcome::ImageFailed {
        container: container.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

/// The event names the image already.
fn why(error: &RuntimeError) -> String {
    match error {
        RuntimeError::Pull { why, .. } => why.clone(),
        other => chain(other),
    }
}

/// What the pod's imagePullSecrets hold for the image's registry. A missing Secret is no error: the pull may do without.
async fn credentials(ctx: &Context, pod: &Pod, reference: &str) -> Vec<PullCredentials> {
    let (namespace, _) = namespace_and_name(pod);
    let mut found = Vec::new();
    for secret in pod
        .spec
        .iter()
        .flat_map(|spec| spec.image_pull_secrets.iter().flatten())
    {
        match ctx.objects.secret(namespace, &secret.name).await {
            Ok(Some(secret)) => found.extend(of_secret(&secret, reference)),
            Ok(None) => debug!(secret = secret.name, "no such image pull secret"),
            Err(error) => debug!(error = chain(&error), "could not read an image pull secret"),
        }
    }
    found
}

fn of_secret(secret: &Secret, reference: &str) -> Vec<PullCredentials> {
    let data = secret.data.iter().flatten();
    let configs = data.filter_map(|(key, value)| match key.as_str() {
        ".dockerconfigjson" => serde_json::from_slice::<Value>(&value.0)
            .ok()
            .map(|value| value["auths"].clone()),
        ".dockercfg" => serde_json::from_slice::<Value>(&value.0).ok(),
        _ => None,
    });
    let auths = configs.filter_map(|config| config.as_object().cloned()).flatten();
    auths
        .filter(|(server, _)| is_for(server, reference))
        .filter_map(|(_, entry)| of_entry(&entry))
        .collect()
}

/// Whether credentials kept for `server` (`https://ghcr.io/v1/`, `ghcr.io/team`) are meant for the image.
fn is_for(server: &str, reference: &str) -> bool {
    let server = server.trim_start_matches("https://").trim_start_matches("http://");
    let server = server
        .trim_end_matches('/')
        .trim_end_matches("/v1")
        .trim_end_matches("/v2");
    let explicit = reference
        .split_once('/')
        .is_some_and(|(host, _)| host.contains(['.', ':']) || host == "localhost");
    let full = if explicit {
        reference.to_owned()
    } else {
        format!("index.docker.io/{reference}")
    };
    let full = full.replacen(
        "docker.io/",
        "index.docker.io/",
        usize::from(full.starts_with("docker.io/")),
    );
    full.strip_prefix(server)
        .is_some_and(|rest| rest.starts_with(['/', ':', '@']))
}

fn of_entry(entry: &Value) -> Option<PullCredentials> {
    let text = |key: &str| entry[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    if let Some((username, password)) = text("username").zip(text("password")) {
        return Some(PullCredentials { username, password });
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(text("auth")?).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (username, password) = decoded.split_once(':')?;
    Some(PullCredentials {
        username: username.to_owned(),
        password: password.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_sent_only_to_the_registry_that_they_are_for() {
        assert!(is_for("ghcr.io", "ghcr.io/a/b:1"));
        assert!(is_for("https://ghcr.io/v1/", "ghcr.io/a/b:1"));
        assert!(is_for("ghcr.io/a", "ghcr.io/a/b:1"));
        assert!(is_for("https://index.docker.io/v1/", "nginx"));
        assert!(is_for("https://index.docker.io/v1/", "docker.io/library/nginx"));
        assert!(!is_for("ghcr.io", "ghcr.io.evil.example/a"));
        assert!(!is_for("ghcr.io/team", "ghcr.io/teammate/b"));
    }

    #[test]
    fn a_docker_config_gives_user_and_password() {
        let auth = base64::engine::general_purpose::STANDARD.encode("me:se:cret");
        let config = serde_json::json!({ "auths": { "ghcr.io": { "auth": auth } } }).to_string();
        let data = [(
            ".dockerconfigjson".to_owned(),
            k8s_openapi::ByteString(config.into_bytes()),
        )]
        .into();
        let secret = Secret {
            data: Some(data),
            ..Secret::default()
        };
        let found = of_secret(&secret, "ghcr.io/a/b");
        assert_eq!(
            found,
            [PullCredentials {
                username: "me".to_owned(),
                password: "se:cret".to_owned()
            }]
        );
    }
}
