//! Whom an operator revokes is out: at once, for live connections too, until it is taken back.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::process::{Outcome, run_weft};
use weft_tests::{Cluster, consistently, eventually};

use crate::callers::Echo;
use crate::story::Shop;

const LIMIT: Duration = Duration::from_secs(20);

/// A connection through two sidecars that stays open.
struct Held(TcpStream);

impl Held {
    fn open(door: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect_timeout(&door, LIMIT).map_err(|it| it.to_string())?;
        stream.set_read_timeout(Some(LIMIT)).map_err(|it| it.to_string())?;
        let mut held = Self(stream);
        match held.say("hello\n") {
            Ok(line) if line == "hello\n" => Ok(held),
            other => Err(format!("{other:?}")),
        }
    }

    fn say(&mut self, line: &str) -> std::io::Result<String> {
        self.0.write_all(line.as_bytes())?;
        let mut answer = String::new();
        BufReader::new(self.0.try_clone()?).read_line(&mut answer)?;
        Ok(answer)
    }

    /// Waits until the other end cuts it, without saying anything.
    fn ends(mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0))
            || self.0.take_error().is_ok_and(|error| error.is_none())
                && self.0.write_all(b"x").is_err()
    }
}

struct Mesh {
    cluster: Cluster,
    shop: Shop,
    _sidecar: weft_tests::TestProxy,
}

impl Mesh {
    /// `shop` may call `echo`, which says everything again.
    fn start() -> Self {
        let cluster = Cluster::start();
        cluster.agent.register(&meshed("echo-1", "echo", Echo::start().0.port(), &[]));
        let mut sidecar = cluster.agent.sidecar("echo-1");
        sidecar.process.expect_log("");
        let mut shop = Shop::open(&cluster, &["echo"]);
        shop.proxy.process.expect_log("");
        cluster.agent.wait_passing("echo", 1);
        cluster.agent.intend("shop", "echo", "allow");
        Self { cluster, shop, _sidecar: sidecar }
    }

    fn weft(&self, args: &[&str]) -> Outcome {
        let address = format!("{}", self.cluster.agent.api().addr());
        let outcome = run_weft(&[args, &["--http-addr", &address]].concat(), LIMIT);
        assert_eq!(outcome.code, Some(0), "{args:?}: {}", outcome.output);
        outcome
    }

    fn hold(&self) -> Held {
        let door = self.shop.to("echo").addr();
        eventually(SPREAD_LIMIT, "a connection through both sidecars", || Held::open(door))
    }

    fn is_closed(&self) -> Result<(), String> {
        match Held::open(self.shop.to("echo").addr()) {
            Ok(_) => Err("it gets through".to_owned()),
            Err(_) => Ok(()),
        }
    }

    fn serial(&self, service: &str) -> String {
        let path = format!("/v1/agent/connect/ca/leaf/{service}");
        let answer = self.cluster.agent.api().get(&path).and_then(weft_tests::Answer::ok);
        let shown = answer.expect("a certificate").json();
        shown["SerialNumber"].as_str().expect("a number").to_owned()
    }
}

#[test]
fn a_revoked_certificate_is_cut_off_and_its_service_gets_another_one() {
    let mut mesh = Mesh::start();
    mesh.cluster.agent.process.expect_log("certificate was revoked");
    mesh.cluster.server.process.expect_log("revoked");
    for service in ["shop", "echo"] {
        let held = mesh.hold();
        let serial = mesh.serial(service);
        let told = mesh.weft(&["ca", "revoke", "--serial", &serial, "--reason", "stolen"]);
        assert!(told.output.contains("gets another certificate"), "{}", told.output);
        assert!(held.ends(), "{service}");
        // The next is there by itself.
        drop(mesh.hold());
        assert_ne!(mesh.serial(service), serial);
        assert!(mesh.weft(&["ca", "revocations"]).output.contains(&serial));
    }
    let list = mesh.cluster.agent.api().get("/v1/connect/ca/crl").expect("an answer");
    assert!(list.body.starts_with("-----BEGIN X509 CRL-----"), "{list:?}");
}

#[test]
fn a_revoked_service_is_out_until_it_is_taken_back() {
    let mut mesh = Mesh::start();
    mesh.cluster.agent.process.expect_log("certificate");
    mesh.cluster.server.process.expect_log("revo");
    let held = mesh.hold();
    mesh.weft(&["ca", "revoke", "--service", "shop"]);
    assert!(held.ends());
    consistently(Duration::from_secs(2), "nothing gets through", || mesh.is_closed());
    let shown = mesh.weft(&["ca", "revocations", "--json"]).output;
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let key = shown[0]["Key"].as_str().expect("a key").to_owned();
    assert!(key.ends_with("/svc/shop"), "{shown}");
    mesh.weft(&["ca", "unrevoke", &key]);
    drop(mesh.hold());
    assert_eq!(mesh.weft(&["ca", "revocations", "--json"]).output.trim(), "[]");

    // Only what was signed so far: the service goes on with others.
    let (held, serial) = (mesh.hold(), mesh.serial("echo"));
    mesh.weft(&["ca", "revoke", "--service", "echo", "--only-until-now"]);
    assert!(held.ends());
    drop(mesh.hold());
    assert_ne!(mesh.serial("echo"), serial);
}
