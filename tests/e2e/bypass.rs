//! Requests that try to get past permissions: a row of real origins behind sidecars writes down how
//! each has read them, and the policy is applied to that.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::json;
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::frames::Frames;
use weft_tests::process::run_weft;
use weft_tests::{Cluster, eventually, tools};

use crate::origins::{self, Origin, Seen};
use crate::story::{Shop, speaks};
use policies::Policy;
use requests::Ask;

mod policies;
mod requests;
mod spellings;

const LIMIT: Duration = Duration::from_secs(20);

/// What came of the requests to one origin.
#[derive(Debug, Default)]
struct Tally {
    tried: usize,
    arrived: usize,
    /// What the origin has read that it must not.
    bypasses: Vec<String>,
}

#[test]
fn no_spelling_of_a_request_passes_permissions() {
    let test = "no_spelling_of_a_request_passes_permissions";
    let cluster = Cluster::start();
    let origins = origins::row(&cluster, test);
    let names: Vec<&str> = origins.iter().map(|origin| origin.name).collect();
    let shop = Shop::open(&cluster, &names);
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let running: Vec<_> = origins
            .iter()
            .map(|origin| {
                let (cluster, door) = (&cluster, shop.to(origin.name).addr());
                scope.spawn(move || try_origin(cluster, origin, door))
            })
            .collect();
        running.into_iter().map(|thread| thread.join().expect("an origin was tried")).collect()
    });
    let bypasses: Vec<&String> = tallies.iter().flat_map(|tally| &tally.bypasses).collect();
    let tried: usize = tallies.iter().map(|tally| tally.tried).sum();
    let arrived: usize = tallies.iter().map(|tally| tally.arrived).sum();
    tools::tell(&format!(
        "{test}: {tried} requests to {} origins ({}), {arrived} arrived, {} bypasses",
        origins.len(),
        names.join(", "),
        bypasses.len()
    ));
    assert!(bypasses.is_empty(), "{bypasses:#?}");
    for (name, tally) in names.iter().zip(&tallies) {
        assert!(tally.arrived * 20 > tally.tried, "too little reached {name}: {tally:?}");
    }
}

fn try_origin(cluster: &Cluster, origin: &Origin, door: SocketAddr) -> Tally {
    is_seeing(origin);
    let mut tally = Tally::default();
    for policy in policies::all() {
        cluster.agent.configure(&json!({ "Kind": "service-intentions", "Name": origin.name,
            "Sources": [{ "Name": "shop", "Permissions": policy.permissions }] }));
        wait_in_force(&policy, door);
        let asks = requests::all(policy.classes);
        tally.tried += try_all(origin, door, &asks);
        let read = origin.seen();
        tally.arrived += read.len();
        for seen in &read {
            let why =
                if (policy.allows)(seen) { false_claim(origin, seen) } else { Some("refused") };
            if let Some(why) = why {
                let case: Option<&Ask> = seen
                    .field("x-case")
                    .first()
                    .and_then(|number| asks.get(number.parse::<usize>().ok()?));
                let what =
                    format!("{}, {}: {why}: read {seen:?} from {case:?}", origin.name, policy.name);
                tally.bypasses.push(what);
            }
        }
    }
    tally
}

/// What would be denied is seen when the origin is asked directly: the check is not blind.
fn is_seeing(origin: &Origin) {
    let policy = &policies::all()[0];
    for path in ["/admin", "/private/x"] {
        origin.forget();
        eventually(SPREAD_LIMIT, "the origin writes down what it reads", || {
            ask(origin.addr(), &Ask::welcome(path).as_http1(0));
            let read = origin.seen();
            let is_denied = read.iter().any(|seen| !(policy.allows)(seen));
            if is_denied { Ok(()) } else { Err(format!("{read:?}")) }
        });
    }
    let mut posted = Ask::welcome("/public/x");
    posted.method = b"POST".to_vec();
    posted.fields.push((b"Content-Length".to_vec(), b" 3".to_vec()));
    origin.forget();
    ask(origin.addr(), &[&posted.as_http1(0)[..], b"a=b"].concat());
    let is_whole = |seen: &Seen| {
        (&*seen.method, &*seen.body) == ("POST", "a=b")
            && seen.field("x-role").contains(&"user-1".to_owned())
    };
    // Some write it down only after they have answered.
    eventually(SPREAD_LIMIT, &format!("{} reads the whole request", origin.name), || {
        let read = origin.seen();
        if read.iter().any(is_whole) { Ok(()) } else { Err(format!("{read:?}")) }
    });
}

fn wait_in_force(policy: &Policy, door: SocketAddr) {
    for (path, wanted) in [(policy.refuses, "403"), ("/public/x", "200")] {
        eventually(SPREAD_LIMIT, &format!("the policy {} is in force", policy.name), || {
            let answer = ask(door, &Ask::welcome(path).as_http1(0));
            if answer.get(9..12) == Some(wanted) { Ok(()) } else { Err(answer) }
        });
    }
}

/// Waits until the origin has written down an allowed request of this number, and so all before it.
fn wait_written(origin: &Origin, door: SocketAddr, number: usize) {
    eventually(SPREAD_LIMIT, "the origin has written all down", || {
        ask(door, &Ask::welcome("/public/last").as_http1(number));
        let number = [number.to_string()];
        let is_told = origin.seen().iter().any(|seen| seen.field("x-case").starts_with(&number));
        if is_told { Ok(()) } else { Err("not yet".to_owned()) }
    });
}

/// Sends each request in HTTP/1.1 and in HTTP/2, and waits until the origin has written down the
/// last; returns how many were sent.
fn try_all(origin: &Origin, door: SocketAddr, asks: &[Ask]) -> usize {
    // Some write down only after they have answered, and what was let in before is no case.
    wait_written(origin, door, asks.len() + 1);
    origin.forget();
    for (number, case) in asks.iter().enumerate() {
        ask(door, &case.as_http1(number));
    }
    let mut connection = None;
    for (number, case) in asks.iter().enumerate() {
        let mut frames = match connection.take() {
            Some(frames) => frames,
            None => http2(door),
        };
        let fields = case.as_http2(number);
        let fields: Vec<(&[u8], &[u8])> =
            fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        if frames.ask(&fields, b"") {
            connection = Some(frames);
        }
    }
    wait_written(origin, door, asks.len());
    asks.len() * 2
}

/// Says what the origin was told in the mesh's name that the mesh did not say.
fn false_claim(origin: &Origin, seen: &Seen) -> Option<&'static str> {
    let claims = seen.field("x-forwarded-client-cert");
    let own = format!("/svc/{}", origin.name);
    let is_true = |claim: &String| match claim.split(';').collect::<Vec<_>>()[..] {
        [by, hash, uri] => {
            (by.starts_with("By=spiffe://") && by.ends_with(&own))
                && (hash.len() == 69 && hash.starts_with("Hash="))
                && (uri.starts_with("URI=spiffe://") && uri.ends_with("/svc/shop"))
        }
        _ => false,
    };
    let is_weft = |name: &str| {
        let plain: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        plain.starts_with("x-weft-")
            || plain.starts_with("x-envoy-")
            || (plain == "x-forwarded-client-cert" && plain != name)
    };
    if claims.is_empty() || !claims.iter().all(is_true) {
        Some("its caller is not said, or forged")
    } else if seen.names().any(is_weft) {
        Some("a header of the mesh came through")
    } else {
        None
    }
}

/// Sends bytes and reads what comes until the end.
fn ask(door: SocketAddr, bytes: &[u8]) -> String {
    let mut answer = Vec::new();
    let Ok(mut stream) = TcpStream::connect(door) else { return String::new() };
    let _ = stream.set_read_timeout(Some(LIMIT));
    if stream.write_all(bytes).is_ok() {
        // A reset is an answer as well.
        let _ = stream.read_to_end(&mut answer);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn http2(door: SocketAddr) -> Frames<TcpStream> {
    let stream = TcpStream::connect(door).expect("the sidecar listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a socket takes a limit");
    stream.set_nodelay(true).expect("a socket need not wait");
    Frames::open(stream).expect("a new connection takes a preface")
}

/// The examples of the page on intentions say what is so.
#[test]
fn what_the_page_on_intentions_shows_is_so() {
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/intentions.md"))
            .expect("the page");
    let block = |kind: &str| {
        let (_, rest) = page.split_once(&format!("```{kind}\n")).expect("a block");
        rest.split_once("```").expect("its end").0.to_owned()
    };
    let cluster = Cluster::start();
    speaks(&cluster, "orders", "http");
    cluster.agent.configure(&serde_json::from_str(&block("json")).expect("JSON"));
    let address = cluster.agent.api().addr().to_string();
    let console = block("console");
    let lines: Vec<&str> = console.lines().collect();
    for pair in lines.chunks(2) {
        let args = pair[0].strip_prefix("$ weft ").expect("a command").split(' ');
        let args: Vec<&str> = args.chain(["--http-addr", &address]).collect();
        let outcome = run_weft(&args, LIMIT);
        assert_eq!(outcome.output.lines().next(), Some(pair[1]), "{}", pair[0]);
        assert_eq!(outcome.code, Some(i32::from(pair[1].starts_with("denied"))), "{}", pair[0]);
    }
    assert!(lines.len() >= 10, "{console}");
    let outcome = run_weft(&["intention", "list", "--lint", "--http-addr", &address], LIMIT);
    assert!(outcome.output.contains("no service web is registered"), "{}", outcome.output);
}
