//! Registering at a store in a temporary directory, by definitions as clients write them.

use std::path::Path;

use super::*;
use weft_proto::json::{self, Unknown};

fn definition(body: &str) -> ServiceDefinition {
    json::from_slice(body.as_bytes(), Unknown::Ignore).expect("a definition")
}

fn place(directory: &Path) -> Place {
    Place::of_test(directory, crate::config::Scripts::Nobody)
}

fn open(directory: &Path) -> Local {
    Local::open(place(directory), &TaskTree::root("test")).expect("a directory to write in")
}

async fn register(local: &Local, body: &str) {
    local.register(definition(body), ExistingChecks::Kept).await.expect(body);
}

fn ids(local: &Local) -> (Vec<String>, Vec<String>) {
    let current = local.current();
    let services = current.services.keys().map(ToString::to_string).collect();
    (services, current.checks.keys().map(ToString::to_string).collect())
}

/// Names the services and checks that are registered, each as its id.
fn assert_ids(local: &Local, services: &[&str], checks: &[&str]) {
    let (found_services, found_checks) = ids(local);
    assert_eq!(found_services, services, "services");
    assert_eq!(found_checks, checks, "checks");
}

#[tokio::test]
async fn every_fault_is_told_by_field_and_nothing_changes() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let local = open(directory.path());
    for (body, expected) in [
        (r#"{}"#, "Name: service name must not be empty"),
        (r#"{"Name":"a b"}"#, "Name: service name \"a b\" has ' '"),
        (r#"{"Name":"a","Kind":"mesh-gateway"}"#, "Kind: \"mesh-gateway\" is not a kind"),
        (r#"{"Name":"a","Address":"0.0.0.0"}"#, "Address: 0.0.0.0 is no address"),
        (r#"{"Name":"a","Address":"http://x"}"#, "Address: \"http://x\" is neither"),
        (r#"{"Name":"a","Meta":{"consul-x":"1"}}"#, "Meta.consul-x: keys that start"),
        (r#"{"Name":"a","Meta":{"a.b":"1"}}"#, "Meta.a.b: a key has only"),
        (r#"{"Name":"a","Weights":{"Passing":0,"Warning":1}}"#, "Weights.Passing: must be at"),
        (r#"{"Name":"a","Proxy":{"DestinationServiceName":"b"}}"#, "Proxy: is for Kind"),
        (r#"{"Name":"a","Kind":"connect-proxy"}"#, "Proxy.DestinationServiceName: must name"),
        (r#"{"Name":"a","Kind":"connect-proxy"}"#, "Port: a proxy needs a port"),
        (r#"{"Name":"a","Check":{"TCP":"x:1"}}"#, "Check.Interval: must be given"),
        (r#"{"Name":"a","Check":{"Interval":"1s"}}"#, "Check: a check needs one of"),
        (r#"{"Name":"a","Check":{"TCP":"x","Interval":"1s"}}"#, "Check.TCP: \"x\" is not an"),
        (r#"{"Name":"a","Check":{"HTTP":"/h","Interval":"1s"}}"#, "Check.HTTP: \"/h\" is not a"),
        (
            r#"{"Name":"a","Check":{"HTTP":"http://x","TCP":"x:1","Interval":"1s"}}"#,
            "Check: is of several kinds (HTTP, TCP)",
        ),
        (
            r#"{"Name":"a","Check":{"Args":["x"],"Interval":"1s"}}"#,
            "Args: Scripts are disabled on this agent; to enable",
        ),
        (r#"{"Name":"a","Checks":[{"Args":["x"]}]}"#, "Checks[0].Interval: must be given"),
        (r#"{"Name":"a","Check":{"TTL":"5s","Interval":"1s"}}"#, "Check.Interval: a TTL check"),
        (r#"{"Name":"a","Check":{"TTL":"5s","Status":"good"}}"#, "Check.Status: \"good\" is not"),
        (
            r#"{"Name":"a","Check":{"TTL":"5s","FailuresBeforeWarning":2}}"#,
            "Check.FailuresBeforeWarning: must not be higher",
        ),
        (
            r#"{"Name":"a","Checks":[{"CheckID":"x","TTL":"5s"},{"CheckID":"x","TTL":"5s"}]}"#,
            "Checks[1].CheckID: \"x\" is the id of another",
        ),
        (
            r#"{"Name":"a","Connect":{"Native":true,"SidecarService":{}}}"#,
            "Connect.SidecarService: a service that is Native",
        ),
        (
            r#"{"Name":"a","Connect":{"SidecarService":{"ID":"x"}}}"#,
            "Connect.SidecarService.ID: a sidecar's id is made",
        ),
        (
            r#"{"Name":"a","Connect":{"SidecarService":{"Proxy":{"Upstreams":[
                {"DestinationName":"b","LocalBindPort":9000},
                {"DestinationName":"c","LocalBindPort":9000},
                {"DestinationName":"d"}]}}}}"#,
            "Connect.SidecarService.Proxy.Upstreams[1].LocalBindPort: 127.0.0.1:9000 is taken",
        ),
    ] {
        let refused = local.register(definition(body), ExistingChecks::Kept).await;
        let Err(LocalError::Refused(faults)) = refused else { panic!("{body} was accepted") };
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|fault| fault.starts_with(expected)), "{body}: {told:?}");
        assert_ids(&local, &[], &[]);
    }
}

#[tokio::test]
async fn defaults_are_those_of_consul() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let local = open(directory.path());
    let body = r#"{"name":"web","port":80,"checks":[
        {"http":"http://127.0.0.1/health","interval":"100ms"},{"ttl":"30s","status":"passing"}]}"#;
    register(&local, body).await;
    let current = local.current();
    let web = &current.services["web"];
    assert_eq!((web.id.as_str(), web.name.as_str(), web.port), ("web", "web", 80));
    let http = &current.checks["service:web:1"];
    assert_eq!((http.status, http.name.as_str()), (CheckStatus::Critical, "Service 'web' check"));
    assert_eq!((http.kind.as_str(), http.interval.as_str()), ("http", "1s"));
    assert_eq!(current.checks["service:web:2"].status, CheckStatus::Passing);
    register(&local, r#"{"Name":"db","ID":"db-1","Check":{"TTL":"1m"}}"#).await;
    assert_eq!(
        local.current().checks["service:db-1"].service_id,
        Some("db-1".parse().expect("id"))
    );
}

#[tokio::test]
async fn a_sidecar_comes_with_its_application_and_goes_with_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let local = open(directory.path());
    let body = r#"{"Name":"web","ID":"web-1","Port":80,"Tags":["v1"],"Meta":{"version":"1"},
        "Connect":{"SidecarService":{"Proxy":{"Upstreams":[
            {"DestinationName":"db","LocalBindPort":9191}]}}}}"#;
    register(&local, body).await;
    register(&local, r#"{"Name":"db","Connect":{"SidecarService":{}}}"#).await;
    register(&local, body).await;
    let current = local.current();
    let sidecar = &current.services["web-1-sidecar-proxy"];
    assert_eq!(sidecar.kind, weft_core::catalog::ServiceKind::ConnectProxy);
    assert_eq!((sidecar.name.as_str(), sidecar.port), ("web-sidecar-proxy", 21_000));
    assert_eq!(
        (sidecar.tags.as_slice(), sidecar.meta["version"].as_str()),
        (&["v1".to_owned()][..], "1")
    );
    let proxy = &sidecar.proxy;
    assert_eq!(proxy.destination_service_name.as_ref().map(|n| n.as_str()), Some("web"));
    assert_eq!(proxy.destination_service_id.as_ref().map(|n| n.as_str()), Some("web-1"));
    assert_eq!((proxy.local_service_address.as_str(), proxy.local_service_port), ("127.0.0.1", 80));
    assert_eq!(current.services["db-sidecar-proxy"].port, 21_001);
    let check = &local.plans().borrow()["service:web-1-sidecar-proxy"].probe.clone();
    let address = "127.0.0.1:21000".to_owned();
    assert_eq!(*check, Probe::Tcp { address, tls: None });
    local.deregister("web-1".to_owned()).await.expect("registered");
    assert_ids(&local, &["db", "db-sidecar-proxy"], &["service:db-sidecar-proxy"]);
}

#[tokio::test]
async fn registering_again_keeps_the_status_of_checks() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let local = open(directory.path());
    register(&local, r#"{"Name":"web","Check":{"TTL":"30s"}}"#).await;
    let id = CheckId::parse("service:web").expect("a check id");
    local.set_status(&id, CheckStatus::Passing, "fine");
    register(&local, r#"{"Name":"web","Port":81,"Checks":[{"CheckID":"x","TTL":"30s"}]}"#).await;
    assert_ids(&local, &["web"], &["service:web", "x"]);
    assert_eq!(local.current().checks["service:web"].status, CheckStatus::Passing);
    let replaced = definition(r#"{"Name":"web","Check":{"CheckID":"y","TTL":"30s"}}"#);
    local.register(replaced, ExistingChecks::Replaced).await.expect("valid");
    assert_ids(&local, &["web"], &["y"]);
    drop(local);
    assert_ids(&open(directory.path()), &["web"], &["y"]);
}

#[tokio::test]
async fn a_restart_finds_everything_again() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let local = open(directory.path());
    register(
        &local,
        r#"{"Name":"web","Port":80,"Check":{"TTL":"30s"},"Connect":{"SidecarService":{}}}"#,
    )
    .await;
    register(&local, r#"{"Name":"db"}"#).await;
    local.set_maintenance(Some("web".into()), Some("upgrade".into())).await.expect("known");
    let disk = CheckDefinition {
        name: "disk".into(),
        ttl: Some(weft_core::time::Span::seconds(30)),
        ..CheckDefinition::default()
    };
    local.register_check(disk).await.expect("valid");
    let before = local.current();
    drop(local);
    let local = open(directory.path());
    assert_eq!(local.current(), before);
    assert_ids(
        &local,
        &["db", "web", "web-sidecar-proxy"],
        &["_service_maintenance:web", "disk", "service:web", "service:web-sidecar-proxy"],
    );
    local.deregister("web".to_owned()).await.expect("registered");
    local.deregister_check("disk".to_owned()).await.expect("registered");
    drop(local);
    assert_ids(&open(directory.path()), &["db"], &[]);
}

#[tokio::test]
async fn the_catalogs_word_stands_for_kept_checks_until_their_first_result() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    register(&open(directory.path()), r#"{"Name":"web","Check":{"TTL":"30s"}}"#).await;
    let local = open(directory.path());
    let mut held = local.current().checks["service:web"].clone();
    held.status = CheckStatus::Passing;
    local.adopt(std::slice::from_ref(&held));
    assert_eq!(local.current().checks["service:web"].status, CheckStatus::Passing);
    local.set_status(&held.id, CheckStatus::Warning, "");
    local.adopt(std::slice::from_ref(&held));
    assert_eq!(local.current().checks["service:web"].status, CheckStatus::Warning);
}

#[tokio::test]
async fn what_is_not_there_cannot_be_changed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let local = open(directory.path());
    let unknown = local.deregister("web".to_owned()).await;
    assert!(matches!(unknown, Err(LocalError::UnknownService(id)) if id == "web"));
    let unknown = local.deregister_check("web".to_owned()).await;
    assert!(matches!(unknown, Err(LocalError::UnknownCheck(_))));
    let unknown = local.set_maintenance(Some("web".into()), None).await;
    assert!(matches!(unknown, Err(LocalError::UnknownService(_))));
    register(&local, r#"{"Name":"a","Check":{"CheckID":"x","TTL":"1s"}}"#).await;
    let taken = definition(r#"{"Name":"b","Check":{"CheckID":"x","TTL":"1s"}}"#);
    let refused = local.register(taken, ExistingChecks::Kept).await;
    assert!(matches!(refused, Err(LocalError::Refused(_))));
    assert_ids(&local, &["a"], &["x"]);
}

#[tokio::test]
async fn a_registration_that_cannot_be_kept_changes_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let local = open(directory.path());
    register(&local, r#"{"Name":"db","Check":{"TTL":"30s"}}"#).await;
    let id = CheckId::parse("service:db").expect("an id");
    // The journal is written anew, under a name that a folder has now.
    let in_the_way = directory.path().join("registrations.new");
    std::fs::create_dir(&in_the_way).expect("made");
    local.inner.committer.lock().journal.forget_file();
    let unkept = local.register(definition(r#"{"Name":"web"}"#), ExistingChecks::Kept).await;
    assert!(matches!(unkept, Err(LocalError::Unkept { .. })), "{unkept:?}");
    assert_ids(&local, &["db"], &["service:db"]);
    // What is known of health is no registration.
    local.set_status(&id, CheckStatus::Passing, "well");
    let unkept = local.deregister("db".to_owned()).await;
    assert!(matches!(unkept, Err(LocalError::Unkept { .. })), "{unkept:?}");
    assert_ids(&local, &["db"], &["service:db"]);
    std::fs::remove_dir(&in_the_way).expect("an empty folder");
    register(&local, r#"{"Name":"web"}"#).await;
    assert_ids(&open(directory.path()), &["db", "web"], &["service:db"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_at_the_same_time_are_all_kept() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let local = open(directory.path());
    let mut all = Vec::new();
    for number in 0..200 {
        let (local, body) = (local.clone(), format!(r#"{{"Name":"s{number:03}"}}"#));
        all.push(async move { register(&local, &body).await });
    }
    futures::future::join_all(all).await;
    let (services, _) = ids(&open(directory.path()));
    assert_eq!(services.len(), 200);
    assert_eq!(services, ids(&local).0);
}

#[tokio::test]
async fn what_earlier_releases_kept_in_folders_is_taken_over() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (services, checks) = (directory.path().join("services"), directory.path().join("checks"));
    for folder in [&services, &checks] {
        std::fs::create_dir(folder).expect("made");
    }
    let service = r#"{"Version":1,"Service":{"Name":"web","ID":"web-1"},"IsConfigured":false}"#;
    std::fs::write(services.join("web-1.json"), service).expect("written");
    let check =
        r#"{"Version":1,"Check":{"CheckID":"up","Name":"up","ServiceID":"web-1","TTL":"30s"}}"#;
    std::fs::write(checks.join("up.json"), check).expect("written");
    assert_ids(&open(directory.path()), &["web-1"], &["up"]);
    assert!(!services.exists() && !checks.exists());
    let local = open(directory.path());
    assert_ids(&local, &["web-1"], &["up"]);
    local.deregister("web-1".to_owned()).await.expect("registered");
    assert_ids(&open(directory.path()), &[], &[]);
}

#[tokio::test]
async fn services_of_the_configuration_go_with_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let configure = async |bodies: &[&str]| {
        let local = open(directory.path());
        let services = placed(bodies);
        let definitions = Definitions { services, ..Definitions::default() };
        let faults = local.register_configured(definitions).await.expect("kept");
        assert_eq!(faults, []);
        ids(&local).0
    };
    register(&open(directory.path()), r#"{"Name":"own"}"#).await;
    let web = r#"{"Name":"web","Connect":{"SidecarService":{}}}"#;
    assert_eq!(
        configure(&[web, r#"{"Name":"db"}"#]).await,
        ["db", "own", "web", "web-sidecar-proxy"]
    );
    assert_eq!(configure(&[r#"{"Name":"web"}"#]).await, ["own", "web"]);
    assert_eq!(configure(&[]).await, ["own"]);
}

fn placed(bodies: &[&str]) -> Vec<Placed<ServiceDefinition>> {
    let placed = |body: &&str| Placed { place: "web.hcl".to_owned(), definition: definition(body) };
    bodies.iter().map(placed).collect()
}

#[tokio::test]
async fn what_is_wrong_in_files_is_told_and_leaves_what_was_right() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let local = open(directory.path());
    let configure = async |bodies: &[&str], faults: &[&str]| {
        let faults = faults.iter().map(|place| Fault::new(*place, "cannot be read")).collect();
        let definitions = Definitions { services: placed(bodies), faults, ..Default::default() };
        let faults = local.register_configured(definitions).await.expect("kept");
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        (told, ids(&local).0)
    };
    let web = r#"{"Name":"web","Port":80,"Connect":{"SidecarService":{}}}"#;
    let db = r#"{"Name":"db"}"#;
    configure(&[web, db], &[]).await;
    let all = ["db", "web", "web-sidecar-proxy"];
    let bad = r#"{"Name":"web","Address":"0.0.0.0"}"#;
    let (told, ids) = configure(&[bad, db, db], &[]).await;
    assert!(told[0].starts_with("web.hcl: Address: 0.0.0.0 is no address"), "{told:?}");
    assert_eq!(told[1], "web.hcl: \"db\" is also defined in web.hcl");
    assert_eq!((told.len(), ids.as_slice()), (2, all.map(str::to_owned).as_slice()));
    // Who cannot read a file does not know what was in it.
    let (told, ids) = configure(&[], &["db.hcl"]).await;
    assert_eq!(told, ["db.hcl: cannot be read"]);
    assert_eq!(ids, all);
    let (told, ids) = configure(&[db], &[]).await;
    assert_eq!((told.len(), ids), (0, vec!["db".to_owned()]));
}

#[tokio::test]
async fn checks_of_files_go_with_them_and_alone_may_run_commands() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let place = Place { scripts: crate::config::Scripts::Files, ..place(directory.path()) };
    let check = || CheckDefinition {
        name: "disk".to_owned(),
        args: vec!["true".to_owned()],
        interval: Some(weft_core::time::Span::seconds(10)),
        ..CheckDefinition::default()
    };
    let open = || Local::open(place.clone(), &TaskTree::root("test")).expect("a directory");
    let local = open();
    let refused = local.register_check(check()).await.expect_err("not by the API");
    assert!(refused.to_string().contains("disabled on this agent from remote calls"));
    let checks = vec![Placed { place: "checks[0]".to_owned(), definition: check() }];
    let definitions = Definitions { checks, ..Definitions::default() };
    assert_eq!(local.register_configured(definitions).await.expect("kept"), []);
    assert_ids(&local, &[], &["disk"]);
    let again = open();
    assert_ids(&again, &[], &["disk"]);
    again.register_configured(Definitions::default()).await.expect("kept");
    assert_ids(&again, &[], &[]);
    // What was registered while it was allowed is not run when it no longer is.
    let generous = Place { scripts: crate::config::Scripts::Everyone, ..place.clone() };
    let generous = Local::open(generous, &TaskTree::root("test")).expect("a directory");
    generous.register_check(check()).await.expect("allowed");
    assert_ids(&open(), &[], &[]);
}

#[tokio::test]
async fn bodies_of_well_known_clients_are_taken_as_they_come() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let local = open(directory.path());
    for body in [
        // Go's api package.
        r#"{"ID":"a","Name":"a","Tags":null,"Port":80,"TaggedAddresses":null,"Meta":null,
            "Weights":null,"Check":{"Interval":"10s","HTTP":"http://127.0.0.1/","Header":null},
            "Checks":null,"Proxy":null,"Connect":null}"#,
        // python-consul.
        r#"{"id":"b","name":"b","address":"127.0.0.1","port":80,"tags":["x"],
            "check":{"ttl":"10s","deregister_critical_service_after":"90m"}}"#,
        // Spring Cloud.
        r#"{"ID":"c","Name":"c","Tags":["secure=false"],"Address":"10.0.0.2","Port":8080,
            "Meta":{"secure":"false"},"EnableTagOverride":null,
            "Check":{"Interval":"10s","HTTP":"http://10.0.0.2:8080/health","Header":{}}}"#,
        // Nanoseconds instead of texts.
        r#"{"Name":"d","Check":{"TCP":"127.0.0.1:1","Interval":10000000000,"Timeout":1e9}}"#,
    ] {
        register(&local, body).await;
    }
    assert_eq!(ids(&local).0, ["a", "b", "c", "d"]);
}
