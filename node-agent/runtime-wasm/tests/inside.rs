//! Looking inside: exec, attach and cp, through real worker processes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Node, guests, kill};
use skiff_runtime::contract::Subject;
use skiff_runtime::{ContainerPhase, Mount, Resources, RuntimeError, StdinMode, StreamIo, TerminalSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Our end of a session.
struct Client {
    stdin: DuplexStream,
    stdout: DuplexStream,
    stderr: DuplexStream,
    resize: mpsc::Sender<TerminalSize>,
}

fn client(tty: bool) -> (Client, StreamIo) {
    let ((stdin, their_stdin), (stdout, their_stdout), (stderr, their_stderr)) =
        (duplex(4096), duplex(4096), duplex(4096));
    let (resize, sizes) = mpsc::channel(1);
    let io = StreamIo {
        stdin: Some(Box::new(their_stdin)),
        stdout: Some(Box::new(their_stdout)),
        stderr: (!tty).then(|| Box::new(their_stderr) as _),
        tty,
        resize: sizes,
    };
    let client = Client {
        stdin,
        stdout,
        stderr,
        resize,
    };
    (client, io)
}

impl Client {
    /// Reads stdout until it contains `text`, and returns all of it so far.
    async fn until(&mut self, text: &str) -> String {
        let mut shown = Vec::new();
        while !String::from_utf8_lossy(&shown).contains(text) {
            let mut piece = [0; 1024];
            let count = self.stdout.read(&mut piece).await.unwrap();
            assert!(count > 0, "{text:?} is not in {:?}", String::from_utf8_lossy(&shown));
            shown.extend_from_slice(&piece[..count]);
        }
        String::from_utf8_lossy(&shown).into_owned()
    }
}

fn open(subject: &Subject, uid: &str, command: &[&str], io: StreamIo) -> JoinHandle<Result<i32, RuntimeError>> {
    let (runtime, uid) = (subject.runtime.clone(), uid.to_owned());
    let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
    tokio::spawn(async move { runtime.exec(&uid, "main", &command, io).await })
}

/// Runs a command to its end.
async fn exec(subject: &Subject, uid: &str, command: &[&str], stdin: &[u8]) -> (i32, Vec<u8>, String) {
    let (client, io) = client(false);
    let session = open(subject, uid, command, io);
    let Client {
        stdin: mut input,
        mut stdout,
        mut stderr,
        resize,
    } = client;
    let (mut out, mut err) = (Vec::new(), String::new());
    let typing = async {
        let _ = input.write_all(stdin).await;
        drop(input);
    };
    let (_, read_out, read_err) = tokio::join!(typing, stdout.read_to_end(&mut out), stderr.read_to_string(&mut err));
    read_out.unwrap();
    read_err.unwrap();
    drop(resize);
    (session.await.unwrap().unwrap(), out, err)
}

/// A running container with a writable and a read-only volume.
async fn start(node: &Node, subject: &mut Subject, uid: &str, module: Vec<u8>, stdin: StdinMode) {
    let image = node.registry.push(uid, module);
    let volume = |name: &str, container_path: &str, read_only| {
        let host_path = node.dir.path().join(uid).join(name);
        std::fs::create_dir_all(&host_path).unwrap();
        Mount {
            host_path,
            container_path: container_path.into(),
            read_only,
        }
    };
    subject.runtime.create_sandbox(&subject.sandbox(uid)).await.unwrap();
    let mut spec = subject.container(uid, "main", 0, &image).await;
    spec.args = vec!["guest".into(), "--flag".into()];
    spec.env = vec![("NAME".into(), "value".into())];
    spec.mounts = vec![volume("data", "/data", false), volume("config", "/etc/config", true)];
    spec.resources = Resources {
        memory_limit_bytes: Some(8 << 20),
        ..Resources::default()
    };
    spec.stdin = stdin;
    subject.runtime.create_container(&spec).await.unwrap();
    subject.runtime.start_container(uid, "main").await.unwrap();
    subject.until(uid, "main", |c| c.phase == ContainerPhase::Running).await;
}

#[tokio::test]
async fn the_shell_shows_what_runs() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    start(&node, &mut subject, "busy", guests::spins(), StdinMode::Silent).await;
    // The guest is instantiated in its own time.
    let shown = loop {
        let (code, stdout, stderr) = exec(&subject, "busy", &["stack"], b"").await;
        assert_eq!((code, stderr.as_str()), (0, ""));
        let shown = String::from_utf8(stdout).unwrap();
        if !shown.contains("No instance") {
            break shown;
        }
    };
    assert!(
        shown.contains("instance 1 (guest --flag") && shown.contains("spinning"),
        "{shown}"
    );
    let text = |(code, stdout, stderr): (i32, Vec<u8>, String)| {
        assert_eq!((code, stderr.as_str()), (0, ""));
        String::from_utf8(stdout).unwrap()
    };
    let all = [
        "sh",
        "-c",
        "ps; limits; memory; env; imports; exports; lsof; df; id; top -d 0.01",
    ];
    let shown = text(exec(&subject, "busy", &all, b"").await);
    for part in [
        "main",
        "8388608",
        "65536",
        "64Ki",
        "NAME=value",
        "_start",
        "/etc/config",
        "CPU(cores)",
    ] {
        assert!(shown.contains(part), "{part:?} in {shown}");
    }
    let (code, _, stderr) = exec(&subject, "busy", &["ps", "-ef", "x"], b"").await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    let (code, _, stderr) = exec(&subject, "busy", &["nginx"], b"").await;
    assert_eq!(code, 127);
    assert!(stderr.contains("executable file not found in $PATH"), "{stderr}");
}

#[tokio::test]
async fn an_idle_guest_is_told_as_idle_and_a_new_agent_sees_the_same() {
    let node = Node::new();
    let mut first = node.runtime().await;
    start(&node, &mut first, "idle", guests::sleeps(), StdinMode::Silent).await;
    drop(first);
    let second = node.runtime().await;
    loop {
        let (_, stdout, _) = exec(&second, "idle", &["bt"], b"").await;
        let shown = String::from_utf8(stdout).unwrap();
        if !shown.contains("No instance") {
            assert!(shown.contains("idle, it waits for the host"), "{shown}");
            break;
        }
    }
}

#[tokio::test]
async fn files_are_copied_in_and_out() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    start(&node, &mut subject, "copies", guests::sleeps(), StdinMode::Silent).await;
    let data = node.dir.path().join("copies/data");
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 7) as u8).collect();
    std::fs::write(data.join("big"), &content).unwrap();
    let (code, packed, stderr) = exec(&subject, "copies", &["tar", "cf", "-", "data/big"], b"").await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    let (code, _, stderr) = exec(&subject, "copies", &["tar", "-xmf", "-", "-C", "/data"], &packed).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(std::fs::read(data.join("data/big")).unwrap() == content);
    let (code, ..) = exec(&subject, "copies", &["test", "-d", "/data"], b"").await;
    assert_eq!(code, 0);
    let (code, _, stderr) = exec(&subject, "copies", &["tar", "-xmf", "-", "-C", "/etc/config"], &packed).await;
    assert_eq!(code, 2);
    assert!(stderr.contains("Read-only file system"), "{stderr}");
}

#[tokio::test]
async fn on_a_terminal_there_is_a_prompt_and_ctrl_c() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    start(&node, &mut subject, "prompt", guests::sleeps(), StdinMode::Silent).await;
    std::fs::File::create(node.dir.path().join("prompt/data/endless"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let (mut client, io) = client(true);
    let session = open(&subject, "prompt", &["sh"], io);
    client
        .resize
        .send(TerminalSize { width: 40, height: 10 })
        .await
        .unwrap();
    client.until("/ $ ").await;
    client.stdin.write_all(b"cd /data\r").await.unwrap();
    client.until("/data $ ").await;
    client.stdin.write_all(b"cat endless\r").await.unwrap();
    client.until("\0\0\0\0").await;
    client.stdin.write_all(b"\x03").await.unwrap();
    client.until("^C\r\n/data $ ").await;
    client.stdin.write_all(b"exit 9\r").await.unwrap();
    client.until("exit 9").await;
    // Whatever else is shown must be read.
    tokio::io::copy(&mut client.stdout, &mut tokio::io::sink())
        .await
        .unwrap();
    assert_eq!(session.await.unwrap().unwrap(), 9);
}

#[tokio::test]
async fn endless_output_waits_for_its_reader_and_ends_with_the_client() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    start(&node, &mut subject, "flood", guests::sleeps(), StdinMode::Silent).await;
    std::fs::File::create(node.dir.path().join("flood/data/endless"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    // More sessions than a worker has at once, one after the other: each is over when its client is gone.
    for n in 0..80 {
        let (mut client, io) = client(false);
        let session = open(&subject, "flood", &["cat", "/data/endless"], io);
        let mut piece = [1; 1000];
        client.stdout.read_exact(&mut piece).await.unwrap();
        assert_eq!(piece, [0; 1000]);
        match n % 2 {
            0 => session.abort(),
            _ => {
                drop(client.stdout);
                assert!(session.await.unwrap().is_err());
            }
        }
    }
    let (code, stdout, _) = loop {
        let (code, stdout, stderr) = exec(&subject, "flood", &["sh", "-c", "echo on"], b"").await;
        if code == 0 {
            break (code, stdout, stderr);
        }
    };
    assert_eq!((code, stdout.as_slice()), (0, &b"on\n"[..]));
}

#[tokio::test]
async fn sessions_are_bounded_and_end_with_the_container_and_the_worker() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    start(&node, &mut subject, "ends", guests::sleeps(), StdinMode::Silent).await;
    let mut sessions = Vec::new();
    for _ in 0..64 {
        let (client, io) = client(false);
        sessions.push((open(&subject, "ends", &["cat"], io), client));
    }
    for (_, client) in &mut sessions {
        client.stdin.write_all(b"here").await.unwrap();
        client.until("here").await;
    }
    let (_client, io) = client(false);
    let refused = open(&subject, "ends", &["cat"], io).await.unwrap().unwrap_err();
    assert!(refused.to_string().contains("more than 64 sessions"), "{refused}");
    subject.runtime.stop_container("ends", "main", 0).await.unwrap();
    for (session, _client) in sessions {
        assert_eq!(session.await.unwrap().unwrap(), 137);
    }
    subject
        .until("ends", "main", |c| c.phase == ContainerPhase::Exited)
        .await;
    let (_client, io) = self::client(false);
    let missing = open(&subject, "ends", &["cat"], io).await.unwrap().unwrap_err();
    assert!(matches!(missing, RuntimeError::NotFound { .. }), "{missing}");

    start(&node, &mut subject, "dies", guests::sleeps(), StdinMode::Silent).await;
    let (mut client, io) = self::client(false);
    let session = open(&subject, "dies", &["cat"], io);
    client.stdin.write_all(b"here").await.unwrap();
    client.until("here").await;
    kill(node.worker("contract"));
    assert!(matches!(session.await.unwrap(), Err(RuntimeError::Unavailable { .. })));
}

#[tokio::test]
async fn who_attaches_talks_with_the_guest() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    start(&node, &mut subject, "echo", guests::echoes(), StdinMode::Once).await;
    let (mut client, io) = client(false);
    let runtime = subject.runtime.clone();
    let session = tokio::spawn(async move { runtime.attach("echo", "main", io).await });
    client.stdin.write_all(b"hello\n").await.unwrap();
    client.until("hello\n").await;
    let long = "x".repeat(200_000) + "\n";
    let (mut stdin, mut stdout) = (client.stdin, client.stdout);
    let typing = async {
        stdin.write_all(long.as_bytes()).await.unwrap();
        drop(stdin);
    };
    let mut shown = String::new();
    let (_, read) = tokio::join!(typing, stdout.read_to_string(&mut shown));
    read.unwrap();
    assert!(shown == long, "{} of {}", shown.len(), long.len());
    session.await.unwrap().unwrap();
    // stdinOnce: its end is the guest's, which ends then.
    let ended = subject
        .until("echo", "main", |c| c.phase == ContainerPhase::Exited)
        .await;
    assert_eq!(ended.exit_code, 0);
    assert_eq!(node.lines("echo", "main")[0], "hello");
}

#[tokio::test]
async fn who_attaches_without_stdin_only_listens() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    start(&node, &mut subject, "deaf", guests::echoes(), StdinMode::Silent).await;
    let (mut client, io) = client(false);
    let runtime = subject.runtime.clone();
    let session = tokio::spawn(async move { runtime.attach("deaf", "main", io).await });
    client.stdin.write_all(b"unheard\n").await.unwrap();
    drop(client.stdin);
    // The stop ends its stdin, and with that the guest.
    let (code, ..) = exec(&subject, "deaf", &["true"], b"").await;
    assert_eq!(code, 0);
    subject.runtime.stop_container("deaf", "main", 30).await.unwrap();
    let mut shown = String::new();
    client.stdout.read_to_string(&mut shown).await.unwrap();
    session.await.unwrap().unwrap();
    assert_eq!(shown, "");
}

#[tokio::test]
async fn another_component_runs_in_the_guests_place() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    start(&node, &mut subject, "host", guests::sleeps(), StdinMode::Silent).await;
    let here = |name: &str, module| node.registry.push(name, module);
    let tool = here("tool", guests::prints_surroundings());
    let echo = here("tool-echo", guests::echoes());
    let hog = here("tool-hog", guests::hogs_memory());
    let flood = here("tool-flood", guests::floods("120", 100));
    let server = here("tool-server", guests::server("", ""));
    for image in [&tool, &echo, &hog, &flood, &server] {
        subject.runtime.ensure_image(image, true, &[]).await.unwrap();
    }
    let (code, stdout, stderr) = exec(&subject, "host", &["debug", &tool, "-v"], b"").await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(String::from_utf8(stdout).unwrap(), format!("{tool}\n-v\nNAME=value\n"));
    let long = vec![b'x'; 300_000];
    let (code, stdout, _) = exec(&subject, "host", &["debug", &echo], &long).await;
    assert!(code == 0 && stdout == long);
    let (code, stdout, _) = exec(&subject, "host", &["debug", &flood], b"").await;
    assert_eq!((code, stdout.len()), (0, 6_000_000));
    // The limit is the container's, but it is the tool that is ended.
    let (code, _, stderr) = exec(&subject, "host", &["debug", &hog], b"").await;
    assert_eq!(code, 137);
    assert!(stderr.contains("memory limit of 8388608 bytes exceeded"), "{stderr}");
    assert_eq!(
        subject.state("host", "main").await.unwrap().phase,
        ContainerPhase::Running
    );
    for (image, why) in [
        ("skiff.local/absent:1", "is not on this node"),
        (&*server, "is a server"),
    ] {
        let (code, _, stderr) = exec(&subject, "host", &["debug", image], b"").await;
        assert!(code == 125 && stderr.contains(why), "{code} {stderr}");
    }
    // Nothing of it went to the container's log.
    assert_eq!(node.log("host", "main"), "");
}
