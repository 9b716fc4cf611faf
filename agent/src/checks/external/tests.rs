//! One watchman at a time, with servers that only note what they are told.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use weft_core::catalog::{CheckStatus, HealthCheckDefinition};
use weft_core::index::Index;
use weft_core::time::Span;
use weft_runtime::net;
use weft_runtime::telemetry::metrics::Registry;

use super::*;

/// What servers were told, each answered with the next of `answers`.
#[derive(Clone)]
struct Told(Arc<Mutex<Vec<serde_json::Value>>>, watch::Sender<usize>);

fn settings() -> ExternalChecks {
    ExternalChecks {
        service: "monitors".parse().expect("a name"),
        node_meta: BTreeMap::from([("external-node".to_owned(), "true".to_owned())]),
        node_interval: Duration::from_secs(1),
        passing_threshold: 0,
        critical_threshold: 0,
    }
}

fn shared(answers: Vec<u16>) -> (Arc<Shared>, Told) {
    let told = Told(Arc::default(), watch::Sender::new(0));
    let (noted, answers) = (told.clone(), Mutex::new(answers.into_iter()));
    let tell: Tell = Arc::new(move |body| {
        let body = serde_json::from_slice(&body).expect("JSON");
        noted.0.lock().push(body);
        let status = answers.lock().next().expect("a write more than was expected");
        noted.1.send_modify(|count| *count += 1);
        let status = http::StatusCode::from_u16(status).expect("a status");
        Box::pin(async move { Ok((status, "said so".into())) })
    });
    let shared = Shared {
        connections: Semaphore::new(1),
        tools: Tools::new(Default::default()),
        tell,
        metrics: ExternalMetrics::register(&Registry::new("agent")),
    };
    (Arc::new(shared), told)
}

fn check(status: CheckStatus, index: u64) -> HealthCheck {
    let node: NodeName = "printer".parse().expect("a name");
    let id = CheckId::parse("http").expect("an id");
    let finding = super::super::probe::Finding { status, output: "before".to_owned() };
    HealthCheck {
        modify_index: Index(index),
        service_id: Some("web".parse().expect("an id")),
        ..catalog::node_check(&node, &id, &finding)
    }
}

fn watchman(
    tcp: &str,
    known: HealthCheck,
    shared: Arc<Shared>,
) -> (watch::Sender<Option<HealthCheck>>, Watchman) {
    let definition = HealthCheckDefinition {
        tcp: tcp.to_owned(),
        interval: Span(Duration::from_secs(1)),
        ..HealthCheckDefinition::default()
    };
    let target = Target::of_check(&definition).expect("something to look at");
    let id = (known.node.clone(), known.id.clone());
    let plan = target.plan(&id, true, &settings());
    let (tell, told) = watch::channel(Some(known));
    (tell, Watchman::new(id, plan, told, shared))
}

/// Runs until so many writes were made.
async fn until(writes: usize, told: &Told, watchman: Watchman) {
    let mut count = told.1.subscribe();
    tokio::select! {
        () = watchman.run() => panic!("it ended"),
        reached = count.wait_for(|count| *count >= writes) => assert!(reached.is_ok()),
    }
}

#[tokio::test]
async fn a_result_is_written_under_the_index_at_which_the_check_was_read() {
    let listener = net::bind_tcp_shared(([127, 0, 0, 1], 0).into()).expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (shared, told) = shared(vec![200]);
    let (_tell, watchman) = watchman(&address, check(CheckStatus::Critical, 7), shared);
    until(1, &told, watchman).await;
    let written = told.0.lock()[0][0]["Check"].clone();
    assert_eq!(written["Verb"], "cas");
    let check = &written["Check"];
    assert_eq!((&check["Node"], &check["CheckID"]), (&"printer".into(), &"http".into()));
    assert_eq!((&check["Status"], &check["ModifyIndex"]), (&"passing".into(), &7.into()));
    assert_eq!(check["ServiceID"], "web");
}

#[tokio::test]
async fn what_was_refused_is_written_again_only_when_the_catalog_has_told_more() {
    let (shared, told) = shared(vec![409, 200]);
    let (tell, watchman) = watchman("127.0.0.1:1", check(CheckStatus::Passing, 7), shared);
    let mut count = told.1.subscribe();
    let newer = async {
        assert!(count.wait_for(|count| *count == 1).await.is_ok());
        tell.send_replace(Some(check(CheckStatus::Passing, 9)));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = newer => {}
        () = until(2, &told, watchman) => {}
    }
    let written = told.0.lock();
    let index = |at: usize| written[at][0]["Check"]["Check"]["ModifyIndex"].clone();
    assert_eq!((index(0), index(1)), (7.into(), 9.into()));
    assert_eq!(written[1][0]["Check"]["Check"]["Status"], "critical");
}

#[tokio::test]
async fn a_service_that_is_over_goes_only_with_the_check_as_it_was_read() {
    let (shared, told) = shared(vec![200]);
    let written = catalog::write(&check(CheckStatus::Critical, 7), true, &shared.tell).await;
    assert_eq!(written, catalog::Written::Done);
    let written = told.0.lock();
    assert_eq!(written[0][0]["Check"]["Check"]["ModifyIndex"], 7);
    assert_eq!(written[0][1]["Service"]["Verb"], "delete");
    assert_eq!(written[0][1]["Service"]["Service"]["ID"], "web");
}

#[test]
fn nothing_of_this_host_is_run_for_what_others_registered() {
    for definition in [
        HealthCheckDefinition::default(),
        HealthCheckDefinition { os_service: "sshd".to_owned(), ..Default::default() },
        HealthCheckDefinition { session_name: "lock".to_owned(), ..Default::default() },
    ] {
        assert_eq!(Target::of_check(&definition), None);
    }
}

#[tokio::test]
async fn a_host_that_refuses_a_connection_lives_and_a_wrong_port_is_told() {
    let node = |meta: &[(&str, &str)]| Node {
        id: String::new(),
        name: "printer".parse().expect("a name"),
        address: "127.0.0.1".to_owned(),
        datacenter: "dc1".parse().expect("a datacenter"),
        tagged_addresses: BTreeMap::new(),
        meta: meta.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        create_index: Index::default(),
        modify_index: Index::default(),
    };
    let interval = Duration::from_secs(1);
    assert_eq!(Target::of_node(&node(&[("external-probe", "false")]), interval), None);
    for (meta, status, said) in [
        (&[("external-probe", "true"), ("external-probe-port", "1")][..], "passing", "alive"),
        (&[("external-probe", "true"), ("external-probe-port", "x")], "critical", "is no port"),
    ] {
        let target = Target::of_node(&node(meta), interval).expect("it is marked");
        let id = ("printer".parse().expect("a name"), target::node_check_id());
        let plan = target.plan(&id, true, &settings());
        let finding = plan.probe.look(&Tools::new(Default::default())).await;
        assert_eq!(finding.status.as_str(), status);
        assert!(finding.output.contains(said), "{}", finding.output);
    }
}
