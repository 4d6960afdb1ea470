//! Servers with settings, and what they answer.

use std::net::IpAddr;

use skiff_runtime::contract::Subject;
use skiff_runtime::{ContainerPhase, Mount};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Node;

/// A request that has to be answered for the connection to go on.
pub const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: pod\r\n\r\n";

/// Creates and starts the container `web` of a pod with these annotations.
pub async fn start(
    node: &Node,
    subject: &mut Subject,
    uid: &str,
    module: Vec<u8>,
    annotations: &[(&str, &str)],
    mounts: Vec<Mount>,
) -> IpAddr {
    subject.ip = node.ip();
    let image = node.registry.push(uid, module);
    let mut sandbox = subject.sandbox(uid);
    sandbox.annotations = annotations.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    subject.runtime.create_sandbox(&sandbox).await.unwrap();
    let mut spec = subject.container(uid, "web", 0, &image).await;
    spec.ports = vec![8080];
    spec.mounts = mounts;
    subject.runtime.create_container(&spec).await.unwrap();
    subject.runtime.start_container(uid, "web").await.unwrap();
    subject.ip
}

pub async fn serve(
    node: &Node,
    subject: &mut Subject,
    uid: &str,
    module: Vec<u8>,
    annotations: &[(&str, &str)],
) -> IpAddr {
    let ip = start(node, subject, uid, module, annotations, Vec::new()).await;
    subject.until(uid, "web", |c| c.phase == ContainerPhase::Running).await;
    ip
}

/// The answer's beginning; empty when the connection was closed without one.
pub async fn ask_whole(stream: &mut TcpStream) -> String {
    let mut answer = vec![0; 4096];
    // A connection that is being closed may break off the writing.
    let _ = stream.write_all(REQUEST).await;
    let length = stream.read(&mut answer).await.unwrap_or(0);
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

/// Its first line.
pub async fn ask(stream: &mut TcpStream) -> String {
    let answer = ask_whole(stream).await;
    answer.lines().next().unwrap_or_default().to_owned()
}

pub async fn connect(ip: IpAddr) -> TcpStream {
    TcpStream::connect((ip, 8080)).await.unwrap()
}

pub const OK: &str = "HTTP/1.1 200 OK";
