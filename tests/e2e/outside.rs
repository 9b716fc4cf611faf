//! Services outside the mesh, behind a real nginx: their proxies' callers speak TLS with them as
//! the entry says, and with nobody else.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
};
use serde_json::{Value, json};
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::ports::free_port;
use weft_tests::{Answer, Api, App, Cluster, Daemon, eventually, tools};

use crate::programs::{curl, expect_text, nginx};
use crate::story::Shop;

/// An authority that nobody else knows.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "outside");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("an authority").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes `NAME.pem` and `NAME.key` of a certificate that ends in a year.
    fn sign(&self, folder: &Path, name: &str, ends: i32) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = rcgen::date_time_ymd(ends, 1, 1);
        let pem = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        let file = folder.join(format!("{ends}-{name}"));
        fs::write(file.with_extension("pem"), pem).expect("a temporary folder can be written");
        fs::write(file.with_extension("key"), key.serialize_pem()).expect("the same");
    }
}

fn start_nginx(folder: &Path, [plain, tls, mutual, expired]: [u16; 4]) -> Daemon {
    let at = folder.display();
    let said = "return 200 \"$host|$ssl_server_name|$ssl_client_s_dn|$server_protocol\\n\";";
    let shows = |ends: i32| {
        let file = format!("{at}/{ends}-billing");
        format!("ssl_certificate {file}.pem; ssl_certificate_key {file}.key;")
    };
    let (good, old) = (shows(2100), shows(2020));
    let asks = format!("ssl_client_certificate {at}/ca.pem; ssl_verify_client on;");
    let http = format!(
        "ssl_protocols TLSv1.2 TLSv1.3;\n\
         server {{ listen 127.0.0.1:{plain}; {said} }}\n\
         server {{ listen 127.0.0.1:{tls} ssl http2; {good} {said} }}\n\
         server {{ listen 127.0.0.1:{mutual} ssl; {good} {asks} {said} }}\n\
         server {{ listen 127.0.0.1:{expired} ssl; {old} {said} }}"
    );
    nginx(folder, &http)
}

/// Says where a service outside is.
fn outside(cluster: &Cluster, name: &str, (protocol, port): (&str, u16), tls: &Value) {
    cluster.agent.configure(&json!({ "Kind": "service-defaults", "Name": name,
        "Protocol": protocol,
        "Destination": { "Addresses": ["localhost"], "Port": port, "TLS": tls } }));
}

/// Waits for an answer that has all of these texts in it.
fn wait_for(door: Api, what: &str, status: u16, texts: &[&str]) {
    eventually(SPREAD_LIMIT, what, || {
        let Answer { status: found, body, .. } = door.get("/")?;
        let is_it = found == status && texts.iter().all(|text| body.contains(text));
        if is_it { Ok(()) } else { Err(format!("{found} {body}")) }
    });
}

#[test]
fn services_outside_the_mesh_are_called_with_the_tls_that_their_entry_asks_for() {
    let test = "services_outside_the_mesh_are_called_with_the_tls_that_their_entry_asks_for";
    if !tools::have(test, &["nginx", "curl"]) {
        return;
    }
    let cluster = Cluster::start();
    let folder = cluster.folder.path();
    let (authority, other) = (Authority::new(), Authority::new());
    let file = |name: &str| folder.join(name).display().to_string();
    fs::write(file("ca.pem"), &authority.pem).expect("a temporary folder can be written");
    fs::write(file("other.pem"), &other.pem).expect("the same");
    for (name, ends) in [("billing", 2100), ("billing", 2020), ("shop", 2100)] {
        authority.sign(folder, name, ends);
    }
    let ports = [free_port(), free_port(), free_port(), free_port()];
    let _nginx = start_nginx(folder, ports);

    declare(&cluster, &authority, ports);
    let all = [
        "disable",
        "simple",
        "named",
        "http2",
        "bytes",
        "mutual",
        "unshown",
        "wrong-ca",
        "wrong-name",
        "expired",
        "lost",
        "rooted",
    ];
    let shop = Shop::open(&cluster, &all);

    wait_for(shop.to("disable"), "plain HTTP", 200, &["localhost|||HTTP/1.1"]);
    wait_for(shop.to("simple"), "TLS", 200, &["localhost|billing||HTTP/1.1"]);
    wait_for(shop.to("named"), "another name", 200, &["|billing||"]);
    wait_for(shop.to("bytes"), "bytes", 200, &["|billing||HTTP/1.1"]);
    wait_for(shop.to("mutual"), "both show theirs", 200, &["localhost|billing|CN=shop|"]);
    wait_for(shop.to("unshown"), "nginx asks for one", 400, &["certificate"]);
    let url = format!("http://{}/", shop.to("http2").addr());
    eventually(SPREAD_LIMIT, "HTTP/2 over TLS", || {
        expect_text(&curl(&["--http2-prior-knowledge", &url])?, "localhost|billing||HTTP/2.0")
    });

    refuses_whom_it_must(&cluster, &shop);
    believes_the_systems_authorities(&cluster, &shop);
}

/// An entry that names no authorities means those of the host: of two callers only the one whose host
/// knows the authority gets through.
fn believes_the_systems_authorities(cluster: &Cluster, shop: &Shop) {
    let (app, port) = (App::start("desk"), free_port());
    cluster.agent.register(&meshed("desk", "desk", app.port(), &[("rooted", port)]));
    let roots = cluster.folder.path().join("ca.pem");
    let _proxy = cluster.agent.sidecar_in("desk", &[], &[("SSL_CERT_FILE", &roots)]);
    let door = Api::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    wait_for(door, "the host's authorities", 200, &["localhost|billing||HTTP/1.1"]);
    let none = "none of the authorities vouches for its certificate";
    wait_for(shop.to("rooted"), "another host's authorities", 502, &["billing: ", none]);
}

/// Writes an entry for each way to call nginx.
fn declare(cluster: &Cluster, authority: &Authority, [plain, tls, mutual, expired]: [u16; 4]) {
    let file = |name: &str| cluster.folder.path().join(name).display().to_string();
    let simple = json!({ "SNI": "billing", "CAPEM": authority.pem });
    let with = |field: &str, value: Value| {
        let mut tls = simple.clone();
        tls[field] = value;
        tls
    };
    let mut shown = with("Mode", json!("mutual"));
    shown["CertFile"] = json!(file("2100-shop.pem"));
    shown["KeyFile"] = json!(file("2100-shop.key"));
    let another_ca = json!({ "SNI": "billing", "CAFile": file("other.pem") });
    let lost = json!({ "SNI": "billing", "CAFile": file("nothing.pem") });
    let named = with("SubjectAltNames", json!(["other.test", "billing"]));
    for (name, place, tls) in [
        ("disable", ("http", plain), json!({ "Mode": "disable" })),
        ("simple", ("http", tls), with("TLSMinVersion", json!("TLSv1_3"))),
        ("named", ("http", tls), named),
        ("http2", ("http2", tls), simple.clone()),
        ("bytes", ("tcp", tls), with("ALPN", json!(["http/1.1"]))),
        ("mutual", ("http", mutual), shown),
        ("unshown", ("http", mutual), simple.clone()),
        ("wrong-ca", ("http", tls), another_ca),
        ("wrong-name", ("http", tls), with("SubjectAltNames", json!(["other.test"]))),
        ("expired", ("http", expired), simple.clone()),
        ("lost", ("http", tls), lost),
        ("rooted", ("http", tls), json!({ "SNI": "billing" })),
    ] {
        outside(cluster, name, place, &tls);
    }
}

/// Who cannot be believed is not called, and told why; entries that are wrong are refused.
fn refuses_whom_it_must(cluster: &Cluster, shop: &Shop) {
    let expected = "the server is not the one expected, billing: ";
    let none = "none of the authorities vouches for its certificate";
    wait_for(shop.to("wrong-ca"), "another authority", 502, &[expected, none]);
    let wrong = "not the one expected, other.test: its certificate is for billing";
    wait_for(shop.to("wrong-name"), "another name", 502, &[wrong]);
    wait_for(shop.to("expired"), "an old certificate", 502, &[expected, "expired"]);
    wait_for(shop.to("lost"), "no file", 503, &["cannot read CAFile", "nothing.pem"]);
    let admin = shop.proxy.process.ready_field("admin").parse().expect("an address");
    let metrics = Api::new(admin).get("/metrics").and_then(Answer::ok).expect("metrics").body;
    let failed = metrics.lines().find(|line| {
        line.contains("handshake") && line.contains("wrong-name") && !line.ends_with(" 0")
    });
    assert!(failed.is_some(), "{metrics}");

    let kept = json!({ "Kind": "service-defaults", "Name": "bad", "Destination": {
        "Addresses": ["localhost"], "Port": 443, "TLS": { "Mode": "mutual", "CAFile": "ca.pem" } } });
    let refused = cluster.agent.api().put("/v1/config", &kept).expect("an answer");
    assert_eq!(refused.status, 400, "{}", refused.body);
    for told in ["Destination.TLS.CertFile", "Destination.TLS.KeyFile", "Destination.TLS.CAFile"] {
        assert!(refused.body.contains(told), "{}", refused.body);
    }
}
