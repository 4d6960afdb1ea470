//! The files of volumes that are made from API objects: configMap, secret, downwardAPI, projected.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Pod, ServiceAccountTokenProjection, Volume};

use super::atomic::Payload;
use crate::context::Context;
use crate::env::{self, Facts};
use crate::error::chain;
use crate::perform::namespace_and_name;
use crate::tokens;

/// Kubernetes' default for `defaultMode`.
const MODE_DEFAULT: i32 = 0o644;
/// Tokens are readable by their owner only.
const TOKEN_MODE: u32 = 0o600;
const TOKEN_SECONDS_DEFAULT: i64 = 3600;

pub(crate) async fn gather(ctx: &Arc<Context>, pod: &Pod, volume: &Volume, facts: &Facts) -> Result<Payload, String> {
    let mut payload = Payload::new();
    if let Some(source) = &volume.config_map {
        let (name, optional) = (source.name.as_str(), source.optional == Some(true));
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        let data = config_map(ctx, pod, name, optional).await?;
        pick(
            &mut payload,
            &data,
            source.items.as_deref(),
            mode,
            optional,
            "configmap",
        )?;
    } else if let Some(source) = &volume.secret {
        let (name, optional) = (
            source.secret_name.as_deref().unwrap_or_default(),
            source.optional == Some(true),
        );
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        let data = secret(ctx, pod, name, optional).await?;
        pick(&mut payload, &data, source.items.as_deref(), mode, optional, "secret")?;
    } else if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        downward(
            &mut payload,
            pod,
            source.items.as_deref().unwrap_or_default(),
            mode,
            facts,
        )?;
    } else if let Some(source) = &volume.projected {
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        for source in source.sources.iter().flatten() {
            if let Some(source) = &source.config_map {
                let optional = source.optional == Some(true);
                let data = config_map(ctx, pod, &source.name, optional).await?;
                pick(
                    &mut payload,
                    &data,
                    source.items.as_deref(),
                    mode,
                    optional,
                    "configmap",
                )?;
            } else if let Some(source) = &source.secret {
                let optional = source.optional == Some(true);
                let data = secret(ctx, pod, &source.name, optional).await?;
                pick(&mut payload, &data, source.items.as_deref(), mode, optional, "secret")?;
            } else if let Some(source) = &source.downward_api {
                downward(
                    &mut payload,
                    pod,
                    source.items.as_deref().unwrap_or_default(),
                    mode,
                    facts,
                )?;
            } else if let Some(source) = &source.service_account_token {
                let token = token(ctx, pod, source).await?;
                payload.insert(source.path.clone(), (token.into_bytes(), TOKEN_MODE));
            } else {
                return Err("this kind of projected source is not available on this node".to_owned());
            }
        }
    } else {
        return Err(format!(
            "volumes of type {} are not available on this node",
            kind(volume)
        ));
    }
    Ok(payload)
}

/// The volume's source as its field is called.
fn kind(volume: &Volume) -> String {
    let value = serde_json::to_value(volume).unwrap_or_default();
    let mut keys = value
        .as_object()
        .into_iter()
        .flat_map(|map| map.keys())
        .filter(|key| *key != "name");
    keys.next().cloned().unwrap_or_else(|| "unknown".to_owned())
}

type Data = BTreeMap<String, Vec<u8>>;

async fn config_map(ctx: &Context, pod: &Pod, name: &str, optional: bool) -> Result<Data, String> {
    let (namespace, _) = namespace_and_name(pod);
    match ctx.objects.config_map(namespace, name).await {
        Ok(Some(found)) => {
            let text = found
                .data
                .iter()
                .flatten()
                .map(|(key, value)| (key.clone(), value.clone().into_bytes()));
            let bytes = found
                .binary_data
                .iter()
                .flatten()
                .map(|(key, value)| (key.clone(), value.0.clone()));
            Ok(text.chain(bytes).collect())
        }
        Ok(None) if optional => Ok(Data::new()),
        Ok(None) => Err(format!("configmap \"{name}\" not found")),
        Err(error) => Err(chain(&error)),
    }
}

async fn secret(ctx: &Context, pod: &Pod, name: &str, optional: bool) -> Result<Data, String> {
    let (namespace, _) = namespace_and_name(pod);
    match ctx.objects.secret(namespace, name).await {
        Ok(Some(found)) => Ok(found
            .data
            .iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.0.clone()))
            .collect()),
        Ok(None) if optional => Ok(Data::new()),
        Ok(None) => Err(format!("secret \"{name}\" not found")),
        Err(error) => Err(chain(&error)),
    }
}

/// All keys, or those that `items` names, at their paths.
fn pick(
    payload: &mut Payload,
    data: &Data,
    items: Option<&[KeyToPath]>,
    default_mode: i32,
    optional: bool,
    what: &str,
) -> Result<(), String> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        payload.extend(
            data.iter()
                .map(|(key, value)| (key.clone(), (value.clone(), mode(default_mode)))),
        );
        return Ok(());
    };
    for item in items {
        match data.get(&item.key) {
            Some(value) => {
                let mode = mode(item.mode.unwrap_or(default_mode));
                payload.insert(item.path.clone(), (value.clone(), mode));
            }
            None if optional => {}
            None => return Err(format!("{what} references non-existent config key: {}", item.key)),
        }
    }
    Ok(())
}

fn downward(
    payload: &mut Payload,
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    default_mode: i32,
    facts: &Facts,
) -> Result<(), String> {
    for item in items {
        let content = match (&item.field_ref, &item.resource_field_ref) {
            (Some(reference), _) => env::field(pod, reference, facts)?,
            (None, Some(reference)) => env::resource(pod, None, reference, facts)?,
            (None, None) => String::new(),
        };
        payload.insert(
            item.path.clone(),
            (content.into_bytes(), mode(item.mode.unwrap_or(default_mode))),
        );
    }
    Ok(())
}

fn mode(mode: i32) -> u32 {
    mode.unsigned_abs() & 0o777
}

async fn token(ctx: &Context, pod: &Pod, source: &ServiceAccountTokenProjection) -> Result<String, String> {
    let seconds = source.expiration_seconds.unwrap_or(TOKEN_SECONDS_DEFAULT);
    tokens::get(&ctx.objects, pod, source.audience.as_deref(), seconds).await
}
