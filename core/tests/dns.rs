//! Runs the DNS scripts: what is known of a mesh, then questions with their exact answers.
//!
//! A script opens with its goal. `node`, `instance` and `set` lines say what is known and
//! chosen; `? [tcp|udp|edns=N] TYPE NAME` asks; the lines until the next blank one are the
//! answer. `WEFT_BLESS=1` writes the answers of the present code into the scripts.

mod golden;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use rand_core::RngCore;
use weft_core::catalog::{
    CheckStatus, Connect, HealthCheck, Locality, Node, ProxyConfig, Service, ServiceInstance,
    ServiceKind, TaggedAddress, Weights,
};
use weft_core::dns::{
    Asked, Delivery, Need, Question, Record, RecordData, RecordType, Settings, Truncation, View,
    answer,
};
use weft_core::index::Index;
use weft_core::name::{Datacenter, InstanceId, ServiceName};
use weft_core::time::Timestamp;

/// A generator that keeps every list in its order: each draw chooses the item itself.
struct InOrder;

impl RngCore for InOrder {
    fn next_u32(&mut self) -> u32 {
        u32::MAX
    }
    fn next_u64(&mut self) -> u64 {
        u64::MAX
    }
    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        bytes.fill(u8::MAX);
    }
}

struct World {
    settings: Settings,
    nodes: Vec<Arc<Node>>,
    services: BTreeMap<ServiceName, Vec<ServiceInstance>>,
    sidecars: BTreeMap<ServiceName, Vec<ServiceInstance>>,
}

#[test]
fn every_script_is_answered_as_written() {
    golden::check("dns", run);
}

/// Returns the script with every answer as it is.
fn run(script: &str) -> String {
    let dc = Datacenter::parse("dc1").expect("a datacenter");
    let mut world = World {
        settings: Settings::new("mesh", Some("consul"), dc),
        nodes: Vec::new(),
        services: BTreeMap::new(),
        sidecars: BTreeMap::new(),
    };
    let mut actual = String::new();
    let mut is_answer = false;
    for line in script.lines() {
        if line.is_empty() {
            is_answer = false;
        }
        if is_answer {
            continue;
        }
        actual.push_str(line);
        actual.push('\n');
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] | ["#", ..] => {}
            ["?", how, kind, name] => {
                actual.push_str(&world.ask(how, kind, name));
                is_answer = true;
            }
            ["set", key, value] => world.set(key, value),
            ["node", name, address, ref options @ ..] => world.node(name, address, options),
            ["instance", name, id, node, ref options @ ..] => {
                world.instance(name, id, node, options);
            }
            _ => panic!("the line {line:?} says nothing"),
        }
    }
    actual
}

/// Reads `region/zone`.
fn locality(text: &str) -> Option<Locality> {
    let (region, zone) = text.split_once('/')?;
    Some(Locality { region: region.to_owned(), zone: zone.to_owned() })
}

fn pairs<'a>(options: &[&'a str]) -> BTreeMap<&'a str, &'a str> {
    options.iter().map(|option| option.split_once('=').expect("key=value")).collect()
}

impl World {
    fn set(&mut self, key: &str, value: &str) {
        let seconds = || Duration::from_secs(value.parse().expect("seconds"));
        match key {
            "has_meta_beside" => self.settings.has_meta_beside = value == "yes",
            "only_passing" => self.settings.only_passing = value == "yes",
            "locality" => self.settings.locality = locality(value),
            "truncation" => self.settings.truncation = Truncation::Silent,
            "node_ttl" => self.settings.node_ttl = seconds(),
            "min_ttl" => self.settings.soa.min_ttl = seconds(),
            "udp_answers_max" => {
                self.settings.udp_answers_max = value.parse().expect("a number");
            }
            "a_records_max" => {
                self.settings.a_records_max = Some(value.parse().expect("a number"));
            }
            "name_server" => {
                self.settings.name_server = Some(value.parse().expect("an address"));
            }
            _ => {
                let service = key.strip_prefix("ttl:").expect("a setting");
                self.settings.service_ttl.insert(service.into(), seconds());
            }
        }
    }

    fn node(&mut self, name: &str, address: &str, options: &[&str]) {
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let (tagged, meta) =
            pairs(options).into_iter().map(owned).partition(|(key, _)| key.starts_with("lan_"));
        let node = Node {
            id: String::new(),
            name: name.parse().expect("a node name"),
            address: address.to_owned(),
            datacenter: self.settings.datacenter.clone(),
            tagged_addresses: tagged,
            meta,
            create_index: Index(1),
            modify_index: Index(1),
        };
        self.nodes.push(Arc::new(node));
    }

    fn instance(&mut self, name: &str, id: &str, node: &str, options: &[&str]) {
        let options = pairs(options);
        let option = |key: &str| options.get(key).copied().unwrap_or_default();
        let node = self.nodes.iter().find(|known| known.name.as_str() == node).expect("a node");
        let id: InstanceId = id.parse().expect("an id");
        let name: ServiceName = name.parse().expect("a name");
        let weights = option("weights").split_once(',').map(|(passing, warning)| Weights {
            passing: passing.parse().expect("a weight"),
            warning: warning.parse().expect("a weight"),
        });
        let tagged_addresses = options
            .iter()
            .filter(|(key, _)| key.starts_with("lan_") || key.ends_with("virtual"))
            .map(|(key, address)| {
                ((*key).to_owned(), TaggedAddress { address: (*address).to_owned(), port: 0 })
            })
            .collect();
        let destination: Option<ServiceName> = option("for").parse().ok();
        let service = Service {
            ports: Vec::new(),
            locality: locality(option("locality")),
            kind: if destination.is_some() {
                ServiceKind::ConnectProxy
            } else {
                ServiceKind::Typical
            },
            id: id.clone(),
            name: name.clone(),
            tags: option("tags").split(',').map(str::to_owned).collect(),
            address: option("address").to_owned(),
            tagged_addresses,
            meta: BTreeMap::new(),
            port: option("port").parse().unwrap_or(0),
            weights: weights.unwrap_or_default(),
            enable_tag_override: false,
            proxy: ProxyConfig::default(),
            connect: Connect::default(),
            create_index: Index(1),
            modify_index: Index(1),
        };
        let status: CheckStatus = option("status").parse().unwrap_or(CheckStatus::Passing);
        let check_id = "c".parse().expect("an id");
        let check = HealthCheck {
            service_id: Some(id),
            service_name: Some(name.clone()),
            create_index: Index(1),
            modify_index: Index(1),
            ..HealthCheck::of_node(node.name.clone(), check_id, "", status)
        };
        let instance = ServiceInstance {
            node: node.clone(),
            service: service.into(),
            checks: vec![check.into()],
        };
        if let Some(destination) = destination {
            self.sidecars.entry(destination).or_default().push(instance.clone());
        }
        self.services.entry(name).or_default().push(instance);
    }

    fn ask(&self, how: &str, kind: &str, name: &str) -> String {
        let delivery = match how {
            "tcp" => Delivery::Tcp,
            "udp" => Delivery::Udp,
            _ => {
                let payload = how.strip_prefix("edns=").expect("tcp, udp or edns=N");
                Delivery::UdpEdns { payload: payload.parse().expect("bytes") }
            }
        };
        let kind = match kind {
            "A" => RecordType::A,
            "AAAA" => RecordType::Aaaa,
            "ANY" => RecordType::Any,
            "AXFR" => RecordType::Axfr,
            "CNAME" => RecordType::Cname,
            "MX" => RecordType::Other,
            "NS" => RecordType::Ns,
            "PTR" => RecordType::Ptr,
            "SOA" => RecordType::Soa,
            "SRV" => RecordType::Srv,
            "TXT" => RecordType::Txt,
            _ => panic!("{kind} is no type"),
        };
        let Some(question) = Question::parse(name, kind, &self.settings) else {
            return "other zone\n".into();
        };
        let (none, all): (Vec<_>, Vec<_>);
        none = Vec::new();
        let view = match question.need() {
            Need::Connect(name) => View::Instances(self.sidecars.get(&name).unwrap_or(&none)),
            // Gateways are written as instances with the name of the service, a query as a
            // service with a name of its own.
            Need::Ingress(name) => View::Instances(self.sidecars.get(&name).unwrap_or(&none)),
            Need::Owners(_) => {
                all = self.services.values().flatten().cloned().collect();
                View::Owners { nodes: &self.nodes, instances: &all }
            }
            Need::Query(name) => match self.services.get(name.as_str()) {
                Some(instances) => View::Listed { instances, ttl: Duration::from_secs(5) },
                None => View::Absent,
            },
            Need::Nodes => View::Nodes(&self.nodes),
            Need::Nothing => View::Nothing,
            Need::Service(name) => View::Instances(self.services.get(&name).unwrap_or(&none)),
        };
        let asked = Asked { question: &question, delivery, now: Timestamp(1_000) };
        let answer = answer(asked, view, &self.settings, &mut InOrder);
        let mut text = format!("{:?}", answer.code);
        if answer.is_truncated {
            text.push_str(" truncated");
        }
        text.push('\n');
        for record in &answer.answers {
            writeln!(text, "  {}", shown(record)).expect("a text takes every write");
        }
        for (section, records) in
            [("authority", &answer.authority), ("additional", &answer.additional)]
        {
            for record in records {
                writeln!(text, "  {section}: {}", shown(record)).expect("a text takes writes");
            }
        }
        text
    }
}

fn shown(record: &Record) -> String {
    let data = match &record.data {
        RecordData::A(ip) => format!("A {ip}"),
        RecordData::Aaaa(ip) => format!("AAAA {ip}"),
        RecordData::Cname(name) => format!("CNAME {name}"),
        RecordData::Ns(name) => format!("NS {name}"),
        RecordData::Ptr(name) => format!("PTR {name}"),
        RecordData::Soa(soa) => format!("SOA {} {} {}", soa.mname, soa.rname, soa.serial),
        RecordData::Srv { priority, weight, port, target } => {
            format!("SRV {priority} {weight} {port} {target}")
        }
        RecordData::Txt(texts) => format!("TXT {texts:?}"),
    };
    format!("{} {} {data}", record.name, record.ttl)
}

#[test]
fn every_order_of_answers_comes_up() {
    struct Counter(u64);
    impl RngCore for Counter {
        fn next_u32(&mut self) -> u32 {
            self.next_u64() as u32
        }
        fn next_u64(&mut self) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            self.0
        }
        fn fill_bytes(&mut self, _: &mut [u8]) {}
    }
    let dc = Datacenter::parse("dc1").expect("a datacenter");
    let settings = Settings::new("mesh", None, dc);
    let mut world =
        World { settings, nodes: Vec::new(), services: BTreeMap::new(), sidecars: BTreeMap::new() };
    world.node("n", "10.0.0.9", &[]);
    for id in 1..=3 {
        let address = format!("address=10.0.0.{id}");
        world.instance("web", &id.to_string(), "n", &[&address]);
    }
    let question =
        Question::parse("web.service.mesh", RecordType::A, &world.settings).expect("ours");
    let instances = &world.services[&"web".parse::<ServiceName>().expect("a name")];
    let mut rng = Counter(7);
    let mut orders = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let asked = Asked { question: &question, delivery: Delivery::Udp, now: Timestamp(0) };
        orders.insert(answer(asked, View::Instances(instances), &world.settings, &mut rng).answers);
    }
    assert_eq!(orders.len(), 6);
}
