//! The quick answers against the full ones, record by record, for meshes of all shapes.

use std::collections::BTreeSet;

use hickory_proto::op::Message;
use hickory_proto::rr::Name;
use weft_core::catalog::{Service, ServiceInstance, Weights};
use weft_core::dns::{Asked, View, answer_of, plan};
use weft_core::time::Timestamp;
use weft_runtime::entropy;

use super::*;
use crate::dns::records;
use crate::dns::tests::{instance, wire_query};

fn settings() -> Settings {
    let dc = "dc1".parse().expect("a datacenter");
    Settings {
        name_server: Some([10, 0, 0, 9].into()),
        ..Settings::new("mesh", Some("consul"), dc)
    }
}

/// An instance of `web`: of every third one the address is its node's.
fn web(at: usize, weight: u16) -> ServiceInstance {
    let address = match at % 3 {
        0 => String::new(),
        1 => format!("10.1.{}.{}", at / 200, at % 200),
        _ => format!("fd00::{at:x}"),
    };
    let mut made = instance("web", &format!("web-{at}"), &address);
    let service = Service {
        port: 8_000 + at as u16 % 7,
        weights: Weights { passing: weight, warning: 1 },
        ..(*made.service).clone()
    };
    made.service = service.into();
    made
}

/// Texts of records, in lower case: a pointer to the question has the case of the caller.
fn shown<'a>(records: impl IntoIterator<Item = &'a hickory_proto::rr::Record>) -> Vec<String> {
    let mut shown: Vec<String> =
        records.into_iter().map(|record| record.to_string().to_ascii_lowercase()).collect();
    shown.sort();
    shown
}

fn check(
    name: &str,
    kind: RecordType,
    (delivery, payload): (Delivery, Option<u16>),
    web: &[ServiceInstance],
) {
    let style = Style { settings: settings(), has_recursion: true };
    let question = Question::parse(name, kind, &style.settings).expect("ours");
    let now = Timestamp(1_000);
    let view = match question.need() {
        weft_core::dns::Need::Service(_) => View::Instances(web),
        _ => View::Nothing,
    };
    let plan = plan(&question, view, &style.settings, now);
    let Some(prepared) = Prepared::new(&plan, &question) else {
        assert!(kind == RecordType::Any || web.len() > 80, "{name} {kind:?} is not prepared");
        return;
    };
    let query = wire_query(name, kind, payload);
    let plain = Plain::read(&query).expect("plain");
    let mut desk = Desk::new(Box::new(entropy::seeded(1)));
    let mut bytes = b"before".to_vec();
    if !prepared.write(&plain, (delivery, &style), &mut desk, &mut bytes) {
        assert_eq!(bytes, b"before");
        return;
    }
    let message = Message::from_vec(&bytes[6..]).expect("a message");
    let room = Room::of(delivery, &style.settings, kind);
    assert!(bytes.len() - 6 <= room.bytes_max, "{name} {kind:?} {delivery:?}");

    let asked = Asked { question: &question, delivery, now };
    let full = answer_of(&plan, asked, &style.settings, &mut entropy::seeded(2));
    let asked_name = Name::from_ascii(name).expect("a name");
    let wire = |records: &[Record]| records::write(records, &asked_name);
    let context = format!("{name} {kind:?} {delivery:?} of {}", web.len());
    assert_eq!(message.metadata.response_code, records::response_code(full.code), "{context}");
    assert!(message.metadata.authoritative && message.metadata.recursion_available);
    assert!(message.metadata.recursion_desired && message.metadata.id == 7, "{context}");
    assert!(message.queries[0].name().eq_case(&asked_name), "{context}");
    assert_eq!(message.edns.is_some(), payload.is_some());
    assert_eq!(message.edns.map(|edns| edns.max_payload()), payload.map(|it| it.max(512)));
    assert_eq!(shown(&message.authorities), shown(&wire(&full.authority)), "{context}");
    if !full.is_truncated {
        assert!(!message.metadata.truncation, "{context}");
        assert_eq!(shown(&message.answers), shown(&wire(&full.answers)), "{context}");
        assert_eq!(shown(&message.additionals), shown(&wire(&full.additional)), "{context}");
        return;
    }
    // What does not fit is another part of the whole each time, and targets have one digit more
    // or less: ours has as many, but for one.
    let all: Vec<Record> = plan.picks.iter().map(|pick| pick.record.clone()).collect();
    let all: BTreeSet<String> = shown(&wire(&all)).into_iter().collect();
    let ours = shown(&message.answers);
    assert!(ours.len() + 1 >= full.answers.len(), "{context}");
    assert!(ours.len() == all.len() || message.metadata.truncation, "{context}");
    assert_eq!(ours.iter().collect::<BTreeSet<_>>().len(), ours.len());
    assert!(ours.iter().all(|record| all.contains(record)), "{context}");
    let besides: BTreeSet<&Record> = plan.picks.iter().flat_map(|pick| &pick.beside).collect();
    let besides: Vec<Record> = besides.into_iter().cloned().collect();
    let besides = shown(&wire(&besides));
    assert!(shown(&message.additionals).iter().all(|record| besides.contains(record)));
}

#[test]
fn quick_answers_say_what_full_ones_say() {
    let deliveries = [
        (Delivery::Tcp, None),
        (Delivery::Tcp, Some(1232)),
        (Delivery::Udp, None),
        (Delivery::UdpEdns { payload: 0 }, Some(0)),
        (Delivery::UdpEdns { payload: 700 }, Some(700)),
        (Delivery::UdpEdns { payload: 1232 }, Some(1232)),
        (Delivery::UdpEdns { payload: 4096 }, Some(4096)),
        (Delivery::UdpEdns { payload: u16::MAX }, Some(u16::MAX)),
    ];
    let kinds = [
        RecordType::A,
        RecordType::Aaaa,
        RecordType::Any,
        RecordType::Ns,
        RecordType::Soa,
        RecordType::Srv,
        RecordType::Txt,
    ];
    for count in [0, 1, 2, 3, 4, 9, 30, 100, 300] {
        for weight in [1, 5] {
            let web: Vec<ServiceInstance> =
                (0..count).map(|at| web(at, if at % 2 == 0 { 1 } else { weight })).collect();
            for delivery in deliveries {
                for kind in kinds {
                    for name in [
                        "web.service.mesh.",
                        "WeB.service.dc1.Consul.",
                        "_web._tcp.service.mesh.",
                        "nothing.like.that.mesh.",
                        "mesh.",
                        "ns.mesh.",
                        "0a000001.addr.dc1.mesh.",
                    ] {
                        check(name, kind, delivery, &web);
                    }
                }
            }
        }
    }
}

#[test]
fn each_instance_comes_first_as_often_as_its_weight_says() {
    let style = Style { settings: settings(), has_recursion: false };
    let name = "web.service.mesh.";
    let question = Question::parse(name, RecordType::Srv, &style.settings).expect("ours");
    let instances: Vec<ServiceInstance> = (0..3).map(|at| web(at * 3 + 1, [1, 2, 7][at])).collect();
    let plan = plan(&question, View::Instances(&instances), &style.settings, Timestamp(1));
    let prepared = Prepared::new(&plan, &question).expect("prepared");
    let query = wire_query(name, RecordType::Srv, None);
    let plain = Plain::read(&query).expect("plain");
    let mut desk = Desk::new(Box::new(entropy::rng()));
    let mut firsts = std::collections::BTreeMap::new();
    for _ in 0..10_000 {
        let mut bytes = Vec::new();
        assert!(prepared.write(&plain, (Delivery::Udp, &style), &mut desk, &mut bytes));
        let message = Message::from_vec(&bytes).expect("a message");
        let hickory_proto::rr::RData::SRV(srv) = &message.answers[0].data else { panic!("SRV") };
        *firsts.entry(srv.weight).or_insert(0) += 1;
    }
    for (weight, count) in firsts {
        let (wanted, seen) = (f64::from(weight) / 10.0, f64::from(count) / 10_000.0);
        assert!((wanted - seen).abs() < 0.03, "{weight}: {seen}");
    }
}
