//! Outgoing calls of `wasi:http`. The library's own sender connects by name to anywhere and waits ten minutes; this one
//! resolves first, checks every resolved address, connects to the address it checked, and bounds each wait.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{timeout, timeout_at};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::counts::Counts;
use super::net::ContainerNet;
use super::traffic::{Counted, Traffic};
use crate::limits;

/// The hooks of one guest.
pub(crate) struct Outgoing {
    net: Arc<ContainerNet>,
    counts: Arc<Counts>,
    traffic: Arc<Traffic>,
}

impl Outgoing {
    pub(crate) fn new(net: Arc<ContainerNet>, counts: Arc<Counts>, traffic: Arc<Traffic>) -> Self {
        Self { net, counts, traffic }
    }
}

type Done = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Result<(hyper::Response<WasiBody>, Done), Error>;

impl WasiHttpHooks for Outgoing {
    // Of a body only one chunk is held by the host at a time; the guest waits for the rest to be taken.
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        limits::BODY_CHUNK_BYTES
    }
    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        limits::BODY_CHUNK_BYTES
    }

    fn send_request(
        &mut self,
        request: hyper::Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Done,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let (net, call, traffic) = (self.net.clone(), self.counts.outgoing(), self.traffic.clone());
        Box::new(async move {
            // Held until the response's body has ended: `Done` is driven as long as that.
            let call = call.ok_or(Error::ConnectionLimitReached)?;
            let (response, done) = send(net, traffic, request, options.unwrap_or_default()).await?;
            let done: Done = Box::new(async move {
                let ended = Box::into_pin(done).await;
                drop(call);
                ended
            });
            Ok((response, done))
        })
    }
}

async fn send(
    net: Arc<ContainerNet>,
    traffic: Arc<Traffic>,
    mut request: hyper::Request<WasiBody>,
    options: RequestOptions,
) -> Sent {
    let bounded = |wanted: Option<Duration>, most: Duration| wanted.unwrap_or(most).min(most);
    let connecting = bounded(options.connect_timeout, limits::OUTGOING_CONNECT_DEADLINE);
    let first_byte = bounded(options.first_byte_timeout, limits::OUTGOING_READ_DEADLINE);
    let between = bounded(options.between_bytes_timeout, limits::OUTGOING_READ_DEADLINE);

    let tls = request.uri().scheme_str() == Some("https");
    let host = request.uri().host().ok_or(Error::HttpRequestUriInvalid)?.to_owned();
    let port = request.uri().port_u16().unwrap_or(if tls { 443 } else { 80 });
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;

    // One deadline for resolving, connecting and the TLS handshake together: an upstream cannot drip through it.
    let deadline = tokio::time::Instant::now() + connecting;
    let stream = timeout_at(deadline, connect(&net, &host, port))
        .await
        .map_err(|_| Error::ConnectionTimeout)??;
    let stream = Counted::new(stream, traffic);
    if !tls {
        return exchange(stream, request, first_byte, between).await;
    }
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(name).map_err(Error::InvalidDnsNameError)?;
    let connector = tokio_rustls::TlsConnector::from(tls_config());
    let stream = timeout_at(deadline, connector.connect(name, stream))
        .await
        .map_err(|_| Error::ConnectionTimeout)?;
    exchange(stream.map_err(Error::Tls)?, request, first_byte, between).await
}

/// Connects to the first address of the host that the pod may reach, from the pod's own address. The name is looked up
/// once, and the connection made to the very address that was checked.
async fn connect(net: &ContainerNet, host: &str, port: u16) -> Result<TcpStream, Error> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let resolved = match host.parse() {
        Ok(address) => vec![address],
        Err(_) if !net.may_look_up(host) => return Err(Error::HttpRequestDenied),
        Err(_) => (net.lookup)(host.to_owned()).await.map_err(Error::Connect)?,
    };
    let reachable = net
        .reachable(host, resolved, port)
        .ok_or(Error::DestinationIpProhibited)?;
    let mut failure = Error::DnsError {
        rcode: Some("no address".into()),
        info_code: None,
    };
    for address in reachable {
        match connect_from(net.ip, address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = Error::Connect(error),
        }
    }
    Err(failure)
}

async fn connect_from(own: IpAddr, address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if own.is_ipv4() == address.is_ipv4() {
        // Without the pod's address on this node the kernel chooses one.
        let _ = socket.bind(SocketAddr::new(own, 0));
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn tls_config() -> Arc<rustls::ClientConfig> {
    static CONFIG: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    CONFIG
        .get_or_init(|| {
            let roots = rustls::RootCertStore {
                roots: webpki_roots::TLS_SERVER_ROOTS.into(),
            };
            let config =
                rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                    .with_safe_default_protocol_versions()
                    .expect("the provider has the default versions")
                    .with_root_certificates(roots)
                    .with_no_client_auth();
            Arc::new(config)
        })
        .clone()
}

async fn exchange<S>(stream: S, request: hyper::Request<WasiBody>, first_byte: Duration, between: Duration) -> Sent
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut connection = Box::pin(connection);
    let mut ended = false;
    let response = {
        let sending = timeout(first_byte, sender.send_request(request));
        tokio::pin!(sending);
        tokio::select! {
            biased;
            response = &mut sending => response,
            end = &mut connection => {
                end?;
                ended = true;
                sending.await
            }
        }
    };
    let response = response.map_err(|_| Error::ConnectionReadTimeout)??;
    let body = |incoming| {
        Timed {
            incoming,
            between,
            waiting: None,
        }
        .boxed_unsync()
    };
    let done: Done = Box::new(async move {
        if ended {
            Ok(())
        } else {
            connection.await.map_err(Error::from)
        }
    });
    Ok((response.map(body), done))
}

/// A body that must not pause for longer than `between`.
struct Timed {
    incoming: Incoming,
    between: Duration,
    waiting: Option<std::pin::Pin<Box<tokio::time::Sleep>>>,
}

impl Body for Timed {
    type Data = bytes::Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<bytes::Bytes>, Error>>> {
        use std::task::Poll;
        if let Poll::Ready(frame) = std::pin::Pin::new(&mut self.incoming).poll_frame(cx) {
            self.waiting = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
        }
        let between = self.between;
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(between)));
        waiting
            .as_mut()
            .poll(cx)
            .map(|()| Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }
    fn size_hint(&self) -> hyper::body::SizeHint {
        self.incoming.size_hint()
    }
}

#[cfg(test)]
mod tests;
