//! How long it takes to compile a large chain, and to decide by it where a request goes.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use serde_json::{Value, json};
use weft_core::chain::{CompiledChain, compile};
use weft_core::config_entry::{ConfigEntry, EntryKey};
use weft_core::name::{Datacenter, ServiceName, TrustDomain};
use weft_core::traffic::{Mix64, RouteTable};

use super::judge::{Sent, decode};
use super::show;

/// Routes of the router.
const ROUTES: usize = 1_000;
/// Decisions of one measurement; the best of several counts, as other work disturbs.
const CALLS: usize = 200_000;
const COMPILATIONS: usize = 500;
const TAKES: usize = 7;

type World = BTreeMap<EntryKey, ConfigEntry>;

/// Measures compiling and deciding.
pub(super) fn measure() {
    let world = graph();
    let entries = world.len();
    let compiled = best(COMPILATIONS, || drop(black_box(chain(black_box(&world)))));
    let what = format!("a chain of {entries} entries, compiled");
    show(&what, &format!("{:.1} µs", compiled * 1e6), "100 µs");

    let last = ROUTES - 1;
    let prefix = |at: usize| json!({ "PathPrefix": format!("/tenants/{at}/") });
    decide("the last of 1,000 routes, prefixes", &prefix, &format!("/tenants/{last}/x"));
    let exact = |at: usize| json!({ "PathExact": format!("/items/{at}") });
    decide("the last of 1,000 routes, exact paths", &exact, &format!("/items/{last}"));
    let header = |at: usize| {
        json!({ "PathPrefix": format!("/api/{at}/"), "Methods": ["GET"],
            "Header": [{ "Name": "X-Tenant", "Exact": "tenant-7" }] })
    };
    decide("the last of 1,000, prefix, method and header", &header, &format!("/api/{last}/x"));
    decide("none of 1,000 routes", &prefix, "/elsewhere");
}

fn decide(what: &str, http: &dyn Fn(usize) -> Value, path: &str) {
    let route = |at: usize| json!({ "Match": { "HTTP": http(at) } });
    let routes: Vec<Value> = (0..ROUTES).map(route).collect();
    let world = world(vec![json!({ "Kind": "service-router", "Name": "web", "Routes": routes })]);
    let table = RouteTable::compile(&chain(&world), &name("shop")).expect("a chain");
    let mut splits = table.splits(&mut Mix64::new(1));
    let sent = Sent { path: path.into() };
    let time = best(CALLS, || {
        black_box(table.route(Some(black_box(&sent)), &mut splits).target);
    });
    show(what, &format!("{:.0} ns", time * 1e9), "1 µs");
}

/// A router that leads to services of which each has a protocol, a splitter and subsets.
fn graph() -> World {
    const SERVICES: usize = 33;
    let mut entries = Vec::new();
    let mut routes = Vec::new();
    for at in 0..SERVICES {
        let service = format!("service-{at}");
        routes.push(json!({
            "Match": { "HTTP": { "PathPrefix": format!("/{service}/") } },
            "Destination": { "Service": service, "PrefixRewrite": "/" },
        }));
        entries.push(json!({ "Kind": "service-defaults", "Name": service, "Protocol": "http" }));
        entries.push(json!({ "Kind": "service-splitter", "Name": service, "Splits": [
            { "Weight": 90, "ServiceSubset": "v1" }, { "Weight": 10, "ServiceSubset": "v2" } ] }));
        entries.push(json!({ "Kind": "service-resolver", "Name": service, "Subsets": {
            "v1": { "Filter": "Service.Meta.version == v1" },
            "v2": { "Filter": "Service.Meta.version == v2" } } }));
    }
    entries.push(json!({ "Kind": "service-router", "Name": "web", "Routes": routes }));
    world(entries)
}

fn world(entries: Vec<Value>) -> World {
    let http = json!({ "Kind": "service-defaults", "Name": "web", "Protocol": "http" });
    let decoded = entries.into_iter().chain([http]).map(decode);
    decoded.map(|entry| (entry.key(), entry)).collect()
}

fn chain(world: &World) -> CompiledChain {
    let datacenter = Datacenter::parse("dc1").expect("a name");
    let trust_domain = TrustDomain::parse("a1.mesh").expect("a name");
    compile(&name("web"), &datacenter, &trust_domain, world).expect("a chain")
}

fn name(text: &str) -> ServiceName {
    ServiceName::parse(text).expect("a name")
}

/// Returns how many seconds one of so many takes, at best.
fn best(count: usize, mut work: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..TAKES {
        let start = Instant::now();
        (0..count).for_each(|_| work());
        best = best.min(start.elapsed().as_secs_f64() / count as f64);
    }
    best
}
