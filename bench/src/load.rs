//! A load generator for HTTP/1.1 with keep-alive: a thread of its own, connections on one small runtime, answers read
//! no further than their length needs.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stats::Stats;

/// Heads and bodies of a greeting are far below this.
const BUFFER_BYTES: usize = 16 * 1024;

/// How requests are sent.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub connections: usize,
    pub time: Duration,
    /// Pause between the requests of one connection; none: as fast as they go.
    pub pace: Option<Duration>,
}

/// `GET /` over and over; every answer must be 200.
pub async fn run(address: SocketAddr, load: Load) -> Result<Stats> {
    let request = format!("GET / HTTP/1.1\r\nhost: {address}\r\n\r\n").into_bytes();
    let started = Instant::now();
    let all = try_join_all((0..load.connections).map(|_| connection(address, &request, load, started))).await?;
    Ok(Stats::new(all.into_iter().flatten().collect(), started.elapsed()))
}

async fn connection(address: SocketAddr, request: &[u8], load: Load, started: Instant) -> Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("connect to {address}"))?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut latencies = Vec::new();
    while started.elapsed() < load.time {
        let begun = Instant::now();
        stream.write_all(request).await?;
        read_answer(&mut stream, &mut buffer).await?;
        latencies.push(begun.elapsed());
        if let Some(pace) = load.pace {
            tokio::time::sleep(pace).await;
        }
    }
    Ok(latencies)
}

async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..]).await?;
        if count == 0 {
            bail!(
                "the server closed a connection; so far: {:?}",
                String::from_utf8_lossy(&buffer[..filled])
            );
        }
        filled += count;
        if is_whole(&buffer[..filled])? {
            return Ok(());
        }
    }
}

/// Whether these bytes are one whole answer.
fn is_whole(bytes: &[u8]) -> Result<bool> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(false);
    };
    let (head, body) = (&bytes[..end], &bytes[end + 4..]);
    if !head.starts_with(b"HTTP/1.1 200") {
        bail!("not 200: {:?}", String::from_utf8_lossy(bytes));
    }
    for line in head.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let length: usize = std::str::from_utf8(value)?.parse().context("a bad content-length")?;
            return Ok(body.len() >= length);
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Ok(body.ends_with(b"0\r\n\r\n"));
        }
    }
    bail!("an answer without a length: {:?}", String::from_utf8_lossy(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_whole_by_length_or_last_chunk() {
        let whole = |text: &str| is_whole(text.as_bytes()).unwrap();
        assert!(whole("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"));
        assert!(!whole("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh"));
        assert!(!whole("HTTP/1.1 200 OK\r\nContent-Le"));
        assert!(whole(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
        ));
        assert!(!whole(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n"
        ));
        assert!(is_whole(b"HTTP/1.1 500 No\r\n\r\n").is_err());
    }
}
