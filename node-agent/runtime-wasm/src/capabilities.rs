//! The interfaces that this node provides to guests. An interface that is not listed does not exist for a guest.

/// WASI 0.2 interfaces; any 0.2.x of them is accepted.
const P2: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// WASI 0.3 interfaces; any 0.3.x of them is accepted.
const P3: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:cli/types",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/system-clock",
    "wasi:clocks/types",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/client",
    "wasi:http/types",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/types",
];

/// Interfaces of our own (`wit/`); any 0.1.x of them is accepted.
const OWN: &[&str] = &[
    "skiff:pod/identity",
    "skiff:pod/lifecycle",
    "skiff:pod/readiness",
    "skiff:pod/resources",
];

/// Proposals of WASI at the one version that guests use; another version is another interface.
const DRAFTS: &[&str] = &[
    "wasi:config/store@0.2.0-rc.1",
    "wasi:keyvalue/atomics@0.2.0-draft",
    "wasi:keyvalue/atomics@0.2.0-draft2",
    "wasi:keyvalue/batch@0.2.0-draft",
    "wasi:keyvalue/batch@0.2.0-draft2",
    "wasi:keyvalue/store@0.2.0-draft",
    "wasi:keyvalue/store@0.2.0-draft2",
    "wasi:logging/logging@0.1.0-draft",
];

/// True if an import of this name (`wasi:io/poll@0.2.6`) is provided.
pub fn provides(name: &str) -> bool {
    match split(name) {
        Some((interface, Track::P2)) => P2.contains(&interface),
        Some((interface, Track::P3)) => P3.contains(&interface),
        Some((interface, Track::Own)) => OWN.contains(&interface),
        None => DRAFTS.contains(&name),
    }
}

/// True if the name belongs to WASI 0.3.
pub fn is_p3(name: &str) -> bool {
    matches!(split(name), Some((_, Track::P3)))
}

enum Track {
    P2,
    P3,
    Own,
}

/// Interface and release track. Release candidates (`0.3.0-rc-…`) are on no track: their ABI differs.
fn split(name: &str) -> Option<(&str, Track)> {
    let (interface, version) = name.split_once('@')?;
    let (track, patch) = version.rsplit_once('.')?;
    patch.parse::<u32>().ok()?;
    match track {
        "0.1" if interface.starts_with("skiff:") => Some((interface, Track::Own)),
        _ if interface.starts_with("skiff:") => None,
        "0.2" => Some((interface, Track::P2)),
        "0.3" => Some((interface, Track::P3)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_patch_release_is_provided_and_candidates_are_not() {
        assert!(provides("wasi:io/poll@0.2.0") && provides("wasi:io/poll@0.2.12"));
        assert!(provides("wasi:http/client@0.3.2") && is_p3("wasi:http/client@0.3.2"));
        assert!(!provides("wasi:http/client@0.3.0-rc-2026-01-01"));
        assert!(provides("skiff:pod/identity@0.1.3") && !is_p3("skiff:pod/identity@0.1.0"));
        assert!(!provides("skiff:pod/identity@0.2.0") && !provides("skiff:pod/devices@0.1.0"));
        assert!(provides("wasi:config/store@0.2.0-rc.1") && !provides("wasi:config/store@0.2.0"));
        assert!(!is_p3("wasi:logging/logging@0.1.0-draft"));
        assert!(!provides("wasi:nn/graph@0.2.0") && !provides("wasi:io/poll"));
    }
}
