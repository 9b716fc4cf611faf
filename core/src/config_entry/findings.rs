//! The rules that kinds of entries share, and the list of what breaks them.

use std::collections::BTreeMap;
use std::time::Duration;

use regex::bytes::RegexBuilder;

use super::{EntryKind, InvalidEntry, ResourceReference};
use crate::limits;
use crate::name::ServiceName;
use crate::time::Span;

/// Everything found wrong with one entry, in the order of its fields.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<InvalidEntry>);

impl Findings {
    pub(super) fn add(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.0.push(InvalidEntry::field(field, reason));
    }

    /// Returns how many were found so far.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Ends the check: the entry when nothing was found, else what was.
    pub(super) fn result<T>(self, entry: T) -> Result<T, Vec<InvalidEntry>> {
        if self.0.is_empty() { Ok(entry) } else { Err(self.0) }
    }

    /// Free key-value pairs keep to the limits of metadata.
    pub(super) fn meta(&mut self, meta: &BTreeMap<String, String>) {
        self.meta_at("Meta", meta);
    }

    /// As [`Self::meta`], of another field.
    pub(super) fn meta_at(&mut self, field: &str, meta: &BTreeMap<String, String>) {
        if meta.len() > limits::META_PAIRS_MAX {
            let (pairs, max) = (meta.len(), limits::META_PAIRS_MAX);
            self.add(field, format!("has {pairs} pairs, more than the {max} allowed"));
        }
        for (key, value) in meta {
            if key.is_empty() || key.len() > limits::META_KEY_BYTES_MAX {
                let max = limits::META_KEY_BYTES_MAX;
                self.add(field, format!("a key must have 1 to {max} bytes"));
            }
            if value.len() > limits::META_VALUE_BYTES_MAX {
                let (bytes, max) = (value.len(), limits::META_VALUE_BYTES_MAX);
                let field = format!("{field}.{}", shortened(key));
                self.add(field, format!("has {bytes} bytes, more than the {max} allowed"));
            }
        }
    }

    /// A list keeps to its limit.
    pub(super) fn count(&mut self, field: &str, count: usize, max: usize) {
        if count > max {
            self.add(field, format!("has {count} items, more than the {max} allowed"));
        }
    }

    /// A text keeps to its limit.
    pub(super) fn bytes(&mut self, field: &str, bytes: usize, max: usize) {
        if bytes > max {
            self.add(field, format!("has {bytes} bytes, more than the {max} allowed"));
        }
    }

    /// An entry of which there is one has its one name.
    pub(super) fn only_name(&mut self, name: &str, only: &str) {
        if name != only {
            self.add("Name", format!("must be {only:?}; there is one such entry"));
        }
    }

    /// A name is one that a service may have.
    pub(super) fn name(&mut self, field: &str, name: &str) {
        if let Err(error) = ServiceName::parse(name) {
            self.add(field, error.to_string());
        }
    }

    /// A port is one to listen on.
    pub(super) fn port(&mut self, field: &str, port: u16) {
        if port == 0 {
            self.add(field, "must be a port, 1 to 65535");
        }
    }

    /// A host name has labels of letters, digits and `-`.
    ///
    /// **Source**: Spec: RFC 1123 §2.1.
    pub(super) fn host(&mut self, field: &str, host: &str) {
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if host.len() > limits::HOST_NAME_BYTES_MAX || !host.split('.').all(is_label) {
            let host = shortened(host);
            self.add(field, format!("{host:?} is not a host name"));
        }
    }

    /// A host name, perhaps with `*` for its first label, or a port behind it.
    pub(super) fn host_pattern(&mut self, field: &str, pattern: &str) {
        let host = match pattern.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok_and(|port| port != 0) => host,
            Some(_) | None => pattern,
        };
        match host.strip_prefix("*.") {
            Some(rest) => self.host(field, rest),
            None if host == "*" => {}
            None => self.host(field, host),
        }
    }

    /// A text is base64 with padding; empty texts are left to others.
    pub(super) fn base64(&mut self, field: &str, text: &str) {
        let body = text.trim_end_matches('=');
        let digit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
        if !text.len().is_multiple_of(4) || text.len() - body.len() > 2 || !body.bytes().all(digit)
        {
            self.add(field, "is not base64");
        }
    }

    /// A route names the gateways that it belongs to, each once.
    pub(super) fn parents(&mut self, parents: &mut [ResourceReference], kind: EntryKind) {
        self.count("Parents", parents.len(), limits::CONDITIONS_PER_ROUTE_MAX);
        let mut first = BTreeMap::new();
        for (at, parent) in parents.iter_mut().enumerate() {
            let field = format!("Parents[{at}]");
            parent.normalise(&field, &[kind], self);
            if let Some(earlier) = first.insert(parent.clone(), at) {
                self.add(field, format!("is the same as Parents[{earlier}]"));
            }
        }
    }

    /// A time-out is not longer than [`limits::ENTRY_TIMEOUT_MAX`].
    pub(super) fn timeout(&mut self, field: &str, timeout: Duration) {
        if timeout > limits::ENTRY_TIMEOUT_MAX {
            let (given, max) = (Span(timeout), Span(limits::ENTRY_TIMEOUT_MAX));
            self.add(field, format!("{given} is longer than the {max} allowed"));
        }
    }

    /// A path, or the start of one, begins with a slash and has no blanks.
    pub(super) fn path(&mut self, field: &str, path: &str) {
        if !path.starts_with('/') {
            self.add(field, format!("{:?} must start with '/'", shortened(path)));
        } else if path.contains(|c: char| c.is_control() || matches!(c, ' ' | '?' | '#')) {
            let path = shortened(path);
            self.add(field, format!("{path:?} has a blank, '?' or '#', which no path has"));
        }
    }

    /// A path for which a cookie is meant has nothing that would end it.
    ///
    /// **Source**: Spec: RFC 6265 §4.1.1.
    pub(super) fn cookie_path(&mut self, field: &str, path: &str) {
        self.path(field, path);
        if path.contains(|c: char| !matches!(c, '!'..='~') || c == ';') {
            self.add(field, "must be ASCII without ';'");
        }
    }

    /// A name of a header, or a method, is a token.
    ///
    /// **Source**: Spec: RFC 9110 §5.6.2.
    pub(super) fn token(&mut self, field: &str, word: &str) {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if word.is_empty() || !word.bytes().all(token) {
            let word = shortened(word);
            self.add(field, format!("{word:?} must be a word of letters, digits and '-'"));
        }
    }

    /// A regular expression compiles within its bounds, alone and as a match of the whole.
    pub(super) fn regex(&mut self, field: &str, expression: &str) {
        if expression.len() > limits::REGEX_BYTES_MAX {
            let (bytes, max) = (expression.len(), limits::REGEX_BYTES_MAX);
            self.add(field, format!("has {bytes} bytes, more than the {max} allowed"));
            return;
        }
        // Alone as well: "a)|(b" is no expression, though it would be one inside a group.
        for form in [expression.to_owned(), format!(r"\A(?:{expression})\z")] {
            // Ignoring case makes the larger program, so what fits so fits either way.
            let compiled = RegexBuilder::new(&form)
                .case_insensitive(true)
                .size_limit(limits::REGEX_COMPILED_BYTES_MAX)
                .build();
            if let Err(error) = compiled {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default();
                let reason = reason.trim_start_matches("error: ");
                self.add(field, format!("{:?} is not usable: {reason}", shortened(expression)));
                return;
            }
        }
    }
}

/// Returns the text, cut to what fits a message.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Characters of a wrong value that a message repeats: enough to find it by.
const SHOWN_CHARS_MAX: usize = 64;
