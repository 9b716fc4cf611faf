//! Verdicts in words, for refusals, logs and `intention check`.

use super::{Cause, Intention, IntentionSet, Judge, Judgement, Verdict};
use crate::config_entry::{
    IntentionAction, IntentionJwt, IntentionJwtProvider, IntentionPermission,
};
use crate::identity::{SpiffeId, Workload};
use crate::name::ServiceName;

impl IntentionSet {
    /// Says in one line what is decided about a call between two services, and why.
    pub fn explain(&self, source: &ServiceName, destination: &ServiceName) -> String {
        match self.evaluate(source) {
            Verdict { by: Some(by), .. } if by.dry_run && by.action == IntentionAction::Deny => {
                let (from, to) = (&by.source, &by.destination);
                format!("allowed: intention {from} → {to} is tried out, and refuses nothing")
            }
            Verdict { by: Some(by), .. }
                if by.jwt.is_some() && by.action == IntentionAction::Allow =>
            {
                format!(
                    "denied: intention {} → {} asks for a token, so each request is judged by itself",
                    by.source, by.destination
                )
            }
            Verdict { by: Some(by), .. } if !by.permissions.is_empty() => format!(
                "denied: intention {} → {} has permissions, so each request is judged by itself",
                by.source, by.destination
            ),
            Verdict { allowed, by: Some(by) } => {
                let over = self.overridden(by, source);
                let (from, to, precedence) = (&by.source, &by.destination, by.precedence);
                let (outcome, word) = match allowed {
                    true => ("allowed", "allows"),
                    false => ("denied", "denies"),
                };
                let rule = format!("intention {from} → {to} {word} it (precedence {precedence})");
                match from.as_str() == source.as_str() && to.as_str() == destination.as_str() {
                    true => format!("{outcome}: {rule}{over}"),
                    false => {
                        format!("{outcome}: {rule}, asked for {source} → {destination}{over}")
                    }
                }
            }
            Verdict { allowed, by: None } => {
                let outcome = if allowed { "allowed" } else { "denied" };
                let default = word(self.default_action);
                format!(
                    "{outcome}: no intention matches {source} → {destination} and the default is \
                     {default}"
                )
            }
        }
    }

    /// Says what would decide if an intention that denies did not override it.
    fn overridden(&self, by: &Intention, source: &ServiceName) -> String {
        match self.matching(source).next() {
            Some(first) if !std::ptr::eq(first, by) => {
                let (from, to, precedence) = (&first.source, &first.destination, first.precedence);
                format!("; as a denial it overrides {from} → {to} (precedence {precedence})")
            }
            Some(_) | None => String::new(),
        }
    }

    /// Says in one line what is decided about a call by the holder of a certificate, and why.
    pub fn explain_identity(&self, source: &SpiffeId, destination: &ServiceName) -> String {
        match &source.workload {
            Workload::Service(name) => self.explain(name, destination),
            Workload::Agent(_) | Workload::Server(_) => {
                format!("denied: {source} is not a service, and only services call {destination}")
            }
        }
    }
}

impl Judge {
    /// Says in one line what was decided about a call, and why.
    pub fn explain(
        &self,
        judgement: &Judgement<'_>,
        source: &ServiceName,
        destination: &ServiceName,
    ) -> String {
        let outcome = match (judgement.allowed, judgement.is_dry_run) {
            (false, _) => "denied",
            (true, false) => "allowed",
            (true, true) => "allowed in a dry run, else denied",
        };
        let default = word(self.set().default_action);
        let Some(by) = judgement.by else {
            return format!(
                "{outcome}: no intention matches {source} → {destination} and the default is \
                 {default}"
            );
        };
        let rule = format!("intention {} → {}", by.source, by.destination);
        let over = self.set().overridden(by, source);
        let shown = |number: usize| by.permissions.get(number).map(in_words).unwrap_or_default();
        match judgement.cause {
            Cause::Action | Cause::Default => {
                let verb = if by.action == IntentionAction::Allow { "allows" } else { "denies" };
                let precedence = by.precedence;
                let asked = match by.source.as_str() == source.as_str()
                    && by.destination.as_str() == destination.as_str()
                {
                    true => String::new(),
                    false => format!(", asked for {source} → {destination}"),
                };
                format!("{outcome}: {rule} {verb} it (precedence {precedence}){asked}{over}")
            }
            Cause::NoRequest => format!(
                "{outcome}: {rule} judges requests, and {destination} speaks tcp or udp, so \
                 it cannot tell them; write Protocol http in its service-defaults"
            ),
            Cause::NoToken(want) => {
                let asks = by.jwt.as_ref().map(jwt_in_words).unwrap_or_default();
                format!("{outcome}: {want}, and {rule} asks for one ({asks})")
            }
            Cause::NoTokenFor(number, want) => {
                let (number, shown) = (number + 1, shown(number));
                format!(
                    "{outcome}: {want}, and permission {number} of {rule} asks for it ({shown})"
                )
            }
            Cause::NoPermission => {
                let count = by.permissions.len();
                format!(
                    "{outcome}: none of the {count} permissions of {rule} matches and the default \
                     is {default}"
                )
            }
            Cause::Permission(number) => {
                let action = by.permissions.get(number).map(|permission| permission.action);
                let verb = match action {
                    Some(IntentionAction::Allow) => "allows",
                    Some(IntentionAction::Deny) | None => "denies",
                };
                let (number, shown) = (number + 1, shown(number));
                format!("{outcome}: permission {number} of {rule} {verb} it ({shown}){over}")
            }
            Cause::Unreadable(number, why) => {
                let (number, shown) = (number + 1, shown(number));
                format!("{outcome}: {why}, and permission {number} of {rule} looks at it ({shown})")
            }
            Cause::Unusable => format!("{outcome}: {rule} has a condition that cannot be judged"),
        }
    }
}

/// Says what a permission asks for: `path /api…, methods GET POST, header x-team`.
pub fn in_words(permission: &IntentionPermission) -> String {
    let mut parts = Vec::new();
    if let Some(http) = &permission.http {
        parts.extend(http.path_exact.as_ref().map(|path| format!("path {path}")));
        parts.extend(http.path_prefix.as_ref().map(|path| format!("path {path}…")));
        parts.extend(http.path_regex.as_ref().map(|path| format!("path like {path}")));
        if !http.methods.is_empty() {
            parts.push(format!("method {}", http.methods.join(" or ")));
        }
        for header in &http.header {
            let not = if header.invert { "not " } else { "" };
            parts.push(format!("{not}header {}", header.name));
        }
    }
    parts.extend(permission.jwt.as_ref().map(jwt_in_words));
    if !permission.source_cidrs.is_empty() {
        parts.push(format!("from {}", permission.source_cidrs.join(" or ")));
    }
    if !permission.destination_ports.is_empty() {
        let ports: Vec<String> = permission.destination_ports.iter().map(u16::to_string).collect();
        parts.push(format!("port {}", ports.join(" or ")));
    }
    if !permission.snis.is_empty() {
        parts.push(format!("SNI {}", permission.snis.join(" or ")));
    }
    parts.join(", ")
}

/// Says whose tokens are asked for: `token of accounts with role=admin or of partners`.
fn jwt_in_words(jwt: &IntentionJwt) -> String {
    let of = |provider: &IntentionJwtProvider| {
        let claims: Vec<String> = provider
            .verify_claims
            .iter()
            .map(|claim| format!("{}={}", claim.path.join("."), claim.value))
            .collect();
        let with = if claims.is_empty() { "" } else { " with " };
        format!("{}{with}{}", provider.name, claims.join(" and "))
    };
    let providers: Vec<String> = jwt.providers.iter().map(of).collect();
    format!("token of {}", providers.join(" or of "))
}

fn word(action: IntentionAction) -> &'static str {
    match action {
        IntentionAction::Allow => "allow",
        IntentionAction::Deny => "deny",
    }
}

#[cfg(test)]
mod tests;
