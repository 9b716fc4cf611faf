//! Commands about the catalog, keys, sessions, config entries, queries and members.

use proptest::prelude::*;
use serde_json::{Value, json};
use weft_core::ca::rotation::CaChange;
use weft_core::ca::{CaRoot, CaSettings, KeyKind, RootSource};
use weft_core::catalog::SERF_HEALTH;
use weft_core::config_entry::{ConfigEntry, EntryKey, EntryKind, RolloutPhase, RolloutStatus};
use weft_core::index::Index;
use weft_core::kv::{KvCommand, KvCondition, KvKey};
use weft_core::name::ServiceName;
use weft_core::session::SessionId;
use weft_core::state::{
    Command, KvLook, NodeLiveness, OperatorCommand, QueryCommand, RestoreCommand, RolloutAct,
    RolloutCommand, RolloutSignal, SessionCommand, TxnOp, TxnVerb,
};
use weft_core::time::{Span, Timestamp};

use super::{RIGHT, cas, command, id, node, one_of, service};

const STATUSES: [&str; 3] = ["passing", "warning", "critical"];

fn node_record(name: &str, id: &str) -> Value {
    json!({ "ID": id, "Node": name, "Address": "10.0.0.1", "Datacenter": "dc1" })
}

fn instance(id: &str, name: &str, tag: u8, is_proxy: bool) -> Value {
    let mut service = json!({ "ID": id, "Service": name, "Tags": [format!("t{tag}")], "Port": 80 });
    if is_proxy {
        service["Kind"] = "connect-proxy".into();
        service["Proxy"] = json!({ "DestinationServiceName": name, "DestinationServiceID": id });
        service["ID"] = format!("{id}-p").into();
        service["Service"] = format!("{name}-p").into();
    }
    service
}

fn check(node: &str, check: &str, status: &str, service: &str) -> Value {
    json!({
        "Node": node, "CheckID": check, "Name": check, "Status": status, "ServiceID": service,
    })
}

/// Registrations and their ends, by agents and by others.
pub(super) fn catalog() -> impl Strategy<Value = Command> {
    let services = prop::collection::vec((service(), service(), 0..2u8, any::<bool>()), 0..3);
    let statuses = prop::sample::select(&STATUSES[..]);
    let checks =
        prop::collection::vec((one_of(&["up", "c", SERF_HEALTH]), statuses, any::<bool>()), 0..2);
    // A copied data directory: two nodes with one id.
    let ids = one_of(&["", "", "10000000-0000-4000-8000-000000000001"]);
    let verb = one_of(&["Register", "Register", "RegisterExternal"]);
    let register =
        (verb, node(), ids, services, checks).prop_map(|(verb, node, id, services, checks)| {
            let services: Vec<Value> = services
                .into_iter()
                .map(|(id, name, tag, is_proxy)| instance(id, name, tag, is_proxy))
                .collect();
            let checks: Vec<Value> = checks
                .into_iter()
                .map(|(name, status, of)| check(node, name, status, if of { "web" } else { "" }))
                .collect();
            let what =
                json!({ "node": node_record(node, id), "services": services, "checks": checks });
            command(json!({ verb: what }))
        });
    let verb = one_of(&["Deregister", "DeregisterExternal"]);
    let what = prop_oneof![
        2 => Just((Vec::<&str>::new(), Vec::<&str>::new())),
        3 => service().prop_map(|id| (vec![id], Vec::new())),
        1 => one_of(&["up", "c"]).prop_map(|id| (Vec::new(), vec![id])),
    ];
    let deregister = (verb, node(), what).prop_map(|(verb, node, (services, checks))| {
        command(json!({ verb: { "node": node, "services": services, "checks": checks } }))
    });
    let numbers = prop::collection::vec(-1.0..1.0f64, 7..9);
    let coordinate = (node(), numbers).prop_map(|(node, vec)| {
        let coord = json!({ "Vec": vec, "Error": 0.5, "Adjustment": 0.0, "Height": 0.001 });
        command(json!({ "Coordinate": { "Node": node, "Coord": coord } }))
    });
    let liveness = (node(), any::<bool>(), cas()).prop_map(|(node, is_alive, as_of)| {
        let node = node.parse().expect("a name");
        Command::SetLiveness(NodeLiveness { node, is_alive, as_of: as_of.unwrap_or(RIGHT) })
    });
    prop_oneof![5 => register, 2 => deregister, 1 => coordinate, 1 => liveness]
}

fn key() -> impl Strategy<Value = KvKey> {
    one_of(&["a", "a/", "a/b", "ab", "é"]).prop_map(|key| KvKey::parse(key).expect("a key"))
}

fn session_id() -> impl Strategy<Value = SessionId> {
    id().prop_map(|id| id.parse().expect("an id"))
}

fn write() -> impl Strategy<Value = KvCommand> {
    let condition = prop_oneof![
        3 => Just(KvCondition::Always),
        3 => cas().prop_map(|cas| KvCondition::Cas(cas.unwrap_or(RIGHT))),
        3 => session_id().prop_map(KvCondition::Acquire),
        1 => session_id().prop_map(KvCondition::Release),
    ];
    prop_oneof![
        6 => (key(), 0..3u8, 0..2u64, condition).prop_map(|(key, value, flags, condition)| {
            KvCommand::Set { key, value: value.to_string().into(), flags, condition }
        }),
        3 => (key(), cas()).prop_map(|(key, cas)| KvCommand::Delete { key, cas }),
        1 => one_of(&["", "a/", "x"]).prop_map(|prefix| {
            KvCommand::DeleteTree { prefix: KvKey::parse(prefix).expect("a prefix") }
        }),
    ]
}

pub(super) fn kv() -> impl Strategy<Value = Command> {
    write().prop_map(Command::Kv)
}

pub(super) fn session() -> impl Strategy<Value = Command> {
    let create = (id(), node(), any::<bool>(), any::<bool>(), one_of(&["0s", "15s"]));
    let create = create.prop_map(|(id, node, deletes, is_checked, delay)| {
        let behavior = if deletes { "delete" } else { "release" };
        let checks = if is_checked { vec!["serfHealth", "up"] } else { Vec::new() };
        command(json!({ "Session": { "Create": {
            "ID": id, "Node": node, "LockDelay": delay, "TTL": "10s", "Behavior": behavior,
            "NodeChecks": checks, "ServiceChecks": [],
        } } }))
    });
    let destroy = session_id().prop_map(|id| Command::Session(SessionCommand::Destroy(id)));
    prop_oneof![3 => create, 1 => destroy]
}

fn verb() -> impl Strategy<Value = TxnVerb> {
    let verbs = [TxnVerb::Cas, TxnVerb::Delete, TxnVerb::DeleteCas, TxnVerb::Get, TxnVerb::Set];
    prop::sample::select(verbs.to_vec())
}

/// Several things at once; most are refused for one of them, after others have been done.
pub(super) fn txn() -> impl Strategy<Value = Command> {
    let look = prop_oneof![
        key().prop_map(KvLook::Get),
        key().prop_map(KvLook::GetOrEmpty),
        key().prop_map(KvLook::GetTree),
        key().prop_map(KvLook::CheckNotExists),
        (key(), 0..30u64).prop_map(|(key, index)| KvLook::CheckIndex(key, Index(index))),
        (key(), session_id()).prop_map(|(key, session)| KvLook::CheckSession(key, session)),
    ];
    let indexed = |mut record: Value, index: u64| {
        record["ModifyIndex"] = index.into();
        record
    };
    let op = prop_oneof![
        5 => write().prop_map(TxnOp::KvWrite),
        1 => look.prop_map(TxnOp::KvLook),
        1 => (verb(), node(), 0..9u64).prop_map(move |(verb, node, index)| {
            let record = indexed(node_record(node, ""), index);
            TxnOp::Node(verb, serde_json::from_value(record).expect("a node"))
        }),
        1 => (verb(), node(), service(), 0..9u64).prop_map(move |(verb, node, name, index)| {
            let record = indexed(instance(name, name, 0, false), index);
            let service = serde_json::from_value(record).expect("a service");
            TxnOp::Service(verb, node.parse().expect("a node"), service)
        }),
        1 => (verb(), node(), prop::sample::select(&STATUSES[..]), 0..9u64).prop_map(
            move |(verb, node, status, index)| {
                let record = indexed(check(node, "up", status, ""), index);
                TxnOp::Check(verb, serde_json::from_value(record).expect("a check"))
            },
        ),
        1 => session_id().prop_map(TxnOp::SessionDelete),
    ];
    prop::collection::vec(op, 0..5).prop_map(Command::Txn)
}

/// Config entries, some of which break the chain of another.
const ENTRIES: [&str; 14] = [
    r#"{"Kind":"service-defaults","Name":"web","Protocol":"http"}"#,
    r#"{"Kind":"service-defaults","Name":"web","Protocol":"tcp"}"#,
    r#"{"Kind":"service-defaults","Name":"db","Protocol":"http"}"#,
    r#"{"Kind":"service-resolver","Name":"web","Subsets":{"v1":{},"v2":{}}}"#,
    r#"{"Kind":"service-resolver","Name":"web","Redirect":{"Service":"db"}}"#,
    r#"{"Kind":"service-resolver","Name":"db","Redirect":{"Service":"web"}}"#,
    r#"{"Kind":"service-splitter","Name":"web","Splits":[
        {"Weight":90,"ServiceSubset":"v1"},{"Weight":10,"ServiceSubset":"v2"}]}"#,
    r#"{"Kind":"service-splitter","Name":"web","Splits":[{"Weight":99}]}"#,
    r#"{"Kind":"service-router","Name":"web","Routes":[
        {"Match":{"HTTP":{"PathPrefix":"/a"}},"Destination":{"Service":"db"}}]}"#,
    r#"{"Kind":"service-intentions","Name":"web","Sources":[
        {"Name":"db","Action":"allow","Type":"consul"}]}"#,
    r#"{"Kind":"proxy-defaults","Name":"global","Config":{"protocol":"http"}}"#,
    r#"{"Kind":"proxy-defaults","Name":"global","Config":{"protocol":"tcp"}}"#,
    r#"{"Kind":"mesh"}"#,
    r#"{"Kind":"exported-services","Name":"default","Services":[
        {"Name":"web","Consumers":[{"Peer":"east"}]}]}"#,
];

const KINDS: [(EntryKind, &str); 7] = [
    (EntryKind::Rollout, "api"),
    (EntryKind::ServiceDefaults, "web"),
    (EntryKind::ServiceResolver, "web"),
    (EntryKind::ServiceSplitter, "web"),
    (EntryKind::ServiceRouter, "web"),
    (EntryKind::ServiceIntentions, "web"),
    (EntryKind::ProxyDefaults, "global"),
];

pub(super) fn entry() -> impl Strategy<Value = Command> {
    let upsert = upsert(&ENTRIES);
    let delete = (prop::sample::select(&KINDS[..]), cas()).prop_map(|((kind, name), cas)| {
        Command::DeleteEntry { key: EntryKey::new(kind, name), cas }
    });
    prop_oneof![4 => upsert, 1 => delete]
}

fn upsert(entries: &'static [&'static str]) -> impl Strategy<Value = Command> {
    (prop::sample::select(entries), cas()).prop_map(|(text, cas)| {
        let entry: ConfigEntry = serde_json::from_str(text).expect("an entry");
        // What a server would refuse is written as it is: it may still be in a log.
        let entry = entry.clone().normalise().unwrap_or(entry);
        Command::UpsertEntry { entry, cas }
    })
}

/// Writes of single intentions, by names and by ids.
pub(super) fn intention() -> impl Strategy<Value = Command> {
    let name = || one_of(&["web", "db", "*"]);
    let source = |name: &str, action: &str, id: &str| {
        let precedence = if name == "*" { 8 } else { 9 };
        json!({ "Name": name, "Action": action, "Precedence": precedence, "LegacyID": id })
    };
    let action = || one_of(&["allow", "deny"]);
    prop_oneof![
        (name(), name(), action()).prop_map(move |(to, from, action)| {
            let source = source(from, action, "");
            command(json!({ "UpsertIntention": { "destination": to, "source": source } }))
        }),
        (name(), name()).prop_map(|(to, from)| {
            command(json!({ "DeleteIntention": { "destination": to, "source": from } }))
        }),
        (one_of(&["Create", "Update"]), name(), name(), action(), id()).prop_map(
            move |(verb, to, from, action, id)| {
                let source = source(from, action, &id);
                let what = json!({ "destination": to, "source": source });
                command(json!({ "Intention": { verb: what } }))
            }
        ),
        id().prop_map(|id| command(json!({ "Intention": { "Delete": { "id": id } } }))),
    ]
}

pub(super) fn query() -> impl Strategy<Value = Command> {
    let name = one_of(&["", "q", "geo-"]);
    let session = prop_oneof![3 => Just(String::new()), 1 => id()];
    let made = (id(), name, session, any::<bool>(), service()).prop_map(
        |(id, name, session, is_template, service)| {
            let mut query = json!({
                "ID": id, "Name": name, "Session": session,
                "Service": { "Service": service, "Failover": { "NearestN": 1 } },
            });
            if is_template {
                query["Template"] = json!({ "Type": "name_prefix_match", "Regexp": "" });
            }
            serde_json::from_value(query).expect("a query")
        },
    );
    prop_oneof![
        4 => (made, any::<bool>()).prop_map(|(query, is_new)| Command::Query(match is_new {
            true => QueryCommand::Create(query),
            false => QueryCommand::Update(query),
        })),
        1 => id().prop_map(|id| Command::Query(QueryCommand::Delete { id })),
    ]
}

/// What makes a rollout of `api`.
const ROLLED_OUT: [&str; 4] = [
    r#"{"Kind":"service-defaults","Name":"api","Protocol":"http"}"#,
    r#"{"Kind":"service-resolver","Name":"api","Subsets":{"v1":{},"v2":{}}}"#,
    r#"{"Kind":"rollout","Name":"api","Stable":"v1","Canary":"v2","Steps":[{"Weight":5},{}]}"#,
    r#"{"Kind":"rollout","Name":"api","Stable":"v1","Canary":"v2","StepWeight":20}"#,
];

/// The entries, what is said to the rollout of `api`, and what the leader judged of it, often of how it stood before.
pub(super) fn rollout() -> impl Strategy<Value = Command> {
    let phase = || {
        use RolloutPhase::{Pending, Progressing, Promoted};
        prop::sample::select(&[Pending, Progressing, Promoted][..])
    };
    let status =
        |(phase, step)| Box::new(RolloutStatus { phase, step, ..RolloutStatus::default() });
    let judge = (phase(), phase(), 0..2u32).prop_map(move |(from, to, step)| RolloutAct::Judge {
        from: status((from, 0)),
        to: status((to, step)),
    });
    let signal = prop::sample::select(&RolloutSignal::ALL[..]).prop_map(RolloutAct::Signal);
    let said = prop_oneof![1 => judge, 2 => signal].prop_map(|act| {
        let service = ServiceName::parse("api").expect("a name");
        Command::Rollout(RolloutCommand { service, act })
    });
    prop_oneof![upsert(&ROLLED_OUT), said]
}

/// The CA, join tokens and the cluster itself. Expiry counts from when the token is made.
pub(super) fn member() -> impl Strategy<Value = Command> {
    let role = || one_of(&["agent", "server"]);
    let root = |name: &str, active| CaRoot {
        fingerprint: name.to_owned(),
        name: name.to_owned(),
        certificate_pem: format!("PEM {name}"),
        sealed_key: vec![1],
        valid_after: Timestamp(0),
        valid_before: Timestamp(9_000_000_000),
        active,
        source: RootSource::BuiltIn,
        key_kind: KeyKind::EcP256,
        cross_signed: Vec::new(),
        rotated_out_at: None,
        trusted_until: None,
        create_index: Index(0),
        modify_index: Index(0),
    };
    let set = (one_of(&["f1", "f2"]), any::<bool>())
        .prop_map(move |(name, active)| Command::SetCaRoot(root(name, active)));
    let change = (one_of(&["f1", "f2", "f3"]), 0..12u64).prop_map(move |(name, seen)| {
        Command::ChangeCa(CaChange {
            seen: Index(seen),
            settings: CaSettings::default(),
            root: Some(root(name, true)),
            overlap: Span::seconds(5),
        })
    });
    prop_oneof![
        2 => set,
        2 => change,
        1 => Just(Command::PruneCaRoots),
        1 => one_of(&["f1", "f2", "f9"]).prop_map(|fingerprint| Command::ActivateCaRoot {
            fingerprint: fingerprint.to_owned(),
        }),
        1 => (1..4u64).prop_map(|hours| {
            let leaf_lifetime = Some(Span::seconds(3600 * hours));
            Command::SetCaSettings(CaSettings { leaf_lifetime, ..CaSettings::default() })
        }),
        2 => (role(), 1..3u32).prop_map(|(role, uses)| command(json!({ "CreateJoinToken": {
            "secret_sha256": "abc", "role": role, "expires": 60_000, "uses_left": uses,
        } }))),
        2 => (role(), node()).prop_map(|(role, node)| command(json!({ "RedeemJoinToken": {
            "secret_sha256": "abc", "role": role, "node": node, "request_sha256": node,
        } }))),
        // Of so short a secret, its id is the whole of it.
        1 => one_of(&["abc", "none"])
            .prop_map(|id| command(json!({ "RevokeJoinToken": { "id": id } }))),
        1 => one_of(&["c1", "c2"]).prop_map(|id| command(json!({ "InitCluster": {
            "id": id, "trust_domain": "a1.mesh", "datacenter": "dc1",
        } }))),
    ]
}

/// Events, what operators set, and parts of a snapshot that is to be restored.
pub(super) fn rest() -> impl Strategy<Value = Command> {
    let event = (id(), one_of(&["deploy", "restart"]))
        .prop_map(|(id, name)| command(json!({ "Event": { "id": id, "name": name } })));
    let autopilot = (any::<bool>(), cas()).prop_map(|(cleans, cas)| {
        let config = serde_json::from_value(json!({ "CleanupDeadServers": cleans }));
        Command::Operator(OperatorCommand::SetAutopilot { config: config.unwrap_or_default(), cas })
    });
    let restore = (id(), 0..4u8).prop_map(|(id, step)| {
        Command::Restore(match step {
            0 => RestoreCommand::Begin { id, bytes: 4 },
            1 => RestoreCommand::Piece { id, offset: 0, bytes: vec![1, 2].into() },
            2 => RestoreCommand::Piece { id, offset: 2, bytes: vec![3, 4].into() },
            _ => RestoreCommand::Abandon { id },
        })
    });
    prop_oneof![2 => event, 1 => autopilot, 1 => restore]
}
