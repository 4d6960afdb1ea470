//! Running one probe against a container: httpGet and tcpSocket. What a WASM container cannot be asked fails with a
//! text that says so.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use skiff_lifecycle::{ProbeKind, spec};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::transport::{Trust, tls_config};

/// Kubernetes' default for `timeoutSeconds`.
const TIMEOUT_DEFAULT: i32 = 1;
/// An answer's body is read up to this size. Kubelet's value.
const BODY_BYTES_MAX: usize = 10 << 10;

/// Success, and the text behind `Readiness probe failed: `.
pub(crate) async fn run(container: &Container, kind: ProbeKind, pod_ip: Option<&str>) -> (bool, String) {
    let Some(probe) = spec::probe(container, kind) else {
        return (true, String::new());
    };
    let timeout = Duration::from_secs(
        probe
            .timeout_seconds
            .unwrap_or(TIMEOUT_DEFAULT)
            .max(1)
            .unsigned_abs()
            .into(),
    );
    let Some(ip) = pod_ip.and_then(|ip| ip.parse::<IpAddr>().ok()) else {
        return (false, "the pod has no address".to_owned());
    };
    if let Some(action) = &probe.http_get {
        return http_get(container, action, ip, timeout).await;
    }
    if let Some(action) = &probe.tcp_socket {
        let Some(port) = port(container, &action.port) else {
            return (false, "couldn't find port of the probe in the container".to_owned());
        };
        let address = SocketAddr::new(
            action.host.as_ref().and_then(|host| host.parse().ok()).unwrap_or(ip),
            port,
        );
        return match dial(address, timeout).await {
            Ok(_) => (true, String::new()),
            Err(why) => (false, why),
        };
    }
    if probe.exec.is_some() {
        return (
            false,
            "exec probes are not available for WASM containers, use httpGet or tcpSocket".to_owned(),
        );
    }
    if probe.grpc.is_some() {
        return (
            false,
            "grpc probes are not available on this node, use httpGet or tcpSocket".to_owned(),
        );
    }
    (true, String::new())
}

/// A number, or the name of one of the container's ports.
fn port(container: &Container, port: &IntOrString) -> Option<u16> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container
                .ports
                .iter()
                .flatten()
                .find(|port| port.name.as_ref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    number.and_then(|number| u16::try_from(number).ok())
}

/// Connects, or says why not as Go would.
pub(crate) async fn dial(address: SocketAddr, timeout: Duration) -> Result<TcpStream, String> {
    match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("dial tcp {address}: connect: {}", reason(&error))),
        Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        std::io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        _ => error.to_string(),
    }
}

/// Also used for hooks.
pub(crate) async fn http_get(
    container: &Container,
    action: &HTTPGetAction,
    ip: IpAddr,
    timeout: Duration,
) -> (bool, String) {
    let Some(port) = port(container, &action.port) else {
        return (false, "couldn't find port of the probe in the container".to_owned());
    };
    let host = action
        .host
        .clone()
        .filter(|host| !host.is_empty())
        .unwrap_or_else(|| ip.to_string());
    let address = SocketAddr::new(host.parse().unwrap_or(ip), port);
    let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
    let path = action.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let url = format!("{scheme}://{host}:{port}{slash}{path}");
    let waited = tokio::time::timeout(timeout, ask(&url, &scheme, address, action, timeout)).await;
    match waited {
        Ok(Ok(status)) if (200..400).contains(&status) => (true, String::new()),
        Ok(Ok(status)) => (false, format!("HTTP probe failed with statuscode: {status}")),
        Ok(Err(why)) => (false, format!("Get \"{url}\": {why}")),
        Err(_) => (
            false,
            format!("Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"),
        ),
    }
}

async fn ask(
    url: &str,
    scheme: &str,
    address: SocketAddr,
    action: &HTTPGetAction,
    timeout: Duration,
) -> Result<u16, String> {
    let stream = dial(address, timeout).await?;
    let uri: hyper::Uri = url
        .parse()
        .map_err(|error: hyper::http::uri::InvalidUri| error.to_string())?;
    let mut request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()));
    let mut has_host = false;
    for header in action.http_headers.iter().flatten() {
        has_host |= header.name.eq_ignore_ascii_case("host");
        request = request.header(&header.name, &header.value);
    }
    if !has_host {
        request = request.header("host", uri.authority().map_or("", |authority| authority.as_str()));
    }
    let request = request
        .header("user-agent", "kube-probe/1.36")
        .header("accept", "*/*")
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    if scheme == "https" {
        // A probe checks that the server is alive, not who it is; kubelet skips verification too.
        let config = tls_config(Trust::AnyForPinnedFetch, None, &[b"http/1.1"]).map_err(|error| error.to_string())?;
        let name = rustls::pki_types::ServerName::from(address.ip());
        let stream = tokio_rustls::TlsConnector::from(Arc::clone(&config))
            .connect(name, stream)
            .await;
        return send(stream.map_err(|error| error.to_string())?, request).await;
    }
    send(stream, request).await
}

async fn send<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<u16, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let text = |error: hyper::Error| {
        if error.is_incomplete_message() {
            "EOF".to_owned()
        } else {
            error.to_string()
        }
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(text)?;
    let connection = tokio::spawn(connection);
    let result = async {
        let response = sender.send_request(request).await.map_err(text)?;
        let status = response.status().as_u16();
        // The body is read so that the server sees an orderly end; what is in it does not matter.
        let _ = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
        Ok(status)
    }
    .await;
    connection.abort();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(probe: serde_json::Value) -> Container {
        let ports = serde_json::json!([{ "name": "web", "containerPort": 8080 }]);
        serde_json::from_value(serde_json::json!({ "name": "c", "ports": ports, "livenessProbe": probe })).unwrap()
    }

    #[tokio::test]
    async fn a_port_where_nothing_listens_fails_as_go_words_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let tcp = container(serde_json::json!({ "tcpSocket": { "port": port } }));
        let (success, text) = run(&tcp, ProbeKind::Liveness, Some("127.0.0.1")).await;
        assert_eq!(
            (success, text),
            (false, format!("dial tcp 127.0.0.1:{port}: connect: connection refused"))
        );
        let http = container(serde_json::json!({ "httpGet": { "port": port, "path": "/x" } }));
        let (_, text) = run(&http, ProbeKind::Liveness, Some("127.0.0.1")).await;
        let url = format!("http://127.0.0.1:{port}/x");
        assert_eq!(
            text,
            format!("Get \"{url}\": dial tcp 127.0.0.1:{port}: connect: connection refused")
        );
    }

    #[tokio::test]
    async fn exec_says_that_it_is_not_available() {
        let exec = container(serde_json::json!({ "exec": { "command": ["true"] } }));
        let (success, text) = run(&exec, ProbeKind::Liveness, Some("127.0.0.1")).await;
        assert!(!success && text.contains("not available for WASM"), "{text}");
    }

    #[test]
    fn a_port_may_be_named() {
        let container = container(serde_json::json!({}));
        assert_eq!(port(&container, &IntOrString::String("web".to_owned())), Some(8080));
        assert_eq!(port(&container, &IntOrString::String("other".to_owned())), None);
    }
}
