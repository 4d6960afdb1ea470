//! Who has which address. Kept in a file, so that a restarted agent gives a pod the address that it had.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use tracing::warn;

use crate::NetworkError;
use crate::range::{capacity, nth};

pub struct Pool {
    range: IpNet,
    path: PathBuf,
    by_pod: BTreeMap<String, IpAddr>,
    taken: BTreeSet<IpAddr>,
    /// Where the next search begins: an address just released is used again last.
    next: u128,
}

impl Pool {
    pub fn open(range: IpNet, path: PathBuf) -> Result<Self, NetworkError> {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(source) => return Err(NetworkError::File { path, source }),
        };
        // A file cut short by a power loss is no reason to stop: after one, no pod has kept its address anyway.
        let mut by_pod: BTreeMap<String, IpAddr> = serde_json::from_str(&text).unwrap_or_default();
        by_pod.retain(|_, address| range.contains(&*address));
        let taken: BTreeSet<IpAddr> = by_pod.values().copied().collect();
        let next = taken.len() as u128;
        Ok(Self {
            range,
            path,
            by_pod,
            taken,
            next,
        })
    }

    pub fn range(&self) -> IpNet {
        self.range
    }

    pub fn allocate(&mut self, pod_uid: &str) -> Result<IpAddr, NetworkError> {
        if let Some(address) = self.by_pod.get(pod_uid) {
            return Ok(*address);
        }
        let capacity = capacity(self.range);
        if self.taken.len() as u128 >= capacity {
            return Err(NetworkError::Exhausted { range: self.range });
        }
        let mut address = nth(self.range, self.next % capacity);
        while self.taken.contains(&address) {
            self.next = (self.next + 1) % capacity;
            address = nth(self.range, self.next);
        }
        self.next = (self.next + 1) % capacity;
        self.taken.insert(address);
        self.by_pod.insert(pod_uid.to_owned(), address);
        self.save()?;
        Ok(address)
    }

    pub fn release(&mut self, pod_uid: &str) {
        if let Some(address) = self.by_pod.remove(pod_uid) {
            self.taken.remove(&address);
            self.save_or_warn();
        }
    }

    pub fn retain(&mut self, is_here: impl Fn(&str) -> bool) {
        let before = self.by_pod.len();
        self.by_pod.retain(|pod_uid, _| is_here(pod_uid));
        if self.by_pod.len() != before {
            self.taken = self.by_pod.values().copied().collect();
            self.save_or_warn();
        }
    }

    /// Renamed into place but not synced: what a power cut loses, no pod survives either.
    fn save(&self) -> Result<(), NetworkError> {
        let temporary = self.path.with_extension("new");
        let text = serde_json::to_vec(&self.by_pod).expect("a map of strings to addresses can be written as JSON");
        fs::write(&temporary, text)
            .and_then(|()| fs::rename(&temporary, &self.path))
            .map_err(|source| NetworkError::File {
                path: self.path.clone(),
                source,
            })
    }

    fn save_or_warn(&self) {
        if let Err(error) = self.save() {
            warn!(%error, "could not write down released pod addresses");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_cidr;

    #[test]
    fn a_pod_keeps_its_address_over_a_restart_and_others_do_not_get_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("addresses.json");
        let range = parse_cidr("10.42.0.0/24").unwrap();
        let mut pool = Pool::open(range, path.clone()).unwrap();
        let a = pool.allocate("a").unwrap();
        let b = pool.allocate("b").unwrap();
        assert_ne!(a, b);
        drop(pool);
        let mut pool = Pool::open(range, path).unwrap();
        assert_eq!(pool.allocate("b").unwrap(), b);
        let c = pool.allocate("c").unwrap();
        assert!(c != a && c != b);
    }

    #[test]
    fn a_released_address_is_used_again_only_when_it_must_be() {
        let directory = tempfile::tempdir().unwrap();
        // A /29 has 8 addresses, 5 of them for pods.
        let mut pool = Pool::open(parse_cidr("10.0.0.0/29").unwrap(), directory.path().join("a.json")).unwrap();
        let first = pool.allocate("0").unwrap();
        for pod in 1..5 {
            pool.allocate(&pod.to_string()).unwrap();
        }
        assert!(matches!(pool.allocate("5"), Err(NetworkError::Exhausted { .. })));
        pool.release("0");
        assert_eq!(pool.allocate("5").unwrap(), first);
        pool.retain(|pod| pod == "5");
        assert_ne!(pool.allocate("6").unwrap(), first);
    }
}
