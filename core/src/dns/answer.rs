//! From a question and a view of the mesh to records.
//!
//! **Source**: Consul: docs/services/discovery/dns-static-lookups, and its `dns.go`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_core::RngCore;

use super::fit::{self, Delivery};
use super::question::hex;
use super::{Lookup, Question, Record, RecordData, RecordType, ResponseCode, Settings, SoaData};
use crate::catalog::{CheckStatus, Node, ServiceInstance};
use crate::name::NodeName;
use crate::time::Timestamp;

/// A question with what matters about its caller.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The question.
    pub question: &'a Question,
    /// How the answer travels.
    pub delivery: Delivery,
    /// The present time; it is the zone's serial number.
    pub now: Timestamp,
}

/// What is known of the thing asked for.
#[derive(Debug, Clone, Copy)]
pub enum View<'a> {
    /// The instances of the service, also critical ones.
    Instances(&'a [ServiceInstance]),
    /// Every node.
    Nodes(&'a [Arc<Node>]),
    /// Nothing needs to be known.
    Nothing,
    /// Nothing was ever heard.
    Unknown,
}

/// An answer, ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What it says about the name.
    pub code: ResponseCode,
    /// What was asked for.
    pub answers: Vec<Record>,
    /// The zone's start in negative answers, its servers in some others.
    pub authority: Vec<Record>,
    /// Addresses of the names in `answers`.
    pub additional: Vec<Record>,
    /// Whether answers were left out and the caller should know.
    pub is_truncated: bool,
}

impl Answer {
    /// Makes an answer of a code alone.
    fn bare(code: ResponseCode) -> Self {
        let (answers, authority, additional) = (Vec::new(), Vec::new(), Vec::new());
        Self { code, answers, authority, additional, is_truncated: false }
    }

    fn of(answers: Vec<Record>) -> Self {
        Self { answers, ..Self::bare(ResponseCode::NoError) }
    }
}

/// Answers a question from a view, cut to what its delivery carries.
///
/// The order of service answers comes from `rng`.
pub fn answer(
    asked: Asked<'_>,
    view: View<'_>,
    settings: &Settings,
    rng: &mut (impl RngCore + ?Sized),
) -> Answer {
    let scribe = Scribe { asked, settings };
    let mut answer = scribe.answer(view, rng);
    if answer.answers.is_empty()
        && matches!(answer.code, ResponseCode::NoError | ResponseCode::NxDomain)
    {
        // RFC 2308 §3: a negative answer carries the SOA, which says how long it may be kept.
        answer.authority.push(scribe.soa());
    }
    fit::cut(&mut answer, asked.question, asked.delivery, settings);
    answer
}

/// Writes records for one question.
struct Scribe<'a> {
    asked: Asked<'a>,
    settings: &'a Settings,
}

impl Scribe<'_> {
    fn question(&self) -> &Question {
        self.asked.question
    }

    fn answer(&self, view: View<'_>, rng: &mut (impl RngCore + ?Sized)) -> Answer {
        match self.question().kind {
            RecordType::Axfr => return Answer::bare(ResponseCode::NotImplemented),
            RecordType::Ns => return self.name_servers(),
            RecordType::Soa => return self.start_of_zone(),
            RecordType::A
            | RecordType::Aaaa
            | RecordType::Any
            | RecordType::Cname
            | RecordType::Other
            | RecordType::Srv
            | RecordType::Txt => {}
        }
        match (&self.question().lookup, view) {
            (Lookup::NoSuchName, _) => Answer::bare(ResponseCode::NxDomain),
            (Lookup::Empty, _) => Answer::bare(ResponseCode::NoError),
            (Lookup::Address(address), _) => {
                Answer::of(self.addresses(&address.to_string(), Duration::ZERO))
            }
            (Lookup::NameServer, _) => match self.settings.name_server {
                Some(address) => {
                    Answer::of(self.addresses(&address.to_string(), self.settings.node_ttl))
                }
                None => Answer::bare(ResponseCode::NoError),
            },
            (Lookup::Node(name), View::Nodes(nodes)) => self.node(name, nodes),
            (Lookup::Connect(name), View::Instances(instances)) => {
                let ttl = self.settings.ttl_of_service(name.as_str());
                self.instances(instances, None, ttl, rng)
            }
            (Lookup::Service { name, tag }, View::Instances(instances)) => {
                let ttl = self.settings.ttl_of_service(name.as_str());
                self.instances(instances, tag.as_deref(), ttl, rng)
            }
            (
                Lookup::Connect(_) | Lookup::Node(_) | Lookup::Service { .. },
                View::Instances(_) | View::Nodes(_) | View::Nothing | View::Unknown,
            ) => Answer::bare(ResponseCode::ServFail),
        }
    }

    fn start_of_zone(&self) -> Answer {
        let mut answer = self.name_servers();
        answer.authority = std::mem::replace(&mut answer.answers, vec![self.soa()]);
        answer
    }

    fn name_servers(&self) -> Answer {
        let domain = &self.question().domain;
        let server = format!("ns.{domain}");
        let ttl = seconds(self.settings.node_ttl);
        let record = Record { name: domain.clone(), ttl, data: RecordData::Ns(server.clone()) };
        let mut answer = Answer::of(vec![record]);
        answer.additional = self
            .settings
            .name_server
            .map(|ip| address_record(server, ip, ttl))
            .into_iter()
            .collect();
        answer
    }

    fn soa(&self) -> Record {
        let domain = &self.question().domain;
        let timers = self.settings.soa;
        let data = SoaData {
            mname: format!("ns.{domain}"),
            rname: format!("hostmaster.{domain}"),
            serial: u32::try_from(self.asked.now.unix_seconds()).unwrap_or(u32::MAX),
            refresh: seconds(timers.refresh),
            retry: seconds(timers.retry),
            expire: seconds(timers.expire),
            minimum: seconds(timers.min_ttl),
        };
        let ttl = seconds(timers.min_ttl);
        Record { name: domain.clone(), ttl, data: RecordData::Soa(data) }
    }

    fn node(&self, name: &NodeName, nodes: &[Arc<Node>]) -> Answer {
        let is_meant = |node: &&Arc<Node>| node.name.as_str().eq_ignore_ascii_case(name.as_str());
        let Some(node) = nodes.iter().find(is_meant) else {
            return Answer::bare(ResponseCode::NxDomain);
        };
        let ttl = self.settings.node_ttl;
        let mut records = match self.question().kind {
            RecordType::Aaaa => self.addresses(tagged(node, "lan_ipv6"), ttl),
            RecordType::Txt => Vec::new(),
            RecordType::A
            | RecordType::Any
            | RecordType::Axfr
            | RecordType::Cname
            | RecordType::Ns
            | RecordType::Other
            | RecordType::Soa
            | RecordType::Srv => self.addresses(tagged(node, "lan_ipv4"), ttl),
        };
        if matches!(self.question().kind, RecordType::Any | RecordType::Txt) {
            records.extend(node.meta.iter().map(|(key, value)| self.text(meta_text(key, value))));
        }
        Answer::of(records)
    }

    fn text(&self, text: String) -> Record {
        // A character string holds 255 bytes (RFC 1035 §3.3).
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        while rest.len() > 255 {
            let at = (0..=255).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(255);
            let (part, after) = rest.split_at(at);
            parts.push(part.to_owned());
            rest = after;
        }
        parts.push(rest.to_owned());
        let ttl = seconds(self.settings.node_ttl);
        Record { name: self.question().name.clone(), ttl, data: RecordData::Txt(parts) }
    }

    fn instances(
        &self,
        instances: &[ServiceInstance],
        tag: Option<&str>,
        ttl: Duration,
        rng: &mut (impl RngCore + ?Sized),
    ) -> Answer {
        let worst =
            if self.settings.only_passing { CheckStatus::Passing } else { CheckStatus::Warning };
        let mut usable: Vec<&ServiceInstance> = instances
            .iter()
            .filter(|instance| instance.status() <= worst)
            .filter(|instance| tag.is_none_or(|tag| has_tag(instance, tag)))
            .collect();
        if usable.is_empty() {
            return Answer::bare(ResponseCode::NxDomain);
        }
        shuffle(&mut usable, rng);
        match self.question().kind {
            RecordType::A | RecordType::Aaaa | RecordType::Any | RecordType::Cname => {
                let family =
                    if self.question().kind == RecordType::Aaaa { "lan_ipv6" } else { "lan_ipv4" };
                let all = usable
                    .iter()
                    .flat_map(|instance| self.addresses(instance_address(instance, family).0, ttl));
                Answer::of(without_spare_aliases(distinct(all)))
            }
            RecordType::Srv => self.locations(&usable, ttl),
            RecordType::Axfr
            | RecordType::Ns
            | RecordType::Other
            | RecordType::Soa
            | RecordType::Txt => Answer::bare(ResponseCode::NoError),
        }
    }

    /// Writes an SRV record for each instance, with the address of its target.
    fn locations(&self, instances: &[&ServiceInstance], ttl: Duration) -> Answer {
        let ttl = seconds(ttl);
        let (domain, datacenter) = (&self.question().domain, &self.settings.datacenter);
        let (mut answers, mut additional) = (Vec::new(), Vec::new());
        for instance in instances {
            let (address, origin) = instance_address(instance, "lan_ipv4");
            let ip: Option<IpAddr> = address.parse().ok();
            let target = match (origin, ip) {
                (Origin::Node, _) => {
                    let node = instance.node.name.as_str().to_ascii_lowercase();
                    format!("{node}.node.{datacenter}.{domain}")
                }
                (Origin::Service, Some(ip)) => format!("{}.addr.{datacenter}.{domain}", hex(ip)),
                (Origin::Service, None) => host_name(address),
            };
            if let Some(ip) = ip {
                additional.push(address_record(target.clone(), ip, ttl));
            }
            let data = RecordData::Srv {
                priority: 1,
                weight: instance.weight(),
                port: instance.service.port,
                target,
            };
            answers.push(Record { name: self.question().name.clone(), ttl, data });
        }
        let mut answer = Answer::of(distinct(answers.into_iter()));
        answer.additional = distinct(additional.into_iter());
        answer
    }

    /// Writes the record that leads to an address, if it is of the type asked for.
    fn addresses(&self, address: &str, ttl: Duration) -> Vec<Record> {
        let (name, ttl) = (self.question().name.clone(), seconds(ttl));
        let is_asked_for = |ip: &IpAddr| match self.question().kind {
            RecordType::A => ip.is_ipv4(),
            RecordType::Aaaa => ip.is_ipv6(),
            RecordType::Any => true,
            RecordType::Axfr
            | RecordType::Cname
            | RecordType::Ns
            | RecordType::Other
            | RecordType::Soa
            | RecordType::Srv
            | RecordType::Txt => false,
        };
        match address.parse::<IpAddr>() {
            Ok(ip) if is_asked_for(&ip) => vec![address_record(name, ip, ttl)],
            Ok(_) => Vec::new(),
            Err(_) if address.is_empty() => Vec::new(),
            // Whatever the type, the other name is where to ask on (RFC 1034 §3.6.2).
            Err(_) => vec![Record { name, ttl, data: RecordData::Cname(host_name(address)) }],
        }
    }
}

/// Whose address an instance is reached at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Node,
    Service,
}

/// Chooses the address: the service's own, else its node's, each by family if told.
fn instance_address<'a>(instance: &'a ServiceInstance, family: &str) -> (&'a str, Origin) {
    let service = &instance.service;
    match service.tagged_addresses.get(family) {
        Some(tagged) => (&tagged.address, Origin::Service),
        None if !service.address.is_empty() => (&service.address, Origin::Service),
        None => (tagged(&instance.node, family), Origin::Node),
    }
}

fn tagged<'a>(node: &'a Node, family: &str) -> &'a str {
    node.tagged_addresses.get(family).unwrap_or(&node.address)
}

fn has_tag(instance: &ServiceInstance, tag: &str) -> bool {
    instance.service.tags.iter().any(|has| has.eq_ignore_ascii_case(tag))
}

fn host_name(address: &str) -> String {
    address.trim_end_matches('.').to_ascii_lowercase()
}

fn address_record(name: String, ip: IpAddr, ttl: u32) -> Record {
    let data = match ip {
        IpAddr::V4(v4) => RecordData::A(v4),
        IpAddr::V6(v6) => RecordData::Aaaa(v6),
    };
    Record { name, ttl, data }
}

/// Leaves out aliases beside addresses (a name has either, RFC 1034 §3.6.2), and all aliases
/// but the first.
fn without_spare_aliases(mut records: Vec<Record>) -> Vec<Record> {
    let is_alias = |record: &Record| matches!(record.data, RecordData::Cname(_));
    if records.iter().all(is_alias) {
        records.truncate(1);
    } else {
        records.retain(|record| !is_alias(record));
    }
    records
}

/// Leaves out what was said before: instances that share an address.
fn distinct(records: impl Iterator<Item = Record>) -> Vec<Record> {
    let mut seen = BTreeSet::new();
    records.filter(|record| seen.insert(record.clone())).collect()
}

/// Orders at random: Fisher–Yates.
fn shuffle<T>(items: &mut [T], rng: &mut (impl RngCore + ?Sized)) {
    for last in (1..items.len()).rev() {
        // The high half of the product is even enough: the bias is below 2^-32 for any list
        // that fits a message.
        let at = ((u128::from(rng.next_u64()) * (last as u128 + 1)) >> 64) as usize;
        items.swap(last, at);
    }
}

/// Writes node metadata as text.
///
/// **Source**: RFC 1464 §2; a key with the prefix `rfc1035-` stands for its value alone.
fn meta_text(key: &str, value: &str) -> String {
    if key.starts_with("rfc1035-") {
        return value.to_owned();
    }
    let mut text = String::new();
    for c in key.chars() {
        if matches!(c, '=' | '`' | ' ' | '\t') {
            text.push('`');
        }
        text.push(c);
    }
    text.push('=');
    text.push_str(&value.replace('`', "``"));
    text
}

fn seconds(duration: Duration) -> u32 {
    // RFC 2181 §8: a TTL has 31 bits.
    u32::try_from(duration.as_secs()).unwrap_or(i32::MAX as u32).min(i32::MAX as u32)
}
