//! What a wasm HTTP pod is measured against: plain hyper that answers the same greeting, in a process of its own with as
//! many threads as a worker has.

use std::convert::Infallible;
use std::io::BufRead;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

const GREETING: &[u8] = b"Hello from WebAssembly\n";

/// The server's process: prints its address, serves until it is killed or its standard input ends.
pub fn serve() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.spawn_blocking(|| {
        // The parent holds the other end: when it goes away, so does this.
        let _ = std::io::stdin().lock().read_line(&mut String::new());
        std::process::exit(0);
    });
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let answer = async |_: Request<hyper::body::Incoming>| {
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(GREETING))))
                };
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .await
            });
        }
    })
}

/// A running reference server; ended when dropped.
pub struct Reference {
    child: Child,
    pub address: SocketAddr,
}

impl Reference {
    pub fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("hello-server")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the reference server")?;
        let output = child.stdout.take().context("the reference server has no output")?;
        let mut line = String::new();
        std::io::BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().parse().with_context(|| format!("{line:?} is no address"))?;
        Ok(Self { child, address })
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
