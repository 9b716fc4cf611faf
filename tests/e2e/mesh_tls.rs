//! The mesh entry says which TLS services speak with each other, and their sidecars do.

use std::io::{self, BufReader};
use std::net::SocketAddr;
use std::time::Duration;

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use serde_json::json;
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::http::read_answer;
use weft_tests::{Cluster, eventually};

use crate::identity::public_door;
use crate::peers::{Door, Papers, Wire};
use crate::story::{Shop, called, speaks};

const LIMIT: Duration = Duration::from_secs(10);

/// Asks once and leaves the connection open.
fn ask(wire: &mut dyn Wire) -> io::Result<u16> {
    wire.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")?;
    wire.flush()?;
    // All of it: what is left would be taken for the next answer.
    read_answer(&mut BufReader::new(wire)).map(|answer| answer.status)
}

fn knock(
    door: SocketAddr,
    papers: &Papers,
    version: &'static SupportedProtocolVersion,
) -> Result<Box<dyn Wire>, String> {
    let config = Papers::config_speaking(Some(papers), version);
    let mut wire = Door::Peer(door, config).open("", LIMIT).map_err(|error| error.to_string())?;
    match ask(&mut *wire) {
        Ok(200) => Ok(wire),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn the_mesh_entry_says_which_tls_services_speak_and_open_connections_go_on() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let mut web = called(&cluster, "web-1", "web", "v1");
    let shop = Shop::open(&cluster, &["web"]);
    cluster.agent.intend("shop", "web", "allow");
    shop.wait_status("web", 200);
    // Who speaks another version is worth a warning.
    web.proxy.process.expect_log("");
    let (door, papers) = (public_door(&cluster, "web"), Papers::of_service(&cluster, "shop"));
    let mut held = knock(door, &papers, &TLS13).expect("TLS 1.3 is what is spoken");
    knock(door, &papers, &TLS12).map(drop).expect_err("TLS 1.2 is not, unless it is said");

    let refused = cluster.agent.api().put(
        "/v1/config",
        &json!({ "Kind": "mesh", "TLS": {
        "Incoming": { "TLSMinVersion": "TLSv1_2",
            "CipherSuites": ["TLS_RSA_WITH_AES_128_GCM_SHA256"] } } }),
    );
    let refused = refused.expect("an answer");
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.body.contains("TLS_RSA_WITH_AES_128_GCM_SHA256"), "{refused:?}");

    let to = |incoming: [&str; 2], outgoing: [&str; 2]| {
        let direction =
            |[min, max]: [&str; 2]| json!({ "TLSMinVersion": min, "TLSMaxVersion": max });
        cluster.agent.configure(&json!({ "Kind": "mesh", "TLS":
            { "Incoming": direction(incoming), "Outgoing": direction(outgoing) } }));
    };
    to(["TLSv1_2", ""], ["", ""]);
    let mut held_12 =
        eventually(SPREAD_LIMIT, "TLS 1.2 is spoken as well", || knock(door, &papers, &TLS12));
    to(["TLSv1_2", "TLSv1_2"], ["TLSv1_2", "TLSv1_2"]);
    eventually(SPREAD_LIMIT, "TLS 1.3 is spoken no more", || {
        knock(door, &papers, &TLS13).map_or(Ok(()), |_| Err("it is".to_owned()))
    });
    shop.wait_status("web", 200);
    to(["", ""], ["", ""]);
    eventually(SPREAD_LIMIT, "TLS 1.2 is spoken no more", || {
        knock(door, &papers, &TLS12).map_or(Ok(()), |_| Err("it is".to_owned()))
    });
    for wire in [&mut held, &mut held_12] {
        assert_eq!(ask(&mut **wire).expect("it stays open"), 200);
    }
}
