//! What annotations say of the capabilities of a pod's guests: the values of settings that are more than a number.

use std::fmt;

use crate::names;

/// Sources that one annotation may name.
const NAMES_MAX: usize = 64;

/// An object of the pod's namespace whose entries a guest reads with `wasi:config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    ConfigMap(String),
    Secret(String),
}

impl fmt::Display for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigMap(name) => write!(f, "configmap/{name}"),
            Self::Secret(name) => write!(f, "secret/{name}"),
        }
    }
}

/// `configmap/NAME, secret/NAME`: the value of `skiff.dev/config`. Errors: the detail of a field error.
pub fn config_sources(value: &str) -> Result<Vec<ConfigSource>, String> {
    let source = |text: &str| {
        let (kind, name) = text
            .split_once('/')
            .ok_or_else(|| format!("{text:?} must be of the form configmap/NAME or secret/NAME"))?;
        if let Some(problem) = names::dns1123_subdomain(name).first() {
            return Err(format!("{text:?}: {problem}"));
        }
        match kind {
            "configmap" => Ok(ConfigSource::ConfigMap(name.to_owned())),
            "secret" => Ok(ConfigSource::Secret(name.to_owned())),
            _ => Err(format!("{text:?} must be of the form configmap/NAME or secret/NAME")),
        }
    };
    words(value)?.into_iter().map(source).collect()
}

fn words(value: &str) -> Result<Vec<&str>, String> {
    let words: Vec<&str> = value
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .collect();
    match words.len() {
        0 => Err("must name something".to_owned()),
        1..=NAMES_MAX => Ok(words),
        _ => Err(format!("must have at most {NAMES_MAX} items")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_in_order_and_bad_ones_are_named() {
        let found = config_sources(" configmap/app, secret/db.prod,").unwrap();
        let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["configmap/app", "secret/db.prod"]);
        for bad in [
            "",
            ",",
            "app",
            "pod/app",
            "configmap/",
            "secret/../other",
            "configmap/a/b",
            "secret/A",
        ] {
            assert!(config_sources(bad).is_err(), "{bad}");
        }
        assert!(config_sources(&"secret/a,".repeat(NAMES_MAX + 1)).is_err());
    }
}
