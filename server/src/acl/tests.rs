//! What a write needs, command by command, and what the gate remembers.

use weft_core::acl::{Access, DefaultPolicy, PolicyId, PolicyName, Resource, Rules};
use weft_core::index::Index;
use weft_core::state::{AclCommand, ClusterRecord, Command, Expiry, State, TokenDraft, Writing};
use weft_core::time::Timestamp;

use super::*;
use crate::config::AclConfig;

fn secret(text: &str) -> Credential {
    Credential::of(Secret::new(text))
}

fn hash(text: &str) -> weft_core::acl::SecretHash {
    Secret::new(text).expect("a secret").hash()
}

fn uuid(last: u8) -> String {
    format!("00000000-0000-0000-0000-{last:012}")
}

/// A state with the policy 11 and the token 21, secret `s`, which has it.
fn state(rules: Rules) -> State {
    let mut state = State::default();
    let cluster = ClusterRecord {
        id: "c".to_owned(),
        trust_domain: "a.mesh".parse().expect("a trust domain"),
        datacenter: "dc1".parse().expect("a datacenter"),
    };
    let steps = [
        Command::InitCluster(cluster),
        Command::Acl(policy(rules, Writing::Create)),
        Command::Acl(AclCommand::WriteToken {
            token: TokenDraft {
                accessor: uuid(21).parse().expect("a UUID"),
                secret: Some(hash("s")),
                description: String::new(),
                grants: serde_json::from_value(serde_json::json!({
                    "policies": [{ "id": uuid(11) }],
                }))
                .expect("grants"),
                local: None,
                auth_method: String::new(),
                expiry: Expiry::Unsaid,
            },
            writing: Writing::Create,
        }),
    ];
    for step in steps {
        write(&mut state, step);
    }
    state
}

fn policy(rules: Rules, writing: Writing) -> AclCommand {
    let policy = weft_core::acl::Policy {
        id: PolicyId::parse(&uuid(11)).expect("a UUID"),
        name: PolicyName::parse("p").expect("a name"),
        description: String::new(),
        text: String::new(),
        rules,
        datacenters: Vec::new(),
        create_index: Index::default(),
        modify_index: Index::default(),
    };
    AclCommand::WritePolicy { policy, writing }
}

fn write(state: &mut State, command: Command) {
    let index = Index(state.index().0 + 1);
    let (answer, _) = state.apply(index, Timestamp(5), command);
    assert!(matches!(answer, weft_core::state::Answer::Done { .. }), "{answer:?}");
}

fn gate() -> Gate {
    let default_policy = DefaultPolicy::Deny;
    Gate::new(AclConfig { enabled: true, default_policy, ..AclConfig::default() })
}

#[test]
fn what_was_remembered_ends_with_what_it_was_made_of() {
    let read = weft_core::acl::Permission::read(Resource::Key, "a");
    let mut state = state(Rules::default().prefix(Resource::Key, "", Access::Read));
    let gate = gate();
    let may = |state: &State| gate.rights(state, &secret("s")).map(|rights| rights.may(read));
    assert_eq!(may(&state), Ok(true));
    write(&mut state, Command::Acl(policy(Rules::default(), Writing::Update)));
    assert_eq!(may(&state), Ok(false));
    let accessor = uuid(21).parse().expect("a UUID");
    write(&mut state, Command::Acl(AclCommand::DeleteToken { accessor }));
    assert_eq!(may(&state), Err(UnknownToken));
}

#[test]
fn a_token_whose_time_is_over_is_none_before_it_is_removed() {
    let mut state = state(Rules::default());
    // The state's clock stands in 1970: the token has ended long ago.
    let token = TokenDraft {
        accessor: uuid(22).parse().expect("a UUID"),
        secret: Some(hash("over")),
        description: String::new(),
        grants: weft_core::acl::Grants::default(),
        local: None,
        auth_method: String::new(),
        expiry: Expiry::After(std::time::Duration::from_secs(60)),
    };
    let command = AclCommand::WriteToken { token, writing: Writing::Create };
    write(&mut state, Command::Acl(command));
    assert!(state.acl().token(&uuid(22).parse().expect("a UUID")).is_some(), "it is there");
    assert_eq!(gate().rights(&state, &secret("over")).map(drop), Err(UnknownToken));
}

#[test]
fn a_secret_that_is_none_is_not_the_anonymous_token() {
    let state = state(Rules::default());
    for wrong in ["S", "s2", "anonymous", &uuid(2)] {
        assert_eq!(gate().rights(&state, &secret(wrong)).map(drop), Err(UnknownToken), "{wrong}");
    }
    for none in ["", "  "] {
        assert!(gate().rights(&state, &secret(none)).is_ok());
    }
    let open = Gate::new(AclConfig::default());
    assert!(open.rights(&state, &secret("x")).is_ok(), "there are no ACLs");
}

#[test]
fn nothing_that_prints_shows_a_secret() {
    let shown = secret("e2f1b0a9");
    assert_eq!(format!("{:?}", Secret::new("e2f1b0a9")), "Some(Secret(…))");
    assert!(!format!("{shown:?}").contains("e2f1"), "{shown:?}");
}

fn register(text: serde_json::Value) -> Command {
    Command::RegisterExternal(serde_json::from_value(text).expect("a registration"))
}

fn node(name: &str, address: &str) -> serde_json::Value {
    serde_json::json!({ "ID": "", "Node": name, "Address": address, "Datacenter": "dc1" })
}

#[test]
fn a_registration_needs_what_it_changes() {
    let rules = Rules::default().exact(Resource::Service, "web", Access::Write).exact(
        Resource::Node,
        "mine",
        Access::Write,
    );
    let mut state = state(rules);
    let rights = gate().rights(&state, &secret("s")).expect("a token");
    write(
        &mut state,
        register(serde_json::json!({ "node": node("host", "10.0.0.1"), "services": [
            { "ID": "db-1", "Service": "db", "Port": 80 },
        ] })),
    );
    let may = |body| check_command(&rights, &state, &register(body)).is_ok();
    let web = serde_json::json!({ "ID": "web-1", "Service": "web", "Port": 80 });
    for (why, wanted, body) in [
        ("a new node", false, serde_json::json!({ "node": node("new", "10.0.0.1") })),
        ("the node that is its own", true, serde_json::json!({ "node": node("mine", "10.0.0.1") })),
        (
            "its service on a node that stays as it is",
            true,
            serde_json::json!({ "node": node("host", "10.0.0.1"), "services": [web.clone()] }),
        ),
        (
            "its service on a node that would change",
            false,
            serde_json::json!({ "node": node("host", "10.0.0.2"), "services": [web] }),
        ),
        (
            "its service in the place of another's",
            false,
            serde_json::json!({ "node": node("host", "10.0.0.1"), "services": [
                { "ID": "db-1", "Service": "web", "Port": 80 },
            ] }),
        ),
        (
            "a check of another's instance",
            false,
            serde_json::json!({ "node": node("host", "10.0.0.1"), "checks": [
                { "Node": "host", "CheckID": "c", "Name": "c", "Status": "passing",
                  "ServiceID": "db-1" },
            ] }),
        ),
        (
            "a check of a node",
            false,
            serde_json::json!({ "node": node("host", "10.0.0.1"), "checks": [
                { "Node": "host", "CheckID": "c", "Name": "c", "Status": "passing" },
            ] }),
        ),
    ] {
        assert_eq!(may(body), wanted, "{why}");
    }
}

#[test]
fn what_only_servers_write_is_no_clients_whatever_their_rights() {
    let state = state(Rules::default());
    let rights = Gate::new(AclConfig::default());
    let rights = rights.rights(&state, &Credential::None).expect("no ACLs");
    for command in [
        Command::ActivateCaRoot { fingerprint: String::new() },
        Command::Acl(AclCommand::ReapTokens),
        Command::Acl(AclCommand::InitialManagement {
            accessor: uuid(1).parse().expect("a UUID"),
            secret: hash("x"),
        }),
    ] {
        assert_eq!(check_command(&rights, &state, &command), Err(Forbidden::ServersOnly));
    }
}
