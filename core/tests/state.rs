//! Runs the scripts in `state/*.txt` against the replicated state, and checks what must always
//! hold: the same commands give the same state, and a snapshot gives the same state back.
//!
//! A script is a list of steps; each line under a step, indented, is what is expected. Run with
//! `WEFT_BLESS=1` to write down what came instead.

mod golden;

use std::fmt::Write as _;

use proptest::prelude::*;
use weft_core::ca::{CaRoot, JoinTokenRecord, MemberRole};
use weft_core::catalog::{CatalogDeregistration, CatalogRegistration, ServiceInstance};
use weft_core::config_entry::{EntryKey, EntryKind};
use weft_core::index::Index;
use weft_core::name::ServiceName;
use weft_core::state::{Answer, Command, State, StateSnapshot};
use weft_core::time::Timestamp;

#[test]
fn scripts_give_what_they_say() {
    golden::check("state", run);
}

/// Carries out the steps and returns the script with what they gave.
fn run(script: &str) -> String {
    let (mut state, mut index, mut now) = (State::default(), 0u64, Timestamp(1_000_000));
    let mut out = String::new();
    for line in script.lines() {
        if line.starts_with("  ") {
            continue;
        }
        out.push_str(line);
        out.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "wait" => now.0 += 1000 * rest.parse::<u64>().expect("seconds"),
            "show" => show(&state, rest, &mut out),
            _ => {
                index += 1;
                let (answer, changes) = state.apply(Index(index), now, command(verb, rest, now));
                let answer = match answer {
                    Answer::Refused(why) => format!("refused: {why}"),
                    Answer::Txn(results) => format!("told: {results:?}"),
                    Answer::TxnFailed(errors) => format!("failed: {errors:?}"),
                    Answer::CasMismatch => "cas mismatch".to_owned(),
                    Answer::Done { changed } => format!("done, changed: {changed}"),
                };
                writeln!(out, "  {index}: {answer}").expect("a string");
                if !changes.is_empty() {
                    writeln!(out, "  {changes:?}").expect("a string");
                }
            }
        }
    }
    out
}

fn command(verb: &str, rest: &str, now: Timestamp) -> Command {
    let words: Vec<&str> = rest.split(' ').collect();
    match verb {
        "register" => Command::Register(registration(&words)),
        "register-external" => Command::RegisterExternal(registration(&words)),
        "deregister" => Command::Deregister(deregistration(&words)),
        "deregister-external" => Command::DeregisterExternal(deregistration(&words)),
        "entry" => {
            let (cas, json) = match rest.strip_prefix("cas=").and_then(|it| it.split_once(' ')) {
                Some((cas, json)) => (Some(Index(cas.parse().expect("an index"))), json),
                None => (None, rest),
            };
            Command::UpsertEntry { entry: serde_json::from_str(json).expect("an entry"), cas }
        }
        "delete" => {
            let (kind, name) = words[0].split_once('/').expect("kind/name");
            let key = EntryKey::new(kind.parse().expect("a kind"), name);
            let cas = words.get(1).map(|cas| Index(cas[4..].parse().expect("an index")));
            Command::DeleteEntry { key, cas }
        }
        "allow" | "deny" => Command::UpsertIntention {
            destination: words[1].parse_source(),
            source: serde_json::from_value(serde_json::json!({
                "Name": words[0], "Action": verb,
                "Precedence": if words[0] == "*" { 8 } else { 9 },
            }))
            .expect("a source"),
        },
        "forget" => Command::DeleteIntention {
            destination: words[1].parse_source(),
            source: words[0].parse_source(),
        },
        "token" => {
            let uses = words.get(2).filter(|uses| **uses != "any");
            let uses = uses.map(|uses| uses.parse().expect("a number"));
            let expires = Timestamp(now.0 + 60_000);
            let mut token =
                JoinTokenRecord::new(words[0].to_owned(), role(words[1]), uses, expires);
            token.node = words.get(3).map(|node| node.parse().expect("a node"));
            Command::CreateJoinToken(token)
        }
        "redeem" => Command::RedeemJoinToken {
            secret_sha256: words[0].to_owned(),
            role: role(words[1]),
            node: words.get(2).unwrap_or(&"n1").parse().expect("a node"),
            request_sha256: words.get(3).map_or_else(|| now.0.to_string(), |it| (*it).to_owned()),
        },
        "revoke" => Command::RevokeJoinToken { id: words[0].to_owned() },
        "root" => Command::SetCaRoot(root(words[0])),
        "activate" => Command::ActivateCaRoot { fingerprint: words[0].to_owned() },
        "cluster" => Command::InitCluster(weft_core::state::ClusterRecord {
            id: words[0].to_owned(),
            trust_domain: "a1.mesh".parse().expect("a trust domain"),
            datacenter: "dc1".parse().expect("a datacenter"),
        }),
        other => panic!("no such step: {other}"),
    }
}

fn root(name: &str) -> CaRoot {
    CaRoot {
        fingerprint: name.to_owned(),
        name: name.to_owned(),
        certificate_pem: format!("PEM {name}"),
        sealed_key: vec![1],
        valid_after: Timestamp(0),
        valid_before: Timestamp(9_000_000_000),
        active: true,
        source: Default::default(),
        key_kind: Default::default(),
        cross_signed: Vec::new(),
        rotated_out_at: None,
        trusted_until: None,
        create_index: Index(0),
        modify_index: Index(0),
    }
}

trait ParseSource {
    fn parse_source(&self) -> weft_core::config_entry::SourceName;
}

impl ParseSource for &str {
    fn parse_source(&self) -> weft_core::config_entry::SourceName {
        weft_core::config_entry::SourceName::parse(self).expect("a service or *")
    }
}

fn role(word: &str) -> MemberRole {
    serde_json::from_value(word.into()).expect("a role")
}

/// `NODE[@ID] [ID:NAME[:TAGS][>DESTINATION/APP]]… [CHECK[@SERVICE]=STATUS]…`
fn registration(words: &[&str]) -> CatalogRegistration {
    let (name, id) = words[0].split_once('@').unwrap_or((words[0], ""));
    let mut services = Vec::new();
    let mut checks = Vec::new();
    for word in &words[1..] {
        if let Some((check, status)) = word.split_once('=') {
            let (check, service) = check.split_once('@').unwrap_or((check, ""));
            checks.push(serde_json::json!({
                "Node": name, "CheckID": check, "Name": check, "Status": status,
                "ServiceID": service,
            }));
            continue;
        }
        let (word, front) = word.split_once('>').unwrap_or((word, ""));
        let parts: Vec<&str> = word.split(':').collect();
        let tags: Vec<&str> = parts.get(2).map_or(Vec::new(), |tags| tags.split(',').collect());
        let mut service =
            serde_json::json!({ "ID": parts[0], "Service": parts[1], "Tags": tags, "Port": 80 });
        if let Some((destination, app)) = front.split_once('/') {
            service["Kind"] = "connect-proxy".into();
            service["Proxy"] = serde_json::json!({
                "DestinationServiceName": destination, "DestinationServiceID": app,
            });
        }
        services.push(service);
    }
    serde_json::from_value(serde_json::json!({
        "node": { "ID": id, "Node": name, "Address": "10.0.0.1", "Datacenter": "dc1" },
        "services": services, "checks": checks,
    }))
    .expect("a registration")
}

/// `NODE [ID]… [check:ID]…`
fn deregistration(words: &[&str]) -> CatalogDeregistration {
    let (checks, services): (Vec<_>, Vec<_>) =
        words[1..].iter().partition(|word| word.starts_with("check:"));
    CatalogDeregistration {
        node: words[0].parse().expect("a node"),
        services: services.iter().map(|id: &&str| id.parse().expect("an id")).collect(),
        checks: checks.iter().map(|id: &&str| id[6..].parse().expect("an id")).collect(),
    }
}

fn show(state: &State, what: &str, out: &mut String) {
    let (what, name) = what.split_once(' ').unwrap_or((what, ""));
    let line = |out: &mut String, text: String| writeln!(out, "  {text}").expect("a string");
    match what {
        "service" | "connect" => {
            let name = ServiceName::parse(name).expect("a name");
            let (index, instances) = match what {
                "service" => state.service_instances(&name),
                _ => state.connect_instances(&name),
            };
            line(out, format!("at {index}"));
            let spelled = |it: &ServiceInstance| match what {
                "service" => it.service.name.to_string(),
                _ => it.service.mesh_door_of().map(ToString::to_string).unwrap_or_default(),
            };
            for it in instances {
                let other = match spelled(&it) {
                    same if same == name.as_str() => String::new(),
                    other => format!(" as {other}"),
                };
                let checks: Vec<String> = it
                    .checks
                    .iter()
                    .map(|check| format!("{}={}", check.id, check.status))
                    .collect();
                let (node, id) = (&it.node.name, &it.service.id);
                let tags = &it.service.tags;
                line(out, format!("{node} {id} {tags:?} [{}]{other}", checks.join(" ")));
            }
        }
        "captured" => {
            let (name, default) = name.split_once(' ').unwrap_or((name, "deny"));
            let default = serde_json::from_value(default.into()).expect("an action");
            let name = ServiceName::parse(name).expect("a name");
            let found = state.captured_upstreams(&name, default);
            for it in &found.upstreams {
                line(out, format!("{} {} {}", it.service, it.virtual_ip, it.virtual_ip.v6()));
            }
            line(out, format!("the mesh alone: {}", found.destinations_only));
        }
        "services" => line(out, format!("at {} {:?}", state.services().0, state.services().1)),
        "nodes" => {
            let (index, nodes) = state.nodes();
            let nodes: Vec<_> = nodes.into_iter().map(|node| node.name.clone()).collect();
            line(out, format!("at {index} {nodes:?}"));
        }
        "intentions" => {
            let key = EntryKey::new(EntryKind::ServiceIntentions, name);
            let json = state.entry(&key).map(|entry| serde_json::to_value(&**entry));
            match json {
                Some(json) => {
                    for source in json.expect("an entry")["Sources"].as_array().expect("a list") {
                        line(out, format!("{} {}", source["Name"], source["Action"]));
                    }
                }
                None => line(out, "none".to_owned()),
            }
        }
        "roots" => {
            let (index, roots) = state.roots();
            let roots: Vec<_> = roots.iter().map(|root| (&*root.name, root.active)).collect();
            line(out, format!("at {index} {roots:?}"));
        }
        other => panic!("nothing to show: {other}"),
    }
}

fn any_step() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["web", "Web", "db"]);
    let node = prop::sample::select(vec!["n1", "N1", "n2"]);
    let status = prop::sample::select(vec!["passing", "warning", "critical"]);
    prop_oneof![
        (node.clone(), name.clone(), name.clone(), 0..2u8).prop_map(|(node, id, name, tag)| {
            format!("register {node} {id}-1:{name}:t{tag} {id}-1-p:{name}-p>{name}/{id}-1")
        }),
        (node.clone(), name.clone(), status).prop_map(|(node, id, status)| format!(
            "register {node} up={status} c@{id}-1={status}"
        )),
        (node.clone(), name.clone()).prop_map(|(node, id)| format!("deregister {node} {id}-1")),
        node.prop_map(|node| format!("deregister {node}")),
        (name.clone(), name.clone()).prop_map(|(from, to)| format!("allow {from} {to}")),
        (name.clone(), name).prop_map(|(from, to)| format!("forget {from} {to}")),
        Just("token abc agent 1".to_owned()),
        Just("redeem abc agent".to_owned()),
    ]
}

fn bytes(state: &State) -> Vec<u8> {
    rmp_serde::to_vec_named(&state.to_snapshot()).expect("records serialise")
}

#[test]
fn a_snapshot_with_a_row_for_each_spelling_is_read() {
    let mut state = State::default();
    for (at, step) in ["n1 a:Web a-p:Web-p>Web/a", "n1 b:web b-p:web-p>web/b"].iter().enumerate() {
        state.apply(Index(at as u64 + 1), Timestamp(5), command("register", step, Timestamp(5)));
    }
    let mut old = serde_json::to_value(state.to_snapshot()).expect("records");
    for rows in ["services", "connect"] {
        // Before names were folded there was a row for each spelling.
        old["rows"][rows] = serde_json::json!({ "WEB": 1, "Web": 7, "web": 2 });
    }
    let old: StateSnapshot = serde_json::from_value(old).expect("a snapshot");
    let state = State::from_snapshot(old);
    let name = ServiceName::parse("web").expect("a name");
    for (index, instances) in [state.service_instances(&name), state.connect_instances(&name)] {
        assert_eq!((index, instances.len()), (Index(7), 2));
    }
}

proptest! {
    #[test]
    fn the_same_commands_always_give_the_same_state(steps in prop::collection::vec(any_step(), 1..60)) {
        let mut one = State::default();
        let mut other = State::default();
        for (at, step) in steps.iter().enumerate() {
            let (verb, rest) = step.split_once(' ').expect("a step");
            let index = Index(at as u64 + 1);
            let write = command(verb, rest, Timestamp(5));
            let before = bytes(&one);
            let outcome = one.apply(index, Timestamp(5), write.clone());
            // The other goes through a snapshot before every step.
            let snapshot: StateSnapshot =
                rmp_serde::from_slice(&bytes(&other)).expect("a snapshot");
            other = State::from_snapshot(snapshot);
            prop_assert_eq!(&outcome, &other.apply(index, Timestamp(5), write.clone()));
            prop_assert_eq!(bytes(&one), bytes(&other));
            for name in ["web", "db", "web-p"] {
                let shouted = ServiceName::parse(&name.to_uppercase()).expect("a name");
                let name = ServiceName::parse(name).expect("a name");
                prop_assert_eq!(one.service_instances(&name), other.service_instances(&shouted));
                prop_assert_eq!(one.connect_instances(&name), other.connect_instances(&shouted));
            }
            prop_assert_eq!(one.services(), other.services());
            // What was refused, or is there already, moves no index.
            if !matches!(outcome.0, Answer::Done { changed: true }) {
                prop_assert_eq!(bytes(&one).len(), before.len());
                prop_assert!(outcome.1.is_empty());
            }
        }
    }
}
