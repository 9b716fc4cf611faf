//! Paths of requests in the one spelling that every origin reads alike, or refused.
//!
//! Whoever judges a request by its path, and whoever writes a rule for one, uses this form; the
//! request goes on in it.

/// A path in canonical form. Reused from request to request.
///
/// **Shape**: starts with `/` (or is `*` alone); escapes only for what cannot stand by itself,
/// in upper case; no empty, `.` or `..` segment; no `%2F`, `%5C` or `\`.
///
/// **Source**: Spec: RFC 3986 §6.2.2. Differs: sub-delimiters are unescaped as well, since
/// origins that unescape and origins that do not would read two paths; repeated slashes are one.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct CanonicalPath {
    text: Vec<u8>,
    /// What origins read that take `;…` out of each segment; empty when that is the same.
    bare: Vec<u8>,
}

/// States why a path has no spelling that all origins read alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnclearPath {
    /// To some it is a slash.
    #[error("has a backslash, which some origins take for a slash")]
    Backslash,
    /// Cuts texts short or breaks lines.
    #[error("has an escaped control character, a blank, '?' or '#'")]
    Control,
    /// To those who unescape twice it is something else.
    #[error("is escaped twice")]
    EscapedTwice,
    /// To some it parts segments, to others it is in one.
    #[error("has an escaped '/', '\\' or ';', which origins read differently")]
    EscapedDelimiter,
    /// It is in no form that a path has.
    #[error("has a '%' that is not followed by two hexadecimal digits")]
    Malformed,
    /// Overlong forms are other characters to some.
    #[error("is not UTF-8 once it is unescaped")]
    NotUtf8,
    /// It is no path of an origin.
    #[error("does not start with '/'")]
    Relative,
}

impl CanonicalPath {
    /// Makes the canonical form of a path.
    ///
    /// # Errors
    /// [`UnclearPath`] when there is none.
    pub fn parse(path: &[u8]) -> Result<Self, UnclearPath> {
        let mut canonical = Self::default();
        canonical.read(path).map(|()| canonical)
    }

    /// Takes another path in place of this one, keeping the memory.
    ///
    /// # Errors
    /// [`UnclearPath`]; the value is of no use then.
    pub fn read(&mut self, path: &[u8]) -> Result<(), UnclearPath> {
        self.text.clear();
        self.bare.clear();
        if path == b"*" {
            self.text.push(b'*');
            return Ok(());
        }
        if path.first() != Some(&b'/') {
            return Err(UnclearPath::Relative);
        }
        respell(path, &mut self.text)?;
        resolve(&mut self.text);
        let escaped_twice =
            |part: &[u8]| part.starts_with(b"%25") && part[3..].iter().all(u8::is_ascii_hexdigit);
        if self.text.windows(5).any(escaped_twice) {
            return Err(UnclearPath::EscapedTwice);
        }
        if self.text.contains(&b';') {
            for segment in self.text.split(|byte| *byte == b'/').skip(1) {
                self.bare.push(b'/');
                self.bare.extend(segment.iter().take_while(|byte| **byte != b';'));
            }
            resolve(&mut self.bare);
        }
        Ok(())
    }

    /// Returns the canonical form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    /// Returns what origins make of it: the canonical form, and what is left of it without
    /// parameters of segments (`/a;v=1/b` is `/a/b` to some).
    pub fn readings(&self) -> impl Iterator<Item = &[u8]> {
        let bare = (!self.bare.is_empty()).then_some(self.bare.as_slice());
        [self.text.as_slice()].into_iter().chain(bare)
    }
}

/// Returns the text that canonical paths are compared with for a rule that says `path`, be it
/// the whole path or its start: each character in its one spelling.
///
/// # Errors
/// [`UnclearPath`] when no canonical path has such characters.
pub fn pattern(path: &str) -> Result<Vec<u8>, UnclearPath> {
    let mut text = Vec::with_capacity(path.len());
    respell(path.as_bytes(), &mut text).map(|()| text)
}

/// Writes each character in its one spelling.
fn respell(path: &[u8], out: &mut Vec<u8>) -> Result<(), UnclearPath> {
    let mut wide = Wide::default();
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let byte = match first {
            b'%' => {
                let (digits, after) = rest.split_at_checked(2).ok_or(UnclearPath::Malformed)?;
                rest = after;
                match unescaped(digits).ok_or(UnclearPath::Malformed)? {
                    b'/' | b'\\' | b';' => return Err(UnclearPath::EscapedDelimiter),
                    0..=0x1f | 0x7f => return Err(UnclearPath::Control),
                    byte => byte,
                }
            }
            b'\\' => return Err(UnclearPath::Backslash),
            0..=b' ' | b'#' | b'?' | 0x7f => return Err(UnclearPath::Control),
            byte => *byte,
        };
        wide.take(byte)?;
        match stands_alone(byte) {
            true => out.push(byte),
            false => {
                let digit = |nibble: u8| b"0123456789ABCDEF"[usize::from(nibble)];
                out.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
    wide.end()
}

/// Takes out empty and dot segments, in place.
///
/// **Source**: Spec: RFC 3986 §5.2.4.
fn resolve(path: &mut Vec<u8>) {
    let (mut read, mut write) = (0, 0);
    while read < path.len() {
        let end = path[read + 1..].iter().position(|byte| *byte == b'/');
        let end = end.map_or(path.len(), |at| read + 1 + at);
        let is_kept = match &path[read + 1..end] {
            b"" | b"." => false,
            b".." => {
                write = path[..write].iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                false
            }
            _ => true,
        };
        if is_kept {
            path.copy_within(read..end, write);
            write += end - read;
        } else if end == path.len() {
            // What ended in a directory still does.
            path[write] = b'/';
            write += 1;
        }
        read = end;
    }
    path.truncate(write);
}

fn unescaped(digits: &[u8]) -> Option<u8> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    let (high, low) = (value(digits[0])?, value(digits[1])?);
    u8::try_from(high * 16 + low).ok()
}

/// Whether a byte needs no escape in a path.
///
/// **Source**: Spec: RFC 3986 §3.3, `pchar`.
fn stands_alone(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte)
}

/// The bytes of a character of several, until it is whole.
#[derive(Default)]
struct Wide {
    bytes: [u8; 4],
    length: usize,
}

impl Wide {
    fn take(&mut self, byte: u8) -> Result<(), UnclearPath> {
        if byte.is_ascii() {
            return self.end();
        }
        let place = self.bytes.get_mut(self.length).ok_or(UnclearPath::NotUtf8)?;
        *place = byte;
        self.length += 1;
        // What can become no character never does, and is found at the next one's start.
        if std::str::from_utf8(&self.bytes[..self.length]).is_ok() {
            self.length = 0;
        }
        Ok(())
    }

    fn end(&self) -> Result<(), UnclearPath> {
        if self.length == 0 { Ok(()) } else { Err(UnclearPath::NotUtf8) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(path: &str) -> Result<String, UnclearPath> {
        let path = CanonicalPath::parse(path.as_bytes())?;
        Ok(String::from_utf8(path.text).expect("ASCII"))
    }

    #[test]
    fn each_path_has_one_spelling() {
        for (path, wanted) in [
            ("/", "/"),
            ("*", "*"),
            ("//", "/"),
            ("/a//b/./c/../d", "/a/b/d"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/a/b//", "/a/b/"),
            ("/../../a", "/a"),
            ("/%2e%2E/a", "/a"),
            ("/%61dmin", "/admin"),
            ("/a%3ab%2cc", "/a:b,c"),
            ("/a b".replace(' ', "%20").as_str(), "/a%20b"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/café", "/caf%C3%A9"),
            ("/a{b}", "/a%7Bb%7D"),
            ("/...", "/..."),
            ("/a.", "/a."),
            ("/100%25", "/100%25"),
        ] {
            assert_eq!(canonical(path).as_deref(), Ok(wanted), "{path}");
        }
    }

    #[test]
    fn what_origins_read_differently_is_refused() {
        for (path, wanted) in [
            ("", UnclearPath::Relative),
            ("a", UnclearPath::Relative),
            ("/a%2fb", UnclearPath::EscapedDelimiter),
            ("/a%5Cb", UnclearPath::EscapedDelimiter),
            ("/a%3Bb", UnclearPath::EscapedDelimiter),
            ("/a\\b", UnclearPath::Backslash),
            ("/a%00", UnclearPath::Control),
            ("/a%0d%0a", UnclearPath::Control),
            ("/a#b", UnclearPath::Control),
            ("/a?b", UnclearPath::Control),
            ("/a%", UnclearPath::Malformed),
            ("/a%2", UnclearPath::Malformed),
            ("/a%zz", UnclearPath::Malformed),
            ("/%252e", UnclearPath::EscapedTwice),
            ("/%25%32%65", UnclearPath::EscapedTwice),
            ("/%c0%af", UnclearPath::NotUtf8),
            ("/%c3", UnclearPath::NotUtf8),
            ("/%c3a", UnclearPath::NotUtf8),
            ("/%ff", UnclearPath::NotUtf8),
        ] {
            assert_eq!(canonical(path), Err(wanted), "{path}");
        }
    }

    #[test]
    fn a_rule_is_written_with_the_characters_of_a_path() {
        for (path, wanted) in [
            ("/a%3ab", Ok("/a:b")),
            ("/a b".replace(' ', "%20").as_str(), Ok("/a%20b")),
            ("/caf\u{e9}", Ok("/caf%C3%A9")),
            ("/a//../b", Ok("/a//../b")),
            ("", Ok("")),
            ("/a%2fb", Err(UnclearPath::EscapedDelimiter)),
            ("/a?b", Err(UnclearPath::Control)),
        ] {
            assert_eq!(pattern(path), wanted.map(|text| text.as_bytes().to_vec()), "{path}");
        }
    }

    #[test]
    fn parameters_of_segments_are_a_second_reading() {
        for (path, readings) in [
            ("/a/b", vec!["/a/b"]),
            ("/a;v=1/b", vec!["/a;v=1/b", "/a/b"]),
            ("/public/..;/admin", vec!["/public/..;/admin", "/admin"]),
            ("/;x", vec!["/;x", "/"]),
        ] {
            let path = CanonicalPath::parse(path.as_bytes()).expect(path);
            let read: Vec<&[u8]> = path.readings().collect();
            assert_eq!(read, readings.iter().map(|it| it.as_bytes()).collect::<Vec<_>>());
        }
    }

    proptest! {
        /// Two origins read the canonical form: one as it stands, one unescaped and resolved
        /// once more. Neither may find another path.
        #[test]
        fn the_canonical_form_stays_as_it_is(path in r"/([/.;%a2eF5c]|%2e|%41){0,24}") {
            if let Ok(once) = CanonicalPath::parse(path.as_bytes()) {
                let twice = CanonicalPath::parse(once.as_bytes()).expect("it was canonical");
                prop_assert_eq!(&once, &twice);
                for reading in once.readings() {
                    let dots = |part: &[u8]| part == b"." || part == b"..";
                    prop_assert!(!reading.split(|b| *b == b'/').any(dots));
                    prop_assert!(!reading.windows(2).any(|two| two == b"//"));
                }
            }
        }
    }
}
