//! Settings of a pod that Kubernetes has no field for: annotations `skiff.dev/NAME` for all its containers, or
//! `NAME.skiff.dev/CONTAINER` for one, which wins. What Kubernetes has an annotation for goes by that.
//!
//! [`SETTINGS`] is the table: one row per setting, with its shape, default and parser. Admission refuses a pod with a bad
//! value ([`problems`]), workloads are warned of one in their template ([`warnings`]), and runtimes read a container's
//! settings with [`settings_of`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::capabilities::{self, ConfigSource};
use crate::field::{FieldErrors, Path};

pub mod network;
mod values;

pub use network::{Cidr, Destination, EgressPolicy, EgressRule, IngressPolicy};

/// Domain of the settings that are Skiff's own.
pub const DOMAIN: &str = "skiff.dev";

/// What one container is told by its pod's annotations. None = the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSettings {
    /// What its guests read with `wasi:config`.
    pub config: Option<Vec<ConfigSource>>,
    /// Bytes and keys up to which its writes may fill the namespace's buckets (`wasi:keyvalue`).
    pub keyvalue_bytes: Option<u64>,
    pub keyvalue_keys: Option<u64>,
    /// Where it may connect to.
    pub egress: Option<EgressPolicy>,
    /// Who may connect to it.
    pub ingress: Option<IngressPolicy>,
    /// Files and directories that it may have open at once, over all its instances.
    pub open_files: Option<u64>,
    /// Sockets that it may have at once, over all its instances.
    pub sockets: Option<u64>,
    /// Connections that others may have to it at once.
    pub connections: Option<u64>,
    /// Outgoing HTTP calls in flight at once.
    pub outgoing_requests: Option<u64>,
    /// Requests that run at once, each in an instance.
    pub requests: Option<u64>,
    /// Requests that wait for their turn; beyond it the answer is 503.
    pub request_queue: Option<u64>,
    /// Handles of one instance: resources, streams, futures, tasks.
    pub handles: Option<u64>,
    /// Requests that one instance serves, one after another.
    pub instance_reuse: Option<u64>,
    /// Time of one request.
    pub request_deadline: Option<Duration>,
    /// Log bytes per second.
    pub log_rate: Option<u64>,
}

type Parsed = Result<(), String>;

/// How a value gets where it belongs. An error is the detail of a field error.
#[derive(Clone, Copy)]
pub enum Parse {
    /// `skiff.dev/NAME` or `NAME.skiff.dev/CONTAINER`.
    Container(fn(&mut ContainerSettings, &str) -> Parsed),
    /// The whole key, one value for the pod: checked, and read by nobody.
    Pod(fn(&str) -> Parsed),
}

/// One row of the table.
pub struct Setting {
    /// `egress`; the whole key for a setting of the pod.
    pub name: &'static str,
    /// What a value looks like, for a reader of the documentation.
    pub shape: &'static str,
    /// What holds without the annotation.
    pub default: &'static str,
    pub doc: &'static str,
    pub parse: Parse,
}

/// The parser of one field of a container's settings.
macro_rules! set {
    ($field:ident, $parse:expr) => {
        Parse::Container(|settings, value| {
            settings.$field = Some($parse(value)?);
            Ok(())
        })
    };
}

/// Every setting, by name.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "config",
        shape: "list of configmap/NAME and secret/NAME",
        default: "nothing",
        doc: "what guests read with `wasi:config`; of a key in several the last wins",
        parse: set!(config, capabilities::config_sources),
    },
    Setting {
        name: "connections",
        shape: "count",
        default: "4096",
        doc: "connections from others at once",
        parse: set!(connections, values::count),
    },
    Setting {
        name: "egress",
        shape: "list",
        default: "default",
        doc: "where the container may connect to",
        parse: set!(egress, EgressPolicy::parse),
    },
    Setting {
        name: "handles",
        shape: "count",
        default: "4096",
        doc: "handles of one instance at once: resources, streams, futures, tasks",
        parse: set!(handles, values::count),
    },
    Setting {
        name: "ingress",
        shape: "list of CIDRs",
        default: "everybody",
        doc: "who may connect to the container",
        parse: set!(ingress, IngressPolicy::parse),
    },
    Setting {
        name: "instance-reuse",
        shape: "count",
        default: "1",
        doc: "requests that one instance of a server serves, one after another",
        parse: set!(instance_reuse, values::positive),
    },
    Setting {
        name: "keyvalue-bytes",
        shape: "quantity, bytes",
        default: "64Mi",
        doc: "bytes up to which writes may fill the namespace's buckets on the node; at most 1Gi",
        parse: set!(keyvalue_bytes, values::bytes),
    },
    Setting {
        name: "keyvalue-keys",
        shape: "count",
        default: "100000",
        doc: "keys up to which writes may fill the namespace's buckets on the node",
        parse: set!(keyvalue_keys, values::count),
    },
    Setting {
        name: "kubernetes.io/egress-bandwidth",
        shape: "quantity, bits per second",
        default: "unlimited",
        doc: "checked, but not enforced: traffic from the pod is not shaped",
        parse: Parse::Pod(values::bandwidth),
    },
    Setting {
        name: "kubernetes.io/ingress-bandwidth",
        shape: "quantity, bits per second",
        default: "unlimited",
        doc: "checked, but not enforced: traffic to the pod is not shaped",
        parse: Parse::Pod(values::bandwidth),
    },
    Setting {
        name: "log-rate",
        shape: "quantity, bytes per second",
        default: "1Mi",
        doc: "log bytes per second; eight times as much may be saved up",
        parse: set!(log_rate, values::bytes),
    },
    Setting {
        name: "open-files",
        shape: "count",
        default: "16384",
        doc: "files and directories open at once",
        parse: set!(open_files, values::count),
    },
    Setting {
        name: "outgoing-requests",
        shape: "count",
        default: "512",
        doc: "outgoing HTTP calls in flight",
        parse: set!(outgoing_requests, values::count),
    },
    Setting {
        name: "request-deadline",
        shape: "duration",
        default: "60s",
        doc: "time of one request, from its first byte to the end of its guest",
        parse: set!(request_deadline, values::duration),
    },
    Setting {
        name: "request-queue",
        shape: "count",
        default: "512",
        doc: "requests that wait for their turn",
        parse: set!(request_queue, values::count),
    },
    Setting {
        name: "requests",
        shape: "count",
        default: "64",
        doc: "requests that run at once, each in an instance of its own",
        parse: set!(requests, values::positive),
    },
    Setting {
        name: "sockets",
        shape: "count",
        default: "4096",
        doc: "sockets at once, listening and connected",
        parse: set!(sockets, values::count),
    },
];

/// The setting that an annotation key is, and the container that it is for: none = all of the pod's.
pub fn of_key(key: &str) -> Option<(&'static Setting, Option<&str>)> {
    let find = |name: &str, wanted: fn(&Parse) -> bool| {
        let index = SETTINGS.binary_search_by(|setting| setting.name.cmp(name)).ok()?;
        Some(&SETTINGS[index]).filter(|setting| wanted(&setting.parse))
    };
    let (prefix, rest) = key.split_once('/')?;
    let of_containers = |parse: &Parse| matches!(parse, Parse::Container(_));
    if let Some(name) = prefix.strip_suffix(DOMAIN).and_then(|name| name.strip_suffix('.')) {
        return Some((find(name, of_containers)?, Some(rest)));
    }
    if let Some(setting) = find(rest, of_containers).filter(|_| prefix == DOMAIN) {
        return Some((setting, None));
    }
    Some((find(key, |parse| matches!(parse, Parse::Pod(_)))?, None))
}

/// The settings of one container. Values that cannot be read are left out: admission refused them, unless the pod is
/// older than the setting.
pub fn settings_of(annotations: &BTreeMap<String, String>, container: &str) -> ContainerSettings {
    let mut settings = ContainerSettings::default();
    let mut own = Vec::new();
    for (key, value) in annotations {
        match of_key(key) {
            Some((setting, None)) => apply(setting, value, &mut settings),
            Some((setting, Some(name))) if name == container => own.push((setting, value)),
            _ => {}
        }
    }
    // The container's own come last, so that they win.
    for (setting, value) in own {
        apply(setting, value, &mut settings);
    }
    settings
}

fn apply(setting: &Setting, value: &str, settings: &mut ContainerSettings) {
    if let Parse::Container(parse) = setting.parse {
        let mut changed = settings.clone();
        if parse(&mut changed, value).is_ok() {
            *settings = changed;
        }
    }
}

/// What is wrong with the values among `annotations` (an object's `metadata.annotations`, at `path`).
pub fn problems(annotations: Option<&Value>, path: &Path, errors: &mut FieldErrors) {
    for (key, value) in annotations.and_then(Value::as_object).into_iter().flatten() {
        let (Some((setting, _)), Some(value)) = (of_key(key), value.as_str()) else {
            continue;
        };
        let parsed = match setting.parse {
            Parse::Container(parse) => parse(&mut ContainerSettings::default(), value),
            Parse::Pod(parse) => parse(value),
        };
        if let Err(detail) = parsed {
            errors.invalid(&path.key(key), value, &detail);
        }
    }
}

/// What is probably not meant in the annotations of a pod or of a template: the problems, settings that do not exist, and
/// settings for containers that do not.
pub fn warnings(annotations: Option<&Value>, containers: &[&str], path: &Path) -> Vec<String> {
    let mut errors = FieldErrors::new();
    problems(annotations, path, &mut errors);
    let mut texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    for (key, _) in annotations.and_then(Value::as_object).into_iter().flatten() {
        let path = path.key(key);
        match of_key(key) {
            Some((_, Some(container))) if !containers.contains(&container) => {
                texts.push(format!("{path}: the pod has no container {container:?}"));
            }
            None if is_ours(key) => texts.push(format!("{path}: no such setting")),
            _ => {}
        }
    }
    texts
}

fn is_ours(key: &str) -> bool {
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    prefix == DOMAIN || prefix.strip_suffix(DOMAIN).is_some_and(|name| name.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn the_table_is_sorted_so_that_it_can_be_searched() {
        assert!(SETTINGS.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn a_containers_own_setting_wins() {
        let annotations = annotations(&[
            ("skiff.dev/sockets", "8"),
            ("sockets.skiff.dev/web", "2"),
            ("skiff.dev/request-deadline", "1m30s"),
            ("skiff.dev/nothing", "x"),
            ("sockets.skiff.dev/broken", "many"),
        ]);
        let web = settings_of(&annotations, "web");
        assert_eq!(
            (web.sockets, web.request_deadline),
            (Some(2), Some(Duration::from_secs(90)))
        );
        assert_eq!(settings_of(&annotations, "other").sockets, Some(8));
        // A value that cannot be read does not hide the pod's.
        assert_eq!(settings_of(&annotations, "broken").sockets, Some(8));
    }

    #[test]
    fn keys_are_for_all_containers_or_one() {
        let of = |key| of_key(key).map(|(setting, container)| (setting.name, container));
        assert_eq!(of("skiff.dev/config"), Some(("config", None)));
        assert_eq!(of("config.skiff.dev/x"), Some(("config", Some("x"))));
        for other in ["skiff.dev/configs", "config", "a/config", "configs.skiff.dev/x"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn bandwidth_is_the_pods() {
        let key = "kubernetes.io/egress-bandwidth";
        let (setting, container) = of_key(key).unwrap();
        assert_eq!((setting.name, container), (key, None));
        for other in [
            "skiff.dev/kubernetes.io",
            "kubernetes.io/sockets",
            "kubernetes.io/egress-bandwidth.skiff.dev/web",
        ] {
            assert!(of_key(other).is_none(), "{other}");
        }
    }

    #[test]
    fn bad_values_are_told_as_kubernetes_tells() {
        let path = Path::new("metadata").child("annotations");
        let bad = json!({
            "skiff.dev/open-files": "-1",
            "skiff.dev/requests": "0",
            "kubernetes.io/ingress-bandwidth": "1",
            "skiff.dev/egress": "10.0.0.0/33",
            "ingress.skiff.dev/web": "here",
            "request-deadline.skiff.dev/web": "soon",
            "log-rate.skiff.dev/gone": "1Mi",
            "skiff.dev/egres": "none",
            "example.com/egress": "anything",
        });
        let texts = warnings(Some(&bad), &["web"], &path);
        expect_test::expect![[r#"
            metadata.annotations[ingress.skiff.dev/web]: Invalid value: "here": "here" is not an address or CIDR
            metadata.annotations[kubernetes.io/ingress-bandwidth]: Invalid value: "1": resource is unreasonably small (< 1kbit)
            metadata.annotations[request-deadline.skiff.dev/web]: Invalid value: "soon": must be a positive duration such as "1m30s"
            metadata.annotations[skiff.dev/egress]: Invalid value: "10.0.0.0/33": "10.0.0.0/33" is not a CIDR: the prefix is longer than 32
            metadata.annotations[skiff.dev/open-files]: Invalid value: "-1": must be a whole number from 0 to 1000000
            metadata.annotations[skiff.dev/requests]: Invalid value: "0": must be a whole number from 1 to 1000000
            metadata.annotations[log-rate.skiff.dev/gone]: the pod has no container "gone"
            metadata.annotations[skiff.dev/egres]: no such setting"#]]
        .assert_eq(&texts.join("\n"));
    }
}
