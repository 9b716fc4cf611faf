//! What a compiled chain does with a request is what its entries say, read one after the other by an
//! interpreter that knows no chains: over random entries, to the hundredth of a percent of each target.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use weft_core::chain::compile;
use weft_core::config_entry::{
    ConfigEntry, EntryKey, EntryKind, HttpMatch, ServiceResolver, ServiceRouter, ServiceSplitter,
};
use weft_core::name::{Datacenter, ServiceName, TrustDomain};
use weft_core::traffic::{Mix64, RequestView, RouteTable};

const SERVICES: [&str; 4] = ["a", "b", "c", "d"];
/// Parts of all requests, in hundredths of a percent.
const FULL: u32 = 10_000;
/// What rounding the weights of splitters behind splitters may shift, for each leg on the way.
const ROUNDED: f64 = 4.0;

type World = BTreeMap<EntryKey, ConfigEntry>;

/// A request as far as these routes look at it.
#[derive(Debug, Clone)]
struct Asked {
    method: &'static str,
    path: String,
    user: Option<&'static str>,
}

impl RequestView for Asked {
    fn method(&self) -> &str {
        self.method
    }
    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }
    fn query(&self) -> Option<&[u8]> {
        None
    }
    fn has_disguised(&self, _: &str) -> bool {
        false
    }
    fn each_header(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        if let Some(user) = self.user.filter(|_| name == "x-user") {
            visit(user.as_bytes());
        }
    }
}

fn entry<'a>(world: &'a World, kind: EntryKind, name: &str) -> Option<&'a ConfigEntry> {
    world.get(&EntryKey::new(kind, name))
}

fn router<'a>(world: &'a World, name: &str) -> Option<&'a ServiceRouter> {
    entry(world, EntryKind::ServiceRouter, name)?.as_service_router()
}

fn splitter<'a>(world: &'a World, name: &str) -> Option<&'a ServiceSplitter> {
    entry(world, EntryKind::ServiceSplitter, name)?.as_service_splitter()
}

fn resolver<'a>(world: &'a World, name: &str) -> Option<&'a ServiceResolver> {
    entry(world, EntryKind::ServiceResolver, name)?.as_service_resolver()
}

/// Sends a share of requests on its way; adds what arrives to `ends`.
fn send(world: &World, service: &str, asked: &Asked, ends: &mut BTreeMap<String, f64>) {
    let routes = router(world, service).map_or(&[][..], |router| &router.routes);
    let http = |at: usize| routes[at].matches.as_ref().and_then(|matches| matches.http.as_ref());
    let taken = (0..routes.len()).find(|at| http(*at).is_none_or(|http| holds(http, asked)));
    let destination = taken.and_then(|at| routes[at].destination.as_ref());
    let to = destination.and_then(|to| to.service.as_ref()).map_or(service, ServiceName::as_str);
    let subset = destination.map_or("", |to| &to.service_subset);
    match subset.is_empty() {
        true => split(world, to, f64::from(FULL), ends),
        false => resolve(world, to, subset, f64::from(FULL), ends),
    }
}

fn holds(http: &HttpMatch, asked: &Asked) -> bool {
    let exact = http.path_exact.as_ref().is_none_or(|path| *path == asked.path);
    let prefix = http.path_prefix.as_ref().is_none_or(|path| asked.path.starts_with(path));
    let method = http.methods.is_empty() || http.methods.iter().any(|it| it == asked.method);
    let user = http.header.iter().all(|it| it.exact.as_deref() == asked.user);
    exact && prefix && method && user
}

fn split(world: &World, service: &str, share: f64, ends: &mut BTreeMap<String, f64>) {
    if let Some(rollout) = entry(world, EntryKind::Rollout, service).and_then(|it| it.as_rollout())
    {
        let canary = f64::from(rollout.share().weight.hundredths()) / f64::from(FULL);
        resolve(world, service, &rollout.canary, share * canary, ends);
        return resolve(world, service, &rollout.stable, share * (1.0 - canary), ends);
    }
    let Some(splitter) = splitter(world, service) else {
        return resolve(world, service, "", share, ends);
    };
    for leg in &splitter.splits {
        let share = share * f64::from(leg.weight.hundredths()) / f64::from(FULL);
        let to = leg.service.as_ref().map_or(service, ServiceName::as_str);
        match to == service || !leg.service_subset.is_empty() {
            true => resolve(world, to, &leg.service_subset, share, ends),
            false => split(world, to, share, ends),
        }
    }
}

fn resolve(
    world: &World,
    service: &str,
    subset: &str,
    share: f64,
    ends: &mut BTreeMap<String, f64>,
) {
    let found = resolver(world, service);
    if let Some(redirect) = found.and_then(|it| it.redirect.as_ref()) {
        let to = redirect.service.as_ref().map_or(service, ServiceName::as_str);
        // A subset is the service's own and means nothing to another one.
        let kept = if to == service { subset } else { "" };
        let named = &redirect.service_subset;
        let next = (to, if named.is_empty() { kept } else { named });
        if next != (service, subset) {
            return resolve(world, next.0, next.1, share, ends);
        }
    }
    let default = found.map_or("", |it| &it.default_subset);
    if subset.is_empty() && !default.is_empty() {
        return resolve(world, service, default, share, ends);
    }
    let dot = if subset.is_empty() { "" } else { "." };
    *ends.entry(format!("{subset}{dot}{service}.default.default.dc1")).or_default() += share;
}

fn subset() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "x", "y"])
}

fn service() -> impl Strategy<Value = &'static str> {
    prop::sample::select(SERVICES.to_vec())
}

fn path() -> impl Strategy<Value = String> {
    "(/[ab]){0,3}/?".prop_map(|path| if path.is_empty() { "/".to_owned() } else { path })
}

fn any_entry() -> impl Strategy<Value = Value> {
    let resolver = (service(), subset(), prop::option::weighted(0.2, (service(), subset())));
    let leg = (service(), subset(), 1..50u32);
    let condition = prop_oneof![
        path().prop_map(|path| json!({ "PathPrefix": path })),
        path().prop_map(|path| json!({ "PathExact": path })),
        Just(json!({ "Methods": ["PUT"] })),
        path().prop_map(
            |path| json!({ "PathPrefix": path, "Header": [{ "Name": "X-User", "Exact": "ada" }] })
        ),
    ];
    let route = (condition, service(), subset()).prop_map(|(http, service, subset)| {
        json!({ "Match": { "HTTP": http },
            "Destination": { "Service": service, "ServiceSubset": subset } })
    });
    prop_oneof![
        3 => resolver.prop_map(|(name, default, to)| {
            let to = to.map(|(service, subset)| json!({"Service":service,"ServiceSubset":subset}));
            json!({"Kind":"service-resolver","Name":name,"DefaultSubset":default,
                "Subsets":{"x":{},"y":{}},"Redirect":to})
        }),
        2 => (service(), prop::collection::vec(leg, 1..4)).prop_map(|(name, legs)| {
            let total: u32 = legs.iter().map(|(_, _, weight)| weight).sum();
            let mut left = FULL;
            let last = legs.len() - 1;
            let splits: Vec<Value> = legs.iter().enumerate().map(|(at, (service, subset, weight))| {
                let weight = if at == last { left } else { weight * FULL / total };
                left -= weight;
                json!({"Weight":f64::from(weight)/100.0,"Service":service,"ServiceSubset":subset})
            }).collect();
            json!({"Kind":"service-splitter","Name":name,"Splits":splits})
        }),
        // Enough routes for an index.
        3 => (service(), prop::collection::vec(route, 0..40)).prop_map(|(name, routes)| {
            json!({"Kind":"service-router","Name":name,"Routes":routes})
        }),
        1 => (service(), 0..100u32).prop_map(|(name, weight)| {
            json!({"Kind":"rollout","Name":name,"Stable":"x","Canary":"y",
                "Steps":[{"Weight":weight}],"Status":{"Phase":"progressing"}})
        }),
    ]
}

fn any_request() -> impl Strategy<Value = Asked> {
    let method = prop::sample::select(vec!["GET", "PUT"]);
    let user = prop::option::of(prop::sample::select(vec!["ada", "bob"]));
    (method, path(), user).prop_map(|(method, path, user)| Asked { method, path, user })
}

fn world(entries: Vec<Value>) -> World {
    let http = json!({"Kind":"proxy-defaults","Name":"global","Config":{"protocol":"http"}});
    let mut world = World::new();
    for json in entries.into_iter().chain([http]) {
        let entry: ConfigEntry = serde_json::from_value(json).expect("the shape of an entry");
        if let Ok(entry) = entry.normalise() {
            world.insert(entry.key(), entry);
        }
    }
    world
}

/// Sends all parts of a request through the compiled chain.
fn sent(table: &RouteTable, asked: &Asked) -> BTreeMap<String, f64> {
    let mut splits = table.splits(&mut Mix64::new(7));
    let mut ends: BTreeMap<String, f64> = BTreeMap::new();
    for _ in 0..FULL {
        let routed = table.route(Some(asked), &mut splits);
        *ends.entry(table.targets()[routed.target].to_string()).or_default() += 1.0;
    }
    ends
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_chain_does_what_its_entries_say(
        entries in prop::collection::vec(any_entry(), 1..9),
        requests in prop::collection::vec(any_request(), 1..6),
    ) {
        let world = world(entries);
        let name = |text: &str| ServiceName::parse(text).expect("a name");
        let dc = Datacenter::parse("dc1").expect("a name");
        let domain = TrustDomain::parse("a1.mesh").expect("a name");
        for service in SERVICES {
            // What is refused does nothing; that it is refused rightly is tested elsewhere.
            let Ok(chain) = compile(&name(service), &dc, &domain, &world) else { continue };
            let again = compile(&name(service), &dc, &domain, &world).expect("compiled before");
            prop_assert_eq!(
                serde_json::to_string(&chain).expect("JSON"),
                serde_json::to_string(&again).expect("JSON")
            );
            let table = RouteTable::compile(&chain, &name("shop")).expect("a chain");
            for asked in &requests {
                let mut said = BTreeMap::new();
                send(&world, service, asked, &mut said);
                let found = sent(&table, asked);
                for target in said.keys().chain(found.keys()) {
                    let of = |ends: &BTreeMap<String, f64>| ends.get(target).copied().unwrap_or(0.0);
                    prop_assert!(
                        (of(&said) - of(&found)).abs() <= ROUNDED,
                        "{}: {:?} goes to {:?}, and its entries say {:?}", service, asked, found, said
                    );
                }
            }
        }
    }
}
