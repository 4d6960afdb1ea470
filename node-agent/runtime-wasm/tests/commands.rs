//! Commands: what they see, how they end, and that hostile ones are bounded.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Node, guests};
use skiff_runtime::contract::Subject;
use skiff_runtime::{ContainerPhase, ContainerState, Mount, Resources};

/// Runs one container of this module to its end.
async fn run(node: &Node, subject: &mut Subject, uid: &str, module: Vec<u8>, resources: Resources) -> ContainerState {
    let image = node.registry.push(uid, module);
    subject.runtime.create_sandbox(&subject.sandbox(uid)).await.unwrap();
    let mut spec = subject.container(uid, "main", 0, &image).await;
    spec.resources = resources;
    subject.runtime.create_container(&spec).await.unwrap();
    subject.runtime.start_container(uid, "main").await.unwrap();
    subject.until(uid, "main", |c| c.phase == ContainerPhase::Exited).await
}

fn memory(bytes: u64) -> Resources {
    Resources {
        memory_limit_bytes: Some(bytes),
        ..Resources::default()
    }
}

#[tokio::test]
async fn output_goes_to_the_log_in_cri_format() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    run(
        &node,
        &mut subject,
        "prints",
        guests::prints("one\ntwo"),
        Resources::default(),
    )
    .await;
    let log = node.log("prints", "main");
    let first = log.lines().next().expect("a record");
    let (time, rest) = first.split_once(' ').expect("a time");
    assert_eq!(rest, "stdout F one");
    assert!(time.ends_with('Z') && time.len() == 30, "{time}");
    assert_eq!(node.lines("prints", "main"), ["one", "two"]);
}

#[tokio::test]
async fn a_guest_sees_its_arguments_and_environment_and_nothing_else() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let image = node.registry.push("around", guests::prints_surroundings());
    subject
        .runtime
        .create_sandbox(&subject.sandbox("around"))
        .await
        .unwrap();
    let mut spec = subject.container("around", "main", 0, &image).await;
    spec.args = vec!["prog".into(), "--x=1".into()];
    spec.env = vec![("A".into(), "b".into())];
    subject.runtime.create_container(&spec).await.unwrap();
    subject.runtime.start_container("around", "main").await.unwrap();
    subject
        .until("around", "main", |c| c.phase == ContainerPhase::Exited)
        .await;
    assert_eq!(node.lines("around", "main"), ["prog", "--x=1", "A=b"]);
}

#[tokio::test]
async fn a_read_only_mount_is_read_only() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let image = node.registry.push("mounts", guests::creates_file());
    let volume = node.dir.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    for (uid, read_only) in [("ro", true), ("rw", false)] {
        subject.runtime.create_sandbox(&subject.sandbox(uid)).await.unwrap();
        let mut spec = subject.container(uid, "main", 0, &image).await;
        spec.mounts = vec![Mount {
            host_path: volume.clone(),
            container_path: "/data".into(),
            read_only,
        }];
        subject.runtime.create_container(&spec).await.unwrap();
        subject.runtime.start_container(uid, "main").await.unwrap();
        let ended = subject.until(uid, "main", |c| c.phase == ContainerPhase::Exited).await;
        assert_eq!(
            (ended.exit_code == 0, volume.join("file").exists()),
            (!read_only, !read_only),
            "{ended:?}"
        );
    }
}

#[tokio::test]
async fn open_files_are_bounded() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let image = node.registry.push("files", guests::hogs_files());
    subject.runtime.create_sandbox(&subject.sandbox("files")).await.unwrap();
    let mut spec = subject.container("files", "main", 0, &image).await;
    let host_path = node.dir.path().to_path_buf();
    spec.mounts = vec![Mount {
        host_path,
        container_path: "/data".into(),
        read_only: true,
    }];
    subject.runtime.create_container(&spec).await.unwrap();
    subject.runtime.start_container("files", "main").await.unwrap();
    let ended = subject
        .until("files", "main", |c| c.phase == ContainerPhase::Exited)
        .await;
    assert_eq!(ended.exit_code, 33, "errno.mfile: {ended:?}");
}

#[tokio::test]
async fn the_prebuilt_examples_run() {
    let prebuilt = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wasm-examples/prebuilt");
    let node = Node::new();
    let mut subject = node.runtime().await;
    let read = |name: &str| std::fs::read(prebuilt.join(name)).unwrap();
    let ended = run(
        &node,
        &mut subject,
        "hello-c",
        read("hello-c.wasm"),
        Resources::default(),
    )
    .await;
    assert_eq!(ended.exit_code, 0, "{ended:?}");
    assert!(!node.lines("hello-c", "main").is_empty());
    let sensor = node.registry.push("sensor", read("sensor.wasm"));
    subject.start("sensor", "main", 0, &sensor).await;
    node.until_logged("sensor", "main").await;
    subject.runtime.stop_container("sensor", "main", 600).await.unwrap();
    subject
        .until("sensor", "main", |c| c.phase == ContainerPhase::Exited)
        .await;
    let ended = run(&node, &mut subject, "hog", read("memory-hog.wasm"), memory(32 << 20)).await;
    assert_eq!(
        (ended.exit_code, ended.reason.as_str()),
        (137, "OOMKilled"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_trap_ends_with_134_and_its_backtrace_in_message_and_log() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let ended = run(&node, &mut subject, "traps", guests::traps(), Resources::default()).await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (134, "Error"));
    for word in ["boom", "caller", "unreachable"] {
        assert!(ended.message.contains(word), "{}", ended.message);
        assert!(node.log("traps", "main").contains(word));
    }
    let ended = run(
        &node,
        &mut subject,
        "starts",
        guests::traps_at_start(),
        Resources::default(),
    )
    .await;
    assert_eq!(ended.exit_code, 134);
    let ended = run(
        &node,
        &mut subject,
        "deep",
        guests::overflows_stack(),
        Resources::default(),
    )
    .await;
    assert_eq!(ended.exit_code, 134);
    assert!(ended.message.contains("call stack exhausted"), "{}", ended.message);
}

#[tokio::test]
async fn command_components_run_and_tell_their_result() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let ended = run(
        &node,
        &mut subject,
        "ok",
        guests::command_component("(i32.const 0)"),
        Resources::default(),
    )
    .await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (0, "Completed"));
    let ended = run(
        &node,
        &mut subject,
        "err",
        guests::command_component("(i32.const 1)"),
        Resources::default(),
    )
    .await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (1, "Error"));
    let hog = guests::command_component("(loop $l (drop (memory.grow (i32.const 1))) (br $l)) (i32.const 0)");
    let ended = run(&node, &mut subject, "hog", hog, memory(1 << 20)).await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "OOMKilled"));
}

#[tokio::test]
async fn commands_of_wasi_0_3_run_beside_the_others() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    for (code, body) in [(0, "(i32.const 0)"), (1, "(i32.const 1)"), (134, "unreachable")] {
        let uid = format!("p3-{code}");
        let module = guests::command_component_p3(body);
        let ended = run(&node, &mut subject, &uid, module, Resources::default()).await;
        assert_eq!(ended.exit_code, code, "{ended:?}");
    }
    let ended = run(&node, &mut subject, "p1", guests::exits(0), Resources::default()).await;
    assert_eq!(ended.exit_code, 0);
}

#[tokio::test]
async fn growing_over_the_memory_limit_is_oom_killed() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    for (uid, module) in [("memory", guests::hogs_memory()), ("tables", guests::hogs_tables())] {
        let ended = run(&node, &mut subject, uid, module, memory(300_000)).await;
        assert_eq!(
            (ended.exit_code, ended.reason.as_str()),
            (137, "OOMKilled"),
            "{ended:?}"
        );
        assert_eq!(ended.memory_bytes, 0);
    }
    // Too big to begin with.
    let ended = run(&node, &mut subject, "born-big", guests::exits(0), memory(1000)).await;
    assert_eq!(ended.reason, "OOMKilled");
}

#[tokio::test]
async fn a_spinner_keeps_to_its_share_and_delays_nobody() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let image = node.registry.push("spins", guests::spins());
    let begun = std::time::Instant::now();
    for uid in ["spin-a", "spin-b", "spin-c"] {
        subject.runtime.create_sandbox(&subject.sandbox(uid)).await.unwrap();
        let mut spec = subject.container(uid, "main", 0, &image).await;
        spec.resources.cpu_limit_millis = Some(100);
        subject.runtime.create_container(&spec).await.unwrap();
        subject.runtime.start_container(uid, "main").await.unwrap();
    }
    for n in 0..20 {
        let uid = format!("quick-{n}");
        let ended = run(&node, &mut subject, &uid, guests::exits(0), Resources::default()).await;
        assert_eq!(ended.exit_code, 0);
    }
    // Without a limit each would have two thirds of a core by then.
    tokio::time::sleep_until((begun + std::time::Duration::from_secs(1)).into()).await;
    for uid in ["spin-a", "spin-b", "spin-c"] {
        subject.runtime.stop_container(uid, "main", 30).await.unwrap();
        let ended = subject.until(uid, "main", |c| c.phase == ContainerPhase::Exited).await;
        assert_eq!(ended.exit_code, 143);
        // Never more than was earned, saved up, and spent in the last slice before the debt was seen.
        let earned = begun.elapsed().as_nanos() as u64 / 10;
        assert!(
            ended.cpu_nanos <= earned + 60_000_000,
            "{} of {earned}",
            ended.cpu_nanos
        );
        assert!(ended.cpu_nanos > 0);
    }
}

/// CPU time that a process has used.
fn cpu_of(pid: i32) -> std::time::Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    std::time::Duration::from_millis(ticks * 10)
}

/// Measured in the CPU time that they got, so that it holds on a busy machine.
#[tokio::test]
async fn spinners_share_the_cores_by_their_requests() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let image = node.registry.push("spins", guests::spins());
    let requests = [("a", 1000), ("b", 1000), ("c", 500), ("d", 500)];
    for (uid, request) in requests {
        subject.runtime.create_sandbox(&subject.sandbox(uid)).await.unwrap();
        let mut spec = subject.container(uid, "main", 0, &image).await;
        spec.resources.cpu_request_millis = Some(request);
        subject.runtime.create_container(&spec).await.unwrap();
    }
    // Together, so that nobody has the cores for itself for long.
    let starts = requests.map(|(uid, _)| subject.runtime.start_container(uid, "main"));
    futures::future::try_join_all(starts).await.unwrap();
    let worker = node.worker("contract");
    while cpu_of(worker) < std::time::Duration::from_secs(5) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let mut got = Vec::new();
    let stops = requests.map(|(uid, _)| subject.runtime.stop_container(uid, "main", 30));
    futures::future::try_join_all(stops).await.unwrap();
    for (uid, _) in requests {
        got.push(
            subject
                .until(uid, "main", |c| c.phase == ContainerPhase::Exited)
                .await
                .cpu_nanos as f64,
        );
    }
    let unit = got.iter().sum::<f64>() / 3000.0;
    for ((uid, request), got) in requests.iter().zip(&got) {
        let share = got / unit;
        assert!(
            (share / *request as f64 - 1.0).abs() < 0.1,
            "{uid} got {share:.0} of {request}: {got:?}"
        );
    }
}

#[tokio::test]
async fn a_log_flood_is_bounded_and_said() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    // 60 MB without a newline.
    let ended = run(
        &node,
        &mut subject,
        "flood",
        guests::floods("120", 1000),
        Resources::default(),
    )
    .await;
    assert_eq!(ended.exit_code, 0);
    let log = node.log("flood", "main");
    assert!(log.lines().any(|line| line.contains("log lines dropped")));
    assert!(log.lines().all(|line| line.len() < (16 << 10) + 64));
    let newline_flood = guests::floods("10", 100);
    assert_eq!(
        run(&node, &mut subject, "lines", newline_flood, Resources::default())
            .await
            .exit_code,
        0
    );
}

#[tokio::test]
async fn writing_over_the_ephemeral_storage_limit_evicts() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let limit = Resources {
        ephemeral_storage_limit_bytes: Some(100_000),
        ..Resources::default()
    };
    let endless = guests::floods("120", u32::MAX);
    let ended = run(&node, &mut subject, "writes", endless, limit).await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "Evicted"));
    assert!(ended.message.contains("ephemeral storage"), "{}", ended.message);
}

#[tokio::test]
async fn a_command_that_heeds_stdin_is_given_its_grace() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let image = node.registry.push("heeds", guests::heeds_stdin());
    subject.start("heeds", "main", 0, &image).await;
    // It waits for stdin by the time that it is stopped, or it is interrupted: both are ends of a graceful stop.
    subject.runtime.stop_container("heeds", "main", 60).await.unwrap();
    let ended = subject
        .until("heeds", "main", |c| c.phase == ContainerPhase::Exited)
        .await;
    assert!([5, 143].contains(&ended.exit_code), "{ended:?}");
    let spinner = node.registry.push("stubborn", guests::spins());
    subject.start("stubborn", "main", 0, &spinner).await;
    subject.runtime.stop_container("stubborn", "main", 0).await.unwrap();
    let ended = subject
        .until("stubborn", "main", |c| c.phase == ContainerPhase::Exited)
        .await;
    assert_eq!(ended.exit_code, 137);
}

#[tokio::test]
async fn what_cannot_run_is_refused_with_its_reason() {
    let node = Node::new();
    let subject = node.runtime().await;
    let missing =
        wat::parse_str(r#"(component (import "acme:iot/gpio@1.0.0" (instance (export "f" (func)))))"#).unwrap();
    let library = wat::parse_str(r#"(module (func (export "add")))"#).unwrap();
    let broken = wat::parse_str(r#"(module (func (export "_start") i32.add))"#).unwrap();
    for (name, module, word) in [
        ("missing", missing, "acme:iot/gpio@1.0.0"),
        ("library", library, "nothing to run"),
        ("broken", broken, "cannot be compiled"),
        ("text", b"#!/bin/sh\n".to_vec(), "not a WebAssembly module"),
    ] {
        let image = node.registry.push(name, module);
        let error = subject.runtime.ensure_image(&image, true, &[]).await.expect_err(name);
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(error.reason(), "CreateContainerError");
    }
}
