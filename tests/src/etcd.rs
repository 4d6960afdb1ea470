//! A real etcd of the test's own.

use std::process::Command;

use crate::{Process, eventually, free_port};

pub struct Etcd {
    pub process: Process,
    pub endpoint: String,
    command: Box<dyn Fn() -> Command + Send>,
    _directory: tempfile::TempDir,
}

impl Etcd {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let endpoint = format!("http://127.0.0.1:{}", free_port());
        let peer = format!("http://127.0.0.1:{}", free_port());
        let data = directory.path().join("data");
        let command: Box<dyn Fn() -> Command + Send> = {
            let endpoint = endpoint.clone();
            Box::new(move || {
                let mut command = Command::new("etcd");
                command
                    .arg("--data-dir")
                    .arg(&data)
                    .args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
                    .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
                    .args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"]);
                command
            })
        };
        let process = Process::start(&mut command(), &directory.path().join("etcd.log"));
        let etcd = Self {
            process,
            endpoint,
            command,
            _directory: directory,
        };
        etcd.wait();
        etcd
    }

    fn wait(&self) {
        eventually("etcd is healthy", || {
            let output = self.etcdctl(&["endpoint", "health"]);
            if output.0 { Ok(()) } else { Err(output.1) }
        });
    }

    /// kill -9 and start anew on the same data.
    pub fn crash_and_restart(&mut self) {
        self.process.kill();
        let log = self.process.log.clone();
        self.process = Process::start(&mut (self.command)(), &log);
        self.wait();
    }

    /// Whether it succeeded, and what it printed.
    pub fn etcdctl(&self, args: &[&str]) -> (bool, String) {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoint])
            .args(args)
            .output()
            .unwrap_or_else(|error| panic!("start etcdctl: {error}; run: apt-get install etcd-client etcd-server"));
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }
}
