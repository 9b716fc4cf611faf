//! Properties of chains that hold whatever the entries are, and the choice of instances.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::{ChainNode, CompiledChain, Endpoint, Target, check_write, compile, select, tell_tiers};
use crate::catalog::ServiceInstance;
use crate::config_entry::{ConfigEntry, EntryKey, Weight};
use crate::name::{Datacenter, ServiceName, TrustDomain};
use crate::traffic::RouteTable;

const SERVICES: [&str; 4] = ["a", "b", "c", "d"];
const SUBSETS: [&str; 3] = ["", "x", "y"];

fn service() -> impl Strategy<Value = &'static str> {
    prop::sample::select(SERVICES.to_vec())
}

fn subset() -> impl Strategy<Value = &'static str> {
    prop::sample::select(SUBSETS.to_vec())
}

/// Entries that are rarely in each other's way, so that many chains compile.
fn any_entry() -> impl Strategy<Value = serde_json::Value> {
    let protocol = prop::sample::select(vec!["http", "http", "http", "grpc", "tcp"]);
    let legs = |count| prop::collection::vec((service(), subset()), count);
    let resolver = (service(), subset(), prop::option::weighted(0.3, (service(), subset())));
    prop_oneof![
        (service(), protocol)
            .prop_map(|(n, p)| json!({"Kind":"service-defaults","Name":n,"Protocol":p})),
        resolver.prop_map(|(name, default, redirect)| {
            let redirect = redirect.map(|(s, sub)| json!({"Service":s,"ServiceSubset":sub}));
            json!({"Kind":"service-resolver","Name":name,"DefaultSubset":default,
                "Subsets":{"x":{"Filter":"x in Service.Tags"},"y":{}},"Redirect":redirect})
        }),
        (service(), legs(1..4)).prop_map(|(name, legs)| {
            let share = 100 / legs.len();
            let splits: Vec<_> = legs
                .iter()
                .enumerate()
                .map(|(at, (s, sub))| {
                    let weight = if at == 0 { 100 - share * (legs.len() - 1) } else { share };
                    json!({"Weight":weight,"Service":s,"ServiceSubset":sub})
                })
                .collect();
            json!({"Kind":"service-splitter","Name":name,"Splits":splits})
        }),
        (service(), legs(0..4)).prop_map(|(name, legs)| {
            let routes: Vec<_> = legs
                .iter()
                .map(|(s, sub)| json!({"Destination":{"Service":s,"ServiceSubset":sub}}))
                .collect();
            json!({"Kind":"service-router","Name":name,"Routes":routes})
        }),
        (service(), prop::sample::select(vec!["pending", "progressing", "promoted"])).prop_map(
            |(name, phase)| {
                let steps = json!([{"Weight":5,"Header":{"Name":"x-canary","Present":true}}]);
                json!({"Kind":"rollout","Name":name,"Stable":"x","Canary":"y","Steps":steps,
                    "Status":{"Phase":phase}})
            }
        ),
    ]
}

fn world(entries: Vec<serde_json::Value>) -> BTreeMap<EntryKey, ConfigEntry> {
    let mut world = BTreeMap::new();
    let http = json!({"Kind":"proxy-defaults","Name":"global","Config":{"protocol":"http"}});
    for json in entries.into_iter().chain([http]) {
        let entry: ConfigEntry = serde_json::from_value(json).expect("the shape of an entry");
        if let Ok(entry) = entry.normalise() {
            world.insert(entry.key(), entry);
        }
    }
    world
}

fn compiled(
    name: &str,
    world: &BTreeMap<EntryKey, ConfigEntry>,
) -> Result<CompiledChain, Vec<super::ChainError>> {
    compile(
        &ServiceName::parse(name).expect("a name"),
        &Datacenter::parse("dc1").expect("a name"),
        &TrustDomain::parse("a1.mesh").expect("a name"),
        world,
    )
}

/// Follows every way of a chain to its end.
fn walk(chain: &CompiledChain, name: &str, depth: usize) {
    assert!(depth < 4, "a router, a splitter and a resolver at most");
    match &chain.nodes[name] {
        ChainNode::Router(router) => {
            let last = router.routes.last().expect("the route that takes everything");
            assert_eq!(last.matches.path_prefix.as_deref(), Some("/"));
            router.routes.iter().for_each(|route| walk(chain, &route.next_node, depth + 1));
        }
        ChainNode::Splitter(splitter) => {
            let total: u32 = splitter.splits.iter().map(|split| split.weight.hundredths()).sum();
            assert_eq!(total, Weight::FULL.hundredths());
            splitter.splits.iter().for_each(|split| walk(chain, &split.next_node, depth + 1));
        }
        ChainNode::Resolver(resolver) => {
            assert_eq!(chain.targets[&resolver.target].id, resolver.target);
        }
    }
}

proptest! {
    #[test]
    fn every_way_of_a_chain_ends_at_a_target(entries in prop::collection::vec(any_entry(), 0..10)) {
        let world = world(entries);
        for name in SERVICES {
            match compiled(name, &world) {
                Ok(chain) => {
                    walk(&chain, &chain.start_node, 0);
                    let caller = ServiceName::parse("shop").expect("a name");
                    RouteTable::compile(&chain, &caller).expect("a chain that can be walked");
                    let again = compiled(name, &world).expect("the same");
                    prop_assert_eq!(
                        serde_json::to_string(&chain).expect("JSON"),
                        serde_json::to_string(&again).expect("JSON")
                    );
                }
                Err(errors) => prop_assert!(!errors.is_empty()),
            }
        }
    }

    #[test]
    fn a_chain_depends_on_what_it_read_and_on_nothing_else(
        entries in prop::collection::vec(any_entry(), 0..8),
        change in any_entry(),
    ) {
        let before = world(entries);
        let mut after = before.clone();
        after.extend(world(vec![change]));
        for name in SERVICES {
            let Ok(chain) = compiled(name, &before) else { continue };
            let touched = chain.reads.iter().any(|key| before.get(key) != after.get(key));
            if !touched {
                prop_assert_eq!(Ok(chain), compiled(name, &after));
            }
        }
    }
}

proptest! {
    #[test]
    fn a_write_that_passes_its_check_breaks_no_chain(
        entries in prop::collection::vec(any_entry(), 0..12),
        drops in prop::collection::vec(0usize..12, 0..3),
    ) {
        let mut stored = BTreeMap::new();
        let mut write = |key: &EntryKey, entry: Option<ConfigEntry>| {
            let mut after = stored.clone();
            match entry {
                Some(entry) => after.insert(key.clone(), entry),
                None => after.remove(key),
            };
            if check_write(key, after.values(), &after).is_ok() {
                stored = after;
            }
            for name in SERVICES {
                prop_assert!(compiled(name, &stored).is_ok(), "{} after {}", name, key);
            }
            Ok(())
        };
        let entries: Vec<_> = world(entries).into_iter().collect();
        for (key, entry) in &entries {
            write(key, Some(entry.clone()))?;
        }
        for (key, _) in drops.iter().filter_map(|at| entries.get(*at)) {
            write(key, None)?;
        }
    }
}

fn target(filter: &str, only_passing: bool) -> Target {
    let chain = compiled("web", &BTreeMap::new()).expect("a chain");
    let target = chain.targets.into_values().next().expect("one target");
    Target { filter: filter.to_owned(), only_passing, ..target }
}

fn instance(address: &str, extra: serde_json::Value) -> ServiceInstance {
    let mut record = json!({
        "Node": { "Node": "host", "Address": "10.0.0.9", "Datacenter": "dc1" },
        "Service": { "Kind": "connect-proxy", "ID": format!("at {address}"),
            "Service": "web-sidecar-proxy", "Address": address, "Port": 21000,
            "Proxy": { "DestinationServiceName": "web" } },
        "Checks": [],
    });
    for (pointer, value) in extra.as_object().expect("pointers") {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        let parent = record.pointer_mut(parent).expect("a place in the record");
        parent[key] = value.clone();
    }
    serde_json::from_value(record).expect("an instance")
}

fn chosen(target: &Target, instances: &[ServiceInstance]) -> Vec<String> {
    let endpoints = select(target, instances);
    endpoints.iter().map(|end| format!("{} {}", end.address, end.weight)).collect()
}

fn check(status: &str) -> serde_json::Value {
    json!([{ "Node": "host", "CheckID": "c", "Name": "c", "Status": status }])
}

#[test]
fn health_decides_who_may_be_called() {
    let instances = [
        instance("10.0.0.1", json!({})),
        instance("10.0.0.2", json!({ "/Checks": check("warning") })),
        instance("10.0.0.3", json!({ "/Checks": check("critical") })),
    ];
    assert_eq!(chosen(&target("", false), &instances), ["10.0.0.1:21000 1", "10.0.0.2:21000 1"]);
    assert_eq!(chosen(&target("", true), &instances), ["10.0.0.1:21000 1"]);
}

#[test]
fn a_filter_sees_what_the_sidecar_inherited() {
    let instances = [
        instance("10.0.0.1", json!({ "/Service/Meta": { "version": "v1" } })),
        instance("10.0.0.2", json!({ "/Service/Meta": { "version": "v2" } })),
    ];
    let v2 = target("Service.Meta.version == v2", false);
    assert_eq!(chosen(&v2, &instances), ["10.0.0.2:21000 1"]);
    assert!(chosen(&target("no filter at all", false), &instances).is_empty());
}

#[test]
fn only_addresses_that_can_be_called_are_chosen_and_each_once() {
    let instances = [
        instance("web.example", json!({})),
        instance("", json!({ "/Service/Weights": { "Passing": 0, "Warning": 0 } })),
        instance("::1", json!({ "/Service/Weights": { "Passing": 7, "Warning": 1 } })),
        instance("::1", json!({})),
        instance("10.0.0.1", json!({ "/Service/Port": 0 })),
        instance("10.0.0.2", json!({ "/Node/Datacenter": "dc2" })),
    ];
    let found = chosen(&target("", false), &instances);
    assert_eq!(found, ["10.0.0.9:21000 1", "[::1]:21000 1"]);
}

#[test]
fn a_sidecar_of_another_spelling_has_another_identity_and_is_not_called() {
    let other = json!({ "/Service/Proxy": { "DestinationServiceName": "Web" } });
    let instances = [instance("10.0.0.1", json!({})), instance("10.0.0.2", other)];
    assert_eq!(chosen(&target("", false), &instances), ["10.0.0.1:21000 1"]);
}

/// Makes `count` entries from a service's number, and compiles the chain of service 0.
fn chain_of(count: usize, entry: impl Fn(usize) -> serde_json::Value) -> Result<usize, String> {
    let world = world((0..count).map(entry).collect());
    match compiled("s0", &world) {
        Ok(chain) => Ok(chain.nodes.len()),
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    }
}

#[test]
fn redirects_that_never_end_are_refused() {
    let redirect = |at: usize| {
        json!({"Kind":"service-resolver","Name":format!("s{at}"),
            "Redirect":{"Service":format!("s{}", at + 1)}})
    };
    assert_eq!(chain_of(31, redirect), Ok(1));
    let error = chain_of(40, redirect).expect_err("too many redirects");
    assert!(error.ends_with("more than 32 redirects follow each other"), "{error}");
}

#[test]
fn splitters_that_nest_too_deep_are_refused() {
    let splitter = |at: usize| {
        json!({"Kind":"service-splitter","Name":format!("s{at}"),
            "Splits":[{"Weight":50},{"Weight":50,"Service":format!("s{}", at + 1)}]})
    };
    chain_of(32, splitter).expect("a chain");
    let error = chain_of(40, splitter).expect_err("too deep");
    assert!(error.ends_with("splitters are nested deeper than 32"), "{error}");
}

#[test]
fn splitters_that_multiply_are_refused() {
    // Each of the 50 legs leads to 50 more.
    let splitter = |at: usize| {
        let leg = |to: usize| {
            let service = if at == 0 { format!("s{}", to + 1) } else { format!("t{to}") };
            json!({"Weight":2,"Service":service})
        };
        json!({"Kind":"service-splitter","Name":format!("s{at}"),
            "Splits":(0..50).map(leg).collect::<Vec<_>>()})
    };
    let error = chain_of(51, splitter).expect_err("2,500 legs");
    assert!(error.ends_with("with the splitters behind it, it has more than 1000 legs"), "{error}");
}

#[test]
fn chains_that_grow_without_end_are_refused() {
    // Each of the 100 routes leads to a splitter with 100 legs, all to different services.
    let entry = |at: usize| {
        let name = format!("s{at}");
        if at == 0 {
            let route = |to: usize| json!({"Destination":{"Service":format!("s{}", to + 1)}});
            let routes: Vec<_> = (0..100).map(route).collect();
            return json!({"Kind":"service-router","Name":name,"Routes":routes});
        }
        let leg = |to: usize| json!({"Weight":1,"Service":format!("t{at}-{to}")});
        json!({"Kind":"service-splitter","Name":name,"Splits":(0..100).map(leg).collect::<Vec<_>>()})
    };
    let error = chain_of(101, entry).expect_err("10,000 targets");
    assert!(error.contains("the chain has more than 4096 nodes"), "{error}");
}

#[test]
fn a_rollout_splits_and_sends_what_has_its_header_to_the_new_version_whatever_the_route() {
    let entries = |phase: &str, router: bool| {
        let mut entries = vec![
            json!({"Kind":"service-resolver","Name":"a","Subsets":{"x":{},"y":{}}}),
            json!({"Kind":"rollout","Name":"a","Stable":"x","Canary":"y",
                "Steps":[{"Weight":5,"Header":{"Name":"x-canary","Present":true}}],
                "Status":{"Phase":phase}}),
        ];
        if router {
            entries.push(json!({"Kind":"service-router","Name":"a","Routes":[
                {"Match":{"HTTP":{"PathPrefix":"/p"}},"Destination":{"PrefixRewrite":"/"}},
                {"Match":{"HTTP":{"PathPrefix":"/q"}},"Destination":{"ServiceSubset":"x"}}]}));
        }
        compiled("a", &world(entries)).expect("a chain")
    };
    let weights = |chain: &CompiledChain| -> Vec<u32> {
        match &chain.nodes["splitter:a"] {
            ChainNode::Splitter(node) => {
                node.splits.iter().map(|it| it.weight.hundredths()).collect()
            }
            other => panic!("{other:?}"),
        }
    };
    let routes = |chain: &CompiledChain| -> Vec<String> {
        match chain.nodes.get("router:a") {
            Some(ChainNode::Router(node)) => node
                .routes
                .iter()
                .map(|route| {
                    let prefix = route.matches.path_prefix.clone().unwrap_or_default();
                    format!("{prefix} {} {}", route.matches.header.len(), route.next_node)
                })
                .collect(),
            _ => Vec::new(),
        }
    };
    let canary = "resolver:y.a.default.default.dc1";
    let plain = entries("progressing", false);
    assert_eq!(weights(&plain), [9_500, 500]);
    assert_eq!(plain.rollouts.len(), 1);
    assert_eq!(routes(&plain), [format!("/ 1 {canary}"), "/ 0 splitter:a".to_owned()]);
    let routed = routes(&entries("progressing", true));
    let expected = [
        format!("/p 1 {canary}"),
        "/p 0 splitter:a".to_owned(),
        "/q 0 resolver:x.a.default.default.dc1".to_owned(),
        format!("/ 1 {canary}"),
        "/ 0 splitter:a".to_owned(),
    ];
    assert_eq!(routed, expected, "a route to one version stays as it is");
    for (phase, share) in [("pending", 0), ("promoted", 10_000), ("rolled-back", 0)] {
        let chain = entries(phase, false);
        assert_eq!(weights(&chain), [10_000 - share, share], "{phase}");
        assert!(routes(&chain).is_empty(), "{phase}");
        assert_eq!(chain.rollouts.is_empty(), phase != "pending", "{phase}");
    }
}

#[test]
fn a_rollout_has_requests_copied_to_the_new_version_that_would_go_to_the_old_one() {
    let copied = |router: bool| {
        let mut world = vec![
            json!({"Kind":"service-resolver","Name":"a","Subsets":{"x":{},"y":{}}}),
            json!({"Kind":"rollout","Name":"a","Stable":"x","Canary":"y","Steps":[{"Mirror":10}],
                "Status":{"Phase":"progressing"}}),
        ];
        if router {
            world.push(json!({"Kind":"service-router","Name":"a","Routes":[
                {"Match":{"HTTP":{"PathPrefix":"/q"}},"Destination":{"ServiceSubset":"x"}}]}));
        }
        let chain = compiled("a", &self::world(world)).expect("a chain");
        let Some(ChainNode::Router(node)) = chain.nodes.get("router:a") else { panic!("a router") };
        node.routes.iter().map(|route| route.mirror_node.clone()).collect::<Vec<_>>()
    };
    let canary = Some("resolver:y.a.default.default.dc1".to_owned());
    assert_eq!(copied(true), [None, canary.clone()]);
    assert_eq!(copied(false), [canary]);
}

#[test]
fn a_rollout_that_leads_nowhere_or_beside_a_splitter_is_refused() {
    let rollout = json!({"Kind":"rollout","Name":"a","Stable":"x","Canary":"y","Steps":[{}]});
    let resolver = |default: &str| json!({"Kind":"service-resolver","Name":"a","DefaultSubset":default,"Subsets":{"x":{},"y":{}}});
    let told = |entries: Vec<serde_json::Value>| {
        let errors = compiled("a", &world(entries)).expect_err("no chain");
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let splitter = json!({"Kind":"service-splitter","Name":"a","Splits":[{"Weight":100}]});
    let both = told(vec![resolver(""), rollout.clone(), splitter]);
    assert!(both.contains("rollout/a: service-splitter/a shares the same requests"), "{both}");
    let missing = told(vec![rollout.clone()]);
    assert!(missing.contains("rollout/a Canary: a has no subset \"y\""), "{missing}");
    let to_default = json!({"Kind":"rollout","Name":"a","Canary":"y","Steps":[{}]});
    let same = told(vec![resolver("y"), to_default]);
    assert!(same.contains("rollout/a Canary: leads to the same instances as Stable"), "{same}");
    let tcp = json!({"Kind":"service-defaults","Name":"a","Protocol":"tcp"});
    let bytes = told(vec![resolver(""), rollout, tcp]);
    assert!(bytes.contains("a speaks tcp, and a rollout needs http, http2 or grpc"), "{bytes}");
}

#[test]
fn instances_are_as_far_as_their_zones_and_regions_are() {
    let own = crate::catalog::Locality { region: "eu".into(), zone: "eu-a".into() };
    let at = |number: usize, locality: serde_json::Value| {
        instance(&format!("10.0.0.{number}"), json!({ "/Service/Locality": locality }))
    };
    let instances = [
        at(1, json!({ "Region": "eu", "Zone": "eu-a" })),
        at(2, json!({ "Region": "eu", "Zone": "eu-b" })),
        at(3, json!({ "Region": "us", "Zone": "eu-a" })),
        at(4, json!(null)),
        at(5, json!({ "Region": "eu" })),
    ];
    let mut endpoints: Vec<Endpoint> = instances
        .iter()
        .flat_map(|it| select(&target("", false), std::slice::from_ref(it)))
        .collect();
    assert_eq!(endpoints.len(), 5);
    tell_tiers(&mut endpoints, &instances, &own);
    let tiers: Vec<u8> = endpoints.iter().map(|endpoint| endpoint.tier).collect();
    assert_eq!(tiers, [0, 1, 2, 2, 1]);
}
