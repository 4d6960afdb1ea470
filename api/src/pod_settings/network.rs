//! Whom a container may connect to, and who may connect to it: what `skiff.dev/egress` and `skiff.dev/ingress` say.
//!
//! Egress is a list of what is allowed, separated by commas or spaces, each with an optional `:PORT` or `:FROM-TO`:
//! - `10.1.0.0/16`, `10.1.2.3`, `[2001:db8::/32]:443` – addresses;
//! - `api.example.com`, `*.example.com` – names. They may be looked up, and the addresses they have may be connected to;
//!   `*.` stands for one or more labels;
//! - `default` – what a container without the annotation may reach: every address that is not protected, and every name;
//! - `none` – nothing; stands alone.
//!
//! Some addresses are protected (loopback, link-local, the node's own, the API server's; the runtime knows which). A name
//! never grants one, whatever it resolves to, nor does a network that merely contains it: only an entry that lies
//! within a protected network, or is exactly that address.

use std::fmt;
use std::net::IpAddr;

/// Most entries of one list: each is looked at for every connection.
const ENTRIES_MAX: usize = 256;

/// `10.1.0.0/16`; a single address is a network of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// Errors: the detail of a field error. Host bits may be set and mean nothing; IPv4 in IPv6 is IPv4.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let not_one = || format!("{text:?} is not an address or CIDR");
        let address: IpAddr = address.parse().map_err(|_| not_one())?;
        let bits = bits_of(address);
        let prefix = match prefix {
            Some(prefix) => prefix.parse::<u8>().map_err(|_| not_one())?,
            None => bits,
        };
        if prefix > bits {
            return Err(format!("{text:?} is not a CIDR: the prefix is longer than {bits}"));
        }
        match (address, address.to_canonical()) {
            (IpAddr::V6(_), canonical @ IpAddr::V4(_)) if prefix >= 96 => Ok(Self {
                address: canonical,
                prefix: prefix - 96,
            }),
            _ => Ok(Self { address, prefix }),
        }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros() >= u32::from(self.prefix)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros() >= u32::from(self.prefix)
            }
            _ => false,
        }
    }

    /// True if every address of it is one of the other's.
    pub fn lies_within(&self, other: &Self) -> bool {
        self.prefix >= other.prefix && other.contains(self.address)
    }

    /// True if it is one address.
    pub fn is_single(&self) -> bool {
        self.prefix == bits_of(self.address)
    }
}

fn bits_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// What one entry of an egress list names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    Network(Cidr),
    /// In lower case.
    Name(String),
    /// What follows the `*`, with its dot: `.example.com`.
    NamesBelow(String),
    /// Everything that is not protected.
    Default,
}

/// One entry: a destination and its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressRule {
    pub destination: Destination,
    /// First and last port.
    pub ports: (u16, u16),
}

impl EgressRule {
    fn has_port(&self, port: u16) -> bool {
        (self.ports.0..=self.ports.1).contains(&port)
    }

    /// True if the entry is for this name, given in lower case and without a final dot.
    fn names(&self, name: &str) -> bool {
        match &self.destination {
            Destination::Name(own) => own == name,
            Destination::NamesBelow(suffix) => name.len() > suffix.len() && name.ends_with(suffix.as_str()),
            Destination::Default => true,
            Destination::Network(_) => false,
        }
    }
}

/// What may be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressPolicy {
    rules: Vec<EgressRule>,
}

/// Why an address is protected: decides which entry grants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protected {
    /// It lies in this network, none of which is reachable.
    In(Cidr),
    /// It is one address: the node's or the API server's.
    Exactly,
}

impl Default for EgressPolicy {
    /// Without the annotation.
    fn default() -> Self {
        let rule = EgressRule {
            destination: Destination::Default,
            ports: (0, u16::MAX),
        };
        Self { rules: vec![rule] }
    }
}

impl EgressPolicy {
    /// Errors: the detail of a field error.
    pub fn parse(text: &str) -> Result<Self, String> {
        let entries = entries(text)?;
        if entries == ["none"] {
            return Ok(Self { rules: Vec::new() });
        }
        let rules = entries.into_iter().map(rule).collect::<Result<_, _>>()?;
        Ok(Self { rules })
    }

    /// True if a name may be looked up.
    pub fn allows_name(&self, name: &str) -> bool {
        let name = canonical_name(name);
        match name.parse::<IpAddr>() {
            // Not a name: nothing is asked of anybody. The address itself is checked when it is used.
            Ok(_) => true,
            Err(_) => self.rules.iter().any(|rule| rule.names(&name)),
        }
    }

    /// True if an entry for names allows this one on this port.
    pub fn allows_name_on(&self, name: &str, port: u16) -> bool {
        let name = canonical_name(name);
        self.rules.iter().any(|rule| rule.names(&name) && rule.has_port(port))
    }

    /// Ports that this name's addresses may be reached on, other than by entries for the addresses themselves.
    pub fn ports_of_name(&self, name: &str) -> Vec<(u16, u16)> {
        let name = canonical_name(name);
        let rules = self.rules.iter().filter(|rule| rule.names(&name));
        rules.map(|rule| rule.ports).collect()
    }

    /// True if any entry is a name, so that the addresses of names matter.
    pub fn has_names(&self) -> bool {
        let is_name = |rule: &EgressRule| matches!(rule.destination, Destination::Name(_) | Destination::NamesBelow(_));
        self.rules.iter().any(is_name)
    }

    /// True if an entry for addresses, or `default`, allows this one.
    pub fn allows_address(&self, address: IpAddr, port: u16, protected: Option<Protected>) -> bool {
        self.rules.iter().any(|rule| {
            rule.has_port(port)
                && match (&rule.destination, protected) {
                    (Destination::Network(network), None) => network.contains(address),
                    (Destination::Network(network), Some(Protected::In(within))) => {
                        network.contains(address) && network.lies_within(&within)
                    }
                    (Destination::Network(network), Some(Protected::Exactly)) => {
                        network.is_single() && network.contains(address)
                    }
                    (Destination::Default, protected) => protected.is_none(),
                    (Destination::Name(_) | Destination::NamesBelow(_), _) => false,
                }
        })
    }
}

/// Who may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressPolicy {
    networks: Vec<Cidr>,
}

impl IngressPolicy {
    /// Errors: the detail of a field error.
    pub fn parse(text: &str) -> Result<Self, String> {
        let entries = entries(text)?;
        let networks = match entries[..] {
            ["none"] => Vec::new(),
            _ => entries.into_iter().map(Cidr::parse).collect::<Result<_, _>>()?,
        };
        Ok(Self { networks })
    }

    pub fn allows(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }
}

fn entries(text: &str) -> Result<Vec<&str>, String> {
    let separates = |c: char| c == ',' || c.is_ascii_whitespace();
    let entries: Vec<&str> = text.split(separates).filter(|entry| !entry.is_empty()).collect();
    match entries.len() {
        0 => Err("must name what is allowed, or be \"none\"".to_owned()),
        1..=ENTRIES_MAX => Ok(entries),
        _ => Err(format!("must have at most {ENTRIES_MAX} entries")),
    }
}

/// Names are compared in lower case and without their final dot.
fn canonical_name(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn rule(entry: &str) -> Result<EgressRule, String> {
    let (destination, ports) = split_ports(entry)?;
    let ports = ports.map_or(Ok((0, u16::MAX)), |text| port_range(entry, text))?;
    let destination = match destination {
        "default" => Destination::Default,
        "none" => return Err("\"none\" must stand alone".to_owned()),
        // Only digits, dots and colons, or a slash: an address, or meant to be one.
        text if text.contains(['/', ':']) || text.bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
            Destination::Network(Cidr::parse(text)?)
        }
        text => name(text)?,
    };
    Ok(EgressRule { destination, ports })
}

/// `10.0.0.0/8:53` → (`10.0.0.0/8`, `53`). IPv6 needs brackets to have ports.
fn split_ports(entry: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(rest) = entry.strip_prefix('[') {
        let (address, rest) = rest
            .split_once(']')
            .ok_or_else(|| format!("{entry:?} lacks a closing bracket"))?;
        return match rest.strip_prefix(':') {
            Some(ports) => Ok((address, Some(ports))),
            None if rest.is_empty() => Ok((address, None)),
            None => Err(format!("{entry:?} has more than ports behind its bracket")),
        };
    }
    Ok(match entry.split_once(':') {
        Some((destination, ports)) if !ports.contains(':') => (destination, Some(ports)),
        _ => (entry, None),
    })
}

fn port_range(entry: &str, text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => Err(format!("{entry:?} has no port or range of ports between 1 and 65535")),
    }
}

fn name(text: &str) -> Result<Destination, String> {
    let below = text.strip_prefix("*.");
    let name = canonical_name(below.unwrap_or(text));
    if !crate::names::dns1123_subdomain(&name).is_empty() {
        return Err(format!("{text:?} is neither an address, a CIDR nor a host name"));
    }
    Ok(match below {
        Some(_) => Destination::NamesBelow(format!(".{name}")),
        None => Destination::Name(name),
    })
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }
    fn cidr(text: &str) -> Cidr {
        Cidr::parse(text).expect("CIDR")
    }
    fn egress(text: &str) -> EgressPolicy {
        EgressPolicy::parse(text).expect("a list")
    }

    #[test]
    fn networks_contain_their_addresses_and_v4_in_v6_is_v4() {
        assert!(cidr("10.1.0.0/16").contains(ip("10.1.255.1")) && !cidr("10.1.0.0/16").contains(ip("10.2.0.1")));
        assert!(cidr("0.0.0.0/0").contains(ip("::ffff:1.2.3.4")) && !cidr("::/0").contains(ip("1.2.3.4")));
        assert!(cidr("::ffff:10.0.0.0/104").contains(ip("10.9.9.9")));
        assert!(cidr("2001:db8::/32").contains(ip("2001:db8::1")) && !cidr("2001:db8::1").contains(ip("2001:db8::2")));
        assert!(cidr("127.0.0.1").lies_within(&cidr("127.0.0.0/8")));
        assert!(!cidr("0.0.0.0/0").lies_within(&cidr("127.0.0.0/8")));
        assert_eq!(cidr("10.0.0.0/8").to_string(), "10.0.0.0/8");
    }

    #[test]
    fn addresses_and_ports_are_as_listed() {
        let policy = egress("10.1.0.0/16:80, 192.0.2.7:8000-8010 [2001:db8::/32]:443,2001:db8:1::9");
        let allows = |address: &str, port| policy.allows_address(ip(address), port, None);
        assert!(allows("10.1.2.3", 80) && !allows("10.1.2.3", 81) && !allows("10.2.0.1", 80));
        assert!(allows("192.0.2.7", 8010) && !allows("192.0.2.7", 8011));
        assert!(allows("2001:db8::1", 443) && !allows("2001:db8::1", 80) && allows("2001:db8:1::9", 1));
        assert!(!policy.allows_name("example.com") && policy.allows_name("10.9.9.9"));
        assert!(!egress("none").allows_address(ip("1.1.1.1"), 80, None));
    }

    #[test]
    fn names_are_matched_whole_and_a_star_stands_for_labels() {
        let policy = egress("api.example.com:443,*.example.org");
        for name in [
            "api.example.com",
            "API.example.com.",
            "a.example.org",
            "a.b.Example.ORG",
        ] {
            assert!(policy.allows_name(name), "{name}");
        }
        for name in [
            "example.com",
            "xapi.example.com",
            "example.org",
            "badexample.org",
            "api.example.com.evil.net",
        ] {
            assert!(!policy.allows_name(name), "{name}");
        }
        assert_eq!(policy.ports_of_name("api.example.com"), [(443, 443)]);
        assert!(policy.allows_name_on("api.example.com", 443) && !policy.allows_name_on("api.example.com", 80));
        assert!(policy.has_names() && !egress("default").has_names());
    }

    #[test]
    fn what_is_protected_needs_to_be_named() {
        let loopback = Some(Protected::In(cidr("127.0.0.0/8")));
        let node = Some(Protected::Exactly);
        let allows = |list: &str, protected| egress(list).allows_address(ip("127.0.0.1"), 80, protected);
        assert!(!allows("default", loopback) && !allows("0.0.0.0/0", loopback) && allows("127.0.0.0/8", loopback));
        assert!(!allows("default", node) && !allows("127.0.0.0/8", node) && allows("127.0.0.1:80", node));
        assert!(EgressPolicy::default().allows_address(ip("1.1.1.1"), 1, None));
        assert!(EgressPolicy::default().allows_name("example.com"));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for bad in [
            "",
            " , ",
            "none,10.0.0.0/8",
            "10.0.0.0/40",
            "10.0.0",
            "1.2.3.4:0",
            "1.2.3.4:9-3",
            "1.2.3.4:70000",
            "*",
            "a_b.example.com",
            "*.*.com",
            "[::1",
            "[::1]x",
            "http://example.com",
            "example.com:http",
            "-x.com",
        ] {
            assert!(EgressPolicy::parse(bad).is_err(), "{bad:?}");
        }
        let many = "1.1.1.1,".repeat(ENTRIES_MAX + 1);
        assert!(EgressPolicy::parse(&many).is_err());
        assert!(IngressPolicy::parse("example.com").is_err());
    }

    #[test]
    fn ingress_is_by_network() {
        let policy = IngressPolicy::parse("10.0.0.0/8, 2001:db8::/32").expect("a list");
        assert!(
            policy.allows(ip("::ffff:10.1.1.1")) && policy.allows(ip("2001:db8::5")) && !policy.allows(ip("11.0.0.1"))
        );
        assert!(!IngressPolicy::parse("none").expect("a list").allows(ip("10.1.1.1")));
    }
}
