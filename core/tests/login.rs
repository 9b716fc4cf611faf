//! Auth methods and binding rules in the replicated state.

use std::time::Duration;

use weft_core::acl::{
    AuthConfig, AuthMethod, AuthMethodName, BindType, BindingRule, KubernetesConfig, SecretHash,
    TokenLocality,
};
use weft_core::index::Index;
use weft_core::login::Subject;
use weft_core::state::{
    AclCommand, Answer, Command, Expiry, State, StateSnapshot, TokenDraft, Writing,
};
use weft_core::time::Timestamp;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

struct World {
    state: State,
    index: u64,
}

impl World {
    fn new() -> Self {
        Self { state: State::default(), index: 0 }
    }

    fn acl(&mut self, command: AclCommand) -> Result<bool, String> {
        self.index += 1;
        match self.state.apply(Index(self.index), NOW, Command::Acl(command)).0 {
            Answer::Done { changed } => Ok(changed),
            Answer::Refused(refusal) => Err(refusal.to_string()),
            other => panic!("not an answer to a write of ACLs: {other:?}"),
        }
    }
}

fn name(text: &str) -> AuthMethodName {
    AuthMethodName::parse(text).expect("a name")
}

fn method(text: &str) -> AuthMethod {
    AuthMethod {
        name: name(text),
        display_name: String::new(),
        description: String::new(),
        token_lifetime: Some(Duration::from_secs(3600)),
        token_locality: TokenLocality::Local,
        config: AuthConfig::Kubernetes(KubernetesConfig {
            host: "https://k8s".to_owned(),
            ca_pem: "ca".to_owned(),
            reviewer_jwt: "jwt".to_owned(),
        }),
        create_index: Index(0),
        modify_index: Index(0),
    }
}

fn rule(number: u8, of: &str, bind_name: &str) -> BindingRule {
    BindingRule {
        id: format!("00000000-0000-0000-0000-{number:012}").parse().expect("an id"),
        description: String::new(),
        auth_method: name(of),
        bind_type: BindType::Role,
        bind_name: bind_name.to_owned(),
        bind_variable: String::new(),
        selector: String::new(),
        create_index: Index(0),
        modify_index: Index(0),
    }
}

fn token(number: u8, of: &str) -> TokenDraft {
    TokenDraft {
        accessor: format!("10000000-0000-0000-0000-{number:012}").parse().expect("an id"),
        secret: Some(SecretHash::new([number; 32])),
        description: String::new(),
        grants: weft_core::acl::Grants::default(),
        local: Some(true),
        auth_method: of.to_owned(),
        expiry: Expiry::Unsaid,
    }
}

#[test]
fn a_method_that_goes_takes_its_rules_and_tokens_along() {
    let mut world = World::new();
    let create = Writing::Create;
    for text in ["k8s", "other"] {
        let written =
            world.acl(AclCommand::WriteAuthMethod { method: method(text), writing: create });
        assert_eq!(written, Ok(true));
    }
    for rule in [rule(1, "k8s", "a"), rule(2, "other", "b")] {
        assert_eq!(world.acl(AclCommand::WriteBindingRule { rule, writing: create }), Ok(true));
    }
    for token in [token(1, "k8s"), token(2, "other"), token(3, "")] {
        assert_eq!(world.acl(AclCommand::WriteToken { token, writing: create }), Ok(true));
    }
    assert_eq!(world.acl(AclCommand::DeleteAuthMethod { name: name("k8s") }), Ok(true));
    let acl = world.state.acl();
    assert_eq!(acl.auth_methods().len(), 1);
    assert_eq!(acl.binding_rules(None).len(), 1);
    // The anonymous one is always there.
    assert_eq!(acl.tokens(NOW).len(), 3);
    assert!(acl.token_of_secret(&SecretHash::new([1; 32]), NOW).is_none());
    // Whoever was about to come in by it does not.
    let late = world.acl(AclCommand::WriteToken { token: token(4, "k8s"), writing: create });
    assert!(late.expect_err("refused").contains("there is no auth method"));
}

#[test]
fn what_is_wrong_is_refused_and_changes_nothing() {
    let mut world = World::new();
    let (create, update) = (Writing::Create, Writing::Update);
    let orphan =
        world.acl(AclCommand::WriteBindingRule { rule: rule(1, "k8s", "a"), writing: create });
    assert!(orphan.expect_err("refused").contains("AuthMethod"));
    let absent = world.acl(AclCommand::WriteAuthMethod { method: method("k8s"), writing: update });
    assert!(absent.expect_err("refused").contains("there is no auth method"));
    let made = world.acl(AclCommand::WriteAuthMethod { method: method("k8s"), writing: create });
    assert_eq!(made, Ok(true));
    let again = world.acl(AclCommand::WriteAuthMethod { method: method("k8s"), writing: update });
    assert_eq!(again, Ok(false), "the same once more");
    let misnamed = rule(1, "k8s", "${value.x}");
    let misnamed = world.acl(AclCommand::WriteBindingRule { rule: misnamed, writing: create });
    assert!(misnamed.expect_err("refused").contains("BindName"));
    assert_eq!(world.state.acl().binding_rules(None), []);
}

#[test]
fn a_role_that_is_not_there_grants_nothing_and_all_of_it_survives_a_snapshot() {
    let mut world = World::new();
    let create = Writing::Create;
    let written = world.acl(AclCommand::WriteAuthMethod { method: method("k8s"), writing: create });
    assert_eq!(written, Ok(true));
    let rule = rule(1, "k8s", "${serviceaccount.name}");
    assert_eq!(world.acl(AclCommand::WriteBindingRule { rule, writing: create }), Ok(true));
    let snapshot = rmp_serde::to_vec_named(&world.state.to_snapshot()).expect("encodes");
    let snapshot: StateSnapshot = rmp_serde::from_slice(&snapshot).expect("decodes");
    let state = State::from_snapshot(snapshot);
    let acl = state.acl();
    let (method, dc) = (acl.auth_method(&name("k8s")).expect("kept"), "dc1".parse().expect("a dc"));
    let subject = Subject::kubernetes("default", "web", "1");
    let grants = acl.login_grants(&method, &subject, &dc).expect("no fault");
    assert_eq!(grants, weft_core::acl::Grants::default());
    assert_eq!(acl.auth_methods_index(), Index(1));
    assert_eq!(acl.binding_rules_index(), Index(2));
}
