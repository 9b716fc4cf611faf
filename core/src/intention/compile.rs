//! Intentions of one destination, compiled: callers are found by name, conditions are ready.
//!
//! Evaluation allocates nothing, but for headers that are given twice and where an intention has
//! many permissions.

use std::collections::BTreeMap;

use super::permission::{Permission, Readings, Unreadable};
use super::token::{TokenWant, readings};
use super::{Call, Intention, IntentionSet};
use crate::config_entry::{
    IntentionAction, IntentionJwt, IntentionPrecedence, JwtProvider, SourceName,
};
use crate::name::ServiceName;
use crate::traffic::path_index::PathIndex;

/// Judges calls of one destination.
#[derive(Debug)]
pub struct Judge {
    set: IntentionSet,
    /// As `set.intentions`.
    rules: Vec<Rule>,
    callers: Vec<Caller>,
    /// Their numbers in `callers`.
    by_name: BTreeMap<ServiceName, usize>,
    any: Option<usize>,
}

/// Which intentions decide about one caller; good for the judge that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing(Option<usize>);

/// What decides about callers that the same intentions are for.
#[derive(Debug)]
struct Caller {
    decides: usize,
    /// Where denials override: all whose denials are asked first, in order.
    deny: Vec<usize>,
    /// Of whom tokens are asked for, by their number in `set.providers`.
    asked: Vec<usize>,
    /// Whether the content of requests plays a part.
    is_by_content: bool,
}

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
        let rules: Vec<Rule> = set.intentions.iter().map(Rule::of).collect();
        let mut named: BTreeMap<ServiceName, Vec<usize>> = BTreeMap::new();
        let mut of_any = Vec::new();
        for (at, intention) in set.intentions.iter().enumerate() {
            match &intention.source {
                SourceName::Any => of_any.push(at),
                SourceName::Service(name) => named.entry(name.clone()).or_default().push(at),
            }
        }
        let mut callers = Vec::new();
        let mut add = |matching: Vec<usize>| {
            callers.push(Caller::of(&set, &rules, matching)?);
            Some(callers.len() - 1)
        };
        let any = add(of_any.clone());
        let number = |(name, mut matching): (ServiceName, Vec<usize>)| {
            matching.extend(&of_any);
            Some((name, add(matching)?))
        };
        let by_name = named.into_iter().filter_map(number).collect();
        Self { rules, callers, by_name, any, set }
    }

    /// Returns what it was compiled of.
    pub fn set(&self) -> &IntentionSet {
        &self.set
    }

    /// Finds what decides about a caller.
    pub fn standing(&self, source: &ServiceName) -> Standing {
        Standing(self.by_name.get(source).copied().or(self.any))
    }

    fn caller(&self, standing: Standing) -> Option<&Caller> {
        standing.0.map(|at| &self.callers[at])
    }

    /// Whether the content of requests plays a part for that standing.
    pub fn is_by_content(&self, standing: Standing) -> bool {
        self.caller(standing).is_some_and(|caller| caller.is_by_content)
    }

    /// Returns the providers whose tokens play a part for that standing.
    pub fn providers(&self, standing: Standing) -> impl Iterator<Item = &JwtProvider> {
        let asked = self.caller(standing).map_or(&[][..], |caller| &caller.asked);
        asked.iter().map(|at| &self.set.providers[*at])
    }

    fn token(&self, at: usize) -> Option<&IntentionJwt> {
        self.set.intentions[at].jwt.as_ref()
    }

    /// Judges a call.
    pub fn evaluate(&self, standing: Standing, call: &Call<'_>) -> Judgement<'_> {
        let Some(caller) = self.caller(standing) else {
            let allowed = self.set.default_action == IntentionAction::Allow;
            return Judgement { allowed, is_dry_run: false, by: None, cause: Cause::Default };
        };
        let mut tried = None;
        for at in &caller.deny {
            let Some(cause) = self.denial(*at, call) else { continue };
            let judgement = self.judgement(*at, IntentionAction::Deny, cause);
            if !judgement.allowed {
                return judgement;
            }
            tried = tried.or(Some(judgement));
        }
        let decided = self.decide(caller.decides, call);
        // A denial that is tried out is told of where all others let the call through.
        tried.filter(|_| decided.allowed && !decided.is_dry_run).unwrap_or(decided)
    }

    /// Judges a call by one intention.
    fn decide(&self, at: usize, call: &Call<'_>) -> Judgement<'_> {
        let (action, cause) = match (&self.rules[at], self.no_token(at, call)) {
            (Rule::Action(IntentionAction::Deny), _) => (IntentionAction::Deny, Cause::Action),
            (Rule::Unusable, _) => (IntentionAction::Deny, Cause::Unusable),
            (_, Some(cause)) => (IntentionAction::Deny, cause),
            (Rule::Action(IntentionAction::Allow), None) => (IntentionAction::Allow, Cause::Action),
            (Rule::Permissions(permissions, index), None) => {
                self.first_match((permissions, index.as_ref()), call)
            }
        };
        self.judgement(at, action, cause)
    }

    fn judgement(&self, at: usize, action: IntentionAction, cause: Cause) -> Judgement<'_> {
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
    fn no_token(&self, at: usize, call: &Call<'_>) -> Option<Cause> {
        let jwt = self.token(at)?;
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
        let mut misses = None;
        for number in candidates((permissions, index), call) {
            let permission = &permissions[number];
            let (before, both, want) = match self.readings(permission, call) {
                Ok(readings) => readings,
                Err(why) => return (IntentionAction::Deny, Cause::Unreadable(number, why)),
            };
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

    /// What of an intention denies a call, whatever stands before it.
    fn denial(&self, at: usize, call: &Call<'_>) -> Option<Cause> {
        let (permissions, index) = match &self.rules[at] {
            Rule::Action(IntentionAction::Allow) => return None,
            Rule::Action(IntentionAction::Deny) => return Some(Cause::Action),
            Rule::Permissions(permissions, index) => (permissions, index.as_ref()),
            Rule::Unusable => return Some(Cause::Unusable),
        };
        if call.request.is_none() && self.rules[at].denies_requests() {
            return Some(Cause::NoRequest);
        }
        let denies = |number: &usize| permissions[*number].action == IntentionAction::Deny;
        let mut denials = candidates((permissions, index), call).filter(denies);
        denials.find_map(|number| match self.readings(&permissions[number], call) {
            Ok((_, both, _)) => both.any.then_some(Cause::Permission(number)),
            Err(why) => Some(Cause::Unreadable(number, why)),
        })
    }

    /// In which readings a permission holds, but for its token and with it; and what is wrong
    /// with the token.
    fn readings(
        &self,
        permission: &Permission,
        call: &Call<'_>,
    ) -> Result<(Readings, Readings, Option<TokenWant>), Unreadable> {
        let before = permission.readings(call)?;
        let (tokens, want) = match (&permission.jwt, &call.request) {
            (Some(jwt), Some(asked)) if before.any => {
                readings(jwt, asked.tokens, &self.set.providers)
            }
            _ => (Readings::certain(true), None),
        };
        Ok((before, before.and(tokens), want))
    }
}

/// Returns the numbers of the permissions that can hold for a call, in order: whose path
/// condition no reading of the path meets, nothing of the call can meet.
fn candidates(
    (permissions, index): (&[Permission], Option<&PathIndex>),
    call: &Call<'_>,
) -> impl Iterator<Item = usize> {
    let path = call.request.and_then(|asked| asked.path.ok());
    let found = index.zip(path).map(|(index, path)| index.candidates(path.readings()));
    let all = if found.is_some() { 0 } else { permissions.len() };
    found.into_iter().flatten().chain(0..all)
}

impl Rule {
    fn of(intention: &Intention) -> Self {
        if intention.permissions.is_empty() {
            return Self::Action(intention.action);
        }
        let permissions = intention.permissions.iter().map(Permission::compile);
        let permissions = permissions.collect::<Result<Vec<Permission>, _>>();
        permissions.map_or(Self::Unusable, |permissions| {
            let index = PathIndex::of(permissions.iter().map(Permission::path));
            Self::Permissions(permissions, index)
        })
    }

    /// Whether it denies whatever the call is.
    fn denies_all(&self) -> bool {
        match self {
            Self::Action(action) => *action == IntentionAction::Deny,
            Self::Permissions(..) => false,
            Self::Unusable => true,
        }
    }

    /// Whether it decides by the content of requests, with or without a token of its own.
    fn is_by_content(&self, has_token: bool) -> bool {
        match self {
            Self::Permissions(permissions, _) => {
                has_token || permissions.iter().any(Permission::needs_request)
            }
            Self::Action(IntentionAction::Allow) => has_token,
            Self::Action(IntentionAction::Deny) | Self::Unusable => false,
        }
    }

    fn denials(&self) -> impl Iterator<Item = &Permission> {
        let permissions = match self {
            Self::Permissions(permissions, _) => &permissions[..],
            Self::Action(_) | Self::Unusable => &[],
        };
        permissions.iter().filter(|it| it.action == IntentionAction::Deny)
    }

    /// Whether what it denies depends on the request.
    fn denies_requests(&self) -> bool {
        self.denials().any(Permission::needs_request)
    }
}

impl Caller {
    /// Takes the numbers of the intentions that are for the caller; `None` without any.
    fn of(set: &IntentionSet, rules: &[Rule], mut matching: Vec<usize>) -> Option<Self> {
        matching.sort_unstable();
        let first = *matching.first()?;
        let (mut decides, mut deny) = (first, Vec::new());
        match set.precedence {
            IntentionPrecedence::DenyOverrides => {
                let is_in_force = |at: &&usize| !set.intentions[**at].dry_run;
                let mut in_force = matching.iter().filter(is_in_force);
                match in_force.find(|at| rules[**at].denies_all()) {
                    Some(outright) => decides = *outright,
                    None => {
                        let denies = |at: &usize| {
                            rules[*at].denies_all() || rules[*at].denials().next().is_some()
                        };
                        deny = matching.into_iter().filter(denies).collect();
                    }
                }
            }
            IntentionPrecedence::FirstMatch => {}
        }
        let mut asked: Vec<usize> =
            deny.iter().chain([&decides]).flat_map(|at| set.asked(&set.intentions[*at])).collect();
        asked.sort_unstable();
        asked.dedup();
        let is_by_content = rules[decides].is_by_content(set.intentions[decides].jwt.is_some())
            || deny.iter().any(|at| rules[*at].denies_requests());
        Some(Self { decides, deny, asked, is_by_content })
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
