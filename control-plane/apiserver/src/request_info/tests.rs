//! One line a path: method, path → verb group/version resource/subresource namespace name.

use expect_test::expect;

use super::*;

fn show(line: &str) -> String {
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let info = RequestInfo::parse(&method.parse().unwrap(), path, query);
    if !info.is_resource {
        return format!("{line} => {} path", info.verb);
    }
    let rest = if info.rest.is_empty() {
        String::new()
    } else {
        format!(" rest={}", info.rest)
    };
    format!(
        "{line} => {} {}/{} {}{} ns={} name={}{rest}",
        info.verb,
        info.group,
        info.version,
        info.resource,
        if info.subresource.is_empty() {
            String::new()
        } else {
            format!("/{}", info.subresource)
        },
        info.namespace,
        info.name
    )
}

#[test]
fn paths_are_understood_as_kubernetes_does() {
    let lines = [
        "GET /api/v1/pods",
        "GET /api/v1/pods?watch=1",
        "GET /api/v1/pods?watch=false",
        "GET /api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Dx",
        "DELETE /api/v1/namespaces/a/pods",
        "POST /api/v1/namespaces/a/pods",
        "GET /api/v1/namespaces/a/pods/x",
        "GET /api/v1/namespaces/a/pods/x/",
        "PUT /api/v1/namespaces/a/pods/x/status",
        "POST /api/v1/namespaces/a/pods/x/binding",
        "GET /api/v1/namespaces/a/services/x/proxy/a/b",
        "GET /api/v1/namespaces",
        "GET /api/v1/namespaces/a",
        "PUT /api/v1/namespaces/a/finalize",
        "PATCH /api/v1/namespaces/a/status",
        "GET /api/v1/nodes/n1",
        "PATCH /apis/apps/v1/namespaces/a/deployments/x/scale",
        "GET /apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
        "GET /api/v1/watch/pods",
        "GET /api/v1/watch/namespaces/a/pods/x",
        "OPTIONS /api/v1/pods",
    ];
    expect![[r#"
        GET /api/v1/pods => list /v1 pods ns= name=
        GET /api/v1/pods?watch=1 => watch /v1 pods ns= name=
        GET /api/v1/pods?watch=false => list /v1 pods ns= name=
        GET /api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Dx => list /v1 pods ns=a name=x
        DELETE /api/v1/namespaces/a/pods => deletecollection /v1 pods ns=a name=
        POST /api/v1/namespaces/a/pods => create /v1 pods ns=a name=
        GET /api/v1/namespaces/a/pods/x => get /v1 pods ns=a name=x
        GET /api/v1/namespaces/a/pods/x/ => get /v1 pods ns=a name=x
        PUT /api/v1/namespaces/a/pods/x/status => update /v1 pods/status ns=a name=x
        POST /api/v1/namespaces/a/pods/x/binding => create /v1 pods/binding ns=a name=x
        GET /api/v1/namespaces/a/services/x/proxy/a/b => get /v1 services/proxy ns=a name=x rest=a/b
        GET /api/v1/namespaces => list /v1 namespaces ns= name=
        GET /api/v1/namespaces/a => get /v1 namespaces ns=a name=a
        PUT /api/v1/namespaces/a/finalize => update /v1 namespaces/finalize ns=a name=a
        PATCH /api/v1/namespaces/a/status => patch /v1 namespaces/status ns=a name=a
        GET /api/v1/nodes/n1 => get /v1 nodes ns= name=n1
        PATCH /apis/apps/v1/namespaces/a/deployments/x/scale => patch apps/v1 deployments/scale ns=a name=x
        GET /apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode => get rbac.authorization.k8s.io/v1 clusterroles ns= name=system:node
        GET /api/v1/watch/pods => watch /v1 pods ns= name=
        GET /api/v1/watch/namespaces/a/pods/x => watch /v1 pods ns=a name=x
        OPTIONS /api/v1/pods =>  /v1 pods ns= name="#]]
    .assert_eq(&lines.map(show).join("\n"));
}

#[test]
fn other_paths_and_tricks_are_no_resources() {
    let lines = [
        "GET /",
        "GET /api",
        "GET /api/v1",
        "GET /api/v1/",
        "GET /apis/apps/v1",
        "GET /healthz",
        "GET /api/v1//pods",
        "GET //api/v1/pods",
        "GET /api/v1/namespaces/a/pods/..",
        "GET /api/v1/namespaces/a/../../nodes",
        "GET /api/v1/namespaces/a/pods/x%2fstatus",
        "GET /api/v1/namespaces/a/pods/%2e%2e",
        "GET /api/v1/namespaces/a%00/pods",
        "GET /api/v1/namespaces/a/pods/x%252f",
    ];
    expect![[r#"
        GET / => get path
        GET /api => get path
        GET /api/v1 => get path
        GET /api/v1/ => get path
        GET /apis/apps/v1 => get path
        GET /healthz => get path
        GET /api/v1//pods => get path
        GET //api/v1/pods => get path
        GET /api/v1/namespaces/a/pods/.. => get path
        GET /api/v1/namespaces/a/../../nodes => get path
        GET /api/v1/namespaces/a/pods/x%2fstatus => get path
        GET /api/v1/namespaces/a/pods/%2e%2e => get path
        GET /api/v1/namespaces/a%00/pods => get path
        GET /api/v1/namespaces/a/pods/x%252f => get path"#]]
    .assert_eq(&lines.map(show).join("\n"));
}
