//! What becomes of a request's path.

/// Replaces the first bytes of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrite<'a> {
    /// How many bytes of the path are replaced.
    pub matched_bytes: usize,
    /// What they are replaced by.
    pub replacement: &'a str,
}

impl Rewrite<'_> {
    /// Appends the rewritten path to `out`.
    ///
    /// `/api/v1` with the prefix `/api` replaced by `/` gives `/v1`.
    ///
    /// **Source**: Consul: docs/connect/config-entries/service-router#prefixrewrite.
    /// Differs: where the replacement ends and the rest begins with a slash, one is written,
    /// not two, and an empty result becomes `/`; a doubled slash is never what was meant.
    pub fn apply(&self, path: &[u8], out: &mut Vec<u8>) {
        let rest = path.get(self.matched_bytes..).unwrap_or_default();
        let replacement = self.replacement.as_bytes();
        let start = out.len();
        if !replacement.starts_with(b"/") && !rest.starts_with(b"/") {
            out.push(b'/');
        }
        out.extend_from_slice(replacement);
        if out.len() > start && replacement.ends_with(b"/") && rest.starts_with(b"/") {
            out.extend_from_slice(&rest[1..]);
        } else {
            out.extend_from_slice(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_replaced_without_doubling_slashes() {
        for (path, matched, replacement, want) in [
            ("/api/v1", "/api", "/", "/v1"),
            ("/api/v1", "/api/", "/", "/v1"),
            ("/api", "/api", "/", "/"),
            ("/api", "/api", "", "/"),
            ("/api/v1", "/api", "", "/v1"),
            ("/api/v1", "/api", "/other", "/other/v1"),
            ("/api/v1", "/api/", "/other/", "/other/v1"),
            ("/api/v1", "", "/x", "/x/api/v1"),
        ] {
            let mut out = Vec::new();
            Rewrite { matched_bytes: matched.len(), replacement }.apply(path.as_bytes(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), want, "{path} {matched} {replacement}");
        }
    }
}
