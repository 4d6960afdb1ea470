//! Finding the module in an image manifest (pure).

use serde::Deserialize;

/// What we accept in answer to a manifest request.
pub const MANIFEST_MEDIA_TYPES: &[&str] = &[
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// Layer media types that are a module: the standard, then what runwasi, wasm-to-oci and Spin wrote before it.
const MODULE_MEDIA_TYPES: &[&str] = &[
    "application/wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.wasm.content.layer.v1",
    "application/vnd.module.wasm.content.layer.v1+wasm",
];

/// What a manifest leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The module itself.
    Module { digest: String, size: u64 },
    /// An index: this manifest of it.
    Manifest { digest: String },
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

/// Finds the one module of an image. Errors: why there is none, worded for `kubectl describe`.
pub fn find(bytes: &[u8]) -> Result<Found, String> {
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|error| format!("malformed manifest: {error}"))?;
    if !manifest.manifests.is_empty() {
        let wasm = |d: &&Descriptor| {
            d.platform
                .as_ref()
                .is_some_and(|p| p.architecture.starts_with("wasm") || p.os.starts_with("wasi"))
        };
        let chosen = manifest.manifests.iter().find(wasm);
        let chosen = chosen.or_else(|| manifest.manifests.first().filter(|_| manifest.manifests.len() == 1));
        let chosen = chosen.ok_or("no match for platform wasi/wasm in manifest")?;
        return Ok(Found::Manifest {
            digest: chosen.digest.clone(),
        });
    }
    let modules: Vec<_> = manifest
        .layers
        .iter()
        .filter(|layer| MODULE_MEDIA_TYPES.contains(&layer.media_type.as_str()))
        .collect();
    match &modules[..] {
        [module] => Ok(Found::Module {
            digest: module.digest.clone(),
            size: module.size,
        }),
        [] => {
            let types: Vec<_> = manifest.layers.iter().map(|layer| layer.media_type.as_str()).collect();
            Err(format!(
                "no WebAssembly module in the image (layers: {})",
                types.join(", ")
            ))
        }
        several => Err(format!(
            "{} WebAssembly modules in the image, one expected",
            several.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> Result<Found, String> {
        find(json.as_bytes())
    }

    #[test]
    fn the_module_layer_is_found_whatever_it_was_called() {
        for media_type in MODULE_MEDIA_TYPES {
            let json = format!(
                r#"{{"layers":[{{"mediaType":"text/x","digest":"d0"}},{{"mediaType":"{media_type}","digest":"d1","size":7}}]}}"#
            );
            assert_eq!(
                check(&json),
                Ok(Found::Module {
                    digest: "d1".into(),
                    size: 7
                })
            );
        }
    }

    #[test]
    fn an_index_leads_to_its_wasm_platform() {
        let json = r#"{"manifests":[{"digest":"a","platform":{"architecture":"amd64","os":"linux"}},
            {"digest":"b","platform":{"architecture":"wasm","os":"wasi"}}]}"#;
        assert_eq!(check(json), Ok(Found::Manifest { digest: "b".into() }));
    }

    #[test]
    fn an_ordinary_container_image_says_what_it_is() {
        let json = r#"{"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"d"}]}"#;
        assert!(check(json).expect_err("no module").contains("tar+gzip"));
        assert!(check("[]").is_err());
    }
}
