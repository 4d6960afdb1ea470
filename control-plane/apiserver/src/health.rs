//! `/healthz`, `/livez`, `/readyz`: one line a check.

use std::fmt::Write;

use hyper::Response;
use hyper::http::request::Parts;

use crate::body::Body;
use crate::negotiate;
use crate::query::Query;
use crate::server::ApiServer;

/// How long the store may take to answer before it counts as down.
const STORE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

/// The checks of each endpoint. kube-apiserver's `etcd` is our store, whichever it is, because people ask for it by name.
fn checks(endpoint: &str) -> &'static [&'static str] {
    match endpoint {
        "livez" => &["ping", "log", "etcd"],
        "readyz" => &["ping", "log", "etcd", "informer-sync", "shutdown"],
        _ => &["ping", "log", "etcd", "poststarthook/start-caches"],
    }
}

async fn passes(server: &ApiServer, check: &str) -> Result<(), &'static str> {
    match check {
        "etcd" => match tokio::time::timeout(STORE_TIMEOUT, server.registry.store().revision()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err("the store answers with errors"),
            Err(_) => Err("the store does not answer"),
        },
        "shutdown" if server.draining.is_cancelled() => Err("the server is stopping"),
        _ => Ok(()),
    }
}

/// Answers `/ENDPOINT` and `/ENDPOINT/CHECK`.
pub async fn handle(server: &ApiServer, segments: &[&str], parts: &Parts) -> Response<Body> {
    let endpoint = segments[0];
    let all = checks(endpoint);
    if segments.len() > 1 {
        let check = segments[1..].join("/");
        if !all.contains(&check.as_str()) {
            return negotiate::text(404, "404 page not found\n");
        }
        return match passes(server, &check).await {
            Ok(()) => negotiate::text(200, "ok"),
            Err(why) => negotiate::text(500, format!("internal server error: {why}\n")),
        };
    }
    let query = Query::parse(parts.uri.query().unwrap_or(""));
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut report = String::new();
    let mut failed = Vec::new();
    for check in all {
        if excluded.contains(check) {
            let _ = writeln!(report, "[+]{check} excluded: ok");
            continue;
        }
        match passes(server, check).await {
            Ok(()) => {
                let _ = writeln!(report, "[+]{check} ok");
            }
            Err(_) => {
                failed.push(*check);
                let _ = writeln!(report, "[-]{check} failed: reason withheld");
            }
        }
    }
    if !failed.is_empty() {
        let _ = writeln!(report, "{endpoint} check failed");
        return negotiate::text(500, report);
    }
    if query.flag("verbose") {
        let _ = writeln!(report, "{endpoint} check passed");
        return negotiate::text(200, report);
    }
    negotiate::text(200, "ok")
}
