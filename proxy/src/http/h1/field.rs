//! Header lines by what a proxy does with them.

/// A piece of a head, as places in the buffer that holds it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Locates `part`, which lies inside `whole`.
    pub(super) fn locate(whole: &[u8], part: &[u8]) -> Self {
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        Self::new(start, start + part.len())
    }

    /// Makes a span; heads are bounded far below 4 GiB.
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// Returns the bytes.
    pub(crate) fn of(self, whole: &[u8]) -> &[u8] {
        &whole[self.start as usize..self.end as usize]
    }

    pub(super) fn start(self) -> usize {
        self.start as usize
    }

    pub(super) fn end(self) -> usize {
        self.end as usize
    }

    pub(super) fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// One header line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) name: Span,
    pub(super) value: Span,
    pub(super) kind: Kind,
}

/// What a header line means to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `x-forwarded-client-cert` in exactly this spelling: what becomes of it is a matter of
    /// settings.
    ClientCert,
    /// `connection`: read here, written anew.
    Connection,
    /// `content-length`.
    ContentLength,
    /// Not a framing field by its name, but one to recipients that take `_` for `-`: refused.
    Disguised,
    /// For the recipient: passed on as it is.
    EndToEnd,
    /// Between proxies of Envoy's kind, which obey it: taken out of requests, as ours do not.
    Envoy,
    /// `expect`: passed on.
    Expect,
    /// `x-forwarded-proto`: passed on where it is clear, else written anew.
    ForwardedProto,
    /// Of this connection only: not passed on.
    HopByHop,
    /// `host`: passed on, exactly one.
    Host,
    /// Made by the mesh alone: taken away when it comes from outside.
    Mesh,
    /// `transfer-encoding`.
    TransferEncoding,
    /// `upgrade`: passed on when the request asks for an upgrade.
    Upgrade,
}

/// Tells what a header line with this name means.
pub(super) fn kind(name: &[u8]) -> Kind {
    let is = |want: &[u8]| name.eq_ignore_ascii_case(want);
    match name.len() {
        2 if is(b"te") => Kind::HopByHop,
        4 if is(b"host") => Kind::Host,
        6 if is(b"expect") => Kind::Expect,
        7 if is(b"upgrade") => Kind::Upgrade,
        7 if is(b"trailer") => Kind::HopByHop,
        10 if is(b"connection") => Kind::Connection,
        10 if is(b"keep-alive") => Kind::HopByHop,
        14 if is(b"content-length") => Kind::ContentLength,
        14 if is(b"http2-settings") => Kind::HopByHop,
        16 if is(b"proxy-connection") => Kind::HopByHop,
        17 if is(b"transfer-encoding") => Kind::TransferEncoding,
        17 if is(FORWARDED_PROTO) => Kind::ForwardedProto,
        23 if is(CLIENT_CERT) => Kind::ClientCert,
        14 if is_like(name, b"content-length") => Kind::Disguised,
        17 if is_like(name, b"transfer-encoding") => Kind::Disguised,
        _ if is_mesh(name) => Kind::Mesh,
        _ if is_envoys(name) => Kind::Envoy,
        _ => Kind::EndToEnd,
    }
}

/// What a service is told of its caller's certificate.
pub(super) const CLIENT_CERT: &[u8] = b"x-forwarded-client-cert";
/// By which scheme the caller has asked.
const FORWARDED_PROTO: &[u8] = b"x-forwarded-proto";

/// Whether a text is a scheme that `x-forwarded-proto` may name.
pub(crate) fn is_scheme(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"http") || value.eq_ignore_ascii_case(b"https")
}

/// Whether a name reads as one that delimits bodies to some, but not to us.
pub(crate) fn is_disguised(name: &[u8]) -> bool {
    kind(name) == Kind::Disguised
}

/// Whether a field is for the recipient alone: it says nothing of the message's framing, of the
/// connection, of the host or of the caller's identity.
pub(crate) fn is_end_to_end(name: &[u8]) -> bool {
    matches!(kind(name), Kind::EndToEnd | Kind::ForwardedProto)
}

/// Whether only the mesh may set this header; what is neither letter nor digit counts as `-`,
/// as gateways that make variables of header names read it.
pub(crate) fn is_mesh(name: &[u8]) -> bool {
    match name.first() {
        Some(b'x' | b'X') => {
            is_like(name, CLIENT_CERT)
                || name.get(..7).is_some_and(|start| is_like(start, b"x-weft-"))
        }
        _ => false,
    }
}

/// Whether this header tells proxies of Envoy's kind what to do; applications behind one believe it.
///
/// **Source**: Envoy: HTTP header manipulation; CVE-2023-27487.
pub(crate) fn is_envoys(name: &[u8]) -> bool {
    matches!(name.first(), Some(b'x' | b'X'))
        && name.get(..8).is_some_and(|start| is_like(start, b"x-envoy-"))
}

/// Whether a name is `want` to those who take all that is neither letter nor digit for `-`.
pub(crate) fn is_like(name: &[u8], want: &[u8]) -> bool {
    name.len() == want.len()
        && name.iter().zip(want).all(|(byte, want)| match byte.is_ascii_alphanumeric() {
            true => byte.to_ascii_lowercase() == *want,
            false => *want == b'-',
        })
}

/// Splits a comma-separated list, without blanks around the members and empty ones left out.
pub(super) fn members(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}
