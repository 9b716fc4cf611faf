//! The `dns` section of an agent.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_core::dns::SoaTimers;
use weft_core::limits;
use weft_core::time::Span;
use weft_proto::text::Fault;

use super::resolve::{addr, take};

/// Where DNS listens: Consul's port, this host only.
pub(super) const ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8600);
/// The mesh's zone.
const DOMAIN: &str = "mesh";
/// The zone that programs made for Consul ask for.
const ALT_DOMAIN: &str = "consul";
/// The port of DNS.
const PORT: u16 = 53;
/// Addresses beside the first: one for each network of a host, and to spare.
const MORE_ADDRS_MAX: usize = 16;
/// How long one recursor may take (Consul: `recursor_timeout`, 2 s).
const RECURSOR_TIMEOUT: Duration = Duration::from_secs(2);
/// A caller has given up by then.
const RECURSOR_TIMEOUT_MAX: Duration = Duration::from_secs(30);
/// Answers without EDNS over UDP (Consul: `udp_answer_limit`, 3).
const UDP_ANSWER_LIMIT: u32 = 3;
/// How long answers are given without a word from a server (Consul: `max_stale`, ten years).
const MAX_STALE: Duration = Duration::from_secs(87_600 * 3600);
/// Answers a second over UDP to one other host: what a busy host without a cache asks, and too
/// little to be worth a liar's while.
const RATE_LIMIT: u32 = 1_000;

/// The `dns` section.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DnsSection {
    /// `ip:port`, or `off`.
    pub addr: Option<String>,
    /// More of them.
    pub more_addrs: Vec<String>,
    /// The zone of the mesh.
    pub domain: Option<String>,
    /// A second zone with the same content; empty for none.
    pub alt_domain: Option<String>,
    /// `ip` or `ip:port` of resolvers for names of other zones.
    pub recursors: Vec<String>,
    /// Resolvers for one zone each and all below it, instead.
    pub forward: BTreeMap<String, Vec<String>>,
    /// How long one resolver may take.
    pub recursor_timeout: Option<Span>,
    /// `sequential`, which is the default, or `random`.
    pub recursor_strategy: Option<String>,
    /// Whether instances in state warning are left out as well.
    pub only_passing: bool,
    /// The time to live of answers, in seconds, where nothing else is said.
    pub ttl_seconds: Option<u32>,
    /// That of answers about nodes.
    pub node_ttl: Option<Span>,
    /// That of answers about services: by name, or by the longest prefix written `prefix*`.
    pub service_ttl: BTreeMap<String, Span>,
    /// Whether a cut answer says so; it does by default.
    pub enable_truncate: Option<bool>,
    /// Records of an answer over UDP to a caller without EDNS.
    pub udp_answer_limit: Option<u32>,
    /// Addresses of any answer; 0 for no limit, which is the default.
    pub a_record_limit: Option<u32>,
    /// Whether metadata of nodes goes along with answers that name them.
    pub enable_additional_node_meta_txt: bool,
    /// Whether answers are given while no server is connected; they are by default.
    pub allow_stale: Option<bool>,
    /// For how long at most.
    pub max_stale: Option<Span>,
    /// The times in the SOA record.
    pub soa: SoaSection,
    /// Answers a second over UDP to one other host; 0 for no limit.
    pub rate_limit: Option<u32>,
    /// Whether instances near this agent come first; they do by default.
    pub prefer_near: Option<bool>,
}

/// The `dns.soa` section; all in seconds.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SoaSection {
    /// How often a secondary would look for changes.
    pub refresh: Option<u32>,
    /// How soon it would try again.
    pub retry: Option<u32>,
    /// When it would give up.
    pub expire: Option<u32>,
    /// How long a negative answer may be kept.
    pub min_ttl: Option<u32>,
}

/// The DNS interface's settings.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// Where it listens on UDP and TCP; empty for not at all.
    pub addrs: Vec<SocketAddr>,
    /// The zone of the mesh, lower case without a final dot: `mesh`.
    pub domain: String,
    /// A second zone with the same content, `consul` by default; `None` for none.
    pub alt_domain: Option<String>,
    /// Resolvers for names of other zones; without any those names are refused.
    pub recursors: Recursors,
    /// Whether instances in state warning are left out as well.
    pub only_passing: bool,
    /// How long answers about nodes may be kept.
    pub node_ttl: Duration,
    /// How long answers about services may be kept: by name, or by prefix written `prefix*`.
    pub service_ttl: BTreeMap<String, Duration>,
    /// Whether a cut answer says so.
    pub tells_truncation: bool,
    /// Records of an answer over UDP to a caller without EDNS.
    pub udp_answers_max: usize,
    /// Addresses of any answer; `None` for no limit.
    pub a_records_max: Option<usize>,
    /// Whether metadata of nodes goes along with answers that name them.
    pub has_meta_beside: bool,
    /// How long answers are given without a word from a server.
    pub stale_max: Duration,
    /// The times in the SOA record.
    pub soa: SoaTimers,
    /// Answers a second over UDP to one other host; 0 for no limit.
    pub rate_limit: u32,
    /// Whether instances near this agent come first.
    pub prefers_near: bool,
}

/// Whom to ask about what, and how.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Recursors {
    /// Those for everything that no zone is told for.
    pub general: Vec<SocketAddr>,
    /// Those for one zone and all below it; lower-case, without dots at its ends. The longest
    /// zone counts.
    pub by_zone: BTreeMap<String, Vec<SocketAddr>>,
    /// How long one may take.
    pub limit: Duration,
    /// In which order they are asked.
    pub strategy: Strategy,
}

/// In which order recursors are asked.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Another one first each time.
    Random,
    /// As they are told.
    #[default]
    Sequential,
}

/// Checks the section; what is wrong is added to the faults.
pub(super) fn resolve(section: &DnsSection, faults: &mut Vec<Fault>) -> DnsConfig {
    let domain = zone(faults, "dns.domain", section.domain.as_deref().unwrap_or(DOMAIN));
    let alt_domain = match section.alt_domain.as_deref() {
        None => Some(ALT_DOMAIN.to_owned()),
        Some("") => None,
        Some(name) => Some(zone(faults, "dns.alt_domain", name)),
    };
    let recursors = recursors(section, faults);
    let usual = Duration::from_secs(section.ttl_seconds.unwrap_or(0).into());
    let span = |span: &Option<Span>, default| span.map_or(default, |span| span.0);
    let mut service_ttl = BTreeMap::from([("*".to_owned(), usual)]);
    service_ttl.extend(section.service_ttl.iter().map(|(name, ttl)| (name.clone(), ttl.0)));
    let udp_answers_max = section.udp_answer_limit.unwrap_or(UDP_ANSWER_LIMIT) as usize;
    if !(1..=limits::DNS_UDP_ANSWERS_MAX).contains(&udp_answers_max) {
        let max = limits::DNS_UDP_ANSWERS_MAX;
        let reason = format!("{udp_answers_max} is not between 1 and {max}");
        faults.push(Fault::new("dns.udp_answer_limit", reason));
    }
    let is_stale_allowed = section.allow_stale.unwrap_or(true);
    DnsConfig {
        addrs: addrs(section, faults),
        alt_domain: alt_domain.filter(|alt| *alt != domain),
        domain,
        recursors,
        only_passing: section.only_passing,
        node_ttl: span(&section.node_ttl, usual),
        service_ttl,
        tells_truncation: section.enable_truncate.unwrap_or(true),
        udp_answers_max,
        a_records_max: section.a_record_limit.filter(|max| *max > 0).map(|max| max as usize),
        has_meta_beside: section.enable_additional_node_meta_txt,
        stale_max: match is_stale_allowed {
            true => span(&section.max_stale, MAX_STALE),
            false => Duration::ZERO,
        },
        soa: soa(&section.soa),
        rate_limit: section.rate_limit.unwrap_or(RATE_LIMIT),
        prefers_near: section.prefer_near.unwrap_or(true),
    }
}

fn addrs(section: &DnsSection, faults: &mut Vec<Fault>) -> Vec<SocketAddr> {
    let first = addr(faults, "dns.addr", section.addr.as_deref(), ADDR);
    if section.more_addrs.len() > MORE_ADDRS_MAX {
        let reason = format!("{} are more than {MORE_ADDRS_MAX}", section.more_addrs.len());
        faults.push(Fault::new("dns.more_addrs", reason));
    }
    if first.is_none() && !section.more_addrs.is_empty() {
        faults.push(Fault::new("dns.more_addrs", "DNS is off by dns.addr"));
    }
    let more = section.more_addrs.iter().enumerate().filter_map(|(at, text)| {
        let parsed = text.parse::<SocketAddr>();
        let reason = format!("{text:?} is not an address; write \"ip:port\"");
        take(faults, &format!("dns.more_addrs[{at}]"), parsed.map_err(|_| reason))
    });
    let more: Vec<SocketAddr> = more.collect();
    first.into_iter().chain(more).collect()
}

fn recursors(section: &DnsSection, faults: &mut Vec<Fault>) -> Recursors {
    let general = resolvers("dns.recursors", &section.recursors, faults);
    let by_zone = section.forward.iter().map(|(name, list)| {
        let path = format!("dns.forward.{name}");
        let list = resolvers(&path, list, faults);
        if list.is_empty() {
            faults.push(Fault::new(path.as_str(), "names no resolver"));
        }
        (zone(faults, &path, name), list)
    });
    let by_zone = by_zone.collect();
    let strategy = match section.recursor_strategy.as_deref() {
        None | Some("sequential") => Strategy::Sequential,
        Some("random") => Strategy::Random,
        Some(other) => {
            let reason = format!("{other:?} is neither sequential nor random");
            faults.push(Fault::new("dns.recursor_strategy", reason));
            Strategy::Sequential
        }
    };
    let limit = section.recursor_timeout.map_or(RECURSOR_TIMEOUT, |span| span.0);
    if limit.is_zero() || limit > RECURSOR_TIMEOUT_MAX {
        let max = RECURSOR_TIMEOUT_MAX.as_secs();
        faults.push(Fault::new("dns.recursor_timeout", format!("is not above 0 and up to {max}s")));
    }
    Recursors { general, by_zone, limit, strategy }
}

fn resolvers(path: &str, list: &[String], faults: &mut Vec<Fault>) -> Vec<SocketAddr> {
    let read = |(at, text): (usize, &String)| {
        let parsed = text
            .parse::<SocketAddr>()
            .or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT)));
        let reason = format!("{text:?} is not a resolver; write \"ip\" or \"ip:port\"");
        take(faults, &format!("{path}[{at}]"), parsed.map_err(|_| reason))
    };
    list.iter().enumerate().filter_map(read).collect()
}

fn soa(section: &SoaSection) -> SoaTimers {
    let usual = SoaTimers::default();
    let seconds = |given: Option<u32>, usual| {
        given.map_or(usual, |seconds| Duration::from_secs(seconds.into()))
    };
    SoaTimers {
        refresh: seconds(section.refresh, usual.refresh),
        retry: seconds(section.retry, usual.retry),
        expire: seconds(section.expire, usual.expire),
        min_ttl: seconds(section.min_ttl, usual.min_ttl),
    }
}

fn zone(faults: &mut Vec<Fault>, path: &str, text: &str) -> String {
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if name.len() > 200 || !name.split('.').all(is_label) {
        faults.push(Fault::new(path, format!("{text:?} is not a domain name")));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Result<DnsConfig, Vec<String>> {
        let value = weft_proto::text::parse("agent.hcl", text).expect("HCL");
        let section: DnsSection =
            weft_proto::text::decode(&value, weft_proto::json::Unknown::Refuse).expect("known");
        let mut faults = Vec::new();
        let config = resolve(&section, &mut faults);
        let paths: Vec<String> = faults.into_iter().map(|fault| fault.path).collect();
        if paths.is_empty() { Ok(config) } else { Err(paths) }
    }

    #[test]
    fn all_that_consul_has_can_be_said() {
        let config = resolved(
            r#"
            addr = "127.0.0.1:53"
            more_addrs = ["[::1]:53"]
            recursors = ["9.9.9.9", "[2620:fe::fe]:5353"]
            forward = { "Corp.Example." = ["10.0.0.53"] }
            recursor_timeout = "500ms"
            recursor_strategy = "random"
            ttl_seconds = 5
            node_ttl = "10s"
            service_ttl = { web = "1s", "db*" = "1m" }
            enable_truncate = false
            udp_answer_limit = 8
            a_record_limit = 2
            allow_stale = false
            soa { min_ttl = 30 }
            rate_limit = 0
            "#,
        )
        .expect("valid");
        assert_eq!(config.addrs.len(), 2);
        let corp: SocketAddr = "10.0.0.53:53".parse().expect("an address");
        assert_eq!(config.recursors.by_zone["corp.example"], [corp]);
        assert_eq!(config.recursors.limit.as_millis(), 500);
        assert_eq!((config.recursors.general.len(), config.udp_answers_max), (2, 8));
        assert_eq!(config.service_ttl["*"].as_secs(), 5);
        assert_eq!((config.node_ttl.as_secs(), config.soa.min_ttl.as_secs()), (10, 30));
        assert!(config.stale_max.is_zero() && !config.tells_truncation);
    }

    #[test]
    fn what_cannot_be_is_told_by_field() {
        let faults = resolved(
            r#"
            addr = "off"
            more_addrs = ["x"]
            forward = { "a..b" = ["1.1.1.1"], "c" = [] }
            recursor_timeout = "0s"
            recursor_strategy = "best"
            udp_answer_limit = 9
            "#,
        )
        .expect_err("wrong");
        for path in [
            "dns.more_addrs",
            "dns.more_addrs[0]",
            "dns.forward.a..b",
            "dns.forward.c",
            "dns.recursor_timeout",
            "dns.recursor_strategy",
            "dns.udp_answer_limit",
        ] {
            assert!(faults.iter().any(|fault| fault == path), "{path}: {faults:?}");
        }
    }
}
