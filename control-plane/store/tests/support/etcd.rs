//! A real etcd for one test.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(30);
/// Between two looks at the port.
const LOOK: Duration = Duration::from_millis(10);

pub(crate) struct Etcd {
    directory: tempfile::TempDir,
    client: SocketAddr,
    peer: SocketAddr,
    process: Option<Child>,
    /// `http`, or `https` when `arguments` say so.
    scheme: &'static str,
    arguments: Vec<OsString>,
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound address")
}

impl Etcd {
    /// Starts an empty etcd and waits until it listens.
    pub(crate) fn start() -> Self {
        Self::start_with("http", Vec::new())
    }

    /// The same with further arguments.
    pub(crate) fn start_with(scheme: &'static str, arguments: Vec<OsString>) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (client, peer) = (free_address(), free_address());
        let mut etcd = Self {
            directory,
            client,
            peer,
            process: None,
            scheme,
            arguments,
        };
        // Another process may have taken a free port meanwhile; etcd has kept nothing then.
        while !etcd.try_run() {
            (etcd.client, etcd.peer) = (free_address(), free_address());
        }
        etcd
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.client)
    }

    /// Kills it at once; acknowledged writes are on its disk.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("kills etcd");
            process.wait().expect("reaps etcd");
        }
    }

    /// Starts it again after it was killed, over the same data.
    pub(crate) fn run(&mut self) {
        assert!(self.try_run(), "etcd does not start again on {}", self.client);
    }

    /// False when it ended at once.
    fn try_run(&mut self) -> bool {
        let client = self.endpoint();
        let peer = format!("http://{}", self.peer);
        let process = Command::new("etcd")
            .arg("--data-dir")
            .arg(self.directory.path())
            .args(["--name", "test", "--logger", "zap", "--log-level", "error"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("test={peer}")])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start etcd ({error}): apt-get install etcd-server"));
        let process = self.process.insert(process);
        let begun = Instant::now();
        while TcpStream::connect(self.client).is_err() {
            assert!(begun.elapsed() < START, "etcd does not listen on {}", self.client);
            if process.try_wait().expect("looks after etcd").is_some() {
                self.process = None;
                return false;
            }
            std::thread::sleep(LOOK);
        }
        true
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}
