//! From a name in our zone to what is asked for.
//!
//! **Source**: Consul: docs/services/discovery/dns-static-lookups, and its `dispatch`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Settings;
use crate::name::{Datacenter, NodeName, ServiceName};

/// The types of records that make a difference here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordType {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// Whatever there is.
    Any,
    /// A zone transfer.
    Axfr,
    /// Another name.
    Cname,
    /// A name server.
    Ns,
    /// Any type of which there is no record here.
    Other,
    /// The start of a zone.
    Soa,
    /// Where a service listens.
    Srv,
    /// Texts.
    Txt,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The whole name; lower-case, without the final dot.
    pub name: String,
    /// The zone in which it lies: the domain or the alternative one.
    pub domain: String,
    /// The type of record.
    pub kind: RecordType,
    /// What the name means.
    pub lookup: Lookup,
}

/// What a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// An address written into the name itself; what SRV records point to.
    Address(IpAddr),
    /// The sidecars and native instances that speak for a service.
    Connect(ServiceName),
    /// A name that has no records and other names below it. Not NXDOMAIN, so that resolvers
    /// that ask label by label (RFC 9156) go on.
    Empty,
    /// The zone's name server.
    NameServer,
    /// A host.
    Node(NodeName),
    /// Nothing that could exist.
    NoSuchName,
    /// The instances of a service.
    Service {
        /// The service.
        name: ServiceName,
        /// Only those with this tag, whatever its case.
        tag: Option<String>,
    },
}

/// What has to be known to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// The instances that speak for a service.
    Connect(ServiceName),
    /// The hosts.
    Nodes,
    /// Nothing: the name says it all.
    Nothing,
    /// The instances of a service.
    Service(ServiceName),
}

impl Question {
    /// Reads a name, with or without the final dot, in any case.
    ///
    /// Returns `None` when it lies in none of our zones. A name of ours that means nothing is a
    /// question, too: [`Lookup::NoSuchName`].
    pub fn parse(name: &str, kind: RecordType, settings: &Settings) -> Option<Self> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let (labels, domain) = settings.split_zone(&name)?;
        let labels: Vec<&str> =
            if labels.is_empty() { Vec::new() } else { labels.split('.').collect() };
        let lookup = lookup(&labels, settings).unwrap_or(Lookup::NoSuchName);
        let domain = domain.to_owned();
        Some(Self { name, domain, kind, lookup })
    }

    /// Returns what has to be known to answer.
    pub fn need(&self) -> Need {
        match (&self.lookup, self.kind) {
            (_, RecordType::Axfr | RecordType::Ns | RecordType::Soa) => Need::Nothing,
            (Lookup::Connect(name), _) => Need::Connect(name.clone()),
            (Lookup::Node(_), _) => Need::Nodes,
            (Lookup::Service { name, .. }, _) => Need::Service(name.clone()),
            (Lookup::Address(_) | Lookup::Empty | Lookup::NameServer | Lookup::NoSuchName, _) => {
                Need::Nothing
            }
        }
    }
}

/// Reads the labels before the zone; `None` for what means nothing.
fn lookup(labels: &[&str], settings: &Settings) -> Option<Lookup> {
    if labels == ["ns"] {
        return Some(Lookup::NameServer);
    }
    let Some(at) = labels.iter().rposition(|label| is_keyword(label)) else {
        return without_keyword(labels, settings);
    };
    let (parts, keyword, suffix) = (&labels[..at], labels[at], &labels[at + 1..]);
    let datacenter = datacenter(suffix, settings)?;
    if parts.is_empty() {
        return Some(Lookup::Empty);
    }
    // An address is what it says, wherever it was said; anything else is known here only for
    // this datacenter.
    if keyword != "addr" && datacenter != settings.datacenter {
        return None;
    }
    match (keyword, parts) {
        ("addr", [hex]) => address(hex).map(Lookup::Address),
        ("connect", [service]) => Some(Lookup::Connect(ServiceName::parse(service).ok()?)),
        ("node", parts) => Some(Lookup::Node(NodeName::parse(&parts.join(".")).ok()?)),
        ("service", parts) => service(parts),
        (_, _) => None,
    }
}

fn is_keyword(label: &str) -> bool {
    matches!(label, "addr" | "connect" | "node" | "service")
}

/// Reads the RFC 2782 form without `service`, and the names above all keywords.
///
/// Differs: Consul takes `_web._tcp.<domain>` for SRV only and says NXDOMAIN to other types;
/// NXDOMAIN speaks of the name and may be kept for all types (RFC 8020 §2).
fn without_keyword(labels: &[&str], settings: &Settings) -> Option<Lookup> {
    match labels.iter().rposition(|label| label.starts_with('_')) {
        Some(at) => {
            let datacenter = datacenter(&labels[at + 1..], settings)?;
            match &labels[..=at] {
                [_, _] if datacenter == settings.datacenter => service(&labels[..=at]),
                [_] => Some(Lookup::Empty),
                [..] => None,
            }
        }
        None => match labels {
            [] | ["dc"] => Some(Lookup::Empty),
            [_] | [_, "dc"] => {
                (datacenter(labels, settings)? == settings.datacenter).then_some(Lookup::Empty)
            }
            [..] => None,
        },
    }
}

/// Reads what follows the keyword: nothing, `<dc>` or `<dc>.dc`.
fn datacenter(suffix: &[&str], settings: &Settings) -> Option<Datacenter> {
    match suffix {
        [] => Some(settings.datacenter.clone()),
        [dc] | [dc, "dc"] => Datacenter::parse(dc).ok(),
        [..] => None,
    }
}

/// Reads what stands before `service`: `[tag.]name`, or `_name._tag-or-proto`.
fn service(parts: &[&str]) -> Option<Lookup> {
    let (name, tag) = match parts {
        [name, tag] if name.starts_with('_') && tag.starts_with('_') => {
            // `tcp` is the protocol of the form, not a tag to look for.
            let tag = tag[1..].to_owned();
            (&name[1..], (tag != "tcp").then_some(tag))
        }
        [name] => (*name, None),
        [tag @ .., name] => (*name, Some(tag.join("."))),
        [] => return None,
    };
    Some(Lookup::Service { name: ServiceName::parse(name).ok()?, tag })
}

/// Reads 8 or 32 hexadecimal digits.
fn address(hex: &str) -> Option<IpAddr> {
    if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    match hex.len() {
        8 => Some(Ipv4Addr::from_bits(u32::from_str_radix(hex, 16).ok()?).into()),
        32 => Some(Ipv6Addr::from_bits(u128::from_str_radix(hex, 16).ok()?).into()),
        _ => None,
    }
}

/// Writes the label that [`address`] reads.
pub(super) fn hex(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("{:08x}", v4.to_bits()),
        IpAddr::V6(v6) => format!("{:032x}", v6.to_bits()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> Option<Lookup> {
        let dc = Datacenter::parse("dc1").expect("a datacenter");
        let settings = Settings::new("mesh", Some("consul"), dc);
        Question::parse(name, RecordType::A, &settings).map(|question| question.lookup)
    }

    fn service(name: &str, tag: Option<&str>) -> Option<Lookup> {
        let name = ServiceName::parse(name).expect("a name");
        Some(Lookup::Service { name, tag: tag.map(str::to_owned) })
    }

    #[test]
    fn service_names_have_tags_and_datacenters_in_any_case() {
        for name in [
            "web.service.mesh",
            "web.service.mesh.",
            "WEB.Service.MESH",
            "web.service.consul",
            "web.service.dc1.mesh",
            "web.service.dc1.dc.mesh",
            "_web._tcp.service.mesh",
            "_web._tcp.mesh",
            "_web._tcp.dc1.dc.mesh",
        ] {
            assert_eq!(parse(name), service("web", None), "{name}");
        }
        for name in ["v1.2.web.service.mesh", "_web._v1.2.service.mesh"] {
            assert_ne!(parse(name), service("web", None), "{name}");
        }
        assert_eq!(parse("v1.2.web.service.mesh"), service("web", Some("v1.2")));
        assert_eq!(parse("_web._primary.service.mesh"), service("web", Some("primary")));
    }

    #[test]
    fn an_address_can_be_written_into_a_name() {
        let v4: IpAddr = "10.0.0.1".parse().expect("an address");
        let v6: IpAddr = "fd00::1".parse().expect("an address");
        assert_eq!(parse("0a000001.addr.dc1.mesh"), Some(Lookup::Address(v4)));
        assert_eq!(parse("0a000001.addr.dc2.mesh"), Some(Lookup::Address(v4)));
        assert_eq!(parse(&format!("{}.addr.dc1.mesh", hex(v6))), Some(Lookup::Address(v6)));
        for bad in ["0a0000.addr.mesh", "+a000001.addr.mesh", "zz000001.addr.mesh"] {
            assert_eq!(parse(bad), Some(Lookup::NoSuchName), "{bad}");
        }
    }

    #[test]
    fn what_has_no_form_does_not_exist() {
        for name in [
            "web.mesh",
            "web.service.dc2.mesh",
            "web.service.dc1.dc.x.mesh",
            "web.service.dc1.peer.mesh",
            "tag.web.connect.mesh",
            "-web.service.mesh",
            "a._web._tcp.mesh",
            "dc2.mesh",
        ] {
            assert_eq!(parse(name), Some(Lookup::NoSuchName), "{name}");
        }
    }

    #[test]
    fn names_above_others_are_empty() {
        for name in ["mesh", "service.mesh", "node.dc1.mesh", "dc1.dc.mesh", "_tcp.mesh", "dc.mesh"]
        {
            assert_eq!(parse(name), Some(Lookup::Empty), "{name}");
        }
    }

    #[test]
    fn other_zones_are_not_ours() {
        for name in ["example.com", "web.service.xmesh", "mesh.com", ""] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
