//! Bodies in, values and Kubernetes' texts out. The texts marked "server" were recorded from a real one.

use super::*;
use crate::codec::DEPTH_MAX;
use crate::schema::Schema;
use proptest::prelude::*;
use serde_json::json;

fn message(kind: &str) -> &'static Message {
    let group = match kind {
        "Deployment" => "apps",
        "PriorityClass" => "scheduling.k8s.io",
        "Lease" => "coordination.k8s.io",
        "Role" => "rbac.authorization.k8s.io",
        "CustomResourceDefinition" => "apiextensions.k8s.io",
        _ => "",
    };
    Schema::get().message_for(group, "v1", kind).unwrap()
}

fn decoded(kind: &str, body: &str) -> Decoded {
    decode(body.as_bytes(), Some(message(kind))).unwrap()
}

fn value(kind: &str, body: &str) -> Value {
    decoded(kind, body).value
}

fn error(kind: &str, body: &str) -> String {
    decode(body.as_bytes(), Some(message(kind))).map_or_else(|error| error.to_string(), |d| format!("{d:?}"))
}

#[test]
fn unknown_and_duplicate_fields_are_listed_in_the_order_of_the_text() {
    let body =
        r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"f","bogus":1},"data":{"a":"1"},"extra":{"x":1}}"#;
    let config_map = decoded("ConfigMap", body);
    // server
    assert_eq!(
        config_map.problems.join(", "),
        r#"unknown field "metadata.bogus", unknown field "extra""#
    );
    assert_eq!(
        config_map.value,
        json!({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"f"},"data":{"a":"1"}})
    );

    let body =
        r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"dup"},"data":{"a":"1","a":"2"},"data":{"b":"1"}}"#;
    let config_map = decoded("ConfigMap", body);
    // server
    assert_eq!(
        config_map.problems.join(", "),
        r#"duplicate field "data.a", duplicate field "data""#
    );
    assert_eq!(config_map.value["data"], json!({"a": "2", "b": "1"}));

    let body =
        r#"{"spec":{"containers":[{"name":"c","imagee":"x","ports":[{"containerPort":1,"port":2}]}],"bogus":true}}"#;
    assert_eq!(
        // server
        decoded("Pod", body).problems.join(", "),
        r#"unknown field "spec.containers[0].imagee", unknown field "spec.containers[0].ports[0].port", unknown field "spec.bogus""#
    );
}

#[test]
fn problems_are_told_once_and_not_without_end() {
    let body = format!(
        "{{{}}}",
        (0..300)
            .map(|i| format!("\"x{}\":1", i % 150))
            .collect::<Vec<_>>()
            .join(",")
    );
    assert_eq!(decoded("Pod", &body).problems.len(), 100);
    assert_eq!(decoded("Pod", r#"{"x":1,"x":2}"#).problems, [r#"unknown field "x""#]);
}

#[test]
fn type_errors_are_those_of_go() {
    let cases = [
        // server, each
        (
            "ConfigMap",
            r#"{"data":{"a":1}}"#,
            "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
        ),
        (
            "ConfigMap",
            r#"{"data":"str"}"#,
            "json: cannot unmarshal string into Go struct field ConfigMap.data of type map[string]string",
        ),
        (
            "ConfigMap",
            r#"{"immutable":"yes"}"#,
            "json: cannot unmarshal string into Go struct field ConfigMap.immutable of type bool",
        ),
        (
            "ConfigMap",
            r#"{"metadata":{"name":true}}"#,
            "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.name of type string",
        ),
        (
            "Deployment",
            r#"{"spec":{"replicas":1.5}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "Deployment",
            r#"{"spec":{"replicas":"three"}}"#,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "PriorityClass",
            r#"{"value":"high"}"#,
            "json: cannot unmarshal string into Go struct field PriorityClass.value of type int32",
        ),
        (
            "Pod",
            r#"{"spec":{"containers":[{"workingDir":5}]}}"#,
            "json: cannot unmarshal number into Go struct field Container.spec.containers.workingDir of type string",
        ),
        (
            "Pod",
            r#"{"spec":{"containers":[{"resources":{"requests":{"cpu":"abc"}}}]}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        // by Go's rules
        (
            "Deployment",
            r#"{"spec":{"replicas":2147483648}}"#,
            "json: cannot unmarshal number 2147483648 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "Pod",
            r#"{"spec":{"containers":{}}}"#,
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            "Pod",
            r#"{"spec":[]}"#,
            "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec",
        ),
        (
            "Pod",
            r#"{"metadata":{"creationTimestamp":"now"}}"#,
            r#"parsing time "now" as "2006-01-02T15:04:05Z07:00": cannot parse "now" as "2006""#,
        ),
        (
            "Pod",
            r#"{"metadata":{"creationTimestamp":"2024-13-01T00:00:00Z"}}"#,
            r#"parsing time "2024-13-01T00:00:00Z": month out of range"#,
        ),
        (
            "Pod",
            r#"{"metadata":{"creationTimestamp":5}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string",
        ),
        (
            "Lease",
            r#"{"spec":{"renewTime":"2024-01-01T00:00:00Z"}}"#,
            r#"parsing time "2024-01-01T00:00:00Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000""#,
        ),
        ("Secret", r#"{"data":{"a":"*"}}"#, "illegal base64 data at input byte 0"),
        (
            "Pod",
            "[]",
            r#"json: cannot unmarshal array into Go value of type struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#,
        ),
    ];
    for (kind, body, expected) in cases {
        assert_eq!(error(kind, body), expected, "{body}");
    }
    // The first is told, a type that decodes itself wins, and a syntax error wins over all.
    assert!(error("ConfigMap", r#"{"immutable":1,"data":1}"#).contains("ConfigMap.immutable"));
    assert!(error("Pod", r#"{"spec":1,"metadata":{"creationTimestamp":"x"}}"#).starts_with("parsing time"));
    assert_eq!(error("ConfigMap", r#"{"immutable":1"#), "unexpected end of JSON input");
}

#[test]
fn syntax_errors_are_those_of_go() {
    let cases = [
        ("", "unexpected end of JSON input"),
        ("{", "unexpected end of JSON input"),
        ("x", "invalid character 'x' looking for beginning of value"),
        ("{x", "invalid character 'x' looking for beginning of object key string"),
        (r#"{"a""#, "unexpected end of JSON input"),
        (r#"{"a"1}"#, "invalid character '1' after object key"),
        (r#"{"a":1 2}"#, "invalid character '2' after object key:value pair"),
        (
            r#"{"a":1,}"#,
            "invalid character '}' looking for beginning of object key string",
        ),
        ("[1 2]", "invalid character '2' after array element"),
        ("[1,]", "invalid character ']' looking for beginning of value"),
        ("{} {}", "invalid character '{' after top-level value"),
        ("nul", "unexpected end of JSON input"),
        ("nule", "invalid character 'e' in literal null (expecting 'l')"),
        ("-x", "invalid character 'x' in numeric literal"),
        ("01", "invalid character '1' after top-level value"),
        ("1.x", "invalid character 'x' after decimal point in numeric literal"),
        ("1ex", "invalid character 'x' in exponent of numeric literal"),
        ("\"a\nb\"", "invalid character '\\n' in string literal"),
        (r#""\x""#, "invalid character 'x' in string escape code"),
        (
            r#""\u00g0""#,
            r"invalid character 'g' in \u hexadecimal character escape",
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(
            decode(body.as_bytes(), None).unwrap_err().to_string(),
            expected,
            "{body}"
        );
    }
}

#[test]
fn deep_nesting_is_refused() {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(decode(deep(DEPTH_MAX).as_bytes(), None).is_ok());
    assert!(matches!(
        decode(deep(DEPTH_MAX + 1).as_bytes(), None),
        Err(CodecError::TooDeep)
    ));
    assert!(matches!(
        decode("[".repeat(1_000_000).as_bytes(), None),
        Err(CodecError::TooDeep)
    ));
    let body = format!(r#"{{"unknown":{}}}"#, deep(DEPTH_MAX));
    assert!(matches!(
        decode(body.as_bytes(), Some(message("Pod"))),
        Err(CodecError::TooDeep)
    ));
}

#[test]
fn values_come_out_as_go_would_print_them() {
    let pod = value(
        "Pod",
        r#"{"kind":"Pod","metadata":{"name":"p","labels":{},"annotations":null,"creationTimestamp":null,"namespace":"",
            "deletionTimestamp":"2024-01-01T02:00:00.5+02:00"},
            "spec":{"nodeName":null,"securityContext":{},"hostNetwork":false,"containers":[{"name":"c","ports":[{"hostPort":0}],
            "resources":{"limits":{"cpu":0.5,"memory":"1024Mi","x":null}},"livenessProbe":{"httpGet":{"port":"web"}}}, null]}}"#,
    );
    assert_eq!(
        pod,
        json!({"kind": "Pod", "metadata": {"name": "p", "deletionTimestamp": "2024-01-01T00:00:00Z"}, "status": {},
            "spec": {"securityContext": {}, "containers": [
                {"name": "c", "ports": [{"containerPort": 0}],
                 "resources": {"limits": {"cpu": "500m", "memory": "1Gi", "x": "0"}},
                 "livenessProbe": {"httpGet": {"port": "web"}}},
                {"name": "", "resources": {}}]}})
    );
    assert_eq!(
        value("Deployment", r#"{"spec":{}}"#),
        json!({"metadata": {}, "status": {}, "spec": {"selector": null, "strategy": {},
            "template": {"metadata": {}, "spec": {"containers": null}}}})
    );
    assert_eq!(value("Role", "{}"), json!({"metadata": {}, "rules": null}));
    assert_eq!(
        value("Service", r#"{"spec":{"ports":[{"port":80}],"sessionAffinity":""}}"#)["spec"],
        json!({"ports": [{"port": 80, "targetPort": 0}]})
    );
    assert_eq!(
        value("Secret", r#"{"data":{"a":"YQ==","b":null,"c":""}}"#)["data"],
        json!({"a": "YQ==", "b": null, "c": ""})
    );
    let condition = value("Pod", r#"{"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#);
    assert_eq!(
        condition["status"]["conditions"][0],
        json!({"type": "Ready", "status": "True", "lastProbeTime": null, "lastTransitionTime": null})
    );
    assert_eq!(
        value("Lease", r#"{"spec":{"renewTime":"2024-01-01T00:00:00.123456Z"}}"#)["spec"]["renewTime"],
        "2024-01-01T00:00:00.123456Z"
    );
}

#[test]
fn unions_of_crd_schemas_are_kept_and_not_strict_inside() {
    let schema = r#"{"additionalProperties":{"type":"string","bogus":1},"items":[{"type":"integer"}],"additionalItems":false,
        "dependencies":{"a":["b"]},"default":{"x":[1]},"maximum":1.5,"x-kubernetes-preserve-unknown-fields":true}"#;
    let crd = decoded(
        "CustomResourceDefinition",
        &format!(r#"{{"spec":{{"versions":[{{"name":"v1","schema":{{"openAPIV3Schema":{schema}}}}}]}}}}"#),
    );
    assert_eq!(crd.problems, Vec::<String>::new());
    assert_eq!(
        crd.value["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
        json!({"additionalProperties": {"type": "string"}, "items": [{"type": "integer"}], "additionalItems": false,
            "dependencies": {"a": ["b"]}, "default": {"x": [1]}, "maximum": 1.5, "x-kubernetes-preserve-unknown-fields": true})
    );
}

#[test]
fn bodies_without_a_message_are_kept_as_they_are() {
    let body = r#"{"a":{"b":[{"c":1,"c":2.0}],"d":null},"s":"\u00e9\ud83d\ude00\ud83d\n","big":18446744073709551615}"#;
    let free = decode(body.as_bytes(), None).unwrap();
    assert_eq!(free.problems, [r#"duplicate field "a.b[0].c""#]);
    assert_eq!(
        free.value,
        json!({"a": {"b": [{"c": 2}], "d": null}, "s": "é😀\u{fffd}\n", "big": 18446744073709551615.0})
    );
    assert_eq!(decode(b"\"a\xffb\"", None).unwrap().value, "a\u{fffd}b");
    assert_eq!(
        decode(b"1e999", None).unwrap_err().to_string(),
        "json: cannot unmarshal number 1e999 into Go value of type float64"
    );
}

proptest! {
    #[test]
    fn no_text_panics(text in "[\\[\\]{}\",:0-9a-z\\\\ue.+ -]{0,60}") {
        let _ = decode(text.as_bytes(), None);
        let _ = decode(text.as_bytes(), Some(message("Pod")));
    }
    #[test]
    fn decoding_twice_changes_nothing(name in "[a-z]{0,3}", replicas in any::<Option<i32>>(), cpu in 0u32..5000) {
        let body = json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "template": {"spec": {"containers":
            [{"resources": {"requests": {"cpu": format!("{cpu}m")}}}]}}}});
        let once = normalize(&body, message("Deployment")).unwrap();
        prop_assert_eq!(normalize(&once, message("Deployment")).unwrap(), once);
    }
}

#[test]
fn a_body_without_a_kind_is_answered_as_kubernetes_does() {
    let error = decode(b"{", None).unwrap_err();
    // server
    assert_eq!(
        error.body_text(),
        "couldn't get version/kind; json parse error: unexpected end of JSON input"
    );
    let error = decode(br#"{"data":1}"#, Some(message("ConfigMap"))).unwrap_err();
    assert_eq!(error.body_text(), error.to_string());
}
