//! What becomes of a request's fields and query on the way to the local instance.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::changes::Changes;
use super::h1::{is_end_to_end, is_like};

/// Changes to a request that goes on.
///
/// **Shape**: names in lower case; what is removed is removed before the rest is added.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Edits {
    removed: Vec<String>,
    added: Vec<(String, Vec<u8>)>,
    /// The query that goes on, if it is not the one that came; `None` inside for none.
    pub(crate) query: Option<Option<Vec<u8>>>,
}

impl Edits {
    /// Whether nothing changes.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes a field away, however it is spelled.
    pub(crate) fn remove(&mut self, name: &str) {
        let name = name.to_ascii_lowercase();
        self.added.retain(|(added, _)| *added != name);
        if is_end_to_end(name.as_bytes()) && !self.removed.contains(&name) {
            self.removed.push(name);
        }
    }

    /// Writes a field in place of those of this name; a value that is none takes them away.
    pub(crate) fn set(&mut self, name: &str, value: &[u8]) {
        self.remove(name);
        self.append(name, value);
    }

    /// Adds a field; a value that is none is left out.
    pub(crate) fn append(&mut self, name: &str, value: &[u8]) {
        let is_value = HeaderValue::from_bytes(value).is_ok();
        if is_value && is_end_to_end(name.as_bytes()) && HeaderName::try_from(name).is_ok() {
            self.added.push((name.to_ascii_lowercase(), value.to_vec()));
        }
    }

    /// Adds later changes.
    pub(crate) fn extend(&mut self, later: Self) {
        later.removed.iter().for_each(|name| self.remove(name));
        self.added.extend(later.added);
        self.query = later.query.or(self.query.take());
    }

    /// Whether a field that came does not go on.
    pub(crate) fn removes(&self, name: &[u8]) -> bool {
        self.removed.iter().any(|removed| is_like(name, removed.as_bytes()))
    }

    /// Whether a field of this name (in lower case) is added.
    pub(crate) fn sets(&self, name: &[u8]) -> bool {
        self.added.iter().any(|(added, _)| added.as_bytes() == name)
    }

    /// Appends the lines that are added, unless a route takes them out.
    pub(crate) fn write_lines(&self, changes: &Changes<'_>, out: &mut Vec<u8>) {
        let kept = self.added.iter().filter(|(name, _)| !changes.removes(name.as_bytes()));
        for (name, value) in kept {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Changes fields that are values.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        let gone: Vec<HeaderName> =
            headers.keys().filter(|name| self.removes(name.as_str().as_bytes())).cloned().collect();
        for name in gone {
            headers.remove(name);
        }
        for (name, value) in &self.added {
            let pair = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value));
            if let (Ok(name), Ok(value)) = pair {
                headers.append(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_replaces_every_spelling_and_nothing_of_the_message_itself_changes() {
        let mut edits = Edits::default();
        edits.set("X-User", b"ada");
        edits.append("x-list", b"b");
        edits.set("x-bad", b"a\r\nhost: other");
        for name in ["Host", "content-length", "Transfer_Encoding", "x-forwarded-client-cert"] {
            edits.set(name, b"1");
        }
        assert!(edits.removes(b"x-USER") && edits.removes(b"x_user") && edits.removes(b"x-bad"));
        assert!(!edits.removes(b"host") && !edits.removes(b"x-list"));
        let mut lines = Vec::new();
        edits.write_lines(&Changes::default(), &mut lines);
        assert_eq!(String::from_utf8_lossy(&lines), "x-user: ada\r\nx-list: b\r\n");
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-user", "root"), ("x_user", "root"), ("x-list", "a")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        edits.apply(&mut headers);
        assert_eq!(headers.get_all("x-user").iter().collect::<Vec<_>>(), ["ada"]);
        assert_eq!(headers.get("x_user"), None);
        assert_eq!(headers.get_all("x-list").iter().collect::<Vec<_>>(), ["a", "b"]);
    }
}
