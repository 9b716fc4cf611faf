//! What may be asked: in Weft's terms and, apart from that, in those of whoever wrote it.

use serde_json::{Value, json};

use super::requests::Class;
use crate::origins::Seen;

/// A policy and what it means.
pub(super) struct Policy {
    pub(super) name: &'static str,
    pub(super) permissions: Value,
    /// A path that it refuses to the welcome request, to tell when it is in force.
    pub(super) refuses: &'static str,
    /// Whether it lets through what an origin has read.
    pub(super) allows: fn(&Seen) -> bool,
    /// The requests that try it.
    pub(super) classes: &'static [Class],
}

/// All policies. The welcome request, `GET /public/x` of user-1 in team green, passes each.
pub(super) fn all() -> [Policy; 6] {
    [denials(), allowances(), denied_values(), allowed_values(), names_with_dots(), hosts()]
}

fn has(seen: &Seen, name: &str, condition: impl Fn(&str) -> bool) -> bool {
    seen.field(name).iter().any(|value| condition(value))
}

fn all_are(seen: &Seen, name: &str, condition: impl Fn(&str) -> bool) -> bool {
    let values = seen.field(name);
    !values.is_empty() && values.iter().all(|value| condition(value))
}

fn no_path(seen: &Seen, condition: impl Fn(&str) -> bool) -> bool {
    !seen.paths.iter().any(|path| condition(path))
}

fn denials() -> Policy {
    Policy {
        name: "denials",
        permissions: json!([
            { "Action": "deny", "HTTP": { "PathPrefix": "/admin" } },
            { "Action": "deny", "HTTP": { "PathRegex": "/private(/.*)?" } },
            { "Action": "deny", "HTTP": { "PathExact": "/a:b" } },
            { "Action": "deny", "HTTP": { "Methods": ["DELETE"] } },
            { "Action": "deny", "HTTP": { "Header": [{ "Name": "X-Role", "Exact": "admin" }] } },
            { "Action": "allow", "HTTP": { "PathPrefix": "/" } },
        ]),
        refuses: "/admin",
        allows: |seen| {
            no_path(seen, |path| {
                path.starts_with("/admin")
                    || path == "/private"
                    || path.starts_with("/private/")
                    || path == "/a:b"
            }) && seen.method != "DELETE"
                && !has(seen, "x-role", |role| role == "admin")
        },
        classes: &[Class::Path, Class::Target, Class::Header, Class::HeaderByte, Class::Method],
    }
}

fn allowances() -> Policy {
    Policy {
        name: "allowances",
        permissions: json!([
            { "Action": "deny", "HTTP": { "Header": [
                { "Name": "X-Role", "Present": true },
                { "Name": "X-Role", "Exact": "user-1", "Invert": true }] } },
            { "Action": "allow", "HTTP": { "PathPrefix": "/public/",
                "Header": [{ "Name": "X-Team", "Exact": "green" }] } },
        ]),
        refuses: "/other",
        allows: |seen| {
            seen.paths.iter().all(|path| path.starts_with("/public/"))
                && all_are(seen, "x-team", |team| team == "green")
                && !has(seen, "x-role", |role| role != "user-1")
        },
        classes: &[Class::Path, Class::Target, Class::Header, Class::HeaderByte],
    }
}

fn denied_values() -> Policy {
    Policy {
        name: "denied values",
        permissions: json!([
            { "Action": "deny", "HTTP": { "Header": [{ "Name": "X-Role", "Prefix": "adm" }] } },
            { "Action": "deny", "HTTP": { "Header": [{ "Name": "X-Role", "Suffix": "-root" }] } },
            { "Action": "deny", "HTTP": { "Header": [{ "Name": "X-Role", "Contains": "super" }] } },
            { "Action": "deny", "HTTP": { "Header": [
                { "Name": "X-Role", "Exact": "CHIEF", "IgnoreCase": true }] } },
            { "Action": "deny", "HTTP": { "Header": [
                { "Name": "X-Role", "Regex": "(?i)boss[0-9]*" }] } },
            { "Action": "deny", "HTTP": { "Header": [{ "Name": "X-Mode", "Present": true }] } },
            { "Action": "deny", "HTTP": { "PathExact": "/other" } },
            { "Action": "allow", "HTTP": { "PathPrefix": "/" } },
        ]),
        refuses: "/other",
        allows: |seen| {
            let is_denied = |role: &str| {
                let lower = role.to_ascii_lowercase();
                let is_boss = lower
                    .strip_prefix("boss")
                    .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
                let is_adm = role.starts_with("adm") || role.ends_with("-root");
                is_adm || role.contains("super") || lower == "chief" || is_boss
            };
            !has(seen, "x-role", is_denied) && seen.field("x-mode").is_empty()
        },
        classes: &[Class::Header],
    }
}

fn allowed_values() -> Policy {
    Policy {
        name: "allowed values",
        permissions: json!([
            { "Action": "allow", "HTTP": { "PathPrefix": "/public/", "Methods": ["GET", "POST"],
                "Header": [
                    { "Name": "X-Role", "Prefix": "user-" },
                    { "Name": "X-Role", "Regex": "[a-z]+-[0-9]+" },
                    { "Name": "X-Role", "Contains": "admin", "Invert": true },
                    { "Name": "X-Team", "Regex": "green|blue" },
                    { "Name": "X-Mode", "Present": true, "Invert": true }] } },
        ]),
        refuses: "/other",
        allows: |seen| {
            let is_user = |role: &str| {
                let digits = role.strip_prefix("user-").unwrap_or_default();
                !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
            };
            seen.paths.iter().all(|path| path.starts_with("/public/"))
                && matches!(seen.method.as_str(), "GET" | "POST")
                && all_are(seen, "x-role", is_user)
                && all_are(seen, "x-team", |team| matches!(team, "green" | "blue"))
                && seen.field("x-mode").is_empty()
        },
        classes: &[Class::Header, Class::Method, Class::Forged],
    }
}

fn names_with_dots() -> Policy {
    Policy {
        name: "names that look like patterns",
        permissions: json!([
            { "Action": "allow", "HTTP": { "PathExact": "/public/x" } },
            { "Action": "allow", "HTTP": { "PathPrefix": "/v1.0/" } },
            { "Action": "allow", "HTTP": { "PathExact": "/a.b(c)+" } },
            { "Action": "allow", "HTTP": { "PathRegex": "/items/[0-9]+|/public/last" } },
        ]),
        refuses: "/other",
        allows: |seen| {
            seen.paths.iter().all(|path| {
                let item = path.strip_prefix("/items/").unwrap_or_default();
                matches!(path.as_str(), "/public/x" | "/public/last" | "/a.b(c)+")
                    || path.starts_with("/v1.0/")
                    || !item.is_empty() && item.bytes().all(|byte| byte.is_ascii_digit())
            })
        },
        classes: &[Class::Pattern, Class::Target],
    }
}

fn hosts() -> Policy {
    Policy {
        name: "hosts",
        permissions: json!([
            { "Action": "deny", "HTTP": { "Header": [{ "Name": "Host", "Exact": "inner.web" }] } },
            { "Action": "deny", "HTTP": { "Header": [{ "Name": "Host", "Suffix": ".internal" }] } },
            { "Action": "deny", "HTTP": { "PathExact": "/other" } },
            { "Action": "allow", "HTTP": { "PathPrefix": "/" } },
        ]),
        refuses: "/other",
        allows: |seen| {
            !has(seen, "host", |host| host == "inner.web" || host.ends_with(".internal"))
        },
        classes: &[Class::Host],
    }
}
