//! An Envoy that nobody configured with a certificate gets all of it at the agent's socket: it
//! serves mutual TLS, calls itself and a sidecar, and goes on over renewals and a new root.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::ports::free_port;
use weft_tests::process::run_weft;
use weft_tests::{Answer, Api, Cluster, Daemon, TestAgent, TestServer, eventually, tools};

use crate::story::{called, speaks};
use crate::workload_api::public_door;

/// Certificates of a minute are renewed after 54 s at the latest.
const RENEWAL_LIMIT: Duration = Duration::from_secs(90);

/// An Envoy: `/self` leads to its own door with TLS, `/api` to a sidecar.
struct Envoy {
    _process: Daemon,
    plain: Api,
    admin: Api,
    door: PathBuf,
}

impl Envoy {
    fn start(folder: &Path, socket: &Path, domain: &str, sidecar: &str) -> Self {
        let (plain, admin) = (free_port(), free_port());
        let door = folder.join("envoy.sock");
        let id = |service| format!("spiffe://{domain}/ns/default/dc/dc1/svc/{service}");
        let (host, port) = sidecar.rsplit_once(':').expect("an address with a port");
        let port: u16 = port.parse().expect("a port");
        let bootstrap = json!({
            "node": { "id": "envoy", "cluster": "web" },
            "admin": { "address": tcp("127.0.0.1", admin) },
            "static_resources": {
                "listeners": [
                    listener("plain", &tcp("127.0.0.1", plain), &Value::Null, &json!([
                        { "match": { "prefix": "/self" }, "route": { "cluster": "self" } },
                        { "match": { "prefix": "/api" }, "route": { "cluster": "api" } },
                    ])),
                    listener("door", &pipe(&door), &downstream(), &json!([{
                        "match": { "prefix": "/" },
                        "direct_response": { "status": 200 },
                        "response_headers_to_add": [
                            header("x-peer", "%DOWNSTREAM_PEER_URI_SAN%"),
                            header("x-serial", "%DOWNSTREAM_PEER_SERIAL%"),
                            header("x-chain", "%DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256%"),
                        ],
                    }])),
                ],
                "clusters": [
                    cluster("agent", &pipe(socket), &Value::Null),
                    cluster("self", &pipe(&door), &upstream(&id("web"), "ROOTCA")),
                    cluster("api", &tcp(host, port), &upstream(&id("api"), "ALL")),
                ],
            },
        });
        let file = folder.join("envoy.json");
        fs::write(&file, bootstrap.to_string()).expect("a temporary folder can be written");
        let mut command = Command::new(program());
        command.args(["--concurrency", "1", "--disable-hot-restart", "-l", "info", "-c"]).arg(file);
        let process = Daemon::program("envoy", folder, command);
        let api = |port: u16| Api::new(([127, 0, 0, 1], port).into());
        Self { _process: process, plain: api(plain), admin: api(admin), door }
    }

    fn get(&self, path: &str) -> Result<Answer, String> {
        self.plain.get(path)?.ok()
    }

    /// What it holds as a secret: its version, as the agent counts.
    fn version(&self, secret: &str) -> Result<String, String> {
        let dump = self.admin.get("/config_dump?resource=dynamic_active_secrets")?.ok()?.json();
        let mut all = dump["configs"].as_array().into_iter().flatten();
        let found = all.find(|one| one["name"] == secret).map(|one| &one["version_info"]);
        found.and_then(Value::as_str).map(str::to_owned).ok_or_else(|| dump.to_string())
    }

    /// How many updates it did not take.
    fn rejected(&self) -> Result<u64, String> {
        let stats = self.admin.get("/stats?filter=update_rejected")?.ok()?.body;
        let values = stats.lines().filter_map(|line| line.rsplit_once(": ")?.1.parse::<u64>().ok());
        values.reduce(|sum, value| sum + value).ok_or(stats)
    }
}

/// The certificates above the one that an answer's caller showed, as fingerprints.
fn above(answer: &Answer) -> Option<&str> {
    Some(answer.header("x-chain")?.split_once(',')?.1)
}

/// The binary in the Python package.
fn program() -> String {
    let find =
        "import envoy, os; print(os.path.join(os.path.dirname(envoy.__file__), '_bin/envoy'))";
    tools::run("python3", &["-c", find]).ok().expect("the package is there").trim().to_owned()
}

fn tcp(address: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": address, "port_value": port } })
}

fn pipe(path: &Path) -> Value {
    json!({ "pipe": { "path": path } })
}

fn header(name: &str, value: &str) -> Value {
    json!({ "header": { "key": name, "value": value } })
}

fn listener(name: &str, address: &Value, tls: &Value, routes: &Value) -> Value {
    let mut chain = json!({ "filters": [{
        "name": "http",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.\
                http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": name,
            "route_config": { "virtual_hosts": [{
                "name": "all", "domains": ["*"], "routes": routes,
            }] },
            "http_filters": [{ "name": "router", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            } }],
        },
    }] });
    if !tls.is_null() {
        chain["transport_socket"] = tls.clone();
    }
    json!({ "name": name, "address": address, "filter_chains": [chain] })
}

/// A cluster; without TLS it is the agent's, which speaks gRPC. Each request to the others has a
/// connection of its own, so that it shows the newest certificate.
fn cluster(name: &str, address: &Value, tls: &Value) -> Value {
    let mut options = json!({
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    });
    if tls.is_null() {
        options["explicit_http_config"] = json!({ "http2_protocol_options": {} });
    } else {
        options["explicit_http_config"] = json!({ "http_protocol_options": {} });
        options["common_http_protocol_options"] = json!({ "max_requests_per_connection": 1 });
    }
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [
            { "endpoint": { "address": address } },
        ] }] },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options,
        },
    });
    if !tls.is_null() {
        cluster["transport_socket"] = tls.clone();
    }
    cluster
}

fn secret(name: &str) -> Value {
    json!({ "name": name, "sds_config": {
        "resource_api_version": "V3",
        "api_config_source": {
            "api_type": "GRPC",
            "transport_api_version": "V3",
            "grpc_services": [{ "envoy_grpc": { "cluster_name": "agent" } }],
        },
    } })
}

fn downstream() -> Value {
    json!({ "name": "tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": true,
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [secret("default")],
            "validation_context_sds_secret_config": secret("ROOTCA"),
        },
    } })
}

fn upstream(peer: &str, roots: &str) -> Value {
    json!({ "name": "tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            "tls_params": { "tls_maximum_protocol_version": "TLSv1_3" },
            "tls_certificate_sds_secret_configs": [secret("default")],
            "combined_validation_context": {
                "default_validation_context": { "match_typed_subject_alt_names": [
                    { "san_type": "URI", "matcher": { "exact": peer } },
                ] },
                "validation_context_sds_secret_config": secret(roots),
            },
        },
    } })
}

#[test]
fn an_envoy_lives_on_certificates_of_the_mesh() {
    const TEST: &str = "an_envoy_lives_on_certificates_of_the_mesh";
    if !tools::have(TEST, &["curl"]) || !tools::have_module(TEST, "envoy._bin") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let uid = folder.path().metadata().expect("this process made it").uid();
    let socket = folder.path().join("workload.sock");
    let server = TestServer::start_with(folder.path(), &json!({ "leaf_lifetime": "60s" }));
    let entries = json!({ "workload_api": { "socket": socket, "entry": [
        { "service": "web", "uid": uid },
    ] } });
    let agent = TestAgent::start_with(folder.path(), "node1", &server.join_token_file(), &entries);
    let cluster = Cluster { agent, server, folder };
    speaks(&cluster, "api", "http");
    cluster.agent.register(&json!({ "ID": "web", "Name": "web", "Port": 9001 }));
    let mut api = called(&cluster, "api-1", "api", "v1");
    // Who is denied is worth a warning.
    api.proxy.process.expect_log("");
    cluster.agent.intend("web", "api", "allow");
    let roots = cluster.agent.api().get("/v1/agent/connect/ca/roots").expect("roots").json();
    let domain = roots["TrustDomain"].as_str().expect("a text");
    let sidecar = public_door(&cluster, "api");
    let envoy = Envoy::start(cluster.folder.path(), &socket, domain, &sidecar);

    // It is web, to itself and to the sidecar.
    let first = eventually(SPREAD_LIMIT, "Envoy calls itself", || envoy.get("/self"));
    let web = format!("spiffe://{domain}/ns/default/dc/dc1/svc/web");
    assert_eq!(first.header("x-peer"), Some(web.as_str()));
    let answer = eventually(SPREAD_LIMIT, "the sidecar lets it in", || envoy.get("/api"));
    assert!(answer.body.contains("api-1"), "{}", answer.body);
    cluster.agent.intend("web", "api", "deny");
    eventually(SPREAD_LIMIT, "the sidecar refuses it", || match envoy.plain.get("/api")? {
        answer if answer.status == 403 => Ok(()),
        answer => Err(format!("{}: {}", answer.status, answer.body)),
    });

    // Who shows nothing does not get in there.
    let door = envoy.door.to_string_lossy();
    let refused = tools::run("curl", &["-sSk", "--unix-socket", &door, "https://envoy/"]).ok();
    refused.expect_err("no certificate");

    goes_on_over_a_new_root_and_a_renewal(&cluster, &envoy, &first);
}

fn goes_on_over_a_new_root_and_a_renewal(cluster: &Cluster, envoy: &Envoy, first: &Answer) {
    let before = envoy.version("ROOTCA").expect("it has roots");
    assert!(above(first).is_some(), "{first:?}");
    let api = cluster.agent.api().addr().to_string();
    let rotated = run_weft(&["ca", "rotate", "--http-addr", &api], SPREAD_LIMIT);
    assert_eq!(rotated.code, Some(0), "{}", rotated.output);
    let second = eventually(RENEWAL_LIMIT, "Envoy has new roots, and is certified anew", || {
        let answer = envoy.get("/self").expect("no request fails on the way");
        let is_new = envoy.version("ROOTCA")? != before && above(&answer) != above(first);
        if is_new { Ok(answer) } else { Err(format!("{answer:?}")) }
    });
    eventually(RENEWAL_LIMIT, "its certificate is renewed", || {
        let answer = envoy.get("/self").expect("no request fails on the way");
        let is_new = answer.header("x-serial") != second.header("x-serial");
        if is_new { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    assert_eq!(envoy.rejected(), Ok(0));
}
