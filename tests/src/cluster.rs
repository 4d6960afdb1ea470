//! A cluster of the test's own: `skiff up` or `skiff server`, with its kubeconfig.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::{Etcd, Output, Process, eventually, kubectl};

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The binary under test: `SKIFF_BIN`, else the one that cargo built.
pub fn skiff_binary() -> PathBuf {
    let path = std::env::var_os("SKIFF_BIN").map_or_else(|| crate::root().join("target/debug/skiff"), PathBuf::from);
    assert!(
        path.is_file(),
        "{} is missing; run: cargo build --bin skiff",
        path.display()
    );
    path
}

/// How a cluster is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `server` without a node instead of `up`.
    pub server_only: bool,
    /// Endpoint of an etcd instead of the embedded store.
    pub etcd: Option<String>,
    pub extra_args: Vec<String>,
}

pub struct Cluster {
    pub process: Process,
    pub directory: tempfile::TempDir,
    pub port: u16,
    options: Options,
    pod_cidr: String,
    /// Outlives the process that uses it.
    _etcd: Option<Etcd>,
}

/// With `SKIFF_E2E_STORE=etcd` every cluster that names no store gets a real etcd of its own: the same suite, other store.
pub fn on_etcd() -> bool {
    std::env::var_os("SKIFF_E2E_STORE").is_some_and(|store| store == "etcd")
}

impl Cluster {
    /// `skiff up` on the embedded store; returns when the node is Ready.
    pub fn up() -> Self {
        Self::start(Options::default())
    }

    pub fn start(options: Options) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), free_port(), options)
    }

    fn start_in(directory: tempfile::TempDir, port: u16, mut options: Options) -> Self {
        let etcd = (on_etcd() && options.etcd.is_none()).then(Etcd::start);
        if let Some(etcd) = &etcd {
            options.etcd = Some(etcd.endpoint.clone());
        }
        // Each test process has a pod range of its own, beyond the Services' 10.96.0.0/12, so that parallel tests do not
        // share addresses.
        let pod_cidr = format!("10.{}.0.0/16", 112 + std::process::id() % 140);
        let process = Self::spawn(directory.path(), port, &options, &pod_cidr);
        let mut cluster = Self {
            process,
            directory,
            port,
            options,
            pod_cidr,
            _etcd: etcd,
        };
        cluster.wait_ready();
        cluster
    }

    fn spawn(directory: &Path, port: u16, options: &Options, pod_cidr: &str) -> Process {
        let mut command = Command::new(skiff_binary());
        command
            .arg(if options.server_only { "server" } else { "up" })
            .args([
                "--listen",
                &format!("127.0.0.1:{port}"),
                "--pod-cidr",
                pod_cidr,
                "--log-level",
                "info",
            ])
            .arg("--data-dir")
            .arg(directory.join("data"))
            .env("HOME", directory);
        if let Some(endpoint) = &options.etcd {
            command.args(["--store", "etcd", "--etcd-endpoints", endpoint]);
        }
        if !options.server_only {
            // A full disk of the machine that tests is not what they are about.
            command.args(["--node-name", "node-a", "--eviction-hard", "memory.available<1Mi"]);
        }
        command.args(&options.extra_args);
        Process::start(&mut command, &directory.join("skiff.log"))
    }

    /// Starts the same cluster again on its data, after it ended or was killed.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = Self::spawn(self.directory.path(), self.port, &self.options, &self.pod_cidr);
        self.wait_ready();
    }

    fn wait_ready(&mut self) {
        let kubeconfig = self.kubeconfig();
        eventually("the API server is ready", || {
            if let Some(status) = self.process.ended() {
                panic!("skiff ended with {status}: {}", self.process.output());
            }
            if !kubeconfig.exists() {
                return Err(self.process.output());
            }
            let output = self.kubectl(&["get", "--raw", "/readyz"]);
            if output.stdout == "ok" {
                Ok(())
            } else {
                Err(output.stderr)
            }
        });
        if !self.options.server_only {
            self.wait_node_ready("node-a");
        }
    }

    pub fn wait_node_ready(&self, name: &str) {
        eventually("the node is Ready", || {
            let output = self.kubectl(&["get", "node", name, "--no-headers"]);
            let ready = output.stdout.split_whitespace().nth(1) == Some("Ready");
            if ready {
                Ok(())
            } else {
                Err(format!("{output:?}\n{}", self.process.output()))
            }
        });
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("data/kubeconfig")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        kubectl::command(&self.kubeconfig(), self.directory.path(), args)
    }

    pub fn kubectl(&self, args: &[&str]) -> Output {
        kubectl::run(self.kubectl_command(args), None)
    }

    /// A whole command line, split at white space.
    pub fn k(&self, line: &str) -> Output {
        self.kubectl(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// `kubectl apply -f -`.
    pub fn apply(&self, manifest: &str) -> Output {
        kubectl::run(self.kubectl_command(&["apply", "-f", "-"]), Some(manifest))
    }

    /// kubectl with something on its standard input.
    pub fn kubectl_stdin(&self, args: &[&str], stdin: &str) -> Output {
        kubectl::run(self.kubectl_command(args), Some(stdin))
    }

    pub fn skiff(&self, args: &[&str]) -> Output {
        let mut command = Command::new(skiff_binary());
        command
            .args(args)
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.directory.path());
        kubectl::run(command, None)
    }

    /// Pushes an example guest and returns the image reference for a pod.
    pub fn push(&self, guest: &str) -> String {
        let file = crate::guest(guest);
        let output = self
            .skiff(&["push", file.to_str().unwrap(), &format!("{guest}:test")])
            .ok();
        output.lines().last().unwrap().to_owned()
    }

    /// Pods of the default namespace with this label selector.
    pub fn pods(&self, selector: &str) -> Vec<Value> {
        let list = self.kubectl(&["get", "pods", "-l", selector, "-o", "json"]).json();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until exactly `count` pods with this selector are Ready and none is going away; returns them by name.
    pub fn wait_ready_pods(&self, selector: &str, count: usize) -> Vec<Value> {
        eventually(&format!("{count} ready pods {selector}"), || {
            let pods = self.pods(selector);
            let good = pods.iter().filter(|pod| is_ready(pod)).count();
            if good == count && pods.len() == count {
                Ok(pods)
            } else {
                Err(format!(
                    "{}\n{}",
                    self.k("get pods -o wide").stdout,
                    self.k("get events").stdout
                ))
            }
        })
    }

    pub fn pod(&self, name: &str) -> Value {
        self.kubectl(&["get", "pod", name, "-o", "json"]).json()
    }

    /// Processes of this cluster whose command line has `what` (`agent`, `wasm-worker`).
    pub fn processes(&self, what: &str) -> Vec<u32> {
        crate::pids_with_argument(&[what, self.directory.path().to_str().unwrap()])
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- skiff.log\n{}", self.process.output());
            for line in [
                "get deployments,replicasets,pods -A -o wide",
                "get events -A",
                "describe pods",
            ] {
                let output = self.k(line);
                eprintln!("--- kubectl {line}\n{}{}", output.stdout, output.stderr);
            }
        }
        self.process.kill();
        // Workers outlive their agent on purpose; a test leaves none behind.
        for pid in self.processes("skiff") {
            crate::kill(pid, rustix::process::Signal::KILL);
        }
    }
}

pub fn is_ready(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null()
        && pod["status"]["conditions"]
            .as_array()
            .is_some_and(|c| c.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

/// Where a pod serves.
pub fn address(pod: &Value, port: u16) -> SocketAddr {
    format!(
        "{}:{port}",
        pod["status"]["podIP"]
            .as_str()
            .unwrap_or_else(|| panic!("no podIP: {pod}"))
    )
    .parse()
    .unwrap()
}
