//! Queries over real sockets, against a server of our making.

use std::collections::BTreeMap;
use std::process::Command;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_core::catalog::{
    Connect, Node, ProxyConfig, Service, ServiceInstance, ServiceKind, Weights,
};
use weft_core::index::Index;
use weft_proto::grpc::v1::Topic;
use weft_runtime::task::TaskTree;

use super::*;
use crate::views::fake::FakeServer;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

struct World {
    server: FakeServer,
    views: Views,
    registry: Registry,
    tasks: TaskTree,
}

/// The configuration of a file that says no more than that.
fn config(address: SocketAddr, domain: &str) -> DnsConfig {
    let mut file =
        crate::config::FileConfig { node_name: Some("n".to_owned()), ..Default::default() };
    file.dns.addr = Some(address.to_string());
    file.dns.domain = Some(domain.to_owned());
    file.dns.alt_domain = (domain != "mesh").then(String::new);
    crate::config::Config::resolve(file).expect("valid").dns
}

async fn world() -> World {
    let (server, calls) = FakeServer::start().await;
    let tasks = TaskTree::root("test");
    let views = Views::start(calls, &tasks);
    server.set(Topic::Nodes, "", &vec![node("host-1", "10.0.0.1")]);
    World { server, views, registry: Registry::new("agent"), tasks }
}

impl World {
    async fn serve(&self, domain: &str, recursors: &[SocketAddr]) -> SocketAddr {
        let mut config = config("127.0.0.1:0".parse().expect("an address"), domain);
        config.recursors.general = recursors.to_vec();
        self.serve_as(&config).await
    }

    async fn serve_as(&self, config: &DnsConfig) -> SocketAddr {
        let site = DnsSite {
            datacenter: "dc1".parse().expect("a datacenter"),
            address: [10, 0, 0, 1].into(),
            locality: None,
        };
        let tools = (&self.registry, &self.tasks);
        let started = start(config, site, self.parts(), tools).await;
        started.expect("a free port").expect("it is on")
    }

    fn parts(&self) -> DnsParts {
        let views = self.views.clone();
        DnsParts { names: Names::new(views.clone()), views, acl: None, servers: None }
    }

    fn set(&self, service: &str, addresses: &[String]) {
        let instances: Vec<ServiceInstance> = addresses
            .iter()
            .enumerate()
            .map(|(at, address)| instance(service, &format!("{service}-{at}"), address))
            .collect();
        self.server.set(Topic::Service, service, &instances);
    }
}

fn node(name: &str, address: &str) -> Node {
    Node {
        id: String::new(),
        name: name.parse().expect("a name"),
        address: address.to_owned(),
        datacenter: "dc1".parse().expect("a datacenter"),
        tagged_addresses: BTreeMap::new(),
        meta: BTreeMap::new(),
        create_index: Index(1),
        modify_index: Index(1),
    }
}

pub(super) fn instance(service: &str, id: &str, address: &str) -> ServiceInstance {
    let service = Service {
        ports: Vec::new(),
        locality: None,
        kind: ServiceKind::Typical,
        id: id.parse().expect("an id"),
        name: service.parse().expect("a name"),
        tags: Vec::new(),
        address: address.to_owned(),
        tagged_addresses: BTreeMap::new(),
        meta: BTreeMap::new(),
        port: 80,
        weights: Weights::default(),
        enable_tag_override: false,
        proxy: ProxyConfig::default(),
        connect: Connect::default(),
        create_index: Index(1),
        modify_index: Index(1),
    };
    let node = node("host-1", "10.0.0.1").into();
    ServiceInstance { node, service: service.into(), checks: Vec::new() }
}

fn addresses(count: u8) -> Vec<String> {
    (0..count).map(|last| format!("10.1.0.{last}")).collect()
}

fn query(name: &str, kind: RecordType, payload: Option<u16>) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message
}

/// A query with the id 7 in its bytes.
pub(super) fn wire_query(
    name: &str,
    kind: weft_core::dns::RecordType,
    payload: Option<u16>,
) -> Vec<u8> {
    use weft_core::dns::RecordType as Kind;
    let kind = match kind {
        Kind::Aaaa => RecordType::AAAA,
        Kind::Any => RecordType::ANY,
        Kind::Ns => RecordType::NS,
        Kind::Soa => RecordType::SOA,
        Kind::Srv => RecordType::SRV,
        Kind::Txt => RecordType::TXT,
        _ => RecordType::A,
    };
    query(name, kind, payload).to_vec().expect("a query")
}

async fn udp(address: SocketAddr, query: &Message) -> Message {
    udp_sized(address, query).await.0
}

/// Asks, again where a datagram is lost as clients do, and tells the bytes of the answer too.
async fn udp_sized(address: SocketAddr, query: &Message) -> (Message, usize) {
    let any = "127.0.0.1:0".parse().expect("an address");
    let socket = net::bind_udp(any).await.expect("a port");
    let mut buffer = vec![0; 65_535];
    let asking = async {
        loop {
            socket.send_to(&query.to_vec().expect("a query"), address).await.expect("sent");
            let received = tokio::time::timeout(LIMIT / 8, socket.recv(&mut buffer)).await;
            if let Ok(received) = received {
                return received.expect("the socket works");
            }
        }
    };
    let length = tokio::time::timeout(LIMIT, asking).await.expect("an answer comes");
    (Message::from_vec(&buffer[..length]).expect("an answer"), length)
}

async fn tcp(address: SocketAddr, query: &Message) -> Message {
    let mut stream = net::connect_tcp(address, LIMIT).await.expect("a connection");
    let bytes = query.to_vec().expect("a query");
    stream.write_u16(bytes.len() as u16).await.expect("sent");
    stream.write_all(&bytes).await.expect("sent");
    let length = stream.read_u16().await.expect("an answer comes");
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await.expect("a whole answer");
    Message::from_vec(&buffer).expect("an answer")
}

fn ips(message: &Message) -> Vec<String> {
    let mut ips: Vec<String> = message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(ip) => Some(ip.to_string()),
            _ => None,
        })
        .collect();
    ips.sort();
    ips
}

#[tokio::test]
async fn names_are_answered_over_udp_and_tcp() {
    let world = world().await;
    world.set("web", &addresses(2));
    let address = world.serve("mesh", &[]).await;
    for name in ["web.service.mesh.", "WeB.sErvice.CONSUL.", "_web._tcp.service.mesh."] {
        let query = query(name, RecordType::A, None);
        for answer in [udp(address, &query).await, tcp(address, &query).await] {
            assert_eq!(answer.metadata.id, 7);
            assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
            assert!(answer.metadata.authoritative && answer.metadata.recursion_desired);
            assert!(!answer.metadata.recursion_available);
            assert_eq!(ips(&answer), ["10.1.0.0", "10.1.0.1"], "{name}");
            // The question comes back letter by letter, and so does the name of the answers.
            let asked = Name::from_ascii(name).expect("a name");
            assert!(answer.queries[0].name().eq_case(&asked));
            assert!(answer.answers.iter().all(|record| record.name.eq_case(&asked)));
        }
    }
    let answer = udp(address, &query("web.service.mesh.", RecordType::SRV, None)).await;
    let RData::SRV(srv) = &answer.answers[0].data else { panic!("no SRV record") };
    assert_eq!((srv.port, srv.priority, srv.weight), (80, 1, 1));
    assert_eq!(answer.additionals.len(), 2);
    let answer = udp(address, &query(&srv.target.to_ascii(), RecordType::A, None)).await;
    assert_eq!(ips(&answer).len(), 1, "the target leads to an address");

    let answer = udp(address, &query("host-1.node.mesh.", RecordType::A, None)).await;
    assert_eq!(ips(&answer), ["10.0.0.1"]);
    world.tasks.cancel();
    world.tasks.join(LIMIT).await.expect("everything ends");
}

#[tokio::test]
async fn negative_answers_tell_names_from_types_and_carry_the_soa() {
    let world = world().await;
    world.set("web", &addresses(1));
    let address = world.serve("mesh", &[]).await;
    for (name, kind, code) in [
        ("nothing.service.mesh.", RecordType::A, ResponseCode::NXDomain),
        ("web.service.mesh.", RecordType::AAAA, ResponseCode::NoError),
        ("nobody.node.mesh.", RecordType::A, ResponseCode::NXDomain),
        ("web.what.mesh.", RecordType::A, ResponseCode::NXDomain),
    ] {
        let answer = udp(address, &query(name, kind, None)).await;
        assert_eq!(answer.metadata.response_code, code, "{name}");
        assert!(answer.answers.is_empty());
        assert!(matches!(answer.authorities[0].data, RData::SOA(_)), "{name}");
    }
    let answer = udp(address, &query("example.com.", RecordType::A, None)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    let answer = tcp(address, &query("mesh.", RecordType::AXFR, None)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NotImp);
    world.tasks.cancel();
}

#[tokio::test]
async fn what_does_not_fit_is_cut_and_says_so() {
    let world = world().await;
    world.set("web", &addresses(200));
    let address = world.serve("mesh", &[]).await;
    let plain = udp(address, &query("web.service.mesh.", RecordType::A, None)).await;
    assert!(plain.metadata.truncation && plain.edns.is_none());
    assert_eq!(plain.answers.len(), 3);

    let asked = query("web.service.mesh.", RecordType::A, Some(1232));
    let (edns, size) = udp_sized(address, &asked).await;
    assert!(edns.metadata.truncation);
    assert_eq!(edns.edns.as_ref().map(Edns::max_payload), Some(1232), "EDNS is echoed");
    assert!((60..=76).contains(&edns.answers.len()), "{}", edns.answers.len());
    assert!((1_000..=1_232).contains(&size), "{size}");

    let whole = udp(address, &query("web.service.mesh.", RecordType::A, Some(8192))).await;
    assert_eq!((whole.metadata.truncation, ips(&whole).len()), (false, 200));
    let whole = tcp(address, &query("web.service.mesh.", RecordType::A, None)).await;
    assert_eq!((whole.metadata.truncation, ips(&whole).len()), (false, 200));
    // However many there are and whatever is asked, the message fits and is not empty.
    for count in [1, 2, 100, 200] {
        world.set("big", &addresses(count));
        for payload in [512, 700, 1232, 2048, 4096] {
            for kind in [RecordType::A, RecordType::SRV] {
                let asked = query("big.service.mesh.", kind, Some(payload));
                let (answer, size) = udp_sized(address, &asked).await;
                assert!(size <= payload.into() && !answer.answers.is_empty(), "{size}");
            }
        }
    }
    world.tasks.cancel();
}

#[tokio::test]
async fn bad_queries_get_the_right_code() {
    let world = world().await;
    let address = world.serve("mesh", &[]).await;
    let mut update = query("mesh.", RecordType::SOA, None);
    update.metadata.op_code = OpCode::Update;
    let mut two = query("mesh.", RecordType::SOA, None);
    two.add_query(two.queries[0].clone());
    let mut chaos = query("version.bind.", RecordType::TXT, None);
    chaos.queries[0].set_query_class(hickory_proto::rr::DNSClass::CH);
    let mut version = query("mesh.", RecordType::SOA, Some(1232));
    version.edns.as_mut().expect("EDNS").set_version(1);
    for (query, code) in [
        (update, ResponseCode::NotImp),
        (two, ResponseCode::FormErr),
        (chaos, ResponseCode::Refused),
        (version, ResponseCode::BADVERS),
    ] {
        let answer = udp(address, &query).await;
        // By number: BADVERS and BADSIG share theirs.
        assert_eq!(u16::from(answer.metadata.response_code), u16::from(code));
        assert!(answer.answers.is_empty());
    }
    world.tasks.cancel();
}

#[tokio::test]
async fn other_zones_go_to_the_first_recursor_that_answers() {
    let world = world().await;
    world.set("web", &addresses(2));
    world.set("far", &["web.service.other".to_owned()]);
    world.set("near", &["web.service.mesh".to_owned()]);
    let recursor = world.serve("other", &[]).await;
    let any = "127.0.0.1:0".parse().expect("an address");
    let silent = net::bind_udp(any).await.expect("a port");
    let silent = (silent.local_addr().expect("bound"), silent);
    let refusing = world.serve("third", &[]).await;
    let address = world.serve("mesh", &[silent.0, refusing, recursor]).await;

    let asked = query("web.service.other.", RecordType::A, None);
    for answer in [udp(address, &asked).await, tcp(address, &asked).await] {
        assert_eq!(answer.metadata.id, 7);
        assert_eq!(ips(&answer), ["10.1.0.0", "10.1.0.1"]);
        assert!(answer.metadata.recursion_available);
    }
    let answer = tcp(address, &query("nothing.service.other.", RecordType::A, None)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    let answer = tcp(address, &query("example.com.", RecordType::A, None)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);

    // An address that is a name is followed, in our zone and in others.
    for name in ["far.service.mesh.", "near.service.mesh."] {
        let answer = tcp(address, &query(name, RecordType::A, None)).await;
        assert!(matches!(answer.answers[0].data, RData::CNAME(_)), "{name}");
        assert_eq!(ips(&answer), ["10.1.0.0", "10.1.0.1"], "{name}");
    }
    world.tasks.cancel();
}

#[tokio::test]
async fn answers_go_on_without_servers_and_fail_only_for_what_was_never_known() {
    let world = world().await;
    world.set("web", &addresses(1));
    let address = world.serve("mesh", &[]).await;
    let known = query("web.service.mesh.", RecordType::A, None);
    let node = query("host-1.node.mesh.", RecordType::A, None);
    assert_eq!(ips(&udp(address, &known).await), ["10.1.0.0"]);
    assert_eq!(ips(&udp(address, &node).await), ["10.0.0.1"]);
    world.server.kill();
    assert_eq!(ips(&udp(address, &known).await), ["10.1.0.0"]);
    assert_eq!(ips(&udp(address, &node).await), ["10.0.0.1"]);
    let lost = async {
        while world.views.is_connected() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LIMIT, lost).await.expect("the loss is seen");
    assert_eq!(ips(&udp(address, &known).await), ["10.1.0.0"]);
    let answer = udp(address, &query("db.service.mesh.", RecordType::A, None)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert!(!answer.metadata.authoritative);
    world.tasks.cancel();
}

#[tokio::test]
async fn random_names_push_out_each_other_only() {
    let world = world().await;
    world.set("web", &addresses(1));
    let names = Names::new(world.views.clone());
    let service = |name: &str| names::Wanted::Service(name.parse().expect("a name"));
    let known = names.instances(service("web")).await.expect("answered").0;
    assert_eq!(known.len(), 1);
    for random in 0..weft_core::limits::DNS_UNKNOWN_NAMES_MAX + 100 {
        let found = names.instances(service(&format!("x{random}"))).await;
        assert_eq!(found.expect("answered").0.len(), 0);
    }
    let bound = weft_core::limits::DNS_UNKNOWN_NAMES_MAX;
    assert_eq!(names.counts(), (1, bound));
    let left = async {
        while world.server.watchers(Topic::Service, "x0") > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LIMIT, left).await.expect("what was pushed out is watched no more");
    names.sweep_at(weft_runtime::clock::instant() + Duration::from_secs(60));
    assert_eq!(names.counts(), (1, 0), "unknown names are dropped soon, others stay");
    names.sweep_at(weft_runtime::clock::instant() + Duration::from_secs(3600));
    assert_eq!(names.counts(), (0, 0));
    world.tasks.cancel();
}

#[tokio::test]
async fn one_connection_carries_many_queries_and_nonsense_ends_it() {
    let world = world().await;
    world.set("web", &addresses(1));
    let address = world.serve("mesh", &[]).await;
    let mut stream = net::connect_tcp(address, LIMIT).await.expect("a connection");
    let bytes = query("web.service.mesh.", RecordType::A, None).to_vec().expect("a query");
    for _ in 0..3 {
        stream.write_u16(bytes.len() as u16).await.expect("sent");
        stream.write_all(&bytes).await.expect("sent");
    }
    for _ in 0..3 {
        let length = stream.read_u16().await.expect("an answer comes");
        let mut buffer = vec![0; length.into()];
        stream.read_exact(&mut buffer).await.expect("a whole answer");
        assert_eq!(ips(&Message::from_vec(&buffer).expect("an answer")), ["10.1.0.0"]);
    }
    stream.write_all(&[0, 5, 1, 2, 3, 4, 5]).await.expect("sent");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.expect("an end");
    assert!(rest.is_empty());
    world.tasks.cancel();
    world.tasks.join(LIMIT).await.expect("everything ends");
}

#[tokio::test]
async fn a_silent_caller_is_left() {
    let world = world().await;
    let address = world.serve("mesh", &[]).await;
    let mut stream = net::connect_tcp(address, LIMIT).await.expect("a connection");
    tokio::time::pause();
    tokio::time::advance(stream::IDLE_LIMIT).await;
    // Time goes on by itself while everything waits.
    assert_eq!(stream.read(&mut [0]).await.expect("an end"), 0);
    world.tasks.cancel();
}

#[tokio::test]
async fn an_address_in_use_is_told() {
    let world = world().await;
    let taken = world.serve("mesh", &[]).await;
    let config = config(taken, "mesh");
    let site = DnsSite {
        datacenter: "dc1".parse().expect("a datacenter"),
        address: [10, 0, 0, 1].into(),
        locality: None,
    };
    let second = start(&config, site, world.parts(), (&world.registry, &world.tasks)).await;
    let message = second.expect_err("one address, one server").to_string();
    assert!(message.contains(&taken.to_string()), "{message}");
    world.tasks.cancel();
}

/// Runs `dig` on a blocking thread; `None` when it is not installed.
async fn dig(tasks: &TaskTree, address: SocketAddr, arguments: &'static [&str]) -> Option<String> {
    let run = move || {
        let port = address.port().to_string();
        Command::new("dig").args(["@127.0.0.1", "-p", &port]).args(arguments).output()
    };
    match tasks.blocking(run).await.expect("the thread lives") {
        Ok(output) => {
            assert!(output.status.success(), "{output:?}");
            Some(String::from_utf8(output.stdout).expect("text"))
        }
        Err(missing) => {
            eprintln!("SKIPPED: dig cannot be run: {missing}");
            None
        }
    }
}

#[tokio::test]
async fn dig_is_content() {
    let world = world().await;
    world.set("web", &addresses(1));
    world.set("many", &addresses(100));
    let address = world.serve("mesh", &[]).await;
    for (arguments, expected) in [
        (&["+short", "web.service.mesh"][..], "10.1.0.0\n"),
        (&["+short", "+tcp", "web.service.consul"][..], "10.1.0.0\n"),
        (&["+short", "SRV", "_web._tcp.mesh"][..], "1 1 80 0a010000.addr.dc1.mesh.\n"),
        (&["+short", "host-1.node.mesh"][..], "10.0.0.1\n"),
        (&["+short", "NS", "mesh"][..], "ns.mesh.\n"),
    ] {
        let Some(said) = dig(&world.tasks, address, arguments).await else { return };
        assert_eq!(said, expected, "{arguments:?}");
    }
    // A cut answer makes dig come again over TCP by itself.
    let said = dig(&world.tasks, address, &["+short", "+noedns", "many.service.mesh"]).await;
    assert_eq!(said.expect("it ran before").lines().count(), 100);
    let said = dig(&world.tasks, address, &["+norecurse", "nothing.service.mesh"]).await;
    let said = said.expect("it ran before");
    assert!(said.contains("status: NXDOMAIN") && said.contains("SOA"), "{said}");
    assert!(!said.contains("WARNING"), "{said}");
    world.tasks.cancel();
}

#[tokio::test]
async fn names_in_use_are_not_forgotten_while_servers_are_away() {
    let world = world().await;
    world.set("web", &["10.0.0.2".to_owned()]);
    let names = Names::new(world.views.clone());
    let web = names::Wanted::Service("web".parse().expect("a name"));
    names.instances(web.clone()).await.expect("known");
    world.server.kill();
    let away = async {
        while world.views.is_connected() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LIMIT, away).await.expect("the server is missed");
    names.sweep_at(weft_runtime::clock::instant() + Duration::from_secs(86_400));
    assert_eq!(names.counts(), (1, 0));
    assert_eq!(names.instances(web).await.expect("still known").0.len(), 1);
    world.tasks.cancel();
}

#[tokio::test]
async fn questions_about_nodes_wait_no_more_than_others_do() {
    let (server, calls) = FakeServer::start().await;
    server.kill();
    let tasks = TaskTree::root("test");
    let names = Names::new(Views::start(calls, &tasks));
    let waiting = (0..weft_core::limits::DNS_WAITING_QUERIES_MAX).map(|_| names.nodes());
    let mut all = futures::future::join_all(waiting);
    assert!(futures::poll!(&mut all).is_pending());
    assert!(matches!(futures::poll!(std::pin::pin!(names.nodes())), std::task::Poll::Ready(None)));
    tasks.cancel();
}
