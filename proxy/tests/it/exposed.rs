//! Paths that are reached without mutual TLS: these, and no others, however they are spelled.

use crate::support::pair::{App, Pair, Raw, free};
use weft_core::config_entry::{IntentionAction, Protocol};
use weft_core::proxycfg::{ExposedListener, ExposedRoute};

async fn ask(door: std::net::SocketAddr, target: &str) -> String {
    let mut raw = Raw::connect(door).await;
    raw.send(&format!(
        "GET {target} HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n\
         x-forwarded-client-cert: By=me;URI=spiffe://test.mesh/made-up\r\n\
         x-forwarded-for: 198.51.100.9\r\nX_Forwarded_For: 198.51.100.9\r\n\
         x-forwarded-proto: https\r\nx-real-ip: 198.51.100.9\r\nforwarded: for=198.51.100.9\r\n\
         x-forwarded-host: made-up\r\nx-envoy-original-path: /made-up\r\n\r\n"
    ))
    .await;
    raw.rest().await
}

/// Checks that nothing of what the caller has said of itself came through.
fn assert_told(answer: &str) {
    assert!(!answer.contains("client-cert"), "it vouches for nobody: {answer}");
    for forged in ["198.51.100.9", "made-up", "https"] {
        assert!(!answer.contains(forged), "{forged}: {answer}");
    }
    for (name, made) in [("for", "127.0.0.1"), ("proto", "http")] {
        let made = format!("[\"x-forwarded-{name}\",\"{made}\"]");
        assert!(answer.contains(&made), "{made}: {answer}");
    }
}

#[tokio::test]
async fn only_the_path_itself_is_reached_without_an_identity() {
    let app = App::start("web").await;
    for protocol in [Protocol::Http, Protocol::Http2] {
        let pair = Pair::start(protocol, app.address).await;
        pair.server.default_action(IntentionAction::Deny).await;
        let bind = free().await;
        let route =
            |path: &str| ExposedRoute { path: path.to_owned(), local: app.address, protocol };
        let routes = vec![route("/healthz"), route("/a b".replace(' ', "%20").as_str())];
        let listener = ExposedListener { bind, routes, callers: Vec::new() };
        pair.server.change(|snapshot| snapshot.exposed = vec![listener]).await;
        let before = app.count();
        for (target, seen) in [
            ("/healthz", "/healthz"),
            ("/healthz?full=1", "/healthz?full=1"),
            ("/%68ealthz", "/healthz"),
            ("//healthz", "/healthz"),
            ("/x/../healthz", "/healthz"),
            ("/a%20b", "/a%20b"),
        ] {
            let answer = ask(bind, target).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{target}: {answer}");
            let uri = match protocol {
                Protocol::Http2 => format!("\"uri\":\"http://probe{seen}\""),
                _ => format!("\"uri\":\"{seen}\""),
            };
            assert!(answer.contains(&uri), "{target}: {answer}");
            assert_told(&answer);
        }
        let reached = app.count();
        assert_eq!(reached, before + 6);
        for target in [
            "/",
            "/health",
            "/healthz/",
            "/healthz/..",
            "/healthz/../admin",
            "/healthz/%2e%2e/admin",
            "/healthz%2f..%2fadmin",
            "/healthz;/../admin",
            "/healthz;v=1",
            "/HEALTHZ",
            "/healthz%00",
            "/healthz%3fx",
            "/healthz/.;/admin",
            "/%2568ealthz",
            "*",
            "http://probe/admin",
        ] {
            let answer = ask(bind, target).await;
            let status = &answer[..12];
            assert!(["HTTP/1.1 404", "HTTP/1.1 400"].contains(&status), "{target}: {answer}");
        }
        assert_eq!(app.count(), reached, "the application has seen none of them");
        // A connection that stays open loses what is exposed no more.
        let mut kept = Raw::connect(bind).await;
        kept.send("GET /healthz HTTP/1.1\r\nhost: probe\r\n\r\n").await;
        kept.until("\"app\":\"web\"").await;
        pair.server.change(|snapshot| snapshot.exposed.clear()).await;
        kept.send("GET /healthz HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n\r\n").await;
        let answer = kept.rest().await;
        assert!(answer.contains("HTTP/1.1 404 "), "{answer}");
    }
}

#[tokio::test]
async fn a_door_for_checks_is_for_this_host_alone_and_expects_no_header() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    let bind = free().await;
    let route =
        ExposedRoute { path: "/healthz".to_owned(), local: app.address, protocol: Protocol::Http };
    // An address of documentation: nobody here has it, and loopback counts in any case.
    let callers = vec!["192.0.2.1".parse().expect("an address")];
    let listener = ExposedListener { bind, routes: vec![route], callers };
    pair.server
        .change(|snapshot| {
            snapshot.exposed = vec![listener];
            snapshot.proxy_protocol_from = vec!["127.0.0.0/8".parse().expect("a network")];
        })
        .await;
    assert!(ask(bind, "/healthz?full=1").await.starts_with("HTTP/1.1 200 "));
    assert!(ask(bind, "/").await.starts_with("HTTP/1.1 404 "));
}
