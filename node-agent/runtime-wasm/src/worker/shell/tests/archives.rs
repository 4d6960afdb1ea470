//! `tar`, both ways, and archives made to do harm.

use std::path::Path;

use super::Inmate;

/// An archive of one entry with this header and data.
pub(super) fn archive(name: &str, kind: tar::EntryType, link: &str, size: u64, data: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o4755);
    header.set_size(size);
    header.set_link_name_literal(link).expect("link");
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

#[test]
fn trees_go_out_and_come_in_as_they_were() {
    let container = Inmate::new();
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(90));
    std::fs::create_dir_all(container.path().join("data/sub").join(&long[..90])).expect("directory");
    std::fs::write(container.path().join("data/sub").join(&long), "long").expect("file");
    std::os::unix::fs::symlink("deep", container.path().join("data/sub/link")).expect("link");
    let (code, packed, stderr) = container.run(&["tar", "cf", "-", "/data/sub"], b"");
    assert_eq!(
        (code, stderr.as_str()),
        (0, "tar: Removing leading `/' from member names\n")
    );
    let (code, _, stderr) = container.run(&["tar", "-xmf", "-", "-C", "/data/cache"], &packed);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let come = container.path().join("cache/data/sub");
    assert_eq!(std::fs::read_to_string(come.join("deep")).expect("file"), "deep");
    assert_eq!(std::fs::read_to_string(come.join(&long)).expect("file"), "long");
    assert_eq!(std::fs::read_link(come.join("link")).expect("link"), Path::new("deep"));
    let listed = container.run(&["tar", "tf", "-"], &packed);
    assert!(String::from_utf8(listed.1).expect("text").contains("data/sub/link\n"));
    // What kubectl asks for when it goes on after a broken connection.
    let again = container.run(&["sh", "-c", "tar cf - /data/sub | tail -c+513"], b"");
    assert!(again.1 == packed[512..]);
}

#[test]
fn archives_lead_nowhere_else() {
    let file = tar::EntryType::Regular;
    let link = tar::EntryType::Symlink;
    let container = Inmate::new();
    let outside = || {
        std::fs::read_dir(container.path().join("outside"))
            .expect("directory")
            .count()
    };
    for bytes in [
        archive("../outside/x", file, "", 1, b"x"),
        archive("/data/../../outside/x", file, "", 1, b"x"),
        archive("out", link, "../../outside", 0, b""),
        archive("out", link, "/etc", 0, b""),
        archive("out", tar::EntryType::Link, "hello.txt", 0, b""),
        archive("out", tar::EntryType::Char, "", 0, b""),
        archive("escape/x", file, "", 1, b"x"),
        [archive("l", link, "sub", 0, b""), archive("l/x", file, "", 1, b"x")].concat(),
    ] {
        let (code, _, stderr) = container.run(&["tar", "xf", "-", "-C", "/data"], &bytes);
        assert_eq!(code, 2, "{stderr}");
        assert!(
            stderr.ends_with("tar: Exiting with failure status due to previous errors\n"),
            "{stderr}"
        );
        assert_eq!(outside(), 1);
    }
    assert!(!container.path().join("data/out").exists() && !container.path().join("data/sub/x").exists());
    // No link takes the place of a directory, or of a mount.
    for name in ["sub", "cache"] {
        let bytes = archive(name, link, "hello.txt", 0, b"");
        let (code, _, stderr) = container.run(&["tar", "xf", "-", "-C", "/data"], &bytes);
        assert!(
            code == 2 && stderr.contains(&format!("tar: {name}: File exists\n")),
            "{stderr}"
        );
        assert!(
            container
                .sh("ls -l /data")
                .lines()
                .any(|line| line.starts_with('d') && line.ends_with(name))
        );
    }
    // A link that is in the way is replaced, not followed.
    let (code, ..) = container.run(
        &["tar", "xf", "-", "-C", "/data"],
        &archive("escape", file, "", 3, b"new"),
    );
    assert_eq!(code, 0);
    assert_eq!(
        std::fs::read_to_string(container.path().join("data/escape")).expect("file"),
        "new"
    );
    assert_eq!(
        std::fs::read_to_string(container.path().join("outside/secret")).expect("file"),
        "secret"
    );
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(container.path().join("data/escape"))
        .expect("file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o755, "no set-user-id");
}

#[test]
fn broken_archives_are_refused_without_believing_them() {
    let container = Inmate::new();
    let huge = 1 << 40;
    let pax = b"20 path=/etc/passwd\n";
    for bytes in [
        b"not an archive, but long enough to fill a whole block of it".repeat(9),
        archive("x", tar::EntryType::GNULongName, "", huge, b"x"),
        archive("x", tar::EntryType::XHeader, "", huge, b"x"),
        archive("x", tar::EntryType::Regular, "", huge, b"x"),
        archive("x", tar::EntryType::Regular, "", 10, b"x")[..600].to_vec(),
        [
            archive("x", tar::EntryType::GNULongName, "", 5000, &[b'x'; 5000]),
            archive("x", tar::EntryType::Regular, "", 0, b""),
        ]
        .concat(),
    ] {
        let (code, _, stderr) = container.run(&["tar", "xf", "-", "-C", "/data"], &bytes);
        assert!(
            code == 1 && stderr.contains("This does not look like a tar archive"),
            "{code} {stderr}"
        );
    }
    let renamed = [
        archive("x", tar::EntryType::XHeader, "", pax.len() as u64, pax),
        archive("innocent", tar::EntryType::Regular, "", 1, b"x"),
    ];
    let (code, _, stderr) = container.run(&["tar", "xf", "-", "-C", "/data"], &renamed.concat());
    assert!(
        code == 2 && stderr.contains("/etc/passwd: the name leads out"),
        "{stderr}"
    );
    let (code, _, stderr) = container.run(
        &["tar", "xf", "-", "-C", "/etc/config"],
        &archive("k", tar::EntryType::Regular, "", 1, b"x"),
    );
    assert!(code == 2 && stderr.contains("Read-only file system"), "{stderr}");
}
