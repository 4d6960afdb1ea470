//! A real etcd for one test.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(30);
/// Between two looks at the port.
const LOOK: Duration = Duration::from_millis(10);

pub struct Etcd {
    directory: tempfile::TempDir,
    client: SocketAddr,
    peer: SocketAddr,
    process: Option<Child>,
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound address")
}

impl Etcd {
    /// Starts an empty etcd and waits until it listens.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut etcd = Self {
            directory,
            client: free_address(),
            peer: free_address(),
            process: None,
        };
        etcd.run();
        etcd
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.client)
    }

    /// Kills it at once; acknowledged writes are on its disk.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("kills etcd");
            process.wait().expect("reaps etcd");
        }
    }

    /// Starts it, again if it was killed, over the same data.
    pub fn run(&mut self) {
        let client = format!("http://{}", self.client);
        let peer = format!("http://{}", self.peer);
        let process = Command::new("etcd")
            .arg("--data-dir")
            .arg(self.directory.path())
            .args(["--name", "test", "--logger", "zap", "--log-level", "error"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("test={peer}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start etcd ({error}): apt-get install etcd-server"));
        self.process = Some(process);
        let begun = Instant::now();
        while TcpStream::connect(self.client).is_err() {
            assert!(begun.elapsed() < START, "etcd does not listen on {}", self.client);
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}
