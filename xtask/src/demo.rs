//! `cargo xtask demo`: the main job from nothing: build, `skiff up`, run a module, ask it over HTTP, look with kubectl.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{setup, shell};

/// Longest wait for the cluster; it is ready within a second or two.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

pub fn run() -> Result<()> {
    setup::run()?;
    shell::run(Command::new("cargo").args(["build", "--release", "--locked", "--bin", "skiff"]))?;
    let root = shell::root();
    let data = root.join("target/demo");
    if data.exists() {
        std::fs::remove_dir_all(&data).with_context(|| format!("remove {}", data.display()))?;
    }
    let skiff = root.join("target/release/skiff");
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .context("find a free port")?
        .port();
    eprintln!("$ skiff up");
    let up = Command::new(&skiff)
        .args(["up", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
        .arg(&data)
        .stdin(Stdio::null())
        .spawn()
        .context("start skiff up")?;
    let mut up = Stopped(up);
    let kubeconfig = data.join("kubeconfig");
    wait_ready(&mut up.0, &kubeconfig)?;

    let module = root.join("wasm-examples/prebuilt/hello-http.wasm");
    eprintln!("$ skiff run {}", module.display());
    let output = Command::new(&skiff)
        .arg("run")
        .arg(&module)
        .env("KUBECONFIG", &kubeconfig)
        .stderr(Stdio::inherit())
        .output()
        .context("start skiff run")?;
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}");
    if !output.status.success() {
        bail!("skiff run failed");
    }
    let url = said
        .split_whitespace()
        .find(|w| w.starts_with("http://"))
        .context("skiff run named no URL")?;
    shell::run(kubectl(&kubeconfig).args(["get", "pods", "-o", "wide"]))?;
    eprintln!("$ curl {url}");
    let answer = get(url)?;
    println!("{answer}");
    println!("That was a pod made of WebAssembly. To keep a cluster running: target/release/skiff up");
    Ok(())
}

fn kubectl(kubeconfig: &Path) -> Command {
    let mut command = Command::new(setup::tools_dir().join("kubectl"));
    command.env("KUBECONFIG", kubeconfig);
    command
}

/// Until a node is Ready.
fn wait_ready(up: &mut Child, kubeconfig: &Path) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < READY_TIMEOUT {
        if let Some(status) = up.try_wait().context("look at skiff up")? {
            bail!("skiff up ended with {status}");
        }
        if kubeconfig.exists() {
            let nodes = kubectl(kubeconfig)
                .args(["get", "nodes", "--no-headers"])
                .output()
                .context("start kubectl")?;
            if String::from_utf8_lossy(&nodes.stdout).contains(" Ready ") {
                return Ok(());
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("no node was Ready within {} s", READY_TIMEOUT.as_secs())
}

/// The body of a page: one request, one connection.
fn get(url: &str) -> Result<String> {
    let rest = url.trim_start_matches("http://");
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address: SocketAddr = host.parse().with_context(|| format!("{host} is not ADDRESS:PORT"))?;
    let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    // 1.0, so that the answer ends with the connection and is not cut into chunks.
    let request = format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).context("send the request")?;
    let mut text = String::new();
    stream.read_to_string(&mut text).context("read the answer")?;
    Ok(text)
}

/// A cluster that is told to stop (as by Ctrl-C) and waited for.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}
