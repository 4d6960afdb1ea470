//! Accept headers and what they lead to.

use super::*;

fn form(accept: &str) -> String {
    let request = hyper::Request::builder()
        .uri("/api/v1/pods")
        .header("accept", accept)
        .body(())
        .unwrap();
    match Form::negotiate(&request.into_parts().0, true) {
        Ok(form) => format!("{:?} {:?} {}", form.format, form.shape, form.shape_version),
        Err(status) => format!("{}", status.code),
    }
}

#[test]
fn the_first_clause_that_can_be_served_wins() {
    assert_eq!(form("application/json"), "Json Object v1");
    assert_eq!(form("*/*"), "Json Object v1");
    assert_eq!(form("application/yaml, application/json"), "Yaml Object v1");
    assert_eq!(form("text/html"), "406");
    assert_eq!(form("text/html, */*;q=0.1"), "Json Object v1");
    assert_eq!(form("application/yaml;q=0.5, application/json"), "Json Object v1");
    assert_eq!(
        form(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
        ),
        "Json Table v1"
    );
    assert_eq!(
        form("application/json;as=Table;v=v9;g=meta.k8s.io,application/json"),
        "Json Object v1"
    );
    assert_eq!(form("application/json;as=Table;v=v9;g=meta.k8s.io"), "406");
}

#[test]
fn protobuf_is_answered_only_to_who_takes_nothing_else() {
    assert_eq!(
        form("application/vnd.kubernetes.protobuf,application/json"),
        "Json Object v1"
    );
    assert_eq!(form("application/vnd.kubernetes.protobuf"), "Protobuf Object v1");
    assert_eq!(
        form(
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
        ),
        "Json PartialMetadata v1"
    );
}

#[test]
fn people_get_pretty_answers() {
    let parts = |agent: &str, uri: &str| {
        hyper::Request::builder()
            .uri(uri)
            .header("user-agent", agent)
            .body(())
            .unwrap()
            .into_parts()
            .0
    };
    assert!(pretty(&parts("curl/8.0", "/api")));
    assert!(!pretty(&parts("curl/8.0", "/api?pretty=false")));
    assert!(pretty(&parts("kubectl/v1.36", "/api?pretty=true")));
    assert!(!pretty(&parts("kubectl/v1.36", "/api")));
}
