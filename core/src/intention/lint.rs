//! What in intentions never decides anything: rules behind others, rules for what is not there.

use super::{in_words, server_name};
use crate::config_entry::{
    HeaderMatch, IntentionAction, IntentionHttp, IntentionPermission, IntentionPrecedence,
    IntentionSource, Protocol, ServiceIntentions, SourceName,
};
use crate::name::ServiceName;

/// Something that does not do what it seems to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntentionFinding {
    /// The caller as written.
    pub source: SourceName,
    /// The service called as written.
    pub destination: SourceName,
    /// The permission, from 1.
    pub permission: Option<usize>,
    /// What about it.
    pub reason: String,
}

/// What around an entry plays a part in what it does.
pub struct Surroundings<'a> {
    /// Which intention decides where several are for one call.
    pub precedence: IntentionPrecedence,
    /// The entry for all services.
    pub wildcard: Option<&'a ServiceIntentions>,
    /// What a service speaks.
    pub protocol: &'a dyn Fn(&ServiceName) -> Protocol,
    /// Whether there is such a service.
    pub is_known: &'a dyn Fn(&ServiceName) -> bool,
    /// Whether there is such a `jwt-provider`.
    pub is_provider: &'a dyn Fn(&ServiceName) -> bool,
}

/// Finds what never decides in one entry.
pub fn lint(entry: &ServiceIntentions, around: &Surroundings<'_>) -> Vec<IntentionFinding> {
    let mut found = Vec::new();
    let speaks = match &entry.name {
        SourceName::Service(name) => Some((around.protocol)(name)),
        SourceName::Any => None,
    };
    for source in &entry.sources {
        let mut add = |permission: Option<usize>, reason: String| {
            found.push(IntentionFinding {
                source: source.name.clone(),
                destination: entry.name.clone(),
                permission: permission.map(|at| at + 1),
                reason,
            });
        };
        for name in [&source.name, &entry.name] {
            if let SourceName::Service(name) = name
                && !(around.is_known)(name)
            {
                add(None, format!("no service {name} is registered"));
            }
        }
        let of_permissions = source.permissions.iter().enumerate();
        let of_permissions =
            of_permissions.filter_map(|(at, it)| Some((Some(at), it.jwt.as_ref()?)));
        for (at, jwt) in entry.jwt.iter().map(|jwt| (None, jwt)).chain(of_permissions) {
            for provider in jwt.providers.iter().filter(|it| !(around.is_provider)(&it.name)) {
                add(at, format!("there is no jwt-provider {}, so no token is good", provider.name));
            }
        }
        if entry.jwt.is_some()
            && let Some(protocol) = speaks.filter(|it| !it.is_http_like())
        {
            let name = &entry.name;
            add(
                None,
                format!("{name} speaks {protocol} and carries no tokens, so all calls are denied"),
            );
        }
        for (at, permission) in source.permissions.iter().enumerate() {
            if permission.needs_request()
                && let Some(protocol) = speaks.filter(|it| !it.is_http_like())
            {
                let name = &entry.name;
                let reason =
                    format!("{name} speaks {protocol}, so all calls of this source are denied");
                add(Some(at), reason);
            }
            if let Some(before) = shadowing(&source.permissions, at, around.precedence) {
                let (number, asks) = (before + 1, in_words(&source.permissions[before]));
                let how = if before < at { "stands before it" } else { "denies it anyway" };
                let reason = format!("never decides: permission {number} ({asks}) {how}");
                add(Some(at), reason);
            }
        }
        for (at, reason) in overridden(source, entry, around) {
            add(at, reason);
        }
    }
    found
}

/// The permission because of which another one of its source never decides.
fn shadowing(
    permissions: &[IntentionPermission],
    at: usize,
    precedence: IntentionPrecedence,
) -> Option<usize> {
    let narrow = &permissions[at];
    let shadows = |(number, wide): (usize, &IntentionPermission)| {
        let decides = match (precedence, wide.action, narrow.action) {
            // Denials are asked first, in their order, and then what allows.
            (IntentionPrecedence::DenyOverrides, IntentionAction::Deny, IntentionAction::Allow) => {
                number != at
            }
            (IntentionPrecedence::DenyOverrides, IntentionAction::Allow, IntentionAction::Deny) => {
                false
            }
            (IntentionPrecedence::DenyOverrides | IntentionPrecedence::FirstMatch, _, _) => {
                number < at
            }
        };
        decides && covers(wide, narrow)
    };
    permissions.iter().enumerate().position(shadows)
}

/// What of a source never allows anything because denials of wider intentions override it.
fn overridden(
    source: &IntentionSource,
    entry: &ServiceIntentions,
    around: &Surroundings<'_>,
) -> Vec<(Option<usize>, String)> {
    match around.precedence {
        IntentionPrecedence::DenyOverrides => {}
        IntentionPrecedence::FirstMatch => return Vec::new(),
    }
    let wildcard = around.wildcard.filter(|wildcard| wildcard.name != entry.name);
    let is_for = |it: &&IntentionSource| it.name == SourceName::Any || it.name == source.name;
    let of = |entry: &ServiceIntentions| entry.name.clone();
    let wider = [Some(entry), wildcard]
        .into_iter()
        .flatten()
        .flat_map(|entry| entry.sources.iter().filter(is_for).map(move |it| (it, of(entry))));
    let is_same =
        |it: &IntentionSource, to: &SourceName| it.name == source.name && *to == entry.name;
    let wider: Vec<_> = wider.filter(|(it, to)| !it.dry_run && !is_same(it, to)).collect();
    let outright = wider.iter().find(|(it, _)| it.action == Some(IntentionAction::Deny));
    let mut found = Vec::new();
    if let Some((by, to)) = outright {
        let reason = format!("never allows: {} → {to} denies it, and denials override", by.name);
        if source.action == Some(IntentionAction::Allow) {
            found.push((None, reason));
            return found;
        }
        let allowing = source.permissions.iter().enumerate();
        let allowing = allowing.filter(|(_, it)| it.action == IntentionAction::Allow);
        return allowing.map(|(at, _)| (Some(at), reason.clone())).collect();
    }
    for (at, narrow) in source.permissions.iter().enumerate() {
        let shadows = |wide: &&IntentionPermission| {
            wide.action == IntentionAction::Deny && covers(wide, narrow)
        };
        let by =
            wider.iter().find_map(|(it, to)| Some((it, to, it.permissions.iter().find(shadows)?)));
        if let (IntentionAction::Allow, Some((by, to, permission))) = (narrow.action, by) {
            let (by, asks) = (&by.name, in_words(permission));
            let reason =
                format!("never allows: {by} → {to} denies it ({asks}), and denials override");
            found.push((Some(at), reason));
        }
    }
    found
}

/// Whether each call that meets `narrow` certainly meets `wide` as well.
fn covers(wide: &IntentionPermission, narrow: &IntentionPermission) -> bool {
    let any = IntentionHttp::default();
    let (http, of) = (wide.http.as_ref().unwrap_or(&any), narrow.http.as_ref().unwrap_or(&any));
    let path = match (&http.path_exact, &http.path_prefix, &http.path_regex) {
        (None, None, None) => true,
        (Some(path), _, _) => of.path_exact.as_ref() == Some(path),
        (_, Some(path), _) => {
            let inner = of.path_exact.as_ref().or(of.path_prefix.as_ref());
            inner.is_some_and(|inner| inner.starts_with(path.as_str()))
        }
        (_, _, Some(path)) => of.path_regex.as_ref() == Some(path),
    };
    let token = wide.jwt.is_none() || wide.jwt == narrow.jwt;
    path && token
        && is_within(&of.methods, &http.methods)
        && http.header.iter().all(|header: &HeaderMatch| of.header.contains(header))
        && is_within(&narrow.source_cidrs, &wide.source_cidrs)
        && is_within(&narrow.destination_ports, &wide.destination_ports)
        && are_names_within(&narrow.snis, &wide.snis)
}

/// As [`is_within`], for server names and their ends.
fn are_names_within(inner: &[String], outer: &[String]) -> bool {
    let is_in = |name: &String| outer.iter().any(|outer| server_name::is_within(name, outer));
    outer.is_empty() || !inner.is_empty() && inner.iter().all(is_in)
}

/// Whether all that `inner` takes is in `outer`; an empty list takes all.
fn is_within<T: PartialEq>(inner: &[T], outer: &[T]) -> bool {
    outer.is_empty() || !inner.is_empty() && inner.iter().all(|it| outer.contains(it))
}

#[cfg(test)]
mod tests;
