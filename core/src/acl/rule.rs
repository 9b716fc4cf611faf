//! Rules: how much access is given to which things. What they come to together is the
//! [`Authorizer`](super::Authorizer)'s affair.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much may be done.
///
/// **Source**: Consul: docs/security/acl/acl-rules#rule-specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Nothing.
    Deny,
    /// Listing what is below a prefix, and reading. Keys only.
    List,
    /// Reading.
    Read,
    /// Everything.
    Write,
}

impl Access {
    /// Returns the word of the public API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::List => "list",
            Self::Read => "read",
            Self::Write => "write",
        }
    }

    /// Whether this much is enough for what is asked.
    pub fn grants(self, asked: Self) -> bool {
        match self {
            Self::Deny => false,
            Self::Read => asked == Self::Read,
            Self::List => matches!(asked, Self::Read | Self::List),
            Self::Write => asked != Self::Deny,
        }
    }

    /// Returns what two rules on the same thing come to: deny before write before list before
    /// read.
    ///
    /// **Source**: Consul: docs/security/acl/acl-rules#rule-evaluation.
    pub(super) fn merged(self, other: Self) -> Self {
        let rank = |access| match access {
            Self::Deny => 3,
            Self::Write => 2,
            Self::List => 1,
            Self::Read => 0,
        };
        if rank(self) >= rank(other) { self } else { other }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a rule or a permission is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Tokens, policies, roles, auth methods; also snapshots.
    Acl,
    /// The API of one host's agent, by node name.
    Agent,
    /// Events, by name.
    Event,
    /// Who may call a service, by its name. Rules on services say it with `intentions`.
    Intention,
    /// Keys of the store.
    Key,
    /// Keys of encryption between members.
    Keyring,
    /// Entries that concern the whole mesh.
    Mesh,
    /// Nodes of the catalog, by name.
    Node,
    /// The operation of the cluster.
    Operator,
    /// Peerings.
    Peering,
    /// Prepared queries, by name.
    Query,
    /// Services, by name.
    Service,
    /// Sessions, by node name.
    Session,
}

impl Resource {
    /// Every resource, in the order of their words.
    pub const ALL: [Self; 13] = [
        Self::Acl,
        Self::Agent,
        Self::Event,
        Self::Intention,
        Self::Key,
        Self::Keyring,
        Self::Mesh,
        Self::Node,
        Self::Operator,
        Self::Peering,
        Self::Query,
        Self::Service,
        Self::Session,
    ];

    /// Returns the word of the public API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acl => "acl",
            Self::Agent => "agent",
            Self::Event => "event",
            Self::Intention => "intention",
            Self::Key => "key",
            Self::Keyring => "keyring",
            Self::Mesh => "mesh",
            Self::Node => "node",
            Self::Operator => "operator",
            Self::Peering => "peering",
            Self::Query => "query",
            Self::Service => "service",
            Self::Session => "session",
        }
    }

    /// Returns the resource of a word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| resource.as_str() == word)
    }

    /// Whether rules on it name things; the others are about the cluster as a whole.
    pub fn is_named(self) -> bool {
        match self {
            Self::Acl | Self::Keyring | Self::Mesh | Self::Operator | Self::Peering => false,
            Self::Agent
            | Self::Event
            | Self::Intention
            | Self::Key
            | Self::Node
            | Self::Query
            | Self::Service
            | Self::Session => true,
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which things a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The one of this name.
    Exact(Box<str>),
    /// Those whose names start so; the empty text means all.
    Prefix(Box<str>),
    /// The cluster as a whole, for resources that are not named.
    Whole,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// What it is about.
    pub resource: Resource,
    /// Which of them.
    pub scope: Scope,
    /// How much is given.
    pub access: Access,
    /// For services: how much is given to their intentions; `None` lets it follow `access`.
    #[serde(default)]
    pub intentions: Option<Access>,
}

/// Rules that were written together.
///
/// **Shape**: in any order; of two on the same thing the stronger one counts, deny first.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rules(pub Vec<Rule>);

impl Rules {
    /// Adds a rule on the one thing of that name.
    pub fn exact(self, resource: Resource, name: &str, access: Access) -> Self {
        self.with(resource, Scope::Exact(name.into()), access)
    }

    /// Adds a rule on all things whose names start so.
    pub fn prefix(self, resource: Resource, prefix: &str, access: Access) -> Self {
        self.with(resource, Scope::Prefix(prefix.into()), access)
    }

    /// Adds a rule on the cluster as a whole.
    pub fn whole(self, resource: Resource, access: Access) -> Self {
        self.with(resource, Scope::Whole, access)
    }

    fn with(mut self, resource: Resource, scope: Scope, access: Access) -> Self {
        self.0.push(Rule { resource, scope, access, intentions: None });
        self
    }

    /// Returns rules that give the same access to everything there is.
    pub(super) fn everything(access: Access) -> Self {
        let mut rules = Self::default();
        for resource in Resource::ALL {
            rules = match resource {
                // Told by the rule on services.
                Resource::Intention => rules,
                _ if resource.is_named() => rules.prefix(resource, "", access),
                _ => rules.whole(resource, access),
            };
        }
        for rule in &mut rules.0 {
            if rule.resource == Resource::Service {
                rule.intentions = Some(access);
            }
        }
        rules
    }
}

/// Writes a name as HCL has it between quotes.
///
/// **Source**: Spec: HCL, native syntax: quoted templates; `${` and `%{` would begin one.
fn quoted(name: &str) -> String {
    let mut text = String::from("\"");
    for (at, letter) in name.char_indices() {
        let begins_template = matches!(letter, '$' | '%') && name[at + 1..].starts_with('{');
        match letter {
            '"' | '\\' => text.extend(['\\', letter]),
            letter if begins_template || letter.is_control() => {
                text.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            letter => text.push(letter),
        }
    }
    text + "\""
}

impl fmt::Display for Rules {
    /// Writes the rules as HCL, in the form in which policies are written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Rule { resource, scope, access, intentions } in &self.0 {
            let (word, name) = match scope {
                Scope::Exact(name) => ("", name),
                Scope::Prefix(prefix) => ("_prefix", prefix),
                Scope::Whole => {
                    writeln!(f, "{resource} = \"{access}\"")?;
                    continue;
                }
            };
            let name = quoted(name);
            writeln!(f, "{resource}{word} {name} {{\n  policy = \"{access}\"")?;
            if let Some(intentions) = intentions {
                writeln!(f, "  intentions = \"{intentions}\"")?;
            }
            writeln!(f, "}}")?;
        }
        Ok(())
    }
}
