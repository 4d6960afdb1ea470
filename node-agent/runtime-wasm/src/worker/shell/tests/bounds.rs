//! What files, names and readers cannot do to it.

use std::sync::atomic::Ordering;

use super::archives::archive;
use super::{Client, Inmate};

#[test]
fn the_storage_limit_holds() {
    let mut container = Inmate::new();
    container.room = Some(10);
    assert_eq!(container.sh("echo short > /data/f && cat /data/f"), "short\n");
    let told = container.sh("echo longer than ten > /data/f");
    assert!(
        told.contains("ephemeral storage limit") && told.ends_with("[1]\n"),
        "{told}"
    );
}

#[test]
fn a_reader_that_goes_away_ends_the_command() {
    let container = Inmate::new();
    let file = std::fs::File::create(container.path().join("data/endless")).expect("file");
    // Sparse: a terabyte of zeros.
    file.set_len(1 << 40).expect("length");
    let client = || Client {
        patience: Some(100_000),
        ..Client::default()
    };
    for script in [
        "cat /data/endless",
        "cat /data/endless | cat",
        "tar cf - /data",
        "tar c /data | tail -c+1 | cat",
    ] {
        let (code, stdout, _) = container.run_with(&["sh", "-c", script], b"", client(), false);
        assert!(code != 0 && stdout.len() < 1 << 20, "{script}");
    }
}

#[test]
fn special_files_do_not_hold_it_up() {
    let container = Inmate::new();
    let fifo = container.path().join("data/fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .expect("fifo");
    assert_eq!(
        container.sh("cat /data/fifo"),
        "cat: /data/fifo: not a regular file\n[1]\n"
    );
    let deep = (0..300).fold(container.path().join("data/deep"), |path, _| path.join("d"));
    std::fs::create_dir_all(deep).expect("deep");
    assert!(container.sh("rm -r /data/deep").contains("too deeply"));
    assert!(container.sh("tar c /data/deep | tail -c 0").contains("too deeply"));
}

#[test]
fn many_small_files_cost_few_looks_at_the_mounts() {
    let mut container = Inmate::new();
    container.room = Some(1 << 30);
    let members = (0..2000).map(|n| archive(&format!("f{n}"), tar::EntryType::Regular, "", 1, b"x"));
    let packed: Vec<u8> = members.flatten().collect();
    let (code, _, stderr) = container.run(&["tar", "xf", "-", "-C", "/data"], &packed);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(container.path().join("data/f1999").exists());
    // Each took a block of 4 KiB of the 4 MiB that one look gives.
    assert_eq!(container.looks.load(Ordering::Relaxed), 2);
}

#[test]
fn a_file_beyond_the_storage_limit_ends_the_unpacking() {
    let mut container = Inmate::new();
    container.room = Some(0);
    let packed = [
        archive("empty", tar::EntryType::Regular, "", 0, b""),
        archive("full", tar::EntryType::Regular, "", 1, b"x"),
        archive("next", tar::EntryType::Regular, "", 1, b"x"),
    ]
    .concat();
    let (code, _, stderr) = container.run(&["tar", "xf", "-", "-C", "/data"], &packed);
    assert!(
        code == 1 && stderr.contains("ephemeral storage limit"),
        "{code} {stderr}"
    );
    assert!(container.path().join("data/empty").exists() && !container.path().join("data/next").exists());
    assert_eq!(container.looks.load(Ordering::Relaxed), 1);
}

#[test]
fn names_cannot_act_on_the_terminal() {
    let container = Inmate::new();
    let name = "\x1b[31mred\r";
    let inner = container.path().join("data").join(name);
    std::fs::create_dir(&inner).expect("directory");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        inner.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .expect("fifo");
    let script = format!("ls /data; ls -l /data; stat '/data/{name}'; rm '/data/{name}'; cd '/data/{name}/fifo'");
    let told = container.sh(&script);
    let shown = "?[31mred?";
    assert!(
        told.contains(&format!("rm: /data/{shown}: Is a directory\n")),
        "{told:?}"
    );
    assert!(
        told.contains(&format!("cd: /data/{shown}/fifo: Not a directory\n")),
        "{told:?}"
    );
    assert!(!told.contains(['\x1b', '\r']), "{told:?}");
    let (code, packed, stderr) = container.run(&["tar", "cf", "-", "-C", "/data", name], b"");
    assert!(
        code == 2 && stderr.contains(&format!("tar: /data/{shown}/fifo: special files")),
        "{stderr:?}"
    );
    let (_, listed, _) = container.run(&["tar", "tf", "-"], &packed);
    assert_eq!(String::from_utf8(listed).expect("text"), format!("{shown}/\n"));
    for name in ["../\x1b[31m", "escape/\x1b[31m"] {
        let packed = archive(name, tar::EntryType::Regular, "", 1, b"x");
        let (code, _, stderr) = container.run(&["tar", "xvf", "-", "-C", "/data"], &packed);
        assert!(code == 2 && stderr.contains("/?[31m: "), "{stderr:?}");
        assert!(!stderr.contains('\x1b'), "{stderr:?}");
    }
}
