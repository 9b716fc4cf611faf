//! Callers that speak TLS with the service itself: curl and OpenSSL, told apart by the server name,
//! with nobody but the service having the key.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::ports::free_port;
use weft_tests::{Cluster, Daemon, eventually, tools};

use crate::programs::curl;
use crate::story::speaks;

#[test]
fn the_server_name_decides_where_tls_goes_and_nobody_opens_it() {
    let test = "the_server_name_decides_where_tls_goes_and_nobody_opens_it";
    if !tools::have(test, &["openssl", "curl"]) {
        return;
    }
    let cluster = Cluster::start();
    let folder = cluster.folder.path();
    let (door, mut running) = (free_port(), Vec::new());
    for name in ["db", "cache"] {
        let port = free_port();
        running.push(start_openssl(folder, name, port));
        speaks(&cluster, name, "tcp");
        cluster.agent.register(&meshed(name, name, port, &[]));
        cluster.agent.intend("shop", name, "allow");
    }
    let _sidecars = ["db", "cache"].map(|name| cluster.agent.sidecar(name));
    cluster.agent.configure(&json!({
        "Kind": "service-router", "Name": "db", "Routes": [
            { "Match": { "TLS": { "SNI": ["*.cache.example"] } },
              "Destination": { "Service": "cache" } },
        ],
    }));
    cluster.agent.register(&meshed("shop", "shop", 80, &[("db", door)]));
    let _shop = cluster.agent.sidecar("shop");
    let get = |host: &str, authority: &str, tls: &str| {
        let (resolve, authority) =
            (format!("{host}:{door}:127.0.0.1"), folder.join(format!("{authority}.pem")));
        let authority = authority.to_string_lossy();
        let url = format!("https://{host}:{door}/");
        curl(&["-f", "--resolve", &resolve, "--cacert", &authority, tls, &url])
    };
    for tls in ["--tlsv1.3", "--tlsv1.2"] {
        for (host, name) in [("db.example", "db"), ("a.cache.example", "cache")] {
            eventually(SPREAD_LIMIT, "the service that is asked for shows its certificate", || {
                get(host, name, tls).map(drop)
            });
            let other = if name == "db" { "cache" } else { "db" };
            get(host, other, tls).expect_err("the other one has another certificate");
        }
    }
    // Who speaks no TLS is told at once that nobody is there for him.
    let plain = tools::run("curl", &["-sS", "-m", "5", &format!("http://127.0.0.1:{door}/")]);
    let error = plain.ok().expect_err("no TLS");
    assert!(!error.contains("timed out"), "{error}");
}

#[test]
fn routes_by_server_name_and_by_request_do_not_mix() {
    let cluster = Cluster::start();
    speaks(&cluster, "db", "tcp");
    for (matches, reason) in [
        (json!({ "TLS": { "SNI": [] } }), "Routes[0].Match.TLS.SNI: must name at least one"),
        (json!({ "TLS": { "SNI": ["a b"] } }), "is not a host name"),
        (json!({ "TLS": { "SNI": ["a"] }, "HTTP": {} }), "inside TLS no request can be seen"),
        (json!({ "HTTP": { "PathPrefix": "/" } }), "routing by content needs http"),
    ] {
        let entry = json!({ "Kind": "service-router", "Name": "db", "Routes": [
            { "Match": matches, "Destination": { "Service": "db" } },
        ]});
        let answer = cluster.agent.api().put("/v1/config", &entry).expect("an answer");
        assert!(answer.status != 200 && answer.body.contains(reason), "{answer:?}");
    }
}

/// A server whose certificate is its own authority.
fn start_openssl(folder: &Path, name: &str, port: u16) -> Daemon {
    let at = |end: &str| folder.join(format!("{name}.{end}")).to_string_lossy().into_owned();
    let (key, certificate) = (at("key"), at("pem"));
    let names = format!("subjectAltName=DNS:{name}.example,DNS:*.{name}.example");
    let made = tools::run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=test",
            "-addext",
            &names,
            "-keyout",
            &key,
            "-out",
            &certificate,
        ],
    );
    made.ok().expect("a certificate");
    let mut command = Command::new(tools::find("openssl").expect("it was found before"));
    let port = port.to_string();
    command.args(["s_server", "-quiet", "-www", "-accept", &port]);
    command.args(["-cert", &certificate, "-key", &key]);
    Daemon::program(name, folder, command)
}
