//! NodeMetrics and PodMetrics of small numbers.

use skiff_api::codec::protobuf;
use skiff_api::usage::{NodeUsage, PodUsage, Use};

use super::*;

fn cached(namespace: &str, name: &str) -> CachedObject {
    CachedObject {
        key: String::new(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        revision: 1,
        bytes: bytes::Bytes::new(),
        labels: [("app".to_owned(), "web".to_owned())].into(),
        fields: Vec::new(),
    }
}

fn usage() -> NodeUsage {
    let of = |nano_cores, memory| Use {
        nano_cores,
        window: 15_123_456_789,
        memory,
    };
    let pod = |name: &str, containers: &[(&str, Use)]| PodUsage {
        namespace: "default".into(),
        name: name.into(),
        containers: containers.iter().map(|(name, of)| ((*name).to_owned(), *of)).collect(),
    };
    NodeUsage {
        time: 1_700_000_000_999,
        node: of(1_500_000_000, 3 << 30),
        pods: vec![
            pod("a", &[("web", of(1_234_567, 65_536))]),
            pod("b", &[("one", of(2_000_000, 1000)), ("two", of(0, 0))]),
        ],
    }
}

#[test]
fn figures_become_quantities_in_their_canonical_form() {
    let node = objects::node(&cached("", "n1"), &usage(), 1_700_000_001);
    assert_eq!(
        node,
        json!({
            "kind": "NodeMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": { "name": "n1", "creationTimestamp": "2023-11-14T22:13:21Z", "labels": { "app": "web" } },
            "timestamp": "2023-11-14T22:13:20Z", "window": "15.123s",
            "usage": { "cpu": "1500m", "memory": "3Gi" },
        })
    );
    let pod = objects::pod(&cached("default", "b"), &usage(), 0).expect("told");
    assert_eq!(
        pod["containers"],
        json!([
            { "name": "one", "usage": { "cpu": "2m", "memory": "1k" } },
            { "name": "two", "usage": { "cpu": "0", "memory": "0" } },
        ])
    );
    let a = objects::pod(&cached("default", "a"), &usage(), 0).expect("told");
    assert_eq!(
        a["containers"][0]["usage"],
        json!({ "cpu": "1234567n", "memory": "64Ki" })
    );
    assert!(objects::pod(&cached("default", "c"), &usage(), 0).is_none());
    assert!(objects::pod(&cached("other", "a"), &usage(), 0).is_none());
}

#[test]
fn a_table_has_a_pods_sum() {
    let pod = objects::pod(&cached("default", "b"), &usage(), 0).expect("told");
    let table = objects::table(&[pod], true, table::Include::Metadata, "v1");
    assert_eq!(table["rows"][0]["cells"], json!(["b", "2m", "1k", "15.123s"]));
    assert_eq!(table["rows"][0]["object"]["metadata"]["name"], "b");
}

#[test]
fn metrics_have_a_protobuf_form() {
    let pod = objects::pod(&cached("default", "a"), &usage(), 0).expect("told");
    let list = json!({
        "kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": [pod],
    });
    let bytes = protobuf::encode(&list).expect("encoded");
    let back = protobuf::decode(&bytes).expect("decoded");
    assert_eq!(back["items"][0]["containers"], list["items"][0]["containers"]);
    assert_eq!(back["items"][0]["window"], "15.123s");
}
