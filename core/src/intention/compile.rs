//! Intentions of one destination, compiled: callers are found by name, conditions are ready.
//!
//! Evaluation allocates nothing, but for headers that are given twice.

use std::collections::BTreeMap;

use super::permission::{Permission, Unreadable};
use super::{Call, Intention, IntentionSet};
use crate::config_entry::{IntentionAction, SourceName};
use crate::name::ServiceName;

/// Judges calls of one destination.
#[derive(Debug)]
pub struct Judge {
    set: IntentionSet,
    /// As `set.intentions`.
    rules: Vec<Rule>,
    by_name: BTreeMap<ServiceName, usize>,
    any: Option<usize>,
}

/// Which intention decides about one caller; good for the judge that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing(Option<usize>);

#[derive(Debug)]
enum Rule {
    Action(IntentionAction),
    Permissions(Vec<Permission>),
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
                permissions.collect::<Result<_, _>>().map_or(Rule::Unusable, Rule::Permissions)
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
        Self { rules: set.intentions.iter().map(rule).collect(), by_name, any, set }
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
            Some(Rule::Permissions(permissions)) => permissions.iter().any(|it| it.http.is_some()),
            Some(Rule::Action(_) | Rule::Unusable) | None => false,
        }
    }

    /// Judges a call.
    pub fn evaluate(&self, standing: Standing, call: &Call<'_>) -> Judgement<'_> {
        let default = self.set.default_action;
        let Some(at) = standing.0 else {
            let allowed = default == IntentionAction::Allow;
            return Judgement { allowed, is_dry_run: false, by: None, cause: Cause::Default };
        };
        let (action, cause) = match &self.rules[at] {
            Rule::Action(action) => (*action, Cause::Action),
            Rule::Permissions(permissions) => first_match(permissions, call, default),
            Rule::Unusable => (IntentionAction::Deny, Cause::Unusable),
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
}

/// The first permission that matches decides: one that allows if it does so in each reading of
/// the call, one that denies if it does so in one.
fn first_match(
    permissions: &[Permission],
    call: &Call<'_>,
    default: IntentionAction,
) -> (IntentionAction, Cause) {
    if call.request.is_none() && permissions.iter().any(|permission| permission.http.is_some()) {
        return (IntentionAction::Deny, Cause::NoRequest);
    }
    for (number, permission) in permissions.iter().enumerate() {
        let readings = match permission.readings(call) {
            Ok(readings) => readings,
            Err(why) => return (IntentionAction::Deny, Cause::Unreadable(number, why)),
        };
        let matches = match permission.action {
            IntentionAction::Allow => readings.all,
            IntentionAction::Deny => readings.any,
        };
        if matches {
            return (permission.action, Cause::Permission(number));
        }
    }
    (default, Cause::NoPermission)
}
