//! A reader that follows RFC 9112 to the letter and stops where a message could be read otherwise.

/// A request as it must be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) body: Vec<u8>,
}

/// Reads requests up to the first that is malformed, or may be.
pub(super) fn requests(mut bytes: &[u8]) -> Vec<Read> {
    let mut out = Vec::new();
    while let Some((read, rest)) = request(bytes) {
        out.push(read);
        bytes = rest;
    }
    out
}

fn request(mut bytes: &[u8]) -> Option<(Read, &[u8])> {
    while let Some(rest) = bytes.strip_prefix(b"\r\n") {
        bytes = rest;
    }
    let (start, mut rest) = line(bytes)?;
    let mut words = start.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut length, mut chunked) = (None, false);
    loop {
        let (field, after) = line(rest)?;
        rest = after;
        if field.is_empty() {
            break;
        }
        let (name, value) = field.split_once(':')?;
        let value = value.trim_matches([' ', '\t']);
        match name.to_ascii_lowercase().as_str() {
            "content-length" if length.is_none() && !value.is_empty() => {
                let is_plain = value.bytes().all(|byte| byte.is_ascii_digit());
                length = Some(value.parse::<usize>().ok().filter(|_| is_plain)?);
            }
            "transfer-encoding" if !chunked => {
                chunked = value.eq_ignore_ascii_case("chunked").then_some(true)?;
            }
            "content-length" | "transfer-encoding" => return None,
            _ => {}
        }
    }
    let (body, rest) = match (length, chunked) {
        (Some(_), true) => return None,
        (None, true) => chunks(rest)?,
        (length, false) => {
            let (body, rest) = rest.split_at_checked(length.unwrap_or(0))?;
            (body.to_vec(), rest)
        }
    };
    Some((Read { method, path: target, body }, rest))
}

fn chunks(mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let (size, rest) = line(bytes)?;
        let size = size.split(';').next()?;
        let is_plain = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = usize::from_str_radix(size, 16).ok().filter(|_| is_plain)?;
        if size == 0 {
            bytes = rest;
            break;
        }
        let (piece, rest) = rest.split_at_checked(size)?;
        body.extend(piece);
        bytes = rest.strip_prefix(b"\r\n")?;
    }
    loop {
        let (trailer, rest) = line(bytes)?;
        bytes = rest;
        if trailer.is_empty() {
            return Some((body, bytes));
        }
    }
}

/// A line that ends in CR LF and has no other control character than tabs.
fn line(bytes: &[u8]) -> Option<(String, &[u8])> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    let line = &bytes[..end];
    let is_plain = line.iter().all(|byte| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f);
    let text: String = line.iter().map(|byte| char::from(*byte)).collect();
    is_plain.then_some((text, &bytes[end + 2..]))
}
