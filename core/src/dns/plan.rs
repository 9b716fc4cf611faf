//! From a question and a view of the mesh to all the records that could answer it.
//!
//! **Source**: Consul: docs/services/discovery/dns-static-lookups, and its `dns.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::question::hex;
use super::{Lookup, Question, Record, RecordData, RecordType, ResponseCode, Settings, SoaData};
use crate::catalog::{CheckStatus, Locality, Node, ServiceInstance, VIRTUAL_TAG, VirtualIp};
use crate::name::{NodeName, ServiceName};
use crate::time::Timestamp;

/// Tags of the address that stands for all instances of a service.
const VIRTUAL_TAGS: [&str; 2] = [VIRTUAL_TAG, "virtual"];

/// What is known of the thing asked for.
#[derive(Debug, Clone, Copy)]
pub enum View<'a> {
    /// It does not exist: no such prepared query.
    Absent,
    /// The instances of the service, also critical ones.
    Instances(&'a [ServiceInstance]),
    /// The instances that somebody has chosen and ordered.
    Listed {
        /// In their order.
        instances: &'a [ServiceInstance],
        /// How long the answer may be kept.
        ttl: Duration,
    },
    /// Every node.
    Nodes(&'a [Arc<Node>]),
    /// Nothing needs to be known.
    Nothing,
    /// Every node, and the instances that have the address asked for.
    Owners {
        /// The nodes.
        nodes: &'a [Arc<Node>],
        /// The instances.
        instances: &'a [ServiceInstance],
    },
    /// Nothing was ever heard.
    Unknown,
}

/// All that could be answered, not yet ordered nor cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What it says about the name.
    pub code: ResponseCode,
    /// What was asked for.
    pub picks: Vec<Pick>,
    /// How the picks are ordered.
    pub order: Order,
    /// How many of them an answer has at most, for another reason than its size.
    pub picks_max: usize,
    /// The zone's start in negative answers, its servers in some others.
    pub authority: Vec<Record>,
    /// What goes with any answer.
    pub additional: Vec<Record>,
}

/// One record of an answer, with what goes along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    /// The record.
    pub record: Record,
    /// Its share of the first places.
    pub weight: u32,
    /// How far it is; nearer ones come first.
    pub distance: Distance,
    /// Addresses of the name in it.
    pub beside: Vec<Record>,
}

/// How far an instance is from this agent, as far as both say where they are.
///
/// **Source**: Consul: docs/services/configuration/services-configuration-reference#locality; there
/// proxies alone heed it. Differs: so do answers of DNS.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distance {
    /// In the same zone of the same region.
    Zone,
    /// In the same region.
    Region,
    /// In another one, or nobody knows.
    #[default]
    Far,
}

impl Distance {
    /// Compares two places; those that say nothing are far from all.
    fn between(here: Option<&Locality>, there: Option<&Locality>) -> Self {
        let (Some(here), Some(there)) = (here, there) else { return Self::Far };
        if here.region.is_empty() || here.region != there.region {
            Self::Far
        } else if here.zone.is_empty() || here.zone != there.zone {
            Self::Region
        } else {
            Self::Zone
        }
    }
}

/// How picks are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Near ones first, those that are as near at random, by weight. The picks stand by distance.
    Drawn,
    /// As they stand.
    Kept,
}

impl Plan {
    /// Makes a plan of a code alone.
    fn bare(code: ResponseCode) -> Self {
        let (picks, authority, additional) = (Vec::new(), Vec::new(), Vec::new());
        let (order, picks_max) = (Order::Kept, usize::MAX);
        Self { code, picks, order, picks_max, authority, additional }
    }

    fn of(records: Vec<Record>) -> Self {
        let distance = Distance::default();
        let pick = |record| Pick { record, weight: 1, distance, beside: Vec::new() };
        let picks = records.into_iter().map(pick).collect();
        Self { picks, ..Self::bare(ResponseCode::NoError) }
    }

    /// Returns the ranges of picks that are as near as each other, the nearest first.
    pub fn ranges(&self) -> Vec<Range<usize>> {
        let mut from = 0;
        let alike = self.picks.chunk_by(|one, next| one.distance == next.distance);
        let range = |count: usize| {
            let start = from;
            from += count;
            start..from
        };
        alike.map(<[Pick]>::len).map(range).collect()
    }

    /// Whether the answer is another name, under which to ask on.
    pub fn is_alias(&self) -> bool {
        matches!(self.picks.first().map(|pick| &pick.record.data), Some(RecordData::Cname(_)))
    }
}

/// Finds everything that answers a question, at a time, which is the zone's serial number.
pub fn plan(question: &Question, view: View<'_>, settings: &Settings, now: Timestamp) -> Plan {
    let scribe = Scribe { question, settings, now };
    let mut plan = scribe.plan(view);
    let is_negative = plan.picks.is_empty()
        && matches!(plan.code, ResponseCode::NoError | ResponseCode::NxDomain);
    // A reverse name is in no zone of ours.
    if is_negative && !matches!(question.lookup, Lookup::Reverse(_)) {
        // RFC 2308 §3: a negative answer carries the SOA, which says how long it may be kept.
        plan.authority.push(scribe.soa());
    }
    plan
}

/// Writes records for one question.
struct Scribe<'a> {
    question: &'a Question,
    settings: &'a Settings,
    now: Timestamp,
}

impl Scribe<'_> {
    fn plan(&self, view: View<'_>) -> Plan {
        match self.question.kind {
            RecordType::Axfr => return Plan::bare(ResponseCode::NotImplemented),
            RecordType::Ns => return self.name_servers(),
            RecordType::Soa => return self.start_of_zone(),
            RecordType::A
            | RecordType::Aaaa
            | RecordType::Any
            | RecordType::Cname
            | RecordType::Other
            | RecordType::Ptr
            | RecordType::Srv
            | RecordType::Txt => {}
        }
        let settings = self.settings;
        match (&self.question.lookup, view) {
            (Lookup::NoSuchName, _) | (_, View::Absent) => Plan::bare(ResponseCode::NxDomain),
            (Lookup::Empty, _) => Plan::bare(ResponseCode::NoError),
            (Lookup::Address(address), _) => {
                Plan::of(self.addresses(&address.to_string(), Duration::ZERO))
            }
            (Lookup::NameServer, _) => match settings.name_server {
                Some(address) => Plan::of(self.addresses(&address.to_string(), settings.node_ttl)),
                None => Plan::bare(ResponseCode::NoError),
            },
            (Lookup::Node(name), View::Nodes(nodes)) => self.node(name, nodes),
            (Lookup::Connect(name) | Lookup::Ingress(name), View::Instances(instances)) => {
                self.usable(instances, None, settings.ttl_of_service(name.as_str()))
            }
            (Lookup::Service { name, tag }, View::Instances(instances)) => {
                self.usable(instances, tag.as_deref(), settings.ttl_of_service(name.as_str()))
            }
            (Lookup::Query(_), View::Listed { instances, ttl }) => {
                let all: Vec<&ServiceInstance> = instances.iter().collect();
                self.listed(&all, ttl)
            }
            (Lookup::Reverse(address), View::Owners { nodes, instances }) => {
                self.owners(*address, nodes, instances)
            }
            (Lookup::Virtual(_), View::Instances(instances)) => self.virtual_address(instances),
            (
                Lookup::Connect(_)
                | Lookup::Ingress(_)
                | Lookup::Node(_)
                | Lookup::Query(_)
                | Lookup::Reverse(_)
                | Lookup::Service { .. }
                | Lookup::Virtual(_),
                View::Instances(_)
                | View::Listed { .. }
                | View::Nodes(_)
                | View::Nothing
                | View::Owners { .. }
                | View::Unknown,
            ) => Plan::bare(ResponseCode::ServFail),
        }
    }

    fn start_of_zone(&self) -> Plan {
        let servers = self.name_servers();
        let authority = servers.picks.into_iter().map(|pick| pick.record).collect();
        Plan { authority, additional: servers.additional, ..Plan::of(vec![self.soa()]) }
    }

    fn name_servers(&self) -> Plan {
        let domain = &self.question.domain;
        let server = format!("ns.{domain}");
        let ttl = seconds(self.settings.node_ttl);
        let record = Record { name: domain.clone(), ttl, data: RecordData::Ns(server.clone()) };
        let address = self.settings.name_server.map(|ip| address_record(server, ip, ttl));
        Plan { additional: address.into_iter().collect(), ..Plan::of(vec![record]) }
    }

    fn soa(&self) -> Record {
        let domain = &self.question.domain;
        let timers = self.settings.soa;
        let data = SoaData {
            mname: format!("ns.{domain}"),
            rname: format!("hostmaster.{domain}"),
            serial: u32::try_from(self.now.unix_seconds()).unwrap_or(u32::MAX),
            refresh: seconds(timers.refresh),
            retry: seconds(timers.retry),
            expire: seconds(timers.expire),
            minimum: seconds(timers.min_ttl),
        };
        let ttl = seconds(timers.min_ttl);
        Record { name: domain.clone(), ttl, data: RecordData::Soa(data) }
    }

    fn node(&self, name: &NodeName, nodes: &[Arc<Node>]) -> Plan {
        let is_meant = |node: &&Arc<Node>| node.name.as_str().eq_ignore_ascii_case(name.as_str());
        let Some(node) = nodes.iter().find(is_meant) else {
            return Plan::bare(ResponseCode::NxDomain);
        };
        let ttl = self.settings.node_ttl;
        let mut records = match self.question.kind {
            RecordType::Aaaa => self.addresses(tagged(node, "lan_ipv6"), ttl),
            RecordType::Txt => Vec::new(),
            RecordType::A
            | RecordType::Any
            | RecordType::Axfr
            | RecordType::Cname
            | RecordType::Ns
            | RecordType::Other
            | RecordType::Ptr
            | RecordType::Soa
            | RecordType::Srv => self.addresses(tagged(node, "lan_ipv4"), ttl),
        };
        let name = &self.question.name;
        let is_asked_for = matches!(self.question.kind, RecordType::Any | RecordType::Txt);
        if is_asked_for {
            records.extend(self.texts(name, node));
        }
        let mut plan = Plan::of(records);
        if !is_asked_for && self.settings.has_meta_beside {
            plan.additional.extend(self.texts(name, node));
        }
        plan
    }

    /// Writes a node's metadata as records of a name.
    fn texts(&self, name: &str, node: &Node) -> Vec<Record> {
        node.meta.iter().map(|(key, value)| self.text(name, &meta_text(key, value))).collect()
    }

    fn text(&self, name: &str, text: &str) -> Record {
        // A character string holds 255 bytes (RFC 1035 §3.3).
        let mut parts = Vec::new();
        let mut rest = text;
        while rest.len() > 255 {
            let at = (0..=255).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(255);
            let (part, after) = rest.split_at(at);
            parts.push(part.to_owned());
            rest = after;
        }
        parts.push(rest.to_owned());
        let ttl = seconds(self.settings.node_ttl);
        Record { name: name.to_owned(), ttl, data: RecordData::Txt(parts) }
    }

    /// Answers with the instances that may be used.
    fn usable(&self, instances: &[ServiceInstance], tag: Option<&str>, ttl: Duration) -> Plan {
        let worst =
            if self.settings.only_passing { CheckStatus::Passing } else { CheckStatus::Warning };
        let usable: Vec<&ServiceInstance> = instances
            .iter()
            .filter(|instance| instance.status() <= worst)
            .filter(|instance| tag.is_none_or(|tag| has_tag(instance, tag)))
            .collect();
        self.instances(&usable, ttl)
    }

    /// Answers with instances in the order that somebody else chose.
    fn listed(&self, instances: &[&ServiceInstance], ttl: Duration) -> Plan {
        let settings = Settings { locality: None, ..self.settings.clone() };
        let scribe = Scribe { settings: &settings, ..*self };
        Plan { order: Order::Kept, ..scribe.instances(instances, ttl) }
    }

    fn instances(&self, usable: &[&ServiceInstance], ttl: Duration) -> Plan {
        if usable.is_empty() {
            return Plan::bare(ResponseCode::NxDomain);
        }
        let picks = match self.question.kind {
            RecordType::A | RecordType::Aaaa | RecordType::Any | RecordType::Cname => {
                let family =
                    if self.question.kind == RecordType::Aaaa { "lan_ipv6" } else { "lan_ipv4" };
                let picks = usable.iter().flat_map(|instance| {
                    let records = self.addresses(instance_address(instance, family).0, ttl);
                    let (weight, distance) = (instance.weight().into(), self.distance(instance));
                    let beside = Vec::new;
                    let pick = move |record| Pick { record, weight, distance, beside: beside() };
                    records.into_iter().map(pick)
                });
                distinct(picks)
            }
            RecordType::Srv => {
                distinct(usable.iter().map(|instance| self.location(instance, seconds(ttl))))
            }
            RecordType::Axfr
            | RecordType::Ns
            | RecordType::Other
            | RecordType::Ptr
            | RecordType::Soa
            | RecordType::Txt => Vec::new(),
        };
        let (mut picks, picks_max) = without_spare_aliases(picks);
        // What is as far stays as it is.
        picks.sort_by_key(|pick| pick.distance);
        Plan { picks, picks_max, order: Order::Drawn, ..Plan::bare(ResponseCode::NoError) }
    }

    /// Writes the SRV record of an instance, with the address of its target.
    fn location(&self, instance: &ServiceInstance, ttl: u32) -> Pick {
        let (domain, datacenter) = (&self.question.domain, &self.settings.datacenter);
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
        let mut beside: Vec<Record> =
            ip.map(|ip| address_record(target.clone(), ip, ttl)).into_iter().collect();
        if self.settings.has_meta_beside && origin == Origin::Node {
            beside.extend(self.texts(&target, &instance.node));
        }
        let weight = instance.weight();
        let data = RecordData::Srv { priority: 1, weight, port: instance.service.port, target };
        let record = Record { name: self.question.name.clone(), ttl, data };
        Pick { record, weight: weight.into(), distance: self.distance(instance), beside }
    }

    fn distance(&self, instance: &ServiceInstance) -> Distance {
        let there = instance.service.locality.as_ref();
        Distance::between(self.settings.locality.as_ref(), there)
    }

    /// Answers with the address that stands for all instances.
    fn virtual_address(&self, instances: &[ServiceInstance]) -> Plan {
        let tagged = instances.iter().find_map(|instance| {
            let tagged = &instance.service.tagged_addresses;
            VIRTUAL_TAGS.iter().find_map(|tag| tagged.get(*tag))
        });
        match tagged {
            Some(tagged) => {
                let ttl = self.settings.node_ttl;
                let mut records = self.addresses(&tagged.address, ttl);
                let ip = tagged.address.parse().ok().and_then(VirtualIp::of);
                records.extend(
                    ip.map(|ip| self.addresses(&ip.v6().to_string(), ttl)).unwrap_or_default(),
                );
                Plan::of(records)
            }
            None => Plan::bare(ResponseCode::NxDomain),
        }
    }

    /// Names whoever has an address: the nodes, else the services.
    ///
    /// **Source**: Consul: its `handlePtr`; such answers are never kept.
    fn owners(&self, address: IpAddr, nodes: &[Arc<Node>], instances: &[ServiceInstance]) -> Plan {
        let (domain, datacenter) = (&self.question.domain, &self.settings.datacenter);
        let has = |text: &str| text.parse::<IpAddr>() == Ok(address);
        let nodes = nodes.iter().filter(|node| {
            has(&node.address) || node.tagged_addresses.values().any(|tagged| has(tagged))
        });
        let mut names: BTreeSet<String> = nodes
            .map(|node| format!("{}.node.{datacenter}.{domain}", node.name).to_ascii_lowercase())
            .collect();
        if names.is_empty() {
            let name = |service: &ServiceName| format!("{service}.service.{datacenter}.{domain}");
            let owners = instances.iter().filter(|instance| has(&instance.service.address));
            names.extend(owners.map(|owner| name(&owner.service.name).to_ascii_lowercase()));
        }
        if names.is_empty() {
            return Plan::bare(ResponseCode::NxDomain);
        }
        let record = |target| Record {
            name: self.question.name.clone(),
            ttl: 0,
            data: RecordData::Ptr(target),
        };
        Plan::of(names.into_iter().map(record).collect())
    }

    /// Writes the record that leads to an address, if it is of the type asked for.
    fn addresses(&self, address: &str, ttl: Duration) -> Vec<Record> {
        let (name, ttl) = (self.question.name.clone(), seconds(ttl));
        let is_asked_for = |ip: &IpAddr| match self.question.kind {
            RecordType::A => ip.is_ipv4(),
            RecordType::Aaaa => ip.is_ipv6(),
            RecordType::Any => true,
            RecordType::Axfr
            | RecordType::Cname
            | RecordType::Ns
            | RecordType::Other
            | RecordType::Ptr
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

/// Leaves out aliases beside addresses: a name has either (RFC 1034 §3.6.2). Where there are only
/// aliases, an answer has one.
fn without_spare_aliases(mut picks: Vec<Pick>) -> (Vec<Pick>, usize) {
    let is_alias = |pick: &Pick| matches!(pick.record.data, RecordData::Cname(_));
    if picks.iter().all(is_alias) {
        return (picks, 1);
    }
    picks.retain(|pick| !is_alias(pick));
    (picks, usize::MAX)
}

/// Joins what says the same: instances that share an address have their weights together.
fn distinct(picks: impl Iterator<Item = Pick>) -> Vec<Pick> {
    let mut places: BTreeMap<Record, usize> = BTreeMap::new();
    let mut kept: Vec<Pick> = Vec::new();
    for pick in picks {
        match places.get(&pick.record) {
            Some(at) => {
                let kept = &mut kept[*at];
                kept.weight = kept.weight.saturating_add(pick.weight);
                kept.distance = kept.distance.min(pick.distance);
            }
            None => {
                places.insert(pick.record.clone(), kept.len());
                kept.push(pick);
            }
        }
    }
    kept
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
