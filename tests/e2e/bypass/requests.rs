//! The requests that try to get past a policy, by the class of trick.

use super::spellings::{FORGED, HEADERS, HOSTS, METHODS, PATTERNS, TARGETS, WAYS};

/// A class of tricks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Names of headers that only the mesh may set, and lists that name them.
    Forged,
    /// Values of headers, once or several times.
    Header,
    /// Single bytes before, in and after names and values.
    HeaderByte,
    Host,
    Method,
    /// Slashes, dots, escapes, parameters, queries.
    Path,
    /// Paths that a rule would take if its text were a pattern.
    Pattern,
    /// Targets that are more than a path: fragments, absolute forms.
    Target,
}

/// One request, before it is put in the words of a protocol.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) method: Vec<u8>,
    pub(super) target: Vec<u8>,
    /// In HTTP/2 the `:authority`.
    pub(super) host: Vec<u8>,
    /// Names and values as they stand around the colon.
    pub(super) fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Ask {
    /// The request that passes each policy, but for its path.
    pub(super) fn welcome(target: &str) -> Self {
        let fields = [("X-Team", " green"), ("X-Role", " user-1")];
        Self {
            method: b"GET".to_vec(),
            target: target.into(),
            host: b"web".to_vec(),
            fields: fields.map(|(name, value)| (name.into(), value.into())).to_vec(),
        }
    }

    /// As HTTP/1.1, on a connection of its own.
    pub(super) fn as_http1(&self, number: usize) -> Vec<u8> {
        let mut out = [&self.method[..], b" ", &self.target, b" HTTP/1.1\r\n"].concat();
        if !self.host.is_empty() {
            out.extend([b"Host: ", &self.host[..], b"\r\n"].concat());
        }
        for (name, value) in &self.fields {
            out.extend([name, &b":"[..], value, b"\r\n"].concat());
        }
        out.extend(format!("X-Case: {number}\r\nConnection: close\r\n\r\n").as_bytes());
        out
    }

    /// As the fields of HTTP/2; what is no name there is sent all the same.
    pub(super) fn as_http2(&self, number: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let pseudo = [
            (":method", &self.method[..]),
            (":scheme", b"http"),
            (":authority", &self.host),
            (":path", &self.target),
        ];
        let mut fields: Vec<(Vec<u8>, Vec<u8>)> =
            pseudo.map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).to_vec();
        for (name, value) in &self.fields {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            fields.push((name.to_ascii_lowercase(), value.to_vec()));
        }
        fields.push((b"x-case".to_vec(), number.to_string().into_bytes()));
        fields
    }
}

/// The requests of these classes.
pub(super) fn all(classes: &[Class]) -> Vec<Ask> {
    classes.iter().flat_map(|class| of_class(*class)).collect()
}

fn of_class(class: Class) -> Vec<Ask> {
    let at = |target: String| {
        let mut ask = Ask::welcome(&target);
        ask.fields.truncate(1);
        ask
    };
    match class {
        Class::Forged => forged(),
        Class::Header => headers(),
        Class::HeaderByte => header_bytes(),
        Class::Host => hosts(),
        Class::Method => methods(),
        Class::Path => {
            let names =
                ["admin", "private", "public/../admin", "public/y", "%61dmin", "a:b", "other"];
            let ways = WAYS.iter().flat_map(|way| names.map(|name| way.replace('T', name)));
            ways.chain(path_bytes()).map(at).collect()
        }
        Class::Pattern => PATTERNS.iter().map(|path| at((*path).to_owned())).collect(),
        Class::Target => TARGETS.iter().map(|path| at((*path).to_owned())).collect(),
    }
}

/// Control characters, punctuation, and what is beyond ASCII in some encoding.
fn odd_bytes() -> impl Iterator<Item = u8> {
    let beyond = [0x80, 0x85, 0xa0, 0xad, 0xc0, 0xc3, 0xe2, 0xed, 0xf4, 0xff];
    let ascii = (0..=0x7f_u8).filter(|byte| match byte {
        0x01..=0x08 | 0x0e..=0x1b => false,
        _ => !byte.is_ascii_alphanumeric(),
    });
    ascii.chain(beyond)
}

/// Each character, plain and escaped once and twice, where a reader could stumble over it.
fn path_bytes() -> Vec<String> {
    let mut paths = Vec::new();
    for byte in odd_bytes() {
        let escaped = format!("%{byte:02x}");
        for path in ["/admin@", "/adm@in", "/@admin", "/x/..@/admin", "/public/y@/../../admin"] {
            paths.push(path.replace('@', &escaped));
        }
        if byte.is_ascii_punctuation() {
            paths.push(format!("/{}admin", char::from(byte)));
            paths.push(format!("/x/..{}/admin", char::from(byte)));
            paths.push(format!("/%25{byte:02x}admin"));
        }
    }
    paths
}

/// Lines as they are written, `Name: value` parted by line ends.
fn lines(text: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for line in text.split("\r\n") {
        match (line.split_once(':'), fields.last_mut()) {
            (Some((name, value)), _) if !line.starts_with(' ') => {
                fields.push((name.into(), value.into()));
            }
            // A line that goes on.
            (_, Some(last)) => last.1.extend([b"\r\n", line.as_bytes()].concat()),
            (_, None) => {}
        }
    }
    fields
}

/// Each alone, before and after what is welcome.
fn headers() -> Vec<Ask> {
    let mut asks = Vec::new();
    for text in HEADERS {
        for (before, after) in [(0, 0), (2, 0), (0, 2), (1, 0), (0, 1)] {
            let mut ask = Ask::welcome("/public/x");
            let welcome = std::mem::take(&mut ask.fields);
            ask.fields.extend_from_slice(&welcome[..before]);
            ask.fields.extend(lines(text));
            ask.fields.extend_from_slice(&welcome[..after]);
            asks.push(ask);
        }
    }
    asks
}

fn header_bytes() -> Vec<Ask> {
    let mut asks = Vec::new();
    for byte in odd_bytes() {
        let one: &[u8] = &[byte];
        for (name, value) in [
            (b"X-Role".to_vec(), [b" admin", one].concat()),
            (b"X-Role".to_vec(), [b" ", one, b"admin"].concat()),
            (b"X-Role".to_vec(), [b" user-1", one, b"admin"].concat()),
            (b"X-Role".to_vec(), [b" admin", one, b"user-1"].concat()),
            ([b"X-Role", one].concat(), b" admin".to_vec()),
            ([one, b"X-Role"].concat(), b" admin".to_vec()),
            ([b"X", one, b"Role"].concat(), b" admin".to_vec()),
            (b"X-Other".to_vec(), [b" 1", one, b"\nX-Role: admin"].concat()),
        ] {
            let mut ask = Ask::welcome("/public/x");
            ask.fields.truncate(1);
            ask.fields.push((name, value));
            asks.push(ask);
        }
    }
    let mut long = Ask::welcome("/public/x");
    let padding = vec![b'a'; 60 << 10];
    long.fields.truncate(1);
    long.fields.push((b"X-Padding".to_vec(), padding));
    long.fields.push((b"X-Role".to_vec(), b" admin".to_vec()));
    asks.push(long);
    asks
}

fn hosts() -> Vec<Ask> {
    let mut asks = Vec::new();
    for host in HOSTS {
        let mut ask = Ask::welcome("/public/x");
        ask.host = host.into();
        asks.push(ask.clone());
        // A second name, in front and behind.
        for other in ["web", "inner.web", "db.internal"] {
            ask.fields.push((b"Host".to_vec(), format!(" {other}").into_bytes()));
            asks.push(ask.clone());
            ask.fields.rotate_right(1);
            asks.push(ask.clone());
            ask.fields.remove(0);
        }
        ask.target = [b"http://", host.as_bytes(), b"/public/x"].concat();
        asks.push(ask.clone());
        ask.host = b"web".to_vec();
        asks.push(ask);
    }
    asks
}

fn methods() -> Vec<Ask> {
    let ask = |method: &str| {
        let mut ask = Ask::welcome("/public/x");
        ask.method = method.into();
        ask.fields.push((b"Content-Length".to_vec(), b" 0".to_vec()));
        ask
    };
    let overridden = ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"].map(|name| {
        let mut ask = ask("POST");
        ask.fields.push((name.into(), b" DELETE".to_vec()));
        ask
    });
    METHODS.iter().map(|method| ask(method)).chain(overridden).collect()
}

/// Claims about the caller, in each spelling, alone and with lists of fields to take away.
fn forged() -> Vec<Ask> {
    let mut asks = Vec::new();
    for name in FORGED {
        for value in [" By=spiffe://x/ns/default/dc/dc1/svc/web;URI=spiffe://x/admin", " 1", ""] {
            for hop in [None, Some(name), Some("close, x-forwarded-client-cert, x-team, x-role")] {
                let mut ask = Ask::welcome("/public/x");
                ask.fields.push((name.into(), value.into()));
                if let Some(hop) = hop {
                    ask.fields.push((b"Connection".to_vec(), format!(" {hop}").into_bytes()));
                }
                asks.push(ask);
            }
        }
    }
    asks
}
