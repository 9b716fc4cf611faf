//! What becomes of a request's path.

use regex::bytes::Regex;

use super::condition::pattern;
use crate::config_entry::PathRewrite;
use crate::limits;

/// What becomes of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewrite<'a> {
    /// Each match is replaced.
    Pattern(&'a PathPattern),
    /// The first bytes are replaced.
    Prefix {
        /// How many bytes of the path.
        matched_bytes: usize,
        /// What they are replaced by.
        replacement: &'a str,
    },
}

/// A regular expression and what stands in place of its matches, ready for work.
#[derive(Debug)]
pub struct PathPattern {
    regex: Regex,
    pieces: Vec<Piece>,
}

/// A piece of what stands in place of a match.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Group(usize),
    Literal(Vec<u8>),
}

impl PartialEq for PathPattern {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str() && self.pieces == other.pieces
    }
}

impl Eq for PathPattern {}

impl Rewrite<'_> {
    /// Appends the rewritten path to `out`.
    ///
    /// `/api/v1` with the prefix `/api` replaced by `/` gives `/v1`.
    ///
    /// **Source**: Consul: docs/connect/config-entries/service-router#prefixrewrite.
    /// Differs: where the replacement ends and the rest begins with a slash, one is written,
    /// not two, and an empty result becomes `/`; a doubled slash is never what was meant.
    pub fn apply(&self, path: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Pattern(pattern) => pattern.apply(path, out),
            Self::Prefix { matched_bytes, replacement } => {
                replace_prefix(path, (*matched_bytes, replacement.as_bytes()), out);
            }
        }
    }
}

fn replace_prefix(path: &[u8], (matched, replacement): (usize, &[u8]), out: &mut Vec<u8>) {
    let rest = path.get(matched..).unwrap_or_default();
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

impl PathPattern {
    /// Compiles a rewriting.
    pub(super) fn compile(rewrite: &PathRewrite) -> Result<Self, regex::Error> {
        let regex = pattern(&rewrite.regex)?;
        let (mut pieces, mut literal) = (Vec::new(), Vec::new());
        let mut bytes = rewrite.substitution.bytes();
        while let Some(byte) = bytes.next() {
            let group = if byte == b'\\' { bytes.next() } else { None };
            match group {
                Some(digit @ b'0'..=b'9') => {
                    if !literal.is_empty() {
                        pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                    }
                    pieces.push(Piece::Group(usize::from(digit - b'0')));
                }
                Some(other) => literal.push(other),
                None => literal.push(byte),
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self { regex, pieces })
    }

    /// Appends the path with its matches replaced; a path that would become longer than any head
    /// goes on as it came.
    fn apply(&self, path: &[u8], out: &mut Vec<u8>) {
        let (start, mut done) = (out.len(), 0);
        for groups in self.regex.captures_iter(path) {
            let Some(whole) = groups.get(0) else { continue };
            out.extend_from_slice(&path[done..whole.start()]);
            done = whole.end();
            for piece in &self.pieces {
                match piece {
                    Piece::Literal(text) => out.extend_from_slice(text),
                    Piece::Group(number) => {
                        out.extend_from_slice(groups.get(*number).map_or(b"", |it| it.as_bytes()));
                    }
                }
                if out.len() - start > limits::HTTP_HEAD_BYTES_MAX {
                    out.truncate(start);
                    return out.extend_from_slice(path);
                }
            }
        }
        out.extend_from_slice(&path[done..]);
        if out.get(start) != Some(&b'/') {
            out.insert(start, b'/');
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
            let (mut out, matched_bytes) = (Vec::new(), matched.len());
            Rewrite::Prefix { matched_bytes, replacement }.apply(path.as_bytes(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), want, "{path} {matched} {replacement}");
        }
    }

    #[test]
    fn matches_of_a_pattern_are_replaced_by_their_groups() {
        let long = format!("/{}", "a".repeat(1_000));
        let many = r"\0".repeat(200);
        for (path, regex, substitution, want) in [
            ("/users/7/orders", "^/users/([0-9]+)", r"/u/\1", "/u/7/orders"),
            ("/a/b", "/", "//", "//a//b"),
            ("/v1/x", "^/v1", "", "/x"),
            ("/v1", "^/v1", "", "/"),
            ("/x", "x", "y", "/y"),
            ("/x", "^/", "", "/x"),
            ("/none", "zzz", "y", "/none"),
            ("/a", "(b)?a", r"\1\\\0", "/\\a"),
            (long.as_str(), ".+", many.as_str(), long.as_str()),
        ] {
            let (regex, substitution) = (regex.to_owned(), substitution.to_owned());
            let pattern = PathPattern::compile(&PathRewrite { regex, substitution });
            let mut out = Vec::new();
            let pattern = pattern.expect("a pattern");
            Rewrite::Pattern(&pattern).apply(path.as_bytes(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), want, "{path} {pattern:?}");
        }
    }
}
