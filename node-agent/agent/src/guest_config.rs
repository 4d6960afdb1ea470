//! What a guest reads with `wasi:config`: the ConfigMaps and Secrets of its own namespace that the pod's annotation names.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use skiff_api::capabilities::ConfigSource;
use skiff_api::pod_settings::settings_of;

use crate::env::api_error;
use crate::objects::Objects;
use crate::perform::namespace_and_name;

/// What the pod's annotation names for guests that ask for it (`wasi:config`), sorted; of a key in several sources the
/// last wins. Errors are kubelet's texts behind CreateContainerConfigError.
pub(crate) async fn resolve(objects: &Objects, pod: &Pod, container: &str) -> Result<Vec<(String, String)>, String> {
    let Some(annotations) = &pod.metadata.annotations else {
        return Ok(Vec::new());
    };
    let Some(sources) = settings_of(annotations, container).config else {
        return Ok(Vec::new());
    };
    let (namespace, _) = namespace_and_name(pod);
    let mut values = BTreeMap::new();
    for source in sources {
        values.extend(match source {
            ConfigSource::ConfigMap(name) => config_map_values(objects, namespace, &name).await?,
            ConfigSource::Secret(name) => secret_values(objects, namespace, &name).await?,
        });
    }
    Ok(values.into_iter().collect())
}

async fn config_map_values(objects: &Objects, namespace: &str, name: &str) -> Result<BTreeMap<String, String>, String> {
    let found = objects.config_map(namespace, name).await.map_err(api_error)?;
    let found = found.ok_or_else(|| format!("configmap \"{name}\" not found"))?;
    Ok(found.data.clone().unwrap_or_default())
}

async fn secret_values(objects: &Objects, namespace: &str, name: &str) -> Result<BTreeMap<String, String>, String> {
    let found = objects.secret(namespace, name).await.map_err(api_error)?;
    let found = found.ok_or_else(|| format!("secret \"{name}\" not found"))?;
    let data = found.data.iter().flatten();
    Ok(data
        .map(|(key, value)| (key.clone(), String::from_utf8_lossy(&value.0).into_owned()))
        .collect())
}
