//! What a service is told of who calls it, and what is taken out.

use crate::support::origin::Origin;
use crate::support::pair::{App, Pair, Raw};
use serde_json::Value;
use weft_core::config_entry::{ClientCertDetails, ForwardClientCert, Protocol};

const FORGED: &str = "By=me;URI=spiffe://test.mesh/made-up";

/// Sends a request with these fields; returns each value of those that arrived under the name.
async fn arrived(pair: &Pair, fields: &str, name: &str) -> Vec<String> {
    let mut raw = Raw::connect(pair.call).await;
    raw.send(&format!("GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n{fields}\r\n")).await;
    let answer = raw.rest().await;
    let (_, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let start = body.find('{').unwrap_or_else(|| panic!("no answer of the service: {answer}"));
    let end = body.rfind('}').expect("the end of it") + 1;
    let seen: Value = serde_json::from_str(&body[start..end]).expect("JSON");
    let headers = seen["headers"].as_array().expect("headers").clone();
    let of_name = headers.iter().filter(|it| it[0] == name);
    of_name.map(|it| it[1].as_str().expect("text").to_owned()).collect()
}

/// Of both engines: the service speaks what they speak.
const PROTOCOLS: [Protocol; 2] = [Protocol::Http, Protocol::Http2];

#[tokio::test]
async fn each_mode_says_of_certificates_what_it_should() {
    use ForwardClientCert as Mode;
    let app = App::start("web").await;
    for protocol in PROTOCOLS {
        let pair = Pair::start(protocol, app.address).await;
        let by = "By=spiffe://test.mesh/ns/default/dc/dc1/svc/web";
        let uri = "URI=spiffe://test.mesh/ns/default/dc/dc1/svc/client";
        let own = format!("{by};Hash={};{uri}", pair.client.leaf_hash());
        let appended = format!("{FORGED},{own}");
        let said = format!("x-forwarded-client-cert: {FORGED}\r\n");
        // Whether the caller's own proxy lets its words through, and what arrives then.
        for (mode, is_through, want) in [
            (Mode::Unset, true, Some(&*own)),
            (Mode::SanitizeSet, true, Some(&*own)),
            (Mode::AppendForward, false, Some(&*own)),
            (Mode::AppendForward, true, Some(&*appended)),
            (Mode::ForwardOnly, false, None),
            (Mode::ForwardOnly, true, Some(FORGED)),
            (Mode::AlwaysForwardOnly, true, Some(FORGED)),
            (Mode::Sanitize, true, None),
        ] {
            let ours = if is_through { Mode::AlwaysForwardOnly } else { mode };
            for (proxy, mode) in [(&pair.client, ours), (&pair.server, mode)] {
                proxy.change(|it| it.forwarded_headers.forward_client_cert_details = mode).await;
            }
            let got = arrived(&pair, &said, "x-forwarded-client-cert").await;
            let want: Vec<&str> = want.into_iter().collect();
            assert_eq!(got, want, "{protocol:?} {mode:?} {is_through}");
        }
        // Another spelling says nothing in any mode.
        let disguised = "x_forwarded_client_cert: x\r\nX-Forwarded.Client-Cert: x\r\n";
        for name in ["x_forwarded_client_cert", "x-forwarded.client-cert"] {
            assert_eq!(arrived(&pair, disguised, name).await, [""; 0]);
        }
    }
}

#[tokio::test]
async fn more_is_told_of_certificates_where_it_is_asked_for() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    let details = ClientCertDetails { subject: true, dns: true };
    pair.server.change(|it| it.forwarded_headers.set_current_client_cert_details = details).await;
    let told = arrived(&pair, "", "x-forwarded-client-cert").await;
    assert!(told[0].contains(";Subject=\"CN=client\";URI=spiffe://"), "{told:?}");
    assert!(!told[0].contains("DNS"), "it has no such name: {told:?}");
}

#[tokio::test]
async fn the_scheme_is_told_clearly_and_once() {
    let app = App::start("web").await;
    for protocol in PROTOCOLS {
        let pair = Pair::start(protocol, app.address).await;
        for (said, want) in [
            ("", "http"),
            ("X-Forwarded-Proto: https\r\n", "https"),
            ("x-forwarded-proto: HTTP\r\n", "HTTP"),
            ("x-forwarded-proto: gopher\r\n", "http"),
            ("x-forwarded-proto: https\r\nx-forwarded-proto: https\r\n", "http"),
            ("connection: x-forwarded-proto\r\nx-forwarded-proto: https\r\n", "https"),
        ] {
            if protocol == Protocol::Http2 && said.starts_with("connection") {
                // Named as being of this hop, it ends there.
                continue;
            }
            let got = arrived(&pair, said, "x-forwarded-proto").await;
            assert_eq!(got, [want], "{protocol:?} {said:?}");
        }
        // Of its own caller an application knows more than its proxy.
        let said = "x-forwarded-for: 192.0.2.1\r\nx-forwarded-host: shop\r\n";
        assert_eq!(arrived(&pair, said, "x-forwarded-for").await, ["192.0.2.1"]);
        assert_eq!(arrived(&pair, said, "x-forwarded-host").await, ["shop"]);
        assert_eq!(arrived(&pair, "", "x-forwarded-for").await, [""; 0]);
    }
}

#[tokio::test]
async fn what_proxies_of_envoys_kind_obey_does_not_pass() {
    let app = App::start("web").await;
    for protocol in PROTOCOLS {
        let pair = Pair::start(protocol, app.address).await;
        for name in [
            "x-envoy-internal",
            "x-envoy-original-path",
            "x-envoy-decorator-operation",
            "x-envoy-peer-metadata",
            "x_envoy_original_path",
            "x-envoy-upstream-rq-timeout-ms",
        ] {
            let said = format!("{name}: /admin\r\n");
            assert_eq!(arrived(&pair, &said, name).await, [""; 0], "{protocol:?} {name}");
        }
    }
}

#[tokio::test]
async fn fields_that_a_proxy_adds_do_not_make_a_request_too_long_for_the_next() {
    let certificate = "By=spiffe://test.mesh/ns/default/dc/dc1/svc/web;\
                       URI=spiffe://test.mesh/ns/default/dc/dc1/svc/client";
    let origin = Origin::start(certificate).await;
    let pair = Pair::start(Protocol::Http, origin.address).await;
    // Host is the other one.
    let most: String = (1..128).map(|number| format!("x-{number}: 1\r\n")).collect();
    for (more, status) in [("", "200"), ("x: 1\r\n", "431")] {
        let mut raw = Raw::connect(pair.call).await;
        raw.send(&format!("GET / HTTP/1.1\r\nhost: web\r\n{most}{more}\r\n")).await;
        let answer = raw.until("\r\n\r\n").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    assert_eq!(origin.take().faults, [""; 0]);
}
