//! Open files and sockets of a pod, as the kernel lists those of this process: a guest need not be running for that.
//!
//! The process is shared by the pods of a namespace. A socket is the pod's by its address, a file by the mount it is in.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use skiff_runtime::Mount;

use crate::worker::shell::facts::Handle;

/// Descriptors and lines of the kernel's tables that are looked at: a node's worth of connections.
const LOOKED_AT_MAX: usize = 200_000;
/// Rows that are shown.
const HANDLES_MAX: usize = 10_000;

/// Errors: the process may not look at itself.
pub(super) fn of_this_process(ip: IpAddr, mounts: &[Mount]) -> std::io::Result<Vec<Handle>> {
    let mut found = Vec::new();
    let mut sockets = HashSet::new();
    for entry in std::fs::read_dir("/proc/self/fd")?.flatten().take(LOOKED_AT_MAX) {
        let Ok(target) = std::fs::read_link(entry.path()) else {
            continue;
        };
        match socket_inode(&target) {
            Some(inode) => drop(sockets.insert(inode)),
            None => found.extend(file(&target, mounts)),
        }
    }
    for (kind, table) in [("tcp", "tcp"), ("tcp", "tcp6"), ("udp", "udp"), ("udp", "udp6")] {
        let Ok(file) = std::fs::File::open(Path::new("/proc/self/net").join(table)) else {
            continue;
        };
        let lines = BufReader::new(file).lines().map_while(Result::ok).take(LOOKED_AT_MAX);
        let ours = lines
            .filter_map(|line| socket(kind, &line))
            .filter(|(inode, local, _)| sockets.contains(inode) && local.ip().to_canonical() == ip);
        found.extend(ours.map(|(_, _, handle)| handle));
    }
    found.truncate(HANDLES_MAX);
    found.sort();
    Ok(repeated(found))
}

/// The same directory is open once per mount and once per guest that opened it.
fn repeated(handles: Vec<Handle>) -> Vec<Handle> {
    let mut counts: BTreeMap<Handle, usize> = BTreeMap::new();
    let mut order = Vec::new();
    for handle in handles {
        let count = counts.entry(handle.clone()).or_default();
        if *count == 0 {
            order.push(handle);
        }
        *count += 1;
    }
    for handle in &mut order {
        if counts[handle] > 1 && handle.state.is_empty() {
            handle.state = format!("{} times", counts[handle]);
        }
    }
    order
}

/// `socket:[123]`
fn socket_inode(target: &Path) -> Option<u64> {
    target
        .to_str()?
        .strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

fn file(target: &Path, mounts: &[Mount]) -> Option<Handle> {
    let mount = mounts
        .iter()
        .filter(|mount| target.starts_with(&mount.host_path))
        .max_by_key(|mount| mount.host_path.as_os_str().len())?;
    let rest = target
        .strip_prefix(&mount.host_path)
        .ok()?
        .to_string_lossy()
        .into_owned();
    let path = mount.container_path.trim_end_matches('/');
    Some(Handle {
        kind: if target.is_dir() { "dir" } else { "file" },
        name: if rest.is_empty() {
            path.to_owned()
        } else {
            format!("{path}/{rest}")
        },
        state: String::new(),
    })
}

/// A line of `/proc/net/tcp`: inode, local address, and how it is shown.
fn socket(kind: &'static str, line: &str) -> Option<(u64, SocketAddr, Handle)> {
    let mut words = line.split_whitespace().skip(1);
    let (local, remote) = (address(words.next()?)?, address(words.next()?)?);
    let state = u8::from_str_radix(words.next()?, 16).ok()?;
    let inode = words.nth(5)?.parse().ok()?;
    let name = match remote.port() {
        0 => local.to_string(),
        _ => format!("{local} -> {remote}"),
    };
    let state = match (kind, state) {
        ("udp", _) => "",
        (_, 1) => "ESTABLISHED",
        (_, 2) => "SYN_SENT",
        (_, 3) => "SYN_RECV",
        (_, 4) => "FIN_WAIT1",
        (_, 5) => "FIN_WAIT2",
        (_, 6) => "TIME_WAIT",
        (_, 7) => "CLOSE",
        (_, 8) => "CLOSE_WAIT",
        (_, 9) => "LAST_ACK",
        (_, 10) => "LISTEN",
        (_, 11) => "CLOSING",
        _ => "",
    };
    let handle = Handle {
        kind,
        name,
        state: state.to_owned(),
    };
    Some((inode, local, handle))
}

/// `0100007F:1F90`: words in the machine's order.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| {
        u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16)
            .ok()
            .map(u32::to_ne_bytes)
    };
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for at in 0..4 {
                bytes[at * 4..at * 4 + 4].copy_from_slice(&word(at)?);
            }
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_tables_are_read() {
        let line =
            "   1: 0100007F:1F90 0200007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0 20";
        let (inode, local, handle) = socket("tcp", line).expect("a socket");
        assert_eq!((inode, local.to_string().as_str()), (4242, "127.0.0.1:8080"));
        assert_eq!(
            (handle.name.as_str(), handle.state.as_str()),
            ("127.0.0.1:8080 -> 127.0.0.2:54321", "ESTABLISHED")
        );
        assert!(socket("tcp", "  sl  local_address rem_address   st").is_none());
        assert_eq!(
            address("0000000000000000FFFF00000100007F:0001")
                .expect("mapped")
                .ip()
                .to_string(),
            "127.0.0.1"
        );
    }

    #[test]
    fn files_and_sockets_of_the_pod_are_found_and_no_others() {
        let dir = tempfile::tempdir().expect("directory");
        let host_path = dir.path().canonicalize().expect("path");
        let mounts = [Mount {
            host_path: host_path.clone(),
            container_path: "/data".into(),
            read_only: false,
        }];
        let _file = std::fs::File::create(host_path.join("open")).expect("file");
        let _other = tempfile::tempfile().expect("another file");
        let ip: IpAddr = "127.0.0.1".parse().expect("address");
        let listener = std::net::TcpListener::bind((ip, 0)).expect("listen");
        let found = of_this_process(ip, &mounts).expect("found");
        assert!(
            found
                .iter()
                .any(|handle| handle.kind == "file" && handle.name == "/data/open"),
            "{found:?}"
        );
        let name = listener.local_addr().expect("address").to_string();
        assert!(
            found
                .iter()
                .any(|handle| handle.name == name && handle.state == "LISTEN"),
            "{found:?}"
        );
        let elsewhere = of_this_process("127.9.9.9".parse().expect("address"), &[]).expect("found");
        assert_eq!(elsewhere, []);
    }
}
