//! What in intentions never decides anything: rules behind others, rules for what is not there.

use super::in_words;
use crate::config_entry::{
    HeaderMatch, IntentionHttp, IntentionPermission, Protocol, ServiceIntentions, SourceName,
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

/// Finds what never decides in one entry.
///
/// `protocol` says what a service speaks, `is_known` whether there is one, `is_provider` whether
/// there is a `jwt-provider`.
pub fn lint(
    entry: &ServiceIntentions,
    protocol: impl Fn(&ServiceName) -> Protocol,
    is_known: impl Fn(&ServiceName) -> bool,
    is_provider: impl Fn(&ServiceName) -> bool,
) -> Vec<IntentionFinding> {
    let mut found = Vec::new();
    let speaks = match &entry.name {
        SourceName::Service(name) => Some(protocol(name)),
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
                && !is_known(name)
            {
                add(None, format!("no service {name} is registered"));
            }
        }
        let of_permissions = source.permissions.iter().enumerate();
        let of_permissions =
            of_permissions.filter_map(|(at, it)| Some((Some(at), it.jwt.as_ref()?)));
        for (at, jwt) in entry.jwt.iter().map(|jwt| (None, jwt)).chain(of_permissions) {
            for provider in jwt.providers.iter().filter(|it| !is_provider(&it.name)) {
                add(at, format!("there is no jwt-provider {}, so no token is good", provider.name));
            }
        }
        if entry.jwt.is_some() && speaks == Some(Protocol::Tcp) {
            let name = &entry.name;
            add(None, format!("{name} speaks tcp and carries no tokens, so all calls are denied"));
        }
        for (at, permission) in source.permissions.iter().enumerate() {
            if permission.needs_request() && speaks == Some(Protocol::Tcp) {
                let name = &entry.name;
                let reason = format!("{name} speaks tcp, so all calls of this source are denied");
                add(Some(at), reason);
            }
            let before = source.permissions[..at].iter().position(|it| covers(it, permission));
            if let Some(before) = before {
                let (number, asks) = (before + 1, in_words(&source.permissions[before]));
                let reason =
                    format!("never decides: permission {number} ({asks}) stands before it");
                add(Some(at), reason);
            }
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
}

/// Whether all that `inner` takes is in `outer`; an empty list takes all.
fn is_within<T: PartialEq>(inner: &[T], outer: &[T]) -> bool {
    outer.is_empty() || !inner.is_empty() && inner.iter().all(|it| outer.contains(it))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config_entry::ConfigEntry;

    #[test]
    fn what_never_decides_is_found() {
        let entry = json!({ "Kind": "service-intentions", "Name": "db", "Sources": [
            { "Name": "gone", "Action": "allow" },
            { "Name": "web", "Permissions": [
                { "Action": "allow", "HTTP": { "PathPrefix": "/a", "Methods": ["GET", "PUT"] } },
                { "Action": "deny", "HTTP": { "PathExact": "/a/b", "Methods": ["GET"] } },
                { "Action": "deny", "HTTP": { "PathExact": "/a/b" } },
                { "Action": "deny", "SourceCIDRs": ["10.0.0.0/8"] },
                { "Action": "allow", "SourceCIDRs": ["10.0.0.0/8"], "DestinationPorts": [1] },
            ] },
        ] });
        let entry: ConfigEntry = serde_json::from_value(entry).expect("an entry");
        let Ok(ConfigEntry::ServiceIntentions(entry)) = entry.normalise() else {
            panic!("it is right")
        };
        let found = lint(&entry, |_| Protocol::Http, |name| name.as_str() != "gone", |_| true);
        let told: Vec<String> = found
            .iter()
            .map(|it| format!("{} {:?} {}", it.source, it.permission, it.reason))
            .collect();
        assert_eq!(
            told,
            [
                "gone None no service gone is registered",
                "web Some(2) never decides: permission 1 (path /a…, method GET or PUT) stands \
                 before it",
                "web Some(5) never decides: permission 4 (from 10.0.0.0/8) stands before it",
            ]
        );
        let found = lint(&entry, |_| Protocol::Tcp, |_| true, |_| true);
        assert_eq!(found.iter().filter(|it| it.reason.contains("speaks tcp")).count(), 3);
    }
}
