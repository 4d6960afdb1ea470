//! Which upgrade a client asks for, and the answer that grants it. Pure.

use hyper::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Response, StatusCode};
use skiff_api::status::{ApiResult, ApiStatus};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::body::Body;

static STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// What was agreed on. The protocol is empty when the client named none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upgrade {
    WebSocket { accept: String, protocol: &'static str },
    Spdy { protocol: &'static str },
}

/// Chooses the client's first protocol that is among ours.
pub fn negotiate(
    headers: &HeaderMap,
    websocket: &'static [&'static str],
    spdy: &'static [&'static str],
) -> ApiResult<Upgrade> {
    let names = |name: &HeaderName, wanted: &str| words(headers, name).any(|word| word.eq_ignore_ascii_case(wanted));
    if !names(&CONNECTION, "upgrade") {
        return Err(required());
    }
    if names(&UPGRADE, "websocket") {
        check_origin(headers)?;
        let key = headers.get(SEC_WEBSOCKET_KEY).filter(|key| !key.is_empty());
        let version = headers.get(SEC_WEBSOCKET_VERSION);
        let Some(key) = key.filter(|_| version.is_some_and(|version| version == "13")) else {
            return Err(ApiStatus::bad_request(
                "unable to upgrade: version 13 of WebSocket and its key are needed",
            ));
        };
        return Ok(Upgrade::WebSocket {
            accept: derive_accept_key(key.as_bytes()),
            protocol: choose(headers, &SEC_WEBSOCKET_PROTOCOL, websocket)?,
        });
    }
    if names(&UPGRADE, "spdy/3.1") {
        let protocol = choose(headers, &STREAM_PROTOCOL, spdy)?;
        return Ok(Upgrade::Spdy { protocol });
    }
    Err(required())
}

fn required() -> Box<ApiStatus> {
    ApiStatus::bad_request("Upgrade request required")
}

/// The comma-separated words of a header, over all its lines.
fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

fn choose(headers: &HeaderMap, name: &HeaderName, ours: &'static [&'static str]) -> ApiResult<&'static str> {
    let theirs: Vec<&str> = words(headers, name).collect();
    let offered = if theirs.is_empty() { &[""][..] } else { &theirs[..] };
    let found = offered.iter().find_map(|name| ours.iter().find(|known| *known == name));
    found.copied().ok_or_else(|| {
        let why = format!(
            "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
            theirs.join(" "),
            ours.join(" ").trim()
        );
        ApiStatus::new(403, "Forbidden", why)
    })
}

/// A browser sends its user's client certificate with whatever WebSocket a foreign page opens. A bearer token it does not.
fn check_origin(headers: &HeaderMap) -> ApiResult<()> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(origin) = text(ORIGIN).filter(|_| !headers.contains_key(AUTHORIZATION)) else {
        return Ok(());
    };
    let place = origin.split_once("://").map(|(_, place)| place);
    if place.is_some() && place == text(HOST) {
        return Ok(());
    }
    Err(ApiStatus::new(
        403,
        "Forbidden",
        "unable to upgrade: a WebSocket of another origin needs a bearer token",
    ))
}

impl Upgrade {
    /// 101.
    pub fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        let (name, protocol) = match self {
            Self::WebSocket { accept, protocol } => {
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                if let Ok(accept) = HeaderValue::from_str(accept) {
                    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
                }
                (SEC_WEBSOCKET_PROTOCOL, protocol)
            }
            Self::Spdy { protocol } => {
                headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
                (STREAM_PROTOCOL.clone(), protocol)
            }
        };
        if !protocol.is_empty() {
            headers.insert(name, HeaderValue::from_static(protocol));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEBSOCKET: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io", ""];
    const SPDY: &[&str] = &["v4.channel.k8s.io"];

    fn ask(lines: &[(&'static str, &'static str)]) -> ApiResult<Upgrade> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        negotiate(&headers, WEBSOCKET, SPDY)
    }

    fn websocket(more: &[(&'static str, &'static str)]) -> ApiResult<Upgrade> {
        let mut lines = vec![
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        lines.extend_from_slice(more);
        ask(&lines)
    }

    #[test]
    fn a_websocket_gets_the_clients_first_choice() {
        let upgrade = websocket(&[("sec-websocket-protocol", "x, v4.channel.k8s.io, v5.channel.k8s.io")]).unwrap();
        // The example of RFC 6455.
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned();
        let protocol = "v4.channel.k8s.io";
        assert_eq!(upgrade, Upgrade::WebSocket { accept, protocol });
        assert_eq!(upgrade.response().headers()[SEC_WEBSOCKET_PROTOCOL], protocol);
        let none = websocket(&[]).unwrap().response();
        assert!(!none.headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
    }

    #[test]
    fn spdy_needs_a_protocol_of_ours() {
        let lines = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
        assert_eq!(
            ask(&lines).unwrap_err().message,
            "unable to upgrade: unable to negotiate protocol: client supports [], server accepts [v4.channel.k8s.io]"
        );
        let mut lines = lines.to_vec();
        lines.extend([
            ("x-stream-protocol-version", "v9"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
        ]);
        let protocol = "v4.channel.k8s.io";
        assert_eq!(ask(&lines).unwrap(), Upgrade::Spdy { protocol });
    }

    #[test]
    fn what_is_no_upgrade_is_told_so() {
        for lines in [
            &[][..],
            &[("upgrade", "websocket")],
            &[("connection", "upgrade"), ("upgrade", "h2c")],
        ] {
            assert_eq!(ask(lines).unwrap_err().message, "Upgrade request required");
        }
        let error = ask(&[("connection", "upgrade"), ("upgrade", "websocket")]).unwrap_err();
        assert_eq!(error.code, 400);
    }

    #[test]
    fn a_foreign_page_cannot_use_a_browsers_certificate() {
        assert_eq!(
            websocket(&[("origin", "https://evil"), ("host", "api:6443")])
                .unwrap_err()
                .code,
            403
        );
        assert_eq!(
            websocket(&[("origin", "null"), ("host", "api:6443")]).unwrap_err().code,
            403
        );
        assert!(websocket(&[("origin", "https://api:6443"), ("host", "api:6443")]).is_ok());
        assert!(websocket(&[("origin", "https://evil"), ("authorization", "Bearer x")]).is_ok());
    }
}
