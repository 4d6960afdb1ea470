//! Port-forward: one TCP connection to a pod's own address, carried in the two bodies of one request.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::probe::dial;
use crate::server::sessions::Held;

/// A server on this node that does not take a connection within this time has its backlog full.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes read from the pod at once.
const PIECE_BYTES: usize = 32 << 10;
/// Pieces on their way to the control plane: bounds what a slow reader holds here.
const PIECES_MAX: usize = 2;

/// Dials a server of the pod. The error is for the user.
///
/// Pod addresses are addresses of this node, so a server of the node itself that listens on all addresses would answer
/// there too, and is none of the pod's: only a server that listens on exactly this address is dialled. A pod with
/// hostNetwork has the node's own address and shares its network: there, as in Kubernetes, a daemon of the node that
/// listens on this address is reached.
pub(crate) async fn open(ip: IpAddr, port: u16) -> Result<TcpStream, String> {
    let address = SocketAddr::new(ip, port);
    let listens = tokio::task::spawn_blocking(move || listens_on(address)).await;
    match listens {
        Ok(Ok(true)) => dial(address, DIAL_TIMEOUT).await,
        Ok(Ok(false)) => Err(format!("dial tcp {address}: connect: connection refused")),
        Ok(Err(error)) => Err(format!("look for who listens on {address}: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether a socket of this network namespace listens on exactly this address.
fn listens_on(address: SocketAddr) -> std::io::Result<bool> {
    let (wanted4, wanted6) = match address.ip() {
        IpAddr::V4(ip) => (Some(hex(&ip.octets())), hex(&ip.to_ipv6_mapped().octets())),
        IpAddr::V6(ip) => (None, hex(&Ipv6Addr::octets(&ip))),
    };
    let table4 = wanted4.map(|wanted| ("/proc/self/net/tcp", wanted));
    for (path, ip) in table4.into_iter().chain([("/proc/self/net/tcp6", wanted6)]) {
        let file = match File::open(path) {
            // A kernel without IPv6 has no such table.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        let wanted = format!("{ip}:{:04X}", address.port());
        for line in BufReader::new(file).lines().skip(1) {
            if is_listener(&line?, &wanted) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// An address as the kernel's table shows it: words of four bytes, each in the machine's own order.
fn hex(octets: &[u8]) -> String {
    let words = octets.chunks_exact(4).map(|word| {
        let word = u32::from_ne_bytes(word.try_into().expect("a chunk has four bytes"));
        format!("{word:08X}")
    });
    words.collect()
}

/// `  0: 0100007F:1F90 00000000:0000 0A …`: number, local and remote address, state; 0A is LISTEN.
fn is_listener(line: &str, address: &str) -> bool {
    let mut cells = line.split_ascii_whitespace().skip(1);
    cells.next() == Some(address) && cells.nth(1) == Some("0A")
}

/// Carries both directions, each to its own end. What is received is the answer's body; dropping the receiver or breaking
/// the request's body closes the connection.
pub(crate) fn carry(stream: TcpStream, body: Incoming, held: Held) -> mpsc::Receiver<Bytes> {
    let (pieces, receiver) = mpsc::channel(PIECES_MAX);
    tokio::spawn(async move {
        let (mut read, mut write) = stream.into_split();
        let inward = async move {
            let mut body = body;
            while let Some(frame) = body.frame().await {
                // The client broke off: nothing of this connection is wanted any more.
                let frame = frame.map_err(|_| Ended)?;
                let Ok(data) = frame.into_data() else { continue };
                if write.write_all(&data).await.is_err() {
                    // The server does not read any more; what it still says goes on.
                    return Ok(());
                }
            }
            let _ = write.shutdown().await;
            Ok(())
        };
        let outward = async move {
            let mut buffer = BytesMut::new();
            loop {
                buffer.reserve(PIECE_BYTES);
                tokio::select! {
                    read = read.read_buf(&mut buffer) => match read {
                        Ok(0) => return Ok(()),
                        Ok(_) => pieces.send(buffer.split().freeze()).await.map_err(|_| Ended)?,
                        Err(_) => return Err(Ended),
                    },
                    () = pieces.closed() => return Err(Ended),
                }
            }
        };
        // The first that breaks takes the other with it.
        let carrying = async { tokio::try_join!(inward, outward) };
        tokio::select! {
            _ = carrying => {}
            () = held.cancelled.cancelled() => {}
        }
    });
    receiver
}

/// One side is gone.
struct Ended;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_listener_on_exactly_the_address_counts() {
        let own = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let wild = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let at = |ip: [u8; 4], listener: &std::net::TcpListener| {
            listens_on(SocketAddr::new(ip.into(), listener.local_addr().unwrap().port())).unwrap()
        };
        assert!(at([127, 0, 0, 1], &own));
        assert!(!at([127, 0, 0, 2], &own));
        assert!(!at([127, 0, 0, 1], &wild));
        let Ok(six) = std::net::TcpListener::bind("[::1]:0") else {
            return;
        };
        let port = six.local_addr().unwrap().port();
        assert!(listens_on(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)).unwrap());
        assert!(!listens_on(SocketAddr::new([127, 0, 0, 1].into(), port)).unwrap());
    }

    #[test]
    fn a_connection_is_no_listener() {
        let line = "   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000 0 0 1";
        assert!(!is_listener(line, "0100007F:1F90"));
        assert!(is_listener(&line.replace(" 01 ", " 0A "), "0100007F:1F90"));
    }
}
