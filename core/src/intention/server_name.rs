//! Server names in rules: a whole one, or `*.` and the end of some.

/// Whether a name that a caller gave in TLS is one that a rule means; case and a final dot play no
/// part, as in DNS (RFC 6066 §3, RFC 4343).
pub(crate) fn is_meant(rule: &str, name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).as_bytes();
    match rule.strip_prefix('*') {
        // With its dot, so that at least one label stands before it.
        Some(end) => {
            let before = name.len().checked_sub(end.len());
            before.is_some_and(|at| at > 0 && name[at..].eq_ignore_ascii_case(end.as_bytes()))
        }
        None => name.eq_ignore_ascii_case(rule.as_bytes()),
    }
}

/// Whether each name that `inner` means is meant by `outer`.
pub(super) fn is_within(inner: &str, outer: &str) -> bool {
    inner == outer || is_meant(outer, inner.strip_prefix("*.").unwrap_or(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_meant_whole_or_by_their_end() {
        for (rule, name, wanted) in [
            ("web.mesh", "web.mesh", true),
            ("web.mesh", "WEB.mesh.", true),
            ("web.mesh", "v1.web.mesh", false),
            ("web.mesh", "web.mesh..", false),
            ("*.web.mesh", "v1.web.mesh", true),
            ("*.web.mesh", "a.V1.Web.mesh.", true),
            ("*.web.mesh", "web.mesh", false),
            ("*.web.mesh", ".web.mesh", false),
            ("*.web.mesh", "xweb.mesh", false),
            ("*.web.mesh", "", false),
        ] {
            assert_eq!(is_meant(rule, name), wanted, "{name} by {rule}");
        }
    }

    #[test]
    fn a_rule_is_within_another_if_it_means_no_other_names() {
        for (inner, outer, wanted) in [
            ("*.a.b", "*.a.b", true),
            ("x.a.b", "*.a.b", true),
            ("*.x.a.b", "*.a.b", true),
            ("*.a.b", "*.x.a.b", false),
            ("a.b", "*.a.b", false),
            ("*.a.b", "x.a.b", false),
            ("x.a.b", "x.a.b", true),
        ] {
            assert_eq!(is_within(inner, outer), wanted, "{inner} in {outer}");
        }
    }
}
