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
    /// The name of an address.
    Ptr,
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
    /// The ingress gateways at which a service can be called.
    Ingress(ServiceName),
    /// The zone's name server.
    NameServer,
    /// A host.
    Node(NodeName),
    /// Nothing that could exist.
    NoSuchName,
    /// A prepared query, by name or id.
    Query(String),
    /// Whoever has an address.
    Reverse(IpAddr),
    /// The instances of a service.
    Service {
        /// The service.
        name: ServiceName,
        /// Only those with this tag, whatever its case.
        tag: Option<String>,
    },
    /// The address that stands for all instances of a service.
    Virtual(ServiceName),
}

/// What has to be known to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// The instances that speak for a service.
    Connect(ServiceName),
    /// The ingress gateways of a service.
    Ingress(ServiceName),
    /// The hosts.
    Nodes,
    /// Nothing: the name says it all.
    Nothing,
    /// The hosts, and the instances that have an address.
    Owners(IpAddr),
    /// What a prepared query finds.
    Query(String),
    /// The instances of a service.
    Service(ServiceName),
}

impl Question {
    /// Reads a name, with or without the final dot, in any case.
    ///
    /// Returns `None` when it lies in none of our zones. A name of ours that means nothing is a
    /// question, too: [`Lookup::NoSuchName`]. The name of an address is a question when its owner
    /// is asked for.
    pub fn parse(name: &str, kind: RecordType, settings: &Settings) -> Option<Self> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if matches!(kind, RecordType::Any | RecordType::Ptr)
            && let Some(address) = reverse(&name)
        {
            let (domain, lookup) = (settings.domain.clone(), Lookup::Reverse(address));
            return Some(Self { name, domain, kind, lookup });
        }
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
            // Every sidecar of a service has the address that stands for it.
            (Lookup::Connect(name) | Lookup::Virtual(name), _) => Need::Connect(name.clone()),
            (Lookup::Ingress(name), _) => Need::Ingress(name.clone()),
            (Lookup::Node(_), _) => Need::Nodes,
            (Lookup::Query(name), _) => Need::Query(name.clone()),
            (Lookup::Reverse(address), _) => Need::Owners(*address),
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
    let place = Place::read(suffix)?;
    if parts.is_empty() {
        return Some(Lookup::Empty);
    }
    if keyword == "addr" {
        // An address is what it says, wherever it was said.
        let [hex] = parts else { return None };
        return address(hex).map(Lookup::Address);
    }
    // Anything else is known here only for this datacenter.
    if !place.is_here(settings) {
        return None;
    }
    match (keyword, parts) {
        ("connect", [service]) => Some(Lookup::Connect(ServiceName::parse(service).ok()?)),
        ("ingress", [service]) => Some(Lookup::Ingress(ServiceName::parse(service).ok()?)),
        ("node", parts) => Some(Lookup::Node(NodeName::parse(&parts.join(".")).ok()?)),
        ("query", parts) => query(parts),
        ("service", parts) => service(parts),
        ("virtual", [service]) => Some(Lookup::Virtual(ServiceName::parse(service).ok()?)),
        (_, _) => None,
    }
}

fn is_keyword(label: &str) -> bool {
    matches!(label, "addr" | "connect" | "ingress" | "node" | "query" | "service" | "virtual")
}

/// Reads the RFC 2782 form without `service`, and the names above all keywords.
///
/// Differs: Consul takes `_web._tcp.<domain>` for SRV only and says NXDOMAIN to other types;
/// NXDOMAIN speaks of the name and may be kept for all types (RFC 8020 §2).
fn without_keyword(labels: &[&str], settings: &Settings) -> Option<Lookup> {
    match labels.iter().rposition(|label| label.starts_with('_')) {
        Some(at) => {
            let place = Place::read(&labels[at + 1..])?;
            match &labels[..=at] {
                [_, _] if place.is_here(settings) => service(&labels[..=at]),
                [_] => Some(Lookup::Empty),
                [..] => None,
            }
        }
        None => match labels {
            [] | ["dc"] => Some(Lookup::Empty),
            [_] | [_, "dc"] => Place::read(labels)?.is_here(settings).then_some(Lookup::Empty),
            [..] => None,
        },
    }
}

/// Where a name looks: what follows the keyword.
#[derive(Debug, Default)]
struct Place<'a> {
    datacenter: Option<&'a str>,
    /// A peering, or one of several ports. None of them is known here.
    is_elsewhere: bool,
}

impl<'a> Place<'a> {
    /// Reads nothing, `<dc>`, or up to three pairs `<name>.<what>` in any order, each at most once.
    /// A namespace and a partition may be named as long as it is the default one.
    fn read(suffix: &[&'a str]) -> Option<Self> {
        let mut place = Self::default();
        if let [dc] = suffix {
            place.datacenter = Some(Datacenter::parse(dc).is_ok().then_some(*dc)?);
            return Some(place);
        }
        if suffix.len() > 6 {
            return None;
        }
        let mut seen = Vec::new();
        for pair in suffix.chunks(2) {
            let [name, what] = *pair else { return None };
            if seen.contains(&what) {
                return None;
            }
            seen.push(what);
            match what {
                "ap" | "ns" if name == "default" => {}
                "dc" => place.datacenter = Some(Datacenter::parse(name).is_ok().then_some(name)?),
                "ap" | "ns" | "peer" | "port" | "sg" => place.is_elsewhere = true,
                _ => return None,
            }
        }
        // A peering is reached from here, not by way of another datacenter.
        let has_both = seen.contains(&"dc") && seen.contains(&"peer");
        (!has_both).then_some(place)
    }

    fn is_here(&self, settings: &Settings) -> bool {
        let is_ours = |dc: &str| dc == settings.datacenter.as_str();
        !self.is_elsewhere && self.datacenter.is_none_or(is_ours)
    }
}

/// Reads what stands before `query`: `name`, which may have dots, or `_name._proto`.
fn query(parts: &[&str]) -> Option<Lookup> {
    let name = match parts {
        [name, proto] if name.starts_with('_') && proto.starts_with('_') => name[1..].to_owned(),
        [..] => parts.join("."),
    };
    // Whatever a query is called stands in the path of a request.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (!name.is_empty() && name.bytes().all(is_plain)).then_some(Lookup::Query(name))
}

/// Reads the address in a name below `in-addr.arpa` or `ip6.arpa`.
///
/// **Source**: RFC 1035 §3.5, RFC 3596 §2.5.
fn reverse(name: &str) -> Option<IpAddr> {
    if let Some(octets) = name.strip_suffix(".in-addr.arpa") {
        let mut bytes = [0; 4];
        let mut labels = octets.split('.');
        for byte in bytes.iter_mut().rev() {
            let label = labels.next()?;
            // Neither signs nor leading zeros.
            *byte = label.parse().ok().filter(|value: &u8| value.to_string() == label)?;
        }
        return labels.next().is_none().then_some(Ipv4Addr::from(bytes).into());
    }
    let mut bits = 0;
    let mut count = 0;
    for label in name.strip_suffix(".ip6.arpa")?.rsplit('.') {
        let [digit] = label.as_bytes() else { return None };
        bits = bits << 4 | u128::from(char::from(*digit).to_digit(16)?);
        count += 1;
        if count > 32 {
            return None;
        }
    }
    (count == 32).then_some(Ipv6Addr::from_bits(bits).into())
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
            "web.service.default.ns.dc1.dc.default.ap.mesh",
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
    fn queries_gateways_and_virtual_addresses_have_forms() {
        let web = || ServiceName::parse("web").expect("a name");
        assert_eq!(parse("web.ingress.mesh"), Some(Lookup::Ingress(web())));
        assert_eq!(parse("web.virtual.dc1.mesh"), Some(Lookup::Virtual(web())));
        for (name, query) in [
            ("near.query.mesh", "near"),
            ("near.query.dc1.mesh", "near"),
            ("near.web.query.consul", "near.web"),
            ("_near._tcp.query.mesh", "near"),
        ] {
            assert_eq!(parse(name), Some(Lookup::Query(query.to_owned())), "{name}");
        }
        assert_eq!(parse("query.mesh"), Some(Lookup::Empty));
    }

    #[test]
    fn the_name_of_an_address_is_a_question_about_its_owner() {
        let settings = Settings::new("mesh", None, Datacenter::parse("dc1").expect("a datacenter"));
        let parse = |name: &str, kind| Question::parse(name, kind, &settings).map(|it| it.lookup);
        let v6 = format!("{}8.b.d.0.1.0.0.2.IP6.ARPA.", "1.".to_owned() + &"0.".repeat(23));
        for (name, address) in [("1.2.0.10.in-addr.arpa.", "10.0.2.1"), (&v6, "2001:db8::1")] {
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!(parse(name, RecordType::Ptr), Some(Lookup::Reverse(address)), "{name}");
            assert_eq!(parse(name, RecordType::A), None);
        }
        for bad in [
            "1.2.3.in-addr.arpa",
            "1.2.3.4.5.in-addr.arpa",
            "01.2.3.4.in-addr.arpa",
            "256.2.3.4.in-addr.arpa",
            "+1.2.3.4.in-addr.arpa",
            "1.ip6.arpa",
            "in-addr.arpa",
        ] {
            assert_eq!(parse(bad, RecordType::Ptr), None, "{bad}");
        }
    }

    #[test]
    fn what_has_no_form_does_not_exist() {
        for name in [
            "web.mesh",
            "web.service.dc2.mesh",
            "web.service.dc1.dc.x.mesh",
            "web.service.dc1.peer.mesh",
            "web.service.dc1.dc.dc1.dc.mesh",
            "web.service.dc1.dc.far.peer.mesh",
            "web.service.other.ns.mesh",
            "web.service.http.port.mesh",
            "tag.web.connect.mesh",
            "a.web.virtual.mesh",
            "web.ingress.dc2.mesh",
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
