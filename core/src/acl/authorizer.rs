//! The rules of one token, ready to be asked: exact names before prefixes, the longest prefix
//! first, deny before everything on ties.
//!
//! **Source**: Consul: docs/security/acl/acl-rules#rule-evaluation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::permission::{Breadth, Permission};
use super::{Access, Resource, Rule, Rules, Scope};

/// What is done when no rule speaks of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DefaultPolicy {
    /// It is allowed, but for what concerns ACLs themselves.
    Allow,
    /// It is denied.
    Deny,
}

impl DefaultPolicy {
    /// Returns the word of configuration and of `X-Consul-Default-ACL-Policy`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// Answers for one token whether it may.
///
/// A question costs one look-up and one for each length of prefix that its rules have, so lists
/// are filtered item by item.
#[derive(Debug, Clone)]
pub struct Authorizer {
    otherwise: Otherwise,
    whole: BTreeMap<Resource, Access>,
    named: BTreeMap<Resource, Named>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Otherwise {
    /// There are no ACLs.
    Anything,
    Default(DefaultPolicy),
}

/// Rules on the things of one resource.
#[derive(Debug, Default, Clone)]
struct Named {
    exact: BTreeMap<Box<str>, Access>,
    prefix: BTreeMap<Box<str>, Access>,
    /// The lengths of the prefixes in bytes, falling, each once.
    lengths: Vec<usize>,
}

impl Authorizer {
    /// Makes the authorizer that allows everything, for clusters without ACLs.
    pub fn unrestricted() -> Self {
        let (whole, named) = (BTreeMap::new(), BTreeMap::new());
        Self { otherwise: Otherwise::Anything, whole, named }
    }

    /// Puts the rules of several policies together.
    pub fn new<'a>(default: DefaultPolicy, rules: impl IntoIterator<Item = &'a Rules>) -> Self {
        let mut made = Self { otherwise: Otherwise::Default(default), ..Self::unrestricted() };
        // On services and on intentions with the same scope a rule says two things; which of
        // several says what is settled for each alone, and what stays unsaid follows then.
        let mut spoken: BTreeMap<&Scope, Option<Access>> = BTreeMap::new();
        for rule in rules.into_iter().flat_map(|rules| &rules.0) {
            made.add(rule.resource, &rule.scope, rule.access);
            if rule.resource == Resource::Service {
                let said = spoken.entry(&rule.scope).or_default();
                *said = stronger(*said, rule.intentions);
            }
        }
        for (scope, said) in spoken {
            let access = said.unwrap_or_else(|| made.intentions_that_follow(scope));
            made.add(Resource::Intention, scope, access);
        }
        for named in made.named.values_mut() {
            named.lengths = named.prefix.keys().map(|prefix| prefix.len()).collect();
            named.lengths.sort_unstable_by(|a, b| b.cmp(a));
            named.lengths.dedup();
        }
        made
    }

    /// Whether the token may.
    pub fn allows(&self, asked: Permission<'_>) -> bool {
        let default = match self.otherwise {
            Otherwise::Anything => return true,
            Otherwise::Default(default) => default,
        };
        self.judge(asked).unwrap_or_else(|| match default {
            DefaultPolicy::Allow => asked.resource != Resource::Acl,
            DefaultPolicy::Deny => false,
        })
    }

    /// What the rules say; `None` when none speaks of it.
    fn judge(&self, asked: Permission<'_>) -> Option<bool> {
        if !asked.resource.is_named() {
            let own = self.whole.get(&asked.resource);
            let general = match asked.resource {
                // Rules from before these two had words of their own.
                Resource::Mesh | Resource::Peering => self.whole.get(&Resource::Operator),
                _ => None,
            };
            return own.or(general).map(|access| access.grants(asked.access));
        }
        let named = self.named.get(&asked.resource)?;
        match asked.on {
            // An intention on every service: seen by who sees any, written by who writes all.
            Breadth::This("*") if asked.resource == Resource::Intention => match asked.access {
                Access::Write => named.below("", asked.access),
                Access::Deny | Access::List | Access::Read => named.some(asked.access),
            },
            Breadth::Below(prefix) => named.below(prefix, asked.access),
            Breadth::Some => named.some(asked.access),
            Breadth::This(name) => named.this(name).map(|access| access.grants(asked.access)),
        }
    }

    fn add(&mut self, resource: Resource, scope: &Scope, access: Access) {
        let merge = |present: &mut Access| *present = present.merged(access);
        match scope {
            Scope::Exact(name) => {
                let exact = &mut self.named.entry(resource).or_default().exact;
                exact.entry(name.clone()).and_modify(merge).or_insert(access);
            }
            Scope::Prefix(prefix) => {
                let prefixes = &mut self.named.entry(resource).or_default().prefix;
                prefixes.entry(prefix.clone()).and_modify(merge).or_insert(access);
            }
            Scope::Whole => {
                self.whole.entry(resource).and_modify(merge).or_insert(access);
            }
        }
    }

    /// Who may see a service may see who calls it.
    fn intentions_that_follow(&self, scope: &Scope) -> Access {
        let services = self.named.get(&Resource::Service);
        let access = services.and_then(|services| match scope {
            Scope::Exact(name) => services.exact.get(name),
            Scope::Prefix(prefix) => services.prefix.get(prefix),
            Scope::Whole => None,
        });
        match access {
            Some(Access::Read | Access::Write) => Access::Read,
            Some(Access::Deny | Access::List) | None => Access::Deny,
        }
    }
}

fn stronger(one: Option<Access>, other: Option<Access>) -> Option<Access> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.merged(other)),
        (one, other) => one.or(other),
    }
}

impl Named {
    /// What is given on one thing.
    fn this(&self, name: &str) -> Option<Access> {
        self.exact.get(name).copied().or_else(|| self.longest(name))
    }

    /// What the longest prefix of a name gives.
    fn longest(&self, name: &str) -> Option<Access> {
        self.lengths
            .iter()
            .filter_map(|length| name.get(..*length))
            .find_map(|prefix| self.prefix.get(prefix))
            .copied()
    }

    /// Whether everything below a prefix is given: what is given on the prefix itself, unless
    /// some rule below it gives less.
    fn below(&self, prefix: &str, asked: Access) -> Option<bool> {
        let base = self.longest(prefix).map(|access| access.grants(asked));
        let starting_there = |map: &BTreeMap<Box<str>, Access>| {
            map.range(Box::<str>::from(prefix)..)
                .take_while(|(name, _)| name.starts_with(prefix))
                .all(|(_, access)| access.grants(asked))
        };
        if starting_there(&self.exact) && starting_there(&self.prefix) { base } else { Some(false) }
    }

    /// Whether anything at all is given.
    fn some(&self, asked: Access) -> Option<bool> {
        let grants = |access: &Access| access.grants(asked);
        if self.exact.values().any(grants) || self.prefix.values().any(grants) {
            return Some(true);
        }
        self.prefix.get("").map(grants)
    }
}

impl Rule {
    /// Whether a rule of this shape can be: a whole for what is not named, names for the rest.
    pub fn is_well_formed(&self) -> bool {
        let scope_fits = match self.scope {
            Scope::Exact(_) | Scope::Prefix(_) => self.resource.is_named(),
            Scope::Whole => !self.resource.is_named(),
        };
        let list_fits = self.access != Access::List || self.resource == Resource::Key;
        let intentions_fit = match self.intentions {
            None => true,
            Some(Access::List) => false,
            Some(Access::Deny | Access::Read | Access::Write) => self.resource == Resource::Service,
        };
        scope_fits && list_fits && intentions_fit && self.resource != Resource::Intention
    }
}
