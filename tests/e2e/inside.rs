//! Looking into a running pod with kubectl: exec, cp, attach, port-forward.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Stdio};

use skiff_tests::{Cluster, eventually};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  runtimeClassName: wasm
  containers:
  - name: main
    image: IMAGE
    env: [{name: GREETING, value: hello}]
    ports: [{containerPort: 8080}]
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {}}]
";

fn web() -> Cluster {
    let cluster = Cluster::up();
    cluster.apply(&POD.replace("IMAGE", &cluster.push("hello-http"))).ok();
    cluster.k("wait --for=condition=Ready pod/web --timeout=60s").ok();
    cluster
}

#[test]
fn exec_runs_commands_of_the_inspection_shell() {
    let cluster = web();
    let env = cluster.k("exec web -- env").ok();
    assert!(env.lines().any(|line| line == "GREETING=hello"), "{env}");
    assert_eq!(cluster.k("exec web -- hostname").ok(), "web\n");

    let missing = cluster.k("exec web -- frobnicate").err();
    assert!(missing.contains("executable file not found in $PATH"), "{missing}");
    let failed = cluster.kubectl(&["exec", "web", "--", "sh", "-c", "exit 3"]);
    assert_eq!(failed.code, 3, "{failed:?}");

    let script = "cat > /data/note && cat /data/note";
    let echoed = cluster.kubectl_stdin(&["exec", "-i", "web", "--", "sh", "-c", script], "one\ntwo\n");
    assert_eq!(echoed.ok(), "one\ntwo\n");
    let outside = cluster.k("exec web -- cat /etc/passwd");
    assert_ne!(outside.code, 0, "{outside:?}");

    let nobody = cluster.k("exec web -c other -- env").err();
    assert!(
        nobody.contains("container not found") || nobody.contains("container other is not valid for pod web"),
        "{nobody}"
    );
}

#[test]
fn cp_brings_a_tree_in_and_out_unchanged() {
    let cluster = web();
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    std::fs::create_dir_all(tree.join("deep")).unwrap();
    let big: Vec<u8> = (0..3_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    std::fs::write(tree.join("deep/big.bin"), &big).unwrap();
    std::fs::write(tree.join("note.txt"), "a note\n").unwrap();
    let back = directory.path().join("back");
    cluster
        .kubectl(&["cp", &tree.display().to_string(), "web:/data/tree"])
        .ok();
    assert_eq!(cluster.k("exec web -- cat /data/tree/note.txt").ok(), "a note\n");
    cluster
        .kubectl(&["cp", "web:/data/tree", &back.display().to_string()])
        .ok();
    assert!(std::fs::read(back.join("deep/big.bin")).unwrap() == big);
    assert_eq!(std::fs::read_to_string(back.join("note.txt")).unwrap(), "a note\n");
    let refused = cluster.kubectl(&["cp", &tree.display().to_string(), "web:/elsewhere"]);
    assert_ne!(refused.code, 0, "{refused:?}");
}

/// A kubectl that goes on until it is dropped, the first line of its output, and where the rest comes: without a reader it would
/// end.
struct Running {
    child: Child,
    first_line: String,
    _output: BufReader<ChildStdout>,
}

impl Running {
    fn start(cluster: &Cluster, args: &[&str]) -> Self {
        let mut child = cluster.kubectl_command(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        Self {
            child,
            first_line: line,
            _output: output,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn port_forward_carries_many_connections() {
    let cluster = web();
    let forward = Running::start(&cluster, &["port-forward", "pod/web", ":8080"]);
    // Forwarding from 127.0.0.1:40123 -> 8080
    let address = forward
        .first_line
        .split_whitespace()
        .nth(2)
        .unwrap_or_else(|| panic!("{:?}", forward.first_line))
        .to_owned();
    let ask = |_| {
        let address = address.clone();
        std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream
                .write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n")
                .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        })
    };
    let answers: Vec<_> = (0..20).map(ask).collect();
    for answer in answers {
        let answer = answer.join().unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("hello\n"),
            "{answer:?}"
        );
    }
}

#[test]
fn attach_shows_what_is_written_from_now_on() {
    let cluster = Cluster::up();
    cluster.apply(&POD.replace("IMAGE", &cluster.push("sensor"))).ok();
    cluster.k("wait --for=condition=Ready pod/web --timeout=60s").ok();
    // Each of its lines is another one: it counts its readings.
    let before = eventually("the sensor has written a reading", || {
        let log = cluster.k("logs web").ok();
        if log.contains("reading=1 ") { Ok(log) } else { Err(log) }
    });
    let attached = Running::start(&cluster, &["attach", "web"]);
    assert!(attached.first_line.starts_with("reading="), "{:?}", attached.first_line);
    assert!(
        !before.contains(&attached.first_line),
        "{:?} was written before: {before}",
        attached.first_line
    );
    assert!(
        cluster.k("logs web").ok().contains(attached.first_line.trim()),
        "{:?}",
        attached.first_line
    );
}
