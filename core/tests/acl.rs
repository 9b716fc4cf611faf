//! Runs the scripts in `acl/*.txt` against the replicated state: tokens, policies, roles, and
//! what a secret may do. The property: a snapshot gives the same rights back.
//!
//! A script is a list of steps; each line under a step, indented, is what is expected. Ids are
//! short here: `p1` stands for the UUID `…0000000000p1` in hexadecimal digits. Run with
//! `WEFT_BLESS=1` to write down what came instead.

mod golden;

use std::fmt::Write as _;
use std::time::Duration;

use proptest::prelude::*;
use weft_core::acl::{
    Access, AccessorId, DefaultPolicy, Grants, Link, NodeIdentity, Permission, Policy, PolicyId,
    PolicyName, Resource, RoleId, RoleName, Rules, SecretHash, ServiceIdentity,
};
use weft_core::index::Index;
use weft_core::name::Datacenter;
use weft_core::state::{
    AclCommand, Answer, Command, Expiry, RoleDraft, State, StateSnapshot, TokenDraft, Writing,
};
use weft_core::time::Timestamp;

#[test]
fn scripts_give_what_they_say() {
    golden::check("acl", run);
}

fn run(script: &str) -> String {
    let (mut state, mut index, mut now) = (State::default(), 0u64, Timestamp(1_000_000));
    let mut out = String::new();
    for line in script.lines() {
        if line.starts_with("  ") {
            continue;
        }
        writeln!(out, "{line}").expect("a string");
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words: Vec<&str> = line.split(' ').collect();
        match words[0] {
            "wait" => now.0 += 1000 * words[1].parse::<u64>().expect("seconds"),
            "may" => writeln!(out, "  {}", may(&state, now, &words[1..])).expect("a string"),
            "tokens" => show_tokens(&state, now, &mut out),
            verb => {
                index += 1;
                let command = Command::Acl(command(verb, &words[1..]));
                let (answer, changes) = state.apply(Index(index), now, command);
                match answer {
                    Answer::Refused(why) => writeln!(out, "  {index}: refused: {why}"),
                    _ => writeln!(out, "  {index}: {changes:?}"),
                }
                .expect("a string");
            }
        }
    }
    out
}

fn uuid(short: &str) -> String {
    let hex: String = short.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("00000000-0000-0000-0000-{hex:0>12}")
}

fn secret(word: &str) -> SecretHash {
    let mut digest = [0; 32];
    // Spread over both halves, as a digest is.
    for (at, byte) in word.bytes().enumerate() {
        digest[at] = byte;
        digest[31 - at] = byte;
    }
    SecretHash::new(digest)
}

fn accessor(word: &str) -> AccessorId {
    if word == "anonymous" {
        return AccessorId::anonymous();
    }
    uuid(word).parse().expect("a UUID")
}

fn policy_id(word: &str) -> PolicyId {
    match word {
        "everything" => PolicyId::global_management(),
        word => uuid(word).parse().expect("a UUID"),
    }
}

/// `ID NAME [RULE]…`, a rule being `resource[_prefix][:name]=access`.
fn policy(words: &[&str]) -> Policy {
    let mut rules = Rules::default();
    for rule in &words[2..] {
        let (what, access) = rule.rsplit_once('=').expect("a rule");
        let access: Access = serde_json::from_value(access.into()).expect("an access");
        let (word, name) = what.split_once(':').unwrap_or((what, ""));
        let bare = word.strip_suffix("_prefix");
        let resource = Resource::of_word(bare.unwrap_or(word)).expect("a resource");
        rules = match (bare, what.contains(':')) {
            (Some(_), _) => rules.prefix(resource, name, access),
            (None, true) => rules.exact(resource, name, access),
            (None, false) => rules.whole(resource, access),
        };
    }
    Policy {
        id: policy_id(words[0]),
        name: PolicyName::parse(words[1]).expect("a name"),
        text: rules.to_string(),
        rules,
        description: String::new(),
        datacenters: Vec::new(),
        create_index: Index(0),
        modify_index: Index(0),
    }
}

/// `policy:ID`, `named:NAME`, `role:ID`, `service:NAME`, `node:NAME`.
fn grants<'a>(words: impl Iterator<Item = &'a str>) -> Grants {
    let mut grants = Grants::default();
    for word in words {
        let (kind, name) = word.split_once(':').expect("kind:name");
        match kind {
            "policy" => grants.policies.push(Link::Id(policy_id(name))),
            "named" => {
                grants.policies.push(Link::Name(PolicyName::parse(name).expect("a name")));
            }
            "role" => grants.roles.push(Link::Id(uuid(name).parse().expect("a UUID"))),
            "service" => grants.service_identities.push(ServiceIdentity {
                service_name: name.parse().expect("a name"),
                datacenters: Vec::new(),
            }),
            "node" => grants
                .node_identities
                .push(NodeIdentity { node_name: name.parse().expect("a name"), datacenter: dc1() }),
            other => panic!("no such grant: {other}"),
        }
    }
    grants
}

fn dc1() -> Datacenter {
    "dc1".parse().expect("a datacenter")
}

fn command(verb: &str, words: &[&str]) -> AclCommand {
    let (writing, verb) = match verb.strip_prefix("change-") {
        Some(verb) => (Writing::Update, verb),
        None => (Writing::Create, verb),
    };
    match verb {
        "bootstrap" => AclCommand::Bootstrap {
            accessor: accessor(words[0]),
            secret: secret(words[1]),
            reset: words.get(2).map(|reset| Index(reset[6..].parse().expect("an index"))),
        },
        "initial" => {
            AclCommand::InitialManagement { accessor: accessor(words[0]), secret: secret(words[1]) }
        }
        "policy" => AclCommand::WritePolicy { policy: policy(words), writing },
        "role" => {
            let id: RoleId = uuid(words[0]).parse().expect("a UUID");
            let name = RoleName::parse(words[1]).expect("a name");
            let grants = grants(words[2..].iter().copied());
            let role = RoleDraft { id, name, description: String::new(), grants };
            AclCommand::WriteRole { role, writing }
        }
        "token" => {
            let expiry = words.iter().find_map(|word| word.strip_prefix("ttl="));
            let expiry = expiry.map(|ttl| Duration::from_secs(ttl.parse().expect("seconds")));
            let token = TokenDraft {
                accessor: accessor(words[0]),
                secret: (words[1] != "-").then(|| secret(words[1])),
                description: String::new(),
                grants: grants(words[2..].iter().copied().filter(|word| !word.contains('='))),
                local: None,
                auth_method: String::new(),
                expiry: expiry.map_or(Expiry::Unsaid, Expiry::After),
            };
            AclCommand::WriteToken { token, writing }
        }
        "delete-policy" => AclCommand::DeletePolicy { id: policy_id(words[0]) },
        "delete-role" => AclCommand::DeleteRole { id: uuid(words[0]).parse().expect("a UUID") },
        "delete-token" => AclCommand::DeleteToken { accessor: accessor(words[0]) },
        "reap" => AclCommand::ReapTokens,
        other => panic!("no such step: {other}"),
    }
}

/// `SECRET ACCESS RESOURCE [NAME]`
fn may(state: &State, now: Timestamp, words: &[&str]) -> String {
    let token = match words[0] {
        "anonymous" => state.acl().token(&AccessorId::anonymous()),
        word => state.acl().token_of_secret(&secret(word), now),
    };
    let Some(token) = token else { return "not known".to_owned() };
    let resource = Resource::of_word(words[2]).expect("a resource");
    let name = words.get(3).copied().unwrap_or_default();
    let permission = match words[1] {
        "read" => Permission::read(resource, name),
        "write" => Permission::write(resource, name),
        other => panic!("no such access: {other}"),
    };
    let may = state.acl().authorizer(&token, &dc1(), DefaultPolicy::Deny);
    if may.allows(permission) { "yes".to_owned() } else { "no".to_owned() }
}

fn show_tokens(state: &State, now: Timestamp, out: &mut String) {
    for token in state.acl().tokens(now) {
        let topics = state.acl().topics_of(&token);
        writeln!(out, "  {} {topics:?}", token.accessor).expect("a string");
    }
}

fn any_step() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "bootstrap t0 s0",
        "bootstrap t9 s9 reset=1",
        "policy p1 read key_prefix:=read",
        "change-policy p1 read key_prefix:=write",
        "policy p2 other key:a=deny",
        "delete-policy p1",
        "role r1 ops policy:p1",
        "change-role r1 ops service:web",
        "delete-role r1",
        "token t1 s1 role:r1 policy:p1",
        "token t2 s2 policy:p1 policy:p2 ttl=60",
        "token t3 s1 policy:everything",
        "change-token t1 - policy:p2",
        "delete-token t1",
        "delete-token t2",
        "reap",
    ])
}

proptest! {
    #[test]
    fn a_snapshot_always_gives_the_same_rights_back(
        steps in prop::collection::vec((any_step(), 0..40u64), 1..40),
    ) {
        let (mut one, mut other) = (State::default(), State::default());
        let mut now = Timestamp(0);
        for (at, (step, seconds)) in steps.iter().enumerate() {
            now.0 += 1000 * seconds;
            let words: Vec<&str> = step.split(' ').collect();
            let index = Index(at as u64 + 1);
            let write = Command::Acl(command(words[0], &words[1..]));
            let packed = rmp_serde::to_vec_named(&other.to_snapshot()).expect("records");
            let snapshot: StateSnapshot = rmp_serde::from_slice(&packed).expect("a snapshot");
            other = State::from_snapshot(snapshot);
            let outcome = one.apply(index, now, write.clone());
            prop_assert_eq!(&outcome, &other.apply(index, now, write));
            let bytes =
                |state: &State| rmp_serde::to_vec_named(&state.to_snapshot()).expect("records");
            prop_assert_eq!(bytes(&one), bytes(&other));
            for secret in ["s0", "s1", "s2", "s9", "anonymous"] {
                for asked in ["read key a", "write key b", "write service web"] {
                    let words: Vec<&str> =
                        std::iter::once(secret).chain(asked.split(' ')).collect();
                    prop_assert_eq!(may(&one, now, &words), may(&other, now, &words));
                }
            }
        }
    }
}
