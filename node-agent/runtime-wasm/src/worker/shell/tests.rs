//! Commands as functions: facts, files and stdin in; output and exit code out.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use expect_test::{Expect, expect};
use skiff_runtime::Mount;

use super::facts::*;
use super::*;

mod archives;
mod bounds;

struct Known {
    room: Option<u64>,
    /// How often it was asked for.
    looks: Arc<AtomicUsize>,
}

fn instance(id: u64, what: &str) -> InstanceRow {
    InstanceRow {
        id,
        what: what.into(),
        age: Duration::from_millis(id * 40),
        memories: vec![1 << 20, 65_536],
        tables: vec![12],
    }
}

impl Facts for Known {
    fn identity(&self) -> Identity {
        let [pod, namespace, container, hostname, image] =
            ["web-0", "shop", "web", "web-0", "skiff.local/web:1"].map(str::to_owned);
        Identity {
            pod,
            namespace,
            container,
            hostname,
            image,
        }
    }
    fn env(&self) -> Vec<(String, String)> {
        vec![("A".into(), "1".into()), ("B".into(), "two words".into())]
    }
    fn module(&self) -> Module {
        Module {
            kind: "wasi:http server (0.2)",
            imports: vec![(
                "wasi:io/poll@0.2.6".into(),
                vec!["poll".into(), "[method]pollable.block".into()],
            )],
            exports: vec![("wasi:http/incoming-handler@0.2.6".into(), vec!["handle".into()])],
            memories: 2,
            tables: 1,
        }
    }
    fn limits(&self) -> Vec<Limit> {
        vec![Limit {
            what: "memory (bytes)",
            value: "67108864".into(),
            used: "1114112".into(),
            over: "ended, OOMKilled",
        }]
    }
    fn containers(&self) -> Vec<ContainerRow> {
        vec![ContainerRow {
            name: "web".into(),
            state: "Running",
            cpu: Duration::from_millis(1234),
            memory: 1_114_112,
            instances: 2,
            age: Duration::from_secs(61),
        }]
    }
    fn instances(&self) -> Vec<InstanceRow> {
        vec![instance(7, "GET /\x1b[31m"), instance(8, "POST /orders")]
    }
    fn handles(&self) -> Result<Vec<Handle>, String> {
        Ok(vec![Handle {
            kind: "tcp",
            name: "10.42.0.7:8080".into(),
            state: "LISTEN".into(),
        }])
    }
    fn backtraces(&self) -> Vec<(InstanceRow, Option<Vec<String>>)> {
        let frames = vec!["0: 0x1b - web!spin".into(), "1: 0x2c - web!main".into()];
        vec![
            (instance(7, "GET /"), Some(frames)),
            (instance(8, "POST /orders"), None),
        ]
    }
    fn usage(&self) -> (Duration, u64) {
        (Duration::from_millis(1234), 1_114_112)
    }
    fn now(&self) -> jiff::Timestamp {
        "2026-11-24T20:50:18Z".parse().expect("a time")
    }
    fn room(&self) -> Option<u64> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.room
    }
}

/// A client that has typed everything already.
#[derive(Default)]
struct Client {
    stdin: Mutex<Bytes>,
    stdout: Mutex<Vec<u8>>,
    stderr: Mutex<Vec<u8>>,
    /// It goes away behind so many bytes of output.
    patience: Option<usize>,
    cancelled: AtomicBool,
}

impl Console for Client {
    fn read(&self) -> Bytes {
        let mut stdin = self.stdin.lock().expect("stdin");
        let count = stdin.len().min(5);
        stdin.split_to(count)
    }
    fn write(&self, stderr: bool, bytes: &[u8]) -> std::io::Result<()> {
        let mut out = if stderr { &self.stderr } else { &self.stdout }.lock().expect("output");
        if self.patience.is_some_and(|patience| out.len() > patience) {
            self.cancelled.store(true, Ordering::Relaxed);
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        out.extend_from_slice(bytes);
        Ok(())
    }
    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
    fn wait(&self, _: Duration) {}
}

/// A container with `/data` (writable), `/etc/config` (read-only, links as the kubelet makes them) and `/data/cache`.
struct Inmate {
    dir: tempfile::TempDir,
    room: Option<u64>,
    looks: Arc<AtomicUsize>,
}

impl Inmate {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let make = |path: &str| std::fs::create_dir_all(dir.path().join(path)).expect("directory");
        for path in ["data/sub", "config/..v1", "cache", "outside"] {
            make(path);
        }
        let write = |path: &str, text: &str| std::fs::write(dir.path().join(path), text).expect("file");
        write("data/hello.txt", "hello\nworld\n");
        write("data/sub/deep", "deep");
        write("config/..v1/key", "value");
        write("outside/secret", "secret");
        let link = |to: &str, at: &str| std::os::unix::fs::symlink(to, dir.path().join(at)).expect("link");
        link("..v1", "config/..data");
        link("..data/key", "config/key");
        link("../outside/secret", "data/escape");
        link("/etc/passwd", "data/absolute");
        Self {
            dir,
            room: None,
            looks: Arc::default(),
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn run_with(&self, command: &[&str], stdin: &[u8], client: Client, tty: bool) -> (i32, Vec<u8>, String) {
        let mount = |host: &str, path: &str, read_only| Mount {
            host_path: self.path().join(host),
            container_path: path.into(),
            read_only,
        };
        let mounts = [
            mount("data", "/data/", false),
            mount("config", "/etc/config", true),
            mount("cache", "/data/cache", false),
        ];
        let files = Arc::new(Files::open(&mounts).expect("mounts"));
        let client = Arc::new(client);
        *client.stdin.lock().expect("stdin") = Bytes::copy_from_slice(stdin);
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let code = run(
            &command,
            Arc::new(Known {
                room: self.room,
                looks: self.looks.clone(),
            }),
            files,
            client.clone(),
            tty,
        );
        let stdout = client.stdout.lock().expect("stdout").clone();
        let stderr = String::from_utf8(client.stderr.lock().expect("stderr").clone()).expect("text");
        (code, stdout, stderr)
    }

    fn run(&self, command: &[&str], stdin: &[u8]) -> (i32, Vec<u8>, String) {
        self.run_with(command, stdin, Client::default(), false)
    }

    /// `sh -c SCRIPT`: what is shown, stderr behind stdout, and the exit code unless it is 0.
    fn sh(&self, script: &str) -> String {
        let (code, stdout, stderr) = self.run(&["sh", "-c", script], b"");
        let code = if code == 0 {
            String::new()
        } else {
            format!("[{code}]\n")
        };
        String::from_utf8_lossy(&stdout).into_owned() + &stderr + &code
    }
}

fn check(script: &str, expected: Expect) {
    expected.assert_eq(&Inmate::new().sh(script));
}

#[test]
fn what_runs_is_shown() {
    check(
        "ps; top; limits; memory; stack; lsof",
        expect![[r#"
        CONTAINER   STATE     CPU TIME   MEMORY   INSTANCES   AGE
        web         Running   1.234s     1088Ki   2           1m1s

        INSTANCE   AGE     MEMORY   RUNS
        7          280ms   1088Ki   GET /?[31m
        8          320ms   1088Ki   POST /orders
        NAME   CPU(cores)   MEMORY(bytes)   CPU TIME
        web    0m           1088Ki          1.234s
        LIMIT            VALUE      USED      OVER IT
        memory (bytes)   67108864   1114112   ended, OOMKilled
        Each instance has 2 memories and 1 tables. The container uses 1088Ki.

        INSTANCE   KIND     SIZE   IN
        7          memory   1Mi    bytes
        7          memory   64Ki   bytes
        7          table    12     elements
        8          memory   1Mi    bytes
        8          memory   64Ki   bytes
        8          table    12     elements
        instance 7 (GET /, 280ms):
          0: 0x1b - web!spin
          1: 0x2c - web!main
        instance 8 (POST /orders, 320ms): idle, it waits for the host
        KIND   STATE    NAME
        tcp    LISTEN   10.42.0.7:8080
    "#]],
    );
}

#[test]
fn what_it_is_is_shown() {
    check(
        "imports; imports wasi:io/poll; exports; exports x; env; printenv B; hostname; date; date +%F",
        expect![[r#"
            wasi:io/poll@0.2.6
            poll
            [method]pollable.block
            wasi:http/incoming-handler@0.2.6
            A=1
            B=two words
            two words
            web-0
            Tue Nov 24 20:50:18 UTC 2026
            2026-11-24
            exports: x: no such interface
        "#]],
    );
}

#[test]
fn help_lists_everything() {
    check(
        "help",
        expect![[r#"
        A WebAssembly pod has no programs in it. This shell runs beside the guest and shows what it is and does.

        help                                            this list
        ps                                              containers of the pod; instances and requests that run
        top [-n TIMES] [-d SECONDS]                     CPU and memory in use
        limits                                          every limit, and how much of it is used
        memory, maps                                    memories and tables of the instances
        stack, bt                                       where the guest's code is just now
        handles, lsof                                   open files and sockets
        imports [INTERFACE]                             what the module needs
        exports [INTERFACE]                             what the module offers
        env, printenv [NAME]                            the guest's environment
        ls [-l] [-a] [PATH]...                          list files of the mounts
        cat [FILE]...                                   show files, or stdin
        head [-n LINES] [-c BYTES] [FILE]               the start of a file
        tail [-n LINES] [-c [+]BYTES] [FILE]            the end of a file
        stat PATH...                                    what a file is
        df                                              space of the mounts
        cd [DIR]                                        change the directory
        pwd                                             the directory
        mkdir [-p] DIR...                               make directories
        rm [-r] [-f] PATH...                            remove files
        echo [-n] [WORD]...                             say words; > and >> write them to a file
        tar c|x|t [-f FILE] [-C DIR] [PATH]...          pack and unpack files (kubectl cp)
        test, [ -e|-f|-d|-s|-z|-n WORD, A = B, A != B   exit code 0 if it is so
        hostname                                        the pod's host name
        id                                              who the files are accessed as
        date [+FORMAT]                                  the time, UTC
        true, :                                         exit code 0
        false                                           exit code 1
        exit [CODE]                                     leave the shell

        Lines take 'quotes', $NAME, ; && || | < > >> 2> 2>&1. `kubectl exec POD -- debug IMAGE [ARG]...` runs
        another command component in the guest's place: same files, environment, network and limits.
    "#]],
    );
}

#[test]
fn files_of_the_mounts_are_shown_and_nothing_else() {
    check(
        "ls /; ls /etc /data; cat /etc/config/key; cat /etc/passwd; cat /data/escape /data/absolute; ls ../../../..; cd /etc/config; pwd; cat key; cd nowhere",
        expect![[r#"
            data
            etc
            /etc:
            config

            /data:
            absolute
            cache
            escape
            hello.txt
            sub
            valuedata
            etc
            /etc/config
            valuecat: /etc/passwd: No such file or directory
            cat: /data/escape: a path led outside of the filesystem
            cat: /data/absolute: a path led outside of the filesystem
            cd: nowhere: No such file or directory
            [1]
        "#]],
    );
}

#[test]
fn files_are_made_and_removed_where_they_may_be() {
    check(
        "cd /data; echo one > f; echo two >> f; cat f; mkdir -p a/b; echo x > a/b/c; rm a; rm -r a && ls; rm f nothing; rm -rf nothing; rm -r cache; rm -r /data; echo x > /etc/config/key; mkdir /new; echo x > /x; echo x > escape; mkdir sub",
        expect![[r#"
            one
            two
            absolute
            cache
            escape
            f
            hello.txt
            sub
            rm: a: Is a directory
            rm: nothing: No such file or directory
            rm: /data/cache: Device or resource busy
            rm: /data/cache: Device or resource busy
            sh: /etc/config/key: Read-only file system
            mkdir: /new: Read-only file system
            sh: /x: Read-only file system
            sh: escape: a path led outside of the filesystem
            mkdir: sub: File exists
            [1]
        "#]],
    );
}

#[test]
fn lines_pipes_and_errors() {
    check(
        "cat /data/hello.txt | head -n 1 | cat; tail -n1 /data/hello.txt; tail -c +8 < /data/hello.txt; head -c 3 /data/hello.txt; echo; nope; echo $? $A \"$B\" '$B'; cat /nope 2>/dev/null || echo failed; cat /nope 2>&1 | cat; false && echo no",
        expect![[r#"
            hello
            world
            orld
            hel
            127 1 two words $B
            failed
            cat: /nope: No such file or directory
            sh: nope: not found
            [1]
        "#]],
    );
    check(
        "true | true | true | true | true; sleep 1 &",
        expect![[r#"
        sh: commands cannot run in the background here
        [2]
    "#]],
    );
    check(
        "exit 300; echo not reached",
        expect![[r#"
        [44]
    "#]],
    );
    check(
        "test -d /data && [ -f /data/hello.txt ]; test -d /data/hello.txt; echo $?; [ ! -f /data ] && test ! ! a = a && test ! && test ! = ! && echo yes; test ! -s /data/hello.txt; echo $?; test ! b != a; echo $?",
        expect![[r#"
            1
            yes
            1
            1
        "#]],
    );
    check(
        "echo 'open",
        expect![[r#"
        sh: syntax error: unterminated quoted string
        [2]
    "#]],
    );
}

#[test]
fn a_program_that_does_not_exist_is_told_as_a_cluster_does() {
    let found = Inmate::new().run(&["nginx", "-t"], b"");
    let text = "exec failed: unable to start container process: exec: \"nginx\": executable file not found in $PATH\n";
    assert_eq!(found, (127, Vec::new(), text.into()));
    assert_eq!(Inmate::new().run(&["/bin/echo", "hi"], b"").1, b"hi\n");
    assert_eq!(Inmate::new().run(&["/data/echo", "hi"], b"").0, 127);
    assert_eq!(Inmate::new().run(&["cat"], b"from stdin").1, b"from stdin");
}

#[test]
fn a_script_comes_over_stdin_as_well() {
    let (code, stdout, stderr) = Inmate::new().run(&["sh"], b"cd /data\npwd\nexit 3\necho no\n");
    assert_eq!((code, stdout, stderr.as_str()), (3, b"/data\n".to_vec(), ""));
    let long = [
        b"echo ".to_vec(),
        vec![b'x'; 10 * SCRIPT_BYTES_MAX],
        b"\necho next\n".to_vec(),
    ]
    .concat();
    let (_, stdout, stderr) = Inmate::new().run(&["sh"], &long);
    assert_eq!(stdout, b"next\n");
    assert!(stderr.contains("longer than"), "{stderr}");
}

#[test]
fn on_a_terminal_there_is_a_prompt_and_commands_read_lines() {
    let keys = b"ecX\x7fho hi\rcat\rab\x7fc\r\x04cat\rx\x03pwd\r\x04";
    let (code, stdout, _) = Inmate::new().run_with(&["bash"], keys, Client::default(), true);
    let shown = String::from_utf8(stdout).expect("text");
    assert_eq!(code, 0);
    for part in ["`help` lists", "hi\n", "ac\n", "/ $ ", "/\n"] {
        assert!(shown.contains(part), "{part:?} in {shown:?}");
    }
}
