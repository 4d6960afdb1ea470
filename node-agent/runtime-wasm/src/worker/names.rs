//! Addresses of the names that a container's egress list grants, as its guests learned them: a guest connects to an
//! address, so an entry such as `api.example.com:443` has to become addresses first.
//!
//! Only what a guest was told counts, and for a while only: an address that a name had an hour ago may be somebody else's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// An address is the name's for so long after it was looked up: longer than resolvers keep most answers.
const LASTS: Duration = Duration::from_secs(600);
/// Most addresses known at once; the oldest goes first.
const ADDRESSES_MAX: usize = 1024;

struct Known {
    ports: Vec<(u16, u16)>,
    since: Instant,
}

#[derive(Default)]
pub(crate) struct Names(Mutex<HashMap<IpAddr, Known>>);

impl Names {
    /// A guest was told that a name granted on these ports has this address.
    pub(crate) fn learn(&self, address: IpAddr, ports: Vec<(u16, u16)>, now: Instant) {
        let mut known = self.lock();
        if known.len() >= ADDRESSES_MAX
            && !known.contains_key(&address)
            && let Some(oldest) = known
                .iter()
                .min_by_key(|(_, known)| known.since)
                .map(|(address, _)| *address)
        {
            known.remove(&oldest);
        }
        known.insert(address, Known { ports, since: now });
    }

    /// True if a granted name has this address and this port.
    pub(crate) fn grant(&self, address: IpAddr, port: u16, now: Instant) -> bool {
        self.lock().get(&address).is_some_and(|known| {
            now.duration_since(known.since) < LASTS
                && known.ports.iter().any(|(first, last)| (*first..=*last).contains(&port))
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, Known>> {
        self.0.lock().expect("no panic happens while the names are held")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_granted_on_its_ports_for_a_while() {
        let (names, now) = (Names::default(), Instant::now());
        let address: IpAddr = "192.0.2.1".parse().expect("address");
        names.learn(address, vec![(443, 443)], now);
        assert!(names.grant(address, 443, now) && !names.grant(address, 80, now));
        assert!(!names.grant("192.0.2.2".parse().expect("address"), 443, now));
        assert!(!names.grant(address, 443, now + LASTS));
    }

    #[test]
    fn a_guest_that_looks_up_ever_more_is_bounded() {
        let (names, now) = (Names::default(), Instant::now());
        for n in 0..2 * ADDRESSES_MAX as u32 {
            names.learn(
                IpAddr::V4(n.into()),
                vec![(1, 1)],
                now + Duration::from_millis(n.into()),
            );
        }
        assert_eq!(names.lock().len(), ADDRESSES_MAX);
        assert!(
            !names.lock().contains_key(&IpAddr::V4(0.into())),
            "the oldest went first"
        );
    }
}
