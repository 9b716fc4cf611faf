//! Requests of HTTP/1.1 read as strictly as anyone could.

/// Method and target, and the body without its framing.
pub(crate) type Request = (String, String);

/// Takes the first request apart; `None` when it is not complete. It must come with exactly this
/// `x-forwarded-client-cert`, if any is given.
pub(crate) fn first_request(
    bytes: &[u8],
    certificate: Option<&str>,
) -> Result<Option<(Request, usize)>, String> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let mut lines = Vec::new();
    let mut rest = &bytes[..end + 2];
    while let Some(at) = find(rest, b"\r\n") {
        lines.push(line(&rest[..at])?);
        rest = &rest[at + 2..];
    }
    let first: Vec<&str> = lines[0].split(' ').collect();
    let [method, target, "HTTP/1.1"] = first[..] else { return Err("request line".into()) };
    let is_target = target.starts_with('/') || target == "*" && method == "OPTIONS";
    if !is_target || !target.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return Err("target".into());
    }
    let mut fields: Vec<(String, &str)> = Vec::new();
    for line in &lines[1..] {
        fields.push(field(line)?);
    }
    let values = |name: &str| -> Vec<&str> {
        fields.iter().filter(|(n, _)| n == name).map(|(_, value)| *value).collect()
    };
    let is_odd = |n: &str| n.starts_with("x-weft-") || n == "connection" || n == "te";
    if values("host").len() != 1 || fields.iter().any(|(name, _)| is_odd(name)) {
        return Err("fields".into());
    }
    let shown: Vec<String> = certificate.iter().map(|it| format!(" {it}")).collect();
    let told: Vec<String> =
        values("x-forwarded-client-cert").into_iter().map(without_hash).collect();
    if told != shown {
        return Err("the caller's identity".into());
    }
    let body = match (&values("content-length")[..], &values("transfer-encoding")[..]) {
        ([], []) => Some((String::new(), 0)),
        ([length], []) => sized(&bytes[end + 4..], length)?,
        ([], [" chunked"]) => chunked(&bytes[end + 4..])?,
        both => return Err(format!("framing {both:?}")),
    };
    Ok(body.map(|(body, length)| ((format!("{method} {target}"), body), end + 4 + length)))
}

/// Takes the digest out of what is said of a certificate: it is another one in each run.
fn without_hash(value: &str) -> String {
    match value.split_once(";Hash=") {
        Some((before, rest)) if rest.bytes().take_while(u8::is_ascii_hexdigit).count() == 64 => {
            format!("{before}{}", &rest[64..])
        }
        _ => value.to_owned(),
    }
}

/// Names are told apart as by a gateway that makes variables of them.
fn field(line: &str) -> Result<(String, &str), String> {
    let (name, value) = line.split_once(':').ok_or("a line without colon")?;
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("the name {name:?}"));
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    Ok((name.chars().map(plain).collect(), value))
}

fn sized(bytes: &[u8], length: &str) -> Result<Option<(String, usize)>, String> {
    let length = length.strip_prefix(' ').ok_or("blanks before the length")?;
    let count: usize = length.parse().map_err(|_| "length")?;
    if count.to_string() != length {
        return Err("length".into());
    }
    Ok(bytes.get(..count).map(|body| (String::from_utf8_lossy(body).into_owned(), count)))
}

fn chunked(bytes: &[u8]) -> Result<Option<(String, usize)>, String> {
    let (mut at, mut body) = (0, String::new());
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let head = line(&bytes[at..at + end])?;
        let digits = head.split(';').next().unwrap_or_default();
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!("the chunk size {head:?}"));
        }
        let size = usize::from_str_radix(digits, 16).map_err(|_| "chunk size")?;
        at += end + 2;
        if size == 0 {
            break;
        }
        let Some(data) = bytes.get(at..at + size + 2) else { return Ok(None) };
        if !data.ends_with(b"\r\n") {
            return Err("the end of a chunk".into());
        }
        body += &String::from_utf8_lossy(&data[..size]);
        at += size + 2;
    }
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let trailer = line(&bytes[at..at + end])?;
        at += end + 2;
        if trailer.is_empty() {
            return Ok(Some((body, at)));
        }
        let (name, _) = field(&trailer)?;
        if !name.starts_with("x-") || name.starts_with("x-weft-") || name.contains("cert") {
            return Err(format!("the trailer {name}"));
        }
    }
}

fn line(bytes: &[u8]) -> Result<String, String> {
    match bytes.iter().find(|byte| matches!(byte, 0..=8 | 10..=31 | 127)) {
        Some(byte) => Err(format!("the byte {byte}")),
        None => Ok(String::from_utf8_lossy(bytes).into_owned()),
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|part| part == what)
}
