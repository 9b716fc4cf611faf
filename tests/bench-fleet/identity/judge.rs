//! How long it takes to decide about a call, with a thousand rules.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use serde_json::{Value, json};
use weft_core::canonical_path::CanonicalPath;
use weft_core::config_entry::{ConfigEntry, IntentionAction, ServiceIntentions};
use weft_core::intention::{Asked, Call, IntentionSet, Judge};
use weft_core::name::ServiceName;
use weft_core::traffic::RequestView;

use super::show;

/// Rules of one destination.
const RULES: usize = 1_000;
/// Decisions of one measurement; the best of several counts, as other work disturbs.
const CALLS: usize = 200_000;
const TAKES: usize = 7;

/// A request as clients send it.
pub(super) struct Sent {
    pub(super) path: Vec<u8>,
}

const FIELDS: [(&str, &[u8]); 6] = [
    ("accept", b"application/json"),
    ("user-agent", b"bench/1.0"),
    ("x-tenant", b"tenant-7"),
    ("x-request-id", b"0c6a2f9e-4a57-4a8e-9a38-1d1b6d1d7f10"),
    ("accept-encoding", b"gzip"),
    ("content-type", b"application/json"),
];

impl RequestView for Sent {
    fn method(&self) -> &str {
        "GET"
    }

    fn path(&self) -> &[u8] {
        &self.path
    }

    fn query(&self) -> Option<&[u8]> {
        None
    }

    fn has_disguised(&self, _: &str) -> bool {
        false
    }

    fn each_header(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        let found = FIELDS.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        found.for_each(|(_, value)| visit(value));
    }
}

/// Measures every shape of a rule set.
pub(super) fn measure() {
    let l4 = |at: usize| json!({ "Name": format!("caller-{at:04}"), "Action": "allow" });
    let l7 = |at: usize| {
        json!({ "Name": format!("caller-{at:04}"), "Permissions": [
            { "Action": "deny", "HTTP": { "PathPrefix": "/admin" } },
            { "Action": "allow", "HTTP": { "PathPrefix": format!("/api/v{}", at % 7),
                "Methods": ["GET", "PUT"], "Header": [{ "Name": "X-Tenant", "Exact": "tenant-7" }] } },
        ] })
    };
    let last = RULES - 1;
    let path = format!("/api/v{}/items/17", last % 7);
    let own = format!("caller-{last:04}");
    report("1,000 callers, decided by name", (0..RULES).map(l4).collect(), &own, &path, "1 µs");
    let each = "1,000 callers with two permissions each, one header";
    report(each, (0..RULES).map(l7).collect(), &own, &path, "3 µs");

    // The worst for any order: only the last of a thousand permissions of one caller is for it.
    let exact = |at: usize| json!({ "PathExact": format!("/items/{at}") });
    let prefix = |at: usize| json!({ "PathPrefix": format!("/tenants/{at}/") });
    let header = |at: usize| {
        json!({ "PathPrefix": format!("/api/{at}/"), "Methods": ["GET"],
        "Header": [{ "Name": "X-Tenant", "Exact": "tenant-7" }] })
    };
    let one = |http: &dyn Fn(usize) -> Value| {
        let permissions: Vec<Value> =
            (0..RULES).map(|at| json!({ "Action": "allow", "HTTP": http(at) })).collect();
        vec![json!({ "Name": "caller", "Permissions": permissions })]
    };
    let wanted = "3 µs";
    let what = "one caller, the last of 1,000 permissions, exact paths";
    report(what, one(&exact), "caller", &format!("/items/{last}"), wanted);
    let what = "one caller, the last of 1,000 permissions, prefixes";
    report(what, one(&prefix), "caller", &format!("/tenants/{last}/x"), wanted);
    let what = "one caller, the last of 1,000, prefix, method and header";
    report(what, one(&header), "caller", &format!("/api/{last}/x"), wanted);
}

fn report(what: &str, sources: Vec<Value>, caller: &str, path: &str, wanted: &str) {
    let entry = json!({ "Kind": "service-intentions", "Name": "web", "Sources": sources });
    let entry: ServiceIntentions = match decode(entry) {
        ConfigEntry::ServiceIntentions(entry) => entry,
        other => panic!("another entry: {other:?}"),
    };
    let web = ServiceName::parse("web").expect("a name");
    let decides = (Default::default(), IntentionAction::Deny);
    let judge = Judge::new(IntentionSet::for_destination(&web, &[entry], decides));
    let caller = ServiceName::parse(caller).expect("a name");
    let sent = Sent { path: path.into() };
    let mut canonical = CanonicalPath::default();
    let mut best = f64::INFINITY;
    for _ in 0..TAKES {
        let start = Instant::now();
        for _ in 0..CALLS {
            // As for a new connection with one request: who calls, what the path is, what decides.
            let standing = judge.standing(black_box(&caller));
            let read = canonical.read(black_box(&sent.path));
            let request = judge.is_by_content(standing).then_some(Asked {
                request: &sent,
                path: read.map(|()| &canonical),
                tokens: &[],
            });
            let address = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let call = Call { address, port: Some(8080), sni: None, request };
            let judgement = judge.evaluate(standing, &call);
            assert!(black_box(judgement).allowed, "{what}");
        }
        best = best.min(start.elapsed().as_secs_f64() / CALLS as f64);
    }
    show(what, &format!("{:.0} ns", best * 1e9), wanted);
}

pub(super) fn decode(entry: Value) -> ConfigEntry {
    weft_proto::json::config_entry::decode(entry.to_string().as_bytes()).expect("an entry")
}
