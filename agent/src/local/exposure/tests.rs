//! Ports and doors of checks over registrations and restarts, in a temporary directory.

use std::path::Path;

use weft_core::catalog::ServiceDefinition;
use weft_proto::json::{self, Unknown};
use weft_runtime::task::TaskTree;

use super::*;
use crate::config::Scripts;
use crate::local::{ExistingChecks, Place};

const SIDECAR: &str = "web-sidecar-proxy";

fn open(directory: &Path) -> Local {
    let place = Place::of_test(directory, Scripts::Nobody);
    Local::open(place, &TaskTree::root("test")).expect("a directory to write in")
}

fn id(text: &str) -> InstanceId {
    text.parse().expect("an id")
}

async fn register(local: &Local, body: &str) {
    let definition: ServiceDefinition =
        json::from_slice(body.as_bytes(), Unknown::Ignore).expect("a definition");
    local.register(definition, ExistingChecks::Replaced).await.expect(body);
}

/// Registers web with a sidecar and these checks.
async fn register_web(local: &Local, checks: &str) {
    let body = format!(
        r#"{{"Name":"web","Port":80,"Connect":{{"SidecarService":{{"Port":21000}}}},
            "Checks":[{checks}]}}"#
    );
    register(local, &body).await;
}

fn http(id: &str) -> String {
    format!(r#"{{"CheckID":"{id}","HTTP":"http://localhost:80/{id}","Interval":"1s"}}"#)
}

async fn expose(local: &Local, is_on: bool, other_ports: &[u16]) {
    let other_ports = other_ports.iter().copied().collect();
    let exposure = Exposure { instance: id("web"), is_on, other_ports };
    local.expose(id(SIDECAR), exposure).await.expect("kept");
}

/// Each check with its port, and where it is asked if that is a door.
fn plans(local: &Local) -> Vec<String> {
    let plans = local.plans().borrow().clone();
    let of_web = plans.values().filter(|plan| plan.service == Some(id("web")));
    of_web
        .map(|plan| {
            let port = plan.exposed_port.map_or(String::new(), |port| format!(" {port}"));
            let through = plan.through.map_or(String::new(), |door| format!(" by {door}"));
            format!("{}{port}{through}", plan.id)
        })
        .collect()
}

/// The doors that the sidecar is to have.
fn doors(local: &Local) -> Vec<String> {
    let doors = local.check_doors().borrow().clone();
    let of_web = doors.get(SIDECAR).cloned().unwrap_or_default();
    let show = |door: &CheckDoor| match &door.path {
        Ok(path) => format!(
            "{} {} -> {} {}",
            door.check, path.listener_port, path.local_path_port, path.path
        ),
        Err(reason) => format!("{}: {reason}", door.check),
    };
    of_web.iter().map(show).collect()
}

#[tokio::test]
async fn a_check_turns_to_its_door_once_that_is_open_and_back_when_it_is_exposed_no_more() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let local = open(directory.path());
    let grpc = r#"{"CheckID":"g","GRPC":"127.0.0.1:9090/web","Interval":"1s"}"#;
    let tls = r#"{"CheckID":"t","HTTP":"https://localhost/","Interval":"1s"}"#;
    let tcp = r#"{"CheckID":"x","TCP":"localhost:80","Interval":"1s"}"#;
    register_web(&local, &[&http("a"), grpc, tls, tcp].join(",")).await;
    assert_eq!(plans(&local), ["a", "g", "t", "x"]);
    expose(&local, true, &[]).await;
    assert_eq!(plans(&local), ["a 21500", "g 21501", "t", "x"]);
    assert_eq!(
        doors(&local),
        [
            "t: its service is asked with TLS, so it is probed without the proxy",
            "a 21500 -> 80 /a",
            "g 21501 -> 9090 /grpc.health.v1.Health/Check",
        ]
    );
    local.opened(&id(SIDECAR), &BTreeSet::from([21_500]));
    assert_eq!(plans(&local), ["a 21500 by 127.0.0.1:21500", "g 21501", "t", "x"]);
    local.opened(&id(SIDECAR), &BTreeSet::from([21_500, 21_501]));
    let through = ["a 21500 by 127.0.0.1:21500", "g 21501 by 127.0.0.1:21501", "t", "x"];
    assert_eq!(plans(&local), through);
    // Registered again, nothing changes.
    register_web(&local, &[&http("a"), grpc, tls, tcp].join(",")).await;
    assert_eq!(plans(&local), through);
    // A port that a path needs is given up, and the new one has to be opened first.
    expose(&local, true, &[21_500]).await;
    assert_eq!(plans(&local), ["a 21502", "g 21501 by 127.0.0.1:21501", "t", "x"]);
    expose(&local, false, &[]).await;
    assert_eq!(plans(&local), ["a", "g", "t", "x"]);
    assert_eq!(doors(&local), [""; 0]);
}

#[tokio::test]
async fn ports_outlive_a_restart_and_end_with_the_sidecar() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    {
        let local = open(directory.path());
        register_web(&local, &[http("a"), http("b")].join(",")).await;
        expose(&local, true, &[]).await;
        local.deregister_check("a".to_owned()).await.expect("registered");
        assert_eq!(plans(&local), ["b 21501"]);
    }
    // Nobody has said anything yet: what was exposed goes on so, and what is new waits.
    let local = open(directory.path());
    assert_eq!(plans(&local), ["b 21501 by 127.0.0.1:21501"]);
    assert_eq!(doors(&local), ["b 21501 -> 80 /b"]);
    register_web(&local, &[http("a"), http("b")].join(",")).await;
    assert_eq!(plans(&local), ["a", "b 21501 by 127.0.0.1:21501"]);
    expose(&local, true, &[]).await;
    assert_eq!(plans(&local), ["a 21500", "b 21501 by 127.0.0.1:21501"]);
    local.deregister(SIDECAR.to_owned()).await.expect("registered");
    assert_eq!(plans(&local), ["a", "b"]);
    drop(local);
    let local = open(directory.path());
    assert_eq!((plans(&local), doors(&local)), (vec!["a".into(), "b".into()], vec![]));
}

#[tokio::test]
async fn a_check_without_a_free_port_is_named_and_gets_the_next_that_is() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let local = open(directory.path());
    register(&local, r#"{"Name":"other","Port":21500}"#).await;
    register_web(&local, &[http("a"), http("b"), http("c")].join(",")).await;
    expose(&local, true, &[]).await;
    assert_eq!(plans(&local), ["a 21501", "b 21502", "c"]);
    assert_eq!(doors(&local)[2], "c: none of the ports 21500 to 21502 is free");
    local.deregister_check("a".to_owned()).await.expect("registered");
    assert_eq!(plans(&local), ["b 21502", "c 21501"]);
}
