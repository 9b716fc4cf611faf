//! Intentions of one destination, compiled: callers are found by name, conditions are ready.
//!
//! Evaluation allocates nothing, but for headers that are given twice and where an intention has
//! many permissions.

use std::collections::BTreeMap;

use super::path_index::PathIndex;
use super::permission::{Permission, Readings, Unreadable};
use super::token::{TokenWant, readings};
use super::{Call, Intention, IntentionSet};
use crate::config_entry::{IntentionAction, IntentionJwt, JwtProvider, SourceName};
use crate::name::ServiceName;

/// Judges calls of one destination.
#[derive(Debug)]
pub struct Judge {
    set: IntentionSet,
    /// As `set.intentions`.
    rules: Vec<Rule>,
    /// As `rules`: of whom tokens are asked for, by their number in `set.providers`.
    asked: Vec<Vec<usize>>,
    by_name: BTreeMap<ServiceName, usize>,
    any: Option<usize>,
}

/// Which intention decides about one caller; good for the judge that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing(Option<usize>);

#[derive(Debug)]
enum Rule {
    Action(IntentionAction),
    /// With an index where there are many.
    Permissions(Vec<Permission>, Option<PathIndex>),
    /// It has a condition that cannot be judged, so it denies.
    Unusable,
}

/// What was decided about one call, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement<'a> {
    /// Whether the call is let through.
    pub allowed: bool,
    /// Whether it is let through only because its intention is tried out.
    pub is_dry_run: bool,
    /// The intention that decided, `None` for the default.
    pub by: Option<&'a Intention>,
    /// What of it.
    pub cause: Cause,
}

/// What decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The intention's action.
    Action,
    /// The default: no intention is for this caller.
    Default,
    /// The intention's permissions are for requests, and this is none.
    NoRequest,
    /// The default: none of the intention's permissions is for this call.
    NoPermission,
    /// The permission of this number, from 0.
    Permission(usize),
    /// What the permission of this number, from 0, asks for cannot be told of this call.
    Unreadable(usize, Unreadable),
    /// The intention lets nothing through without a token.
    NoToken(TokenWant),
    /// The permission of this number, from 0, would let it through if it had the token.
    NoTokenFor(usize, TokenWant),
    /// The intention cannot be judged by.
    Unusable,
}

impl Judge {
    /// Compiles a set.
    pub fn new(set: IntentionSet) -> Self {
        let rule = |intention: &Intention| match intention.permissions.is_empty() {
            true => Rule::Action(intention.action),
            false => {
                let permissions = intention.permissions.iter().map(Permission::compile);
                let permissions = permissions.collect::<Result<Vec<Permission>, _>>();
                permissions.map_or(Rule::Unusable, |permissions| {
                    let index = PathIndex::of(&permissions);
                    Rule::Permissions(permissions, index)
                })
            }
        };
        let (mut by_name, mut any) = (BTreeMap::new(), None);
        for (at, intention) in set.intentions.iter().enumerate() {
            match &intention.source {
                // The first one stands above the others.
                SourceName::Any => any = any.or(Some(at)),
                SourceName::Service(name) => {
                    by_name.entry(name.clone()).or_insert(at);
                }
            }
        }
        let asked = set.intentions.iter().map(|intention| set.asked(intention)).collect();
        Self { rules: set.intentions.iter().map(rule).collect(), asked, by_name, any, set }
    }

    /// Returns what it was compiled of.
    pub fn set(&self) -> &IntentionSet {
        &self.set
    }

    /// Finds what decides about a caller.
    pub fn standing(&self, source: &ServiceName) -> Standing {
        let named = self.by_name.get(source).copied();
        Standing(match (named, self.any) {
            (Some(named), Some(any)) => Some(named.min(any)),
            (named, any) => named.or(any),
        })
    }

    /// Whether the content of requests plays a part for that standing.
    pub fn is_by_content(&self, standing: Standing) -> bool {
        match standing.0.map(|at| &self.rules[at]) {
            Some(Rule::Permissions(permissions, _)) if self.token(standing).is_none() => {
                permissions.iter().any(Permission::needs_request)
            }
            Some(Rule::Permissions(..) | Rule::Action(IntentionAction::Allow)) => {
                self.token(standing).is_some()
            }
            Some(Rule::Action(IntentionAction::Deny) | Rule::Unusable) | None => false,
        }
    }

    /// Returns the providers whose tokens play a part for that standing.
    pub fn providers(&self, standing: Standing) -> impl Iterator<Item = &JwtProvider> {
        let asked = standing.0.map_or(&[][..], |at| &self.asked[at]);
        asked.iter().map(|at| &self.set.providers[*at])
    }

    fn token(&self, standing: Standing) -> Option<&IntentionJwt> {
        standing.0.and_then(|at| self.set.intentions[at].jwt.as_ref())
    }

    /// Judges a call.
    pub fn evaluate(&self, standing: Standing, call: &Call<'_>) -> Judgement<'_> {
        let default = self.set.default_action;
        let Some(at) = standing.0 else {
            let allowed = default == IntentionAction::Allow;
            return Judgement { allowed, is_dry_run: false, by: None, cause: Cause::Default };
        };
        let (action, cause) = match (&self.rules[at], self.no_token(standing, call)) {
            (Rule::Action(IntentionAction::Deny), _) => (IntentionAction::Deny, Cause::Action),
            (Rule::Unusable, _) => (IntentionAction::Deny, Cause::Unusable),
            (_, Some(cause)) => (IntentionAction::Deny, cause),
            (Rule::Action(IntentionAction::Allow), None) => (IntentionAction::Allow, Cause::Action),
            (Rule::Permissions(permissions, index), None) => {
                self.first_match((permissions, index.as_ref()), call)
            }
        };
        let by = &self.set.intentions[at];
        let is_refused = action == IntentionAction::Deny;
        Judgement {
            allowed: !is_refused || by.dry_run,
            is_dry_run: is_refused && by.dry_run,
            by: Some(by),
            cause,
        }
    }

    /// Why the intention lets nothing through for want of a token, `None` when it does.
    fn no_token(&self, standing: Standing, call: &Call<'_>) -> Option<Cause> {
        let jwt = self.token(standing)?;
        let Some(asked) = &call.request else { return Some(Cause::NoRequest) };
        match readings(jwt, asked.tokens, &self.set.providers) {
            (Readings { all: true, .. }, _) => None,
            (_, want) => Some(Cause::NoToken(want.unwrap_or(TokenWant::Missing))),
        }
    }

    /// The first permission that matches decides: one that allows if it does so in each reading
    /// of the call, one that denies if it does so in one.
    fn first_match(
        &self,
        (permissions, index): (&[Permission], Option<&PathIndex>),
        call: &Call<'_>,
    ) -> (IntentionAction, Cause) {
        let default = self.set.default_action;
        if call.request.is_none() && permissions.iter().any(Permission::needs_request) {
            return (IntentionAction::Deny, Cause::NoRequest);
        }
        // Whose path condition no reading of the path meets, nothing of the call can meet.
        let path = call.request.and_then(|asked| asked.path.ok());
        let candidates = index.zip(path).map(|(index, path)| index.candidates(path));
        let count = candidates.as_ref().map_or(permissions.len(), Vec::len);
        let mut misses = None;
        for at in 0..count {
            let number = candidates.as_ref().map_or(at, |candidates| candidates[at]);
            let permission = &permissions[number];
            let before = match permission.readings(call) {
                Ok(readings) => readings,
                Err(why) => return (IntentionAction::Deny, Cause::Unreadable(number, why)),
            };
            let (tokens, want) = match (&permission.jwt, &call.request) {
                (Some(jwt), Some(asked)) if before.any => {
                    readings(jwt, asked.tokens, &self.set.providers)
                }
                _ => (Readings::certain(true), None),
            };
            let both = before.and(tokens);
            match permission.action {
                IntentionAction::Allow if both.all => {}
                IntentionAction::Deny if both.any => {}
                IntentionAction::Allow if before.all => {
                    misses = misses.or(want.map(|want| Cause::NoTokenFor(number, want)));
                    continue;
                }
                IntentionAction::Allow | IntentionAction::Deny => continue,
            }
            return (permission.action, Cause::Permission(number));
        }
        match (default, misses) {
            (IntentionAction::Deny, Some(cause)) => (default, cause),
            _ => (default, Cause::NoPermission),
        }
    }
}

impl IntentionSet {
    /// Returns the numbers of the providers of whom an intention asks for tokens.
    fn asked(&self, intention: &Intention) -> Vec<usize> {
        let of = |provider: &&JwtProvider| {
            intention.asks_tokens_of().any(|asked| *asked == provider.name)
        };
        let providers = self.providers.iter().enumerate();
        providers.filter(|(_, provider)| of(provider)).map(|(at, _)| at).collect()
    }
}
