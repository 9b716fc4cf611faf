//! Tokens in requests: who shows a good one gets in, and nobody else; keys may change, and their
//! server may be away.

mod over_http2;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::process::run_weft;
use weft_tests::{Answer, Api, App, Cluster, TestProxy, TlsFront, eventually, tools};

use crate::issuer::{KeyServer, SigningKey, by_secret, now, unsigned};
use crate::story::{Shop, speaks};

const LIMIT: Duration = Duration::from_secs(30);

/// A cluster in which `shop` calls `web`, which wants tokens.
struct World<A = App> {
    cluster: Cluster,
    app: A,
    shop: Shop,
    _proxy: TestProxy,
}

impl World {
    fn start() -> Self {
        let app = App::start("web");
        let port = app.port();
        Self::behind(app, "http", port)
    }
}

impl<A> World<A> {
    /// Has this application as `web`, which speaks a protocol on a port.
    fn behind(app: A, protocol: &str, port: u16) -> Self {
        let cluster = Cluster::start();
        speaks(&cluster, "web", protocol);
        cluster.agent.register(&meshed("web", "web", port, &[]));
        let proxy = cluster.agent.sidecar("web");
        let shop = Shop::open(&cluster, &["web"]);
        Self { cluster, app, shop, _proxy: proxy }
    }

    /// Has the provider's one key in its entry.
    fn provide_key(&self, key: &SigningKey, more: &Value) {
        let set = STANDARD.encode(json!({ "keys": [key.jwk()] }).to_string());
        self.provider(&json!({ "Local": { "JWKS": set } }), more);
    }

    fn provider(&self, keys: &Value, more: &Value) {
        let mut entry = json!({
            "Kind": "jwt-provider", "Name": "accounts", "Issuer": "https://accounts",
            "Audiences": ["web", "api"], "JSONWebKeySet": keys,
        });
        for (field, value) in more.as_object().into_iter().flatten() {
            entry[field] = value.clone();
        }
        self.cluster.agent.configure(&entry);
    }

    /// Lets those in who have a token, to `/admin` those who are admins.
    fn intend(&self) {
        self.cluster.agent.configure(&json!({
            "Kind": "service-intentions", "Name": "web",
            "JWT": { "Providers": [{ "Name": "accounts" }] },
            "Sources": [{ "Name": "shop", "Permissions": [
                { "Action": "allow", "HTTP": { "PathPrefix": "/admin" },
                  "JWT": { "Providers": [{ "Name": "accounts", "VerifyClaims": [
                      { "Path": ["perms", "role"], "Value": "admin" }] }] } },
                { "Action": "deny", "HTTP": { "PathPrefix": "/admin" } },
                { "Action": "allow", "HTTP": { "PathPrefix": "/" } },
            ] }],
        }));
    }

    fn web(&self) -> Api {
        self.shop.to("web")
    }

    fn with(&self, path: &str, token: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        let answer = self.web().request("GET", path, &[("Authorization", &bearer)], "");
        answer.expect("an answer")
    }

    fn wait_let_in(&self, token: &str) {
        eventually(SPREAD_LIMIT + LIMIT, "the token is good", || {
            let answer = self.with("/", token);
            if answer.status == 200 { Ok(()) } else { Err(answer.body) }
        });
    }

    fn wait_kept_out(&self, token: &str) -> Answer {
        eventually(SPREAD_LIMIT + LIMIT, "the token is no longer good", || {
            let answer = self.with("/", token);
            if answer.status == 401 { Ok(answer) } else { Err(answer.body) }
        })
    }
}

fn claims() -> Value {
    json!({ "iss": "https://accounts", "aud": ["web"], "sub": "ada", "exp": now() + 600,
        "perms": { "role": ["user", "dev"] }, "level": 7 })
}

fn claiming(field: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.as_object_mut().expect("an object").remove(field)),
        value => claims[field] = value,
    }
    claims
}

fn remote(server: &KeyServer) -> Value {
    json!({ "Remote": { "URI": server.url(), "CacheDuration": "1s", "RequestTimeoutMs": 2000 } })
}

#[test]
fn who_shows_a_good_token_gets_in_and_the_service_sees_what_it_is_to_see() {
    let world = World::start();
    let rsa = SigningKey::new("r1", Algorithm::RS256);
    let more = json!({
        "Locations": [{ "Header": { "Name": "Authorization", "ValuePrefix": "Bearer " } },
            { "QueryParam": { "Name": "token" } }, { "Cookie": { "Name": "session" } }],
        "Forwarding": { "HeaderName": "X-Payload", "PadForwardPayloadHeader": true },
        "ClaimToHeaders": [{ "ClaimName": "sub", "HeaderName": "X-User" },
            { "ClaimName": "level", "HeaderName": "X-Level" },
            { "ClaimName": "perms.role", "HeaderName": "X-Role" }],
    });
    world.provide_key(&rsa, &more);
    world.intend();
    let token = rsa.token(&claims());
    world.wait_let_in(&token);

    let spoofed = [("X-User", "root"), ("x_level", "9"), ("X-Payload", "e30")];
    let ask = |path: &str, fields: &[(&str, &str)]| {
        let fields = [&spoofed[..], fields].concat();
        let answer = world.web().request("GET", path, &fields, "").expect("an answer");
        (answer.status, serde_json::from_str::<Value>(&answer.body).unwrap_or_default())
    };
    let bearer = format!("bearer {token}");
    let cookie = format!("a=1; session={token}; b=2");
    let in_query = format!("/x?a=1&token={token}&b=2");
    for (path, fields, wanted) in [
        ("/x?a=1", vec![("Authorization", bearer.as_str())], "/x?a=1"),
        (in_query.as_str(), vec![], "/x?a=1&b=2"),
        ("/x", vec![("Cookie", cookie.as_str())], "/x"),
    ] {
        let (status, seen) = ask(path, &fields);
        assert_eq!((status, &seen["path"]), (200, &json!(wanted)), "{seen}");
        let headers = &seen["headers"];
        assert_eq!((&headers["x-user"], &headers["x-level"]), (&json!("ada"), &json!("7")));
        assert_eq!(headers["x_level"], Value::Null, "{seen}");
        let role = URL_SAFE_NO_PAD.encode(r#"["user","dev"]"#);
        assert_eq!(headers["x-role"], json!(role));
        assert_eq!(headers["authorization"], Value::Null, "{seen}");
        let payload = headers["x-payload"].as_str().unwrap_or_default().to_owned();
        assert!(payload.len() > 3 && payload.len().is_multiple_of(4), "{payload:?}");
        assert!(!seen.to_string().contains(&token), "the token went on: {seen}");
    }
    assert_eq!(ask("/x", &[("Cookie", &cookie)]).1["headers"]["cookie"], "a=1; b=2");

    let refused = world.with("/admin", &token);
    assert_eq!(refused.status, 403, "{}", refused.body);
    let admin = rsa.token(&claiming("perms", json!({ "role": ["user", "admin"] })));
    assert_eq!(world.with("/admin", &admin).status, 200);
    let missing = world.web().get("/").expect("an answer");
    assert_eq!(missing.status, 401, "{}", missing.body);
    assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    assert!(missing.body.contains("carries no token"), "{}", missing.body);

    let api = world.cluster.agent.api().addr().to_string();
    let explain = |more: &[&str]| {
        let args = ["intention", "explain", "shop", "web", "--http-addr", &api, "--path", "/admin"];
        run_weft(&[&args[..], more].concat(), LIMIT)
    };
    let told = explain(&["--jwt-claim", "/perms/role=admin"]);
    assert_eq!(told.code, Some(0), "{}", told.output);
    assert!(told.output.contains("token of accounts with perms.role=admin"), "{}", told.output);
    let told = explain(&["--jwt-claim", "/perms/role=user"]);
    assert_eq!(told.code, Some(1), "{}", told.output);
    assert!(explain(&[]).output.contains("the request carries no token"));
}

#[test]
fn keys_change_their_server_goes_away_and_unknown_keys_open_nothing() {
    let mut world = World::start();
    world.cluster.agent.process.expect_log("no keys could be fetched");
    let (old, new) =
        (SigningKey::new("e1", Algorithm::ES256), SigningKey::new("d2", Algorithm::EdDSA));
    let server = KeyServer::start(&[&old]);
    server.set_broken(true);
    world.provider(&remote(&server), &json!({}));
    world.intend();
    let (by_old, by_new) = (old.token(&claims()), new.token(&claims()));
    // No key was ever had: nobody gets in.
    let refused = eventually(SPREAD_LIMIT + LIMIT, "tokens are asked for", || {
        let answer = world.with("/", &by_old);
        if answer.status == 401 { Ok(answer) } else { Err(answer.body) }
    });
    assert!(refused.body.contains("keys are not known"), "{}", refused.body);
    assert_eq!(world.app.requests_except("/status/200"), 0, "something got through");
    server.set_broken(false);
    world.wait_let_in(&by_old);

    // Its server is away: what is known stays good, what is not does not become so.
    server.set_broken(true);
    let fetches = server.fetches();
    eventually(LIMIT, "it is asked again", || {
        if server.fetches() > fetches + 1 { Ok(()) } else { Err(String::new()) }
    });
    assert_eq!(world.with("/", &by_old).status, 200);
    let refused = world.with("/", &by_new);
    assert_eq!(refused.status, 401, "{}", refused.body);

    // A new key is announced and used, the old one taken away.
    server.publish(&[&old, &new]);
    server.set_broken(false);
    world.wait_let_in(&by_new);
    assert_eq!(world.with("/", &by_old).status, 200);
    server.publish(&[&new]);
    let refused = world.wait_kept_out(&by_old);
    assert!(refused.body.contains("does not have"), "{}", refused.body);
    assert_eq!(world.with("/", &by_new).status, 200);
}

#[test]
fn a_key_that_is_not_known_yet_is_fetched_while_the_request_waits() {
    let world = World::start();
    let (old, new) =
        (SigningKey::new("e1", Algorithm::ES256), SigningKey::new("r2", Algorithm::RS256));
    let server = KeyServer::start(&[&old]);
    let keys = json!({ "Remote": { "URI": server.url(), "CacheDuration": "1h" } });
    world.provider(&keys, &json!({}));
    world.intend();
    world.wait_let_in(&old.token(&claims()));
    server.publish(&[&old, &new]);
    world.wait_let_in(&new.token(&claims()));
    // Made-up key ids do not make the agent ask for each of them.
    let fetches = server.fetches();
    for number in 0..20 {
        let header = json!({ "alg": "ES256", "kid": format!("x{number}") }).to_string();
        let refused = world.with("/", &old.signed(&header, &claims().to_string()));
        assert_eq!(refused.status, 401, "{}", refused.body);
    }
    let more = server.fetches() - fetches;
    assert!(more <= 5, "{more} fetches");
}

#[test]
fn keys_come_over_tls_from_whom_the_authority_that_is_given_vouches_for() {
    let mut world = World::start();
    world.cluster.agent.process.expect_log("no keys could be fetched");
    let key = SigningKey::new("e1", Algorithm::ES256);
    let server = KeyServer::start(&[&key]);
    let front = TlsFront::start(server.address());
    let other = TlsFront::start(server.address());
    let keys = |trusted: Value| {
        json!({ "Remote": {
            "URI": format!("{}/keys", front.url()), "CacheDuration": "1s",
            "RequestTimeoutMs": 5000,
            "JWKSCluster": { "TLSCertificates": { "TrustedCA": trusted } },
        } })
    };
    let token = key.token(&claims());
    world.provider(&keys(json!({ "InlineString": other.authority_pem })), &json!({}));
    world.intend();
    let refused = eventually(SPREAD_LIMIT + LIMIT, "tokens are asked for", || {
        let answer = world.with("/", &token);
        if answer.status == 401 { Ok(answer) } else { Err(answer.body) }
    });
    assert!(refused.body.contains("keys are not known"), "{}", refused.body);
    let log = "no keys could be fetched";
    eventually(LIMIT, "the agent says that nobody vouches for it", || {
        let said = world.cluster.agent.process.log();
        let is_said = said.lines().any(|it| it.contains(log) && it.contains("certificate"));
        if is_said { Ok(()) } else { Err(said) }
    });
    assert_eq!(server.fetches(), 0, "nothing was asked of it");

    let file = world.cluster.folder.path().join("issuer.pem");
    std::fs::write(&file, &front.authority_pem).expect("a file");
    for trusted in [json!({ "InlineString": front.authority_pem }), json!({ "Filename": file })] {
        world.provider(&keys(trusted), &json!({}));
        world.wait_let_in(&token);
    }
    assert!(server.fetches() > 0);
}

/// What a request brings along, and why it must not get in.
type Case = (&'static str, String, Vec<(String, String)>);

fn bearer(why: &'static str, token: impl AsRef<str>) -> Case {
    let value = format!("Bearer {}", token.as_ref());
    (why, "/".to_owned(), vec![("Authorization".to_owned(), value)])
}

fn by_signature(rsa: &SigningKey, ec: &SigningKey) -> Vec<Case> {
    let body = claims().to_string();
    let header = |alg: &str, kid: &str| json!({ "alg": alg, "kid": kid, "typ": "JWT" }).to_string();
    let (stranger_rsa, stranger_ec) =
        (SigningKey::new("r1", Algorithm::RS256), SigningKey::new("e1", Algorithm::ES256));
    let good = rsa.token(&claims());
    let parts: Vec<&str> = good.split('.').collect();
    let (head, payload, signature) = (parts[0], parts[1], parts[2]);
    let mut cases = Vec::new();
    for none in ["none", "None", "NONE", "nOnE", ""] {
        for end in [".", ".AA", &format!(".{signature}")] {
            let token = format!("{}{end}", unsigned(&header(none, "r1"), &body));
            cases.push(bearer("alg none", token));
        }
    }
    for how in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let alg = format!("{how:?}");
        let modulus = rsa.jwk()["n"].as_str().unwrap_or_default().to_owned();
        for secret in [&rsa.public_pem, &ec.public_pem, &modulus, &rsa.jwk().to_string(), ""] {
            for kid in ["r1", "e1"] {
                let token = by_secret(&header(&alg, kid), &body, secret.as_bytes(), how);
                cases.push(bearer("a public key as a secret", token));
            }
        }
    }
    cases.push(bearer("a stranger's RSA key", stranger_rsa.token(&claims())));
    cases.push(bearer("a stranger's EC key", stranger_ec.token(&claims())));
    let unnamed = json!({ "alg": "RS256" }).to_string();
    cases.push(bearer("a stranger's key without a name", stranger_rsa.signed(&unnamed, &body)));
    for (why, key, alg, kid) in [
        ("the name of a key of another sort", rsa, "RS256", "e1"),
        ("the name of a key of another sort", ec, "ES256", "r1"),
        ("an algorithm that the key is not for", rsa, "PS256", "r1"),
        ("an algorithm that the key is not for", rsa, "RS512", "r1"),
        ("an algorithm that the key is not for", ec, "ES384", "e1"),
        ("an algorithm of another sort", ec, "RS256", "e1"),
        ("an algorithm of another sort", rsa, "ES256", "r1"),
        ("an algorithm of another sort", rsa, "EdDSA", "r1"),
    ] {
        cases.push(bearer(why, key.signed(&header(alg, kid), &body)));
    }
    let flipped = payload.replacen(char::from(payload.as_bytes()[20]), "_", 1);
    let changed = URL_SAFE_NO_PAD.encode(claiming("sub", json!("root")).to_string());
    for (why, token) in [
        ("another payload", format!("{head}.{flipped}.{signature}")),
        ("another payload", format!("{head}.{changed}.{signature}")),
        ("no signature", format!("{head}.{payload}.")),
        ("no signature", format!("{head}.{payload}")),
        ("half a signature", format!("{head}.{payload}.{}", &signature[..signature.len() / 2])),
        ("four parts", format!("{good}.{signature}")),
        ("five parts", format!("{head}.{payload}.{signature}.{payload}.{signature}")),
        ("a blank within", format!("{head}. {payload}.{signature}")),
        ("no payload", format!("{head}..{signature}")),
        ("no header", format!(".{payload}.{signature}")),
        ("padding", format!("{good}==")),
        ("a comma and another", format!("{good},{good}")),
        ("dots alone", "..".to_owned()),
        ("a quote around it", format!("\"{good}\"")),
        ("a null byte's escape", format!("{good}%00")),
        ("nothing", String::new()),
    ] {
        cases.push(bearer(why, token));
    }
    cases
}

fn by_claims(rsa: &SigningKey) -> Vec<Case> {
    let soon = now();
    let mut cases = Vec::new();
    for (why, field, value) in [
        ("no end", "exp", Value::Null),
        ("an end that is text", "exp", json!((soon + 600).to_string())),
        ("an end that is a list", "exp", json!([soon + 600])),
        ("an end before time", "exp", json!(-1)),
        ("an end beyond time", "exp", json!(1e300)),
        ("an end that is true", "exp", json!(true)),
        ("its time is over", "exp", json!(soon - 60)),
        ("its time is long over", "exp", json!(1)),
        ("its time is not come", "nbf", json!(soon + 300)),
        ("a beginning that is text", "nbf", json!("now")),
        ("for others", "aud", json!("mail")),
        ("for others", "aud", json!(["mail", "web2", "WEB"])),
        ("for nobody", "aud", json!([])),
        ("for nobody", "aud", Value::Null),
        ("for an object", "aud", json!({ "web": "web" })),
        ("for a list in a list", "aud", json!([["web"]])),
        ("for a prefix", "aud", json!("we")),
        ("another issuer", "iss", json!("https://other")),
        ("another issuer", "iss", json!("https://accounts/")),
        ("another issuer", "iss", json!("HTTPS://ACCOUNTS")),
        ("a list of issuers", "iss", json!(["https://accounts"])),
        ("no issuer", "iss", Value::Null),
    ] {
        cases.push(bearer(why, rsa.token(&claiming(field, value))));
    }
    let header = json!({ "alg": "RS256", "kid": "r1" }).to_string();
    let body = claims().to_string();
    let twice = |field: &str, value: &str| {
        let body = body.strip_prefix('{').unwrap_or_default();
        rsa.signed(&header, &format!("{{\"{field}\":{value},{body}"))
    };
    for (field, value) in
        [("aud", "\"mail\""), ("exp", "1"), ("iss", "\"x\""), ("sub", "\"root\""), ("perms", "{}")]
    {
        cases.push(bearer("a claim given twice", twice(field, value)));
    }
    for payload in ["", "null", "[]", "\"x\"", "{", "1"] {
        cases.push(bearer("a payload that is no object", rsa.signed(&header, payload)));
    }
    cases
}

fn by_header(rsa: &SigningKey) -> Vec<Case> {
    let body = claims().to_string();
    let stranger = SigningKey::new("r1", Algorithm::RS256);
    let mut cases = Vec::new();
    let long = "r1".repeat(2_000);
    for id in [
        "../../r1",
        "r1/../r1",
        "/r1",
        "R1",
        "r1 ",
        " r1",
        "r1\0",
        "r1\n",
        "r",
        "r11",
        "%72%31",
        "' OR '1'='1",
        "r1' UNION SELECT 'a",
        "/dev/null",
        "../../../../dev/null",
        "file:///r1",
        "http://127.0.0.1/keys",
        "$(r1)",
        "{}",
        "[\"r1\"]",
        "0",
        &long,
        "",
    ] {
        let header = json!({ "alg": "RS256", "kid": id }).to_string();
        cases.push(bearer("a key that is not there", rsa.signed(&header, &body)));
        cases.push(bearer("a key that is not there", stranger.signed(&header, &body)));
    }
    for id in ["[\"r1\"]", "{\"r1\":1}", "1", "true"] {
        let header = format!("{{\"alg\":\"RS256\",\"kid\":{id}}}");
        cases.push(bearer("a key id that is no text", rsa.signed(&header, &body)));
    }
    for header in [
        r#"{"alg":"RS256","kid":"r1","kid":"r1"}"#,
        r#"{"alg":"RS256","alg":"none","kid":"r1"}"#,
        r#"{"alg":"none","alg":"RS256","kid":"r1"}"#,
        r#"{"alg":["RS256"],"kid":"r1"}"#,
        r#"{"kid":"r1"}"#,
        r#"{"alg":"RS256","kid":"r1","crit":["exp"]}"#,
        r#"{"alg":"RS256","kid":"r1","crit":["b64"],"b64":false}"#,
        r#"{"alg":"RS256","kid":"r1","crit":[]}"#,
        r#"{"alg":"rs256","kid":"r1"}"#,
        r#"{"alg":"RS256 ","kid":"r1"}"#,
        r#"{"alg":"RS256","kid":"r1""#,
        "",
    ] {
        cases.push(bearer("a header that is not to be trusted", rsa.signed(header, &body)));
    }
    let own = stranger.jwk();
    for header in [
        json!({ "alg": "RS256", "jwk": own }),
        json!({ "alg": "RS256", "kid": "r1", "jwk": own }),
        json!({ "alg": "RS256", "kid": "r1", "jku": "http://127.0.0.1:1/keys" }),
        json!({ "alg": "RS256", "kid": "r1", "x5u": "http://127.0.0.1:1/c.pem" }),
    ] {
        cases.push(bearer("a key of its own", stranger.signed(&header.to_string(), &body)));
    }
    cases
}

fn by_place(rsa: &SigningKey) -> Vec<Case> {
    let good = rsa.token(&claims());
    let field = |name: &str, value: String| (name.to_owned(), value);
    let with_scheme = format!("Bearer {good}");
    let case = |why, path: &str, fields| (why, path.to_owned(), fields);
    let query = format!("/?token={good}");
    let two = format!("/?token={good}&token={good}");
    let encoded = format!("/?token={good}&%74oken={good}");
    let huge = rsa.token(&claiming("pad", json!("x".repeat(13_000))));
    let mut cases = vec![
        case("no token", "/", vec![]),
        case("no scheme", "/", vec![field("Authorization", good.clone())]),
        case("another scheme", "/", vec![field("Authorization", format!("Basic {good}"))]),
        case(
            "a scheme without a blank",
            "/",
            vec![field("Authorization", format!("Bearer{good}"))],
        ),
        case("another header", "/", vec![field("X-Token", good.clone())]),
        case("another parameter", &format!("/?tokens={good}"), vec![]),
        case("another cookie", "/", vec![field("Cookie", format!("Session={good}"))]),
        case(
            "twice in headers",
            "/",
            vec![
                field("Authorization", with_scheme.clone()),
                field("Authorization", with_scheme.clone()),
            ],
        ),
        case(
            "in a header and the query",
            &query,
            vec![field("Authorization", with_scheme.clone())],
        ),
        case(
            "in a header and a cookie",
            "/",
            vec![
                field("Authorization", with_scheme.clone()),
                field("Cookie", format!("session={good}")),
            ],
        ),
        case("twice in the query", &two, vec![]),
        case("twice in the query, once escaped", &encoded, vec![]),
        case(
            "twice in a cookie",
            "/",
            vec![field("Cookie", format!("session={good}; session={good}"))],
        ),
        case(
            "a good one behind a bad one",
            "/",
            vec![
                field("Authorization", "Bearer a.b.c".to_owned()),
                field("Cookie", format!("session={good}")),
            ],
        ),
    ];
    cases.push(bearer("too long", huge));
    cases
}

#[test]
fn nobody_gets_in_with_a_token_that_is_not_good() {
    let world = World::start();
    let (rsa, ec) =
        (SigningKey::new("r1", Algorithm::RS256), SigningKey::new("e1", Algorithm::ES256));
    let server = KeyServer::start(&[&rsa, &ec]);
    let locations = json!({ "Locations": [
        { "Header": { "Name": "Authorization", "ValuePrefix": "Bearer " } },
        { "QueryParam": { "Name": "token" } }, { "Cookie": { "Name": "session" } }] });
    world
        .provider(&json!({ "Remote": { "URI": server.url(), "CacheDuration": "1h" } }), &locations);
    world.intend();
    world.wait_let_in(&rsa.token(&claims()));
    world.wait_let_in(&ec.token(&claims()));
    let let_in = world.app.requests_except("/status/200");
    let groups = [by_signature(&rsa, &ec), by_claims(&rsa), by_header(&rsa), by_place(&rsa)];
    let mut count = 0;
    for (why, path, fields) in groups.into_iter().flatten() {
        let fields: Vec<(&str, &str)> =
            fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answer = world.web().request("GET", &path, &fields, "").expect(why);
        assert!(
            matches!(answer.status, 400 | 401 | 403),
            "{why}: {} {}",
            answer.status,
            answer.body
        );
        assert_eq!(world.app.requests_except("/status/200"), let_in, "{why} got through");
        count += 1;
    }
    // The service still serves those whose tokens are good.
    assert_eq!(world.with("/", &rsa.token(&claims())).status, 200);
    assert_eq!(world.with("/", &ec.token(&claims())).status, 200);
    assert!(count >= 150, "{count} cases");
    tools::tell(&format!("tokens: {count} that are not good, none of them let in"));
}
