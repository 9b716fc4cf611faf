//! Conditions on a request that routes and permissions share: at most one path, headers, methods.

use std::collections::BTreeSet;

use super::HeaderMatch;
use super::findings::{Findings, shortened};
use crate::limits;

/// Takes empty paths for absent, which is how clients leave a condition out; of `PathExact`,
/// `PathPrefix` and `PathRegex` one may be there.
pub(super) fn normalise_paths(
    field: &str,
    paths: [&mut Option<String>; 3],
    findings: &mut Findings,
) {
    let given = paths.into_iter().filter_map(|path| {
        *path = path.take().filter(|text| !text.is_empty());
        path.as_ref()
    });
    if given.count() > 1 {
        findings.add(field, "write one of PathExact, PathPrefix and PathRegex, not several");
    }
}

/// Checks each condition on a header.
pub(super) fn normalise_headers(field: &str, header: &mut [HeaderMatch], findings: &mut Findings) {
    findings.count(&format!("{field}.Header"), header.len(), limits::CONDITIONS_PER_ROUTE_MAX);
    for (at, header) in header.iter_mut().enumerate() {
        header.normalise(&format!("{field}.Header[{at}]"), findings);
    }
}

/// Writes methods in capitals; each is given once.
pub(super) fn normalise_methods(field: &str, methods: &mut [String], findings: &mut Findings) {
    findings.count(&format!("{field}.Methods"), methods.len(), limits::CONDITIONS_PER_ROUTE_MAX);
    let mut seen = BTreeSet::new();
    for (at, method) in methods.iter_mut().enumerate() {
        method.make_ascii_uppercase();
        findings.token(&format!("{field}.Methods[{at}]"), method);
        if !seen.insert(method.clone()) {
            let reason = format!("{:?} is given twice", shortened(method));
            findings.add(format!("{field}.Methods[{at}]"), reason);
        }
    }
}
