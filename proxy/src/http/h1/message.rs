//! Heads parsed: where their parts lie, how the body ends, what becomes of the connection.

use std::mem::MaybeUninit;
use std::time::Duration;

use weft_core::limits;
use weft_core::log_format::TIMING_ASKED;
use weft_core::traffic::RequestView;

use super::body::Framing;
use super::field::{Field, Kind, Span, is_like, is_scheme, kind, members};
use super::head::HeadError;
use super::told::{is_attempt, is_timing};
use crate::http::MADE_FIELDS_MAX;
use crate::inbound::WholeRequest;

/// The head of a request. Reused from request to request of one connection.
///
/// All spans are places in the bytes that were parsed.
#[derive(Debug, Default)]
pub(crate) struct RequestHead {
    pub(super) fields: Vec<Field>,
    pub(super) method: Span,
    /// As received, for copying.
    pub(super) raw_target: Span,
    path: Span,
    query: Option<Span>,
    host: Option<Span>,
    /// How the body ends.
    pub(crate) framing: Framing,
    /// Whether the client speaks HTTP/1.0.
    pub(crate) is_http10: bool,
    /// Whether the client wants to send more requests on this connection.
    pub(crate) is_persistent: bool,
    /// Whether the client waits for leave to send the body.
    pub(crate) expects_continue: bool,
    /// Whether the client asks to change the protocol (and may).
    pub(crate) wants_upgrade: bool,
    /// Whether the client asks for a tunnel to the host that it names.
    pub(crate) is_connect: bool,
    pub(super) forwarded_proto: ForwardedProto,
    /// Whether a calling proxy wants to know where the time goes.
    asks_timing: bool,
    /// Whether a calling proxy says that it is not the first attempt.
    is_further: bool,
}

/// What `x-forwarded-proto` says.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum ForwardedProto {
    #[default]
    Absent,
    /// One scheme, once.
    Clear,
    /// What is none, or several.
    Unclear,
}

/// A parsed request with the bytes that it lies in.
#[derive(Clone, Copy)]
pub(crate) struct RequestRef<'a> {
    pub(super) head: &'a RequestHead,
    pub(super) bytes: &'a [u8],
}

impl RequestHead {
    /// Parses a complete head, as [`super::HeadScan`] delimits it, with as many fields as callers
    /// may send.
    #[cfg(test)]
    pub(crate) fn parse(&mut self, bytes: &[u8]) -> Result<(), HeadError> {
        self.parse_up_to(limits::HTTP_HEADERS_MAX, bytes)
    }

    /// Parses a complete head with at most so many fields.
    pub(crate) fn parse_up_to(&mut self, most: usize, bytes: &[u8]) -> Result<(), HeadError> {
        let mut lines =
            [const { MaybeUninit::uninit() }; limits::HTTP_HEADERS_MAX + MADE_FIELDS_MAX];
        let mut request = httparse::Request::new(&mut []);
        let status = httparse::ParserConfig::default()
            .parse_request_with_uninit_headers(&mut request, bytes, &mut lines)
            .map_err(parse_error)?;
        if status.is_partial() {
            return Err(HeadError::Syntax);
        }
        let (Some(method), Some(target), Some(minor)) =
            (request.method, request.path, request.version)
        else {
            return Err(HeadError::Syntax);
        };
        if request.headers.len() > most {
            return Err(HeadError::TooManyHeaders);
        }
        self.method = Span::locate(bytes, method.as_bytes());
        self.raw_target = Span::locate(bytes, target.as_bytes());
        self.is_http10 = minor == 0;
        self.fields.clear();
        for line in request.headers.iter() {
            self.fields.push(Field {
                name: Span::locate(bytes, line.name.as_bytes()),
                value: Span::locate(bytes, line.value),
                kind: kind(line.name.as_bytes()),
            });
        }
        self.read_fields(bytes)?;
        self.read_target(bytes)
    }

    /// Joins the parsed head with its bytes.
    pub(crate) fn on<'a>(&'a self, bytes: &'a [u8]) -> RequestRef<'a> {
        RequestRef { head: self, bytes }
    }

    fn read_fields(&mut self, bytes: &[u8]) -> Result<(), HeadError> {
        self.host = None;
        self.expects_continue = false;
        self.forwarded_proto = ForwardedProto::Absent;
        (self.asks_timing, self.is_further) = (false, false);
        let mut framing = FramingFields::default();
        let mut connection = Connection::default();
        let mut upgrades = 0;
        let mut upgrade_fits = true;
        for field in &self.fields {
            let value = field.value.of(bytes);
            match field.kind {
                Kind::Connection => connection.read(value)?,
                Kind::ContentLength => framing.content_length(value)?,
                Kind::Disguised => return Err(HeadError::Disguised),
                Kind::Expect => {
                    if !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(HeadError::Expectation);
                    }
                    self.expects_continue = !self.is_http10;
                }
                Kind::ForwardedProto => {
                    let is_clear =
                        self.forwarded_proto == ForwardedProto::Absent && is_scheme(value);
                    self.forwarded_proto = match is_clear {
                        true => ForwardedProto::Clear,
                        false => ForwardedProto::Unclear,
                    };
                }
                Kind::Host => {
                    if self.host.is_some() || !is_host(value) {
                        return Err(HeadError::Host);
                    }
                    self.host = Some(field.value);
                }
                Kind::TransferEncoding => {
                    if self.is_http10 {
                        return Err(HeadError::TransferEncoding);
                    }
                    framing.transfer_encoding(value)?;
                }
                Kind::Upgrade => {
                    upgrades += 1;
                    upgrade_fits &= members(value).all(is_upgrade_known_safe);
                }
                Kind::Mesh => {
                    self.asks_timing |= is_timing(field.name.of(bytes)) && is_asked(value);
                    self.is_further |= is_attempt(field.name.of(bytes));
                }
                Kind::ClientCert | Kind::EndToEnd | Kind::Envoy | Kind::HopByHop => {}
            }
        }
        if self.host.is_none() && !self.is_http10 {
            return Err(HeadError::Host);
        }
        self.framing = framing.for_request()?;
        self.is_persistent = connection.is_persistent(self.is_http10);
        self.wants_upgrade = connection.upgrade
            && upgrades == 1
            && upgrade_fits
            && !self.is_http10
            && self.framing == Framing::Empty;
        if connection.names_fields {
            drop_named_fields(&mut self.fields, bytes);
        }
        Ok(())
    }

    /// Checks the form of the target and finds path and query.
    ///
    /// **Source**: Spec: RFC 9112 §3.2.
    fn read_target(&mut self, bytes: &[u8]) -> Result<(), HeadError> {
        let target = self.raw_target.of(bytes);
        if target.iter().any(|byte| !(b'!'..=b'~').contains(byte) || *byte == b'#') {
            return Err(HeadError::Target);
        }
        let method = self.method.of(bytes);
        let mut start = self.raw_target.start();
        self.is_connect = method == b"CONNECT";
        if self.is_connect {
            // Two names for where it leads would be judged differently here and there.
            let same = self.host.is_some_and(|host| host.of(bytes).eq_ignore_ascii_case(target));
            if !same || !is_host_with_port(target) || self.framing != Framing::Empty {
                return Err(HeadError::Target);
            }
            self.wants_upgrade = false;
            (self.path, self.query) = (Span::new(start, start), None);
            return Ok(());
        } else if target.first() != Some(&b'/') {
            if target == b"*" && method == b"OPTIONS" {
                (self.path, self.query) = (self.raw_target, None);
                return Ok(());
            }
            let (scheme, rest) =
                target.split_at_checked(b"http://".len()).ok_or(HeadError::Target)?;
            let authority =
                rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
            // Two names for the host would be judged differently here and there.
            let same = self
                .host
                .is_some_and(|host| host.of(bytes).eq_ignore_ascii_case(&rest[..authority]));
            if !scheme.eq_ignore_ascii_case(b"http://") || !same {
                return Err(HeadError::Target);
            }
            start += scheme.len() + authority;
        }
        let end = self.raw_target.end();
        let query = memchr::memchr(b'?', &bytes[start..end]).map(|at| start + at);
        self.path = Span::new(start, query.unwrap_or(end));
        self.query = query.map(|at| Span::new(at + 1, end));
        Ok(())
    }
}

impl<'a> RequestRef<'a> {
    /// Whether the method may be repeated without doing more than once.
    ///
    /// **Source**: Spec: RFC 9110 §9.2.2.
    pub(crate) fn is_idempotent(&self) -> bool {
        matches!(self.method_bytes(), b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE")
    }

    /// Whether a tunnel is asked for.
    pub(crate) fn is_connect(&self) -> bool {
        self.head.is_connect
    }

    /// Whether the answer has no body whatever its head says.
    pub(crate) fn is_head(&self) -> bool {
        self.method_bytes() == b"HEAD"
    }

    /// Returns the host, absent in HTTP/1.0.
    pub(crate) fn host(&self) -> Option<&'a [u8]> {
        self.head.host.map(|host| host.of(self.bytes))
    }

    /// Whether a calling proxy wants to know where the time goes.
    pub(crate) fn asks_timing(&self) -> bool {
        self.head.asks_timing
    }

    /// The names and values of the headers that the next hop gets.
    fn passed_on(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let (fields, bytes) = (&self.head.fields, self.bytes);
        let wants_upgrade = self.head.wants_upgrade;
        let is_clear = self.head.forwarded_proto == ForwardedProto::Clear;
        let passed_on = fields.iter().filter(move |field| match field.kind {
            Kind::ClientCert | Kind::Connection | Kind::Envoy | Kind::HopByHop | Kind::Mesh => {
                false
            }
            Kind::ForwardedProto => is_clear,
            Kind::Upgrade => wants_upgrade,
            Kind::ContentLength
            | Kind::Disguised
            | Kind::EndToEnd
            | Kind::Expect
            | Kind::Host
            | Kind::TransferEncoding => true,
        });
        passed_on.map(|field| (field.name.of(bytes), field.value.of(bytes)))
    }

    pub(super) fn method_bytes(&self) -> &'a [u8] {
        self.head.method.of(self.bytes)
    }
}

impl RequestView for RequestRef<'_> {
    fn method(&self) -> &str {
        // httparse takes only token characters, which are ASCII.
        std::str::from_utf8(self.method_bytes()).unwrap_or_default()
    }

    fn path(&self) -> &[u8] {
        if self.head.path.is_empty() { b"/" } else { self.head.path.of(self.bytes) }
    }

    fn protocol(&self) -> &'static str {
        if self.head.is_http10 { "HTTP/1.0" } else { "HTTP/1.1" }
    }

    fn query(&self) -> Option<&[u8]> {
        self.head.query.map(|query| query.of(self.bytes))
    }

    fn has_disguised(&self, name: &str) -> bool {
        self.passed_on().any(|(field, _)| {
            is_like(field, name.as_bytes()) && !field.eq_ignore_ascii_case(name.as_bytes())
        })
    }

    fn each_header(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        let named = |field: &[u8]| field.eq_ignore_ascii_case(name.as_bytes());
        self.passed_on().filter(|(field, _)| named(field)).for_each(|(_, value)| visit(value));
    }
}

impl WholeRequest for RequestRef<'_> {
    fn told_timeout(&self) -> Option<Duration> {
        self.read_told_timeout()
    }

    fn is_further_attempt(&self) -> bool {
        self.head.is_further
    }

    fn each_field(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.passed_on().for_each(|(name, value)| visit(name, value));
    }
}

/// The head of an answer. Reused from answer to answer of one connection.
#[derive(Debug, Default)]
pub(crate) struct ResponseHead {
    pub(super) fields: Vec<Field>,
    /// From the status code to the end of the reason.
    pub(super) status_line: Span,
    /// The status code.
    pub(crate) status: u16,
    /// How the body ends.
    pub(crate) framing: Framing,
    /// Whether the connection can carry another request.
    pub(crate) is_persistent: bool,
    /// Whether an `x-weft-unreached` field says that no application has seen the request.
    pub(crate) is_unreached: bool,
    /// Whether it answers a CONNECT; set before it is parsed.
    pub(crate) to_connect: bool,
}

/// Whether its value asks.
fn is_asked(value: &[u8]) -> bool {
    value == TIMING_ASKED.as_bytes()
}

/// The field by which an inbound proxy tells an outbound one that the request was not passed
/// on, so that another endpoint may be tried.
const UNREACHED: &str = "x-weft-unreached";

impl ResponseHead {
    /// Parses a complete head; `to_head` says that the request was a HEAD.
    pub(crate) fn parse(&mut self, bytes: &[u8], to_head: bool) -> Result<(), HeadError> {
        let mut lines = [const { MaybeUninit::uninit() }; limits::HTTP_HEADERS_MAX];
        let mut response = httparse::Response::new(&mut []);
        let status = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut response, bytes, &mut lines)
            .map_err(parse_error)?;
        let (false, Some(code), Some(minor)) =
            (status.is_partial(), response.code, response.version)
        else {
            return Err(HeadError::Syntax);
        };
        if code < 100 {
            return Err(HeadError::Syntax);
        }
        self.status = code;
        self.is_unreached = false;
        self.fields.clear();
        let mut framing = FramingFields::default();
        let mut connection = Connection::default();
        for line in response.headers.iter() {
            let kind = kind(line.name.as_bytes());
            match kind {
                Kind::Connection => connection.read(line.value)?,
                Kind::ContentLength => framing.content_length(line.value)?,
                Kind::TransferEncoding => framing.transfer_encoding(line.value)?,
                Kind::Mesh => self.is_unreached |= line.name.eq_ignore_ascii_case(UNREACHED),
                Kind::ClientCert
                | Kind::Disguised
                | Kind::EndToEnd
                | Kind::Envoy
                | Kind::Expect
                | Kind::ForwardedProto
                | Kind::HopByHop
                | Kind::Host
                | Kind::Upgrade => {}
            }
            self.fields.push(Field {
                name: Span::locate(bytes, line.name.as_bytes()),
                value: Span::locate(bytes, line.value),
                kind,
            });
        }
        let line_start = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(0);
        let line_end = memchr::memchr(b'\r', &bytes[line_start..]).unwrap_or(0) + line_start;
        self.status_line = Span::new((line_start + b"HTTP/1.1 ".len()).min(line_end), line_end);
        let is_bare = to_head || self.opens_tunnel();
        self.framing = framing.for_response(code, is_bare, minor == 0)?;
        self.is_persistent = connection.is_persistent(minor == 0)
            && self.framing != Framing::UntilClose
            && code != 101;
        if connection.names_fields {
            drop_named_fields(&mut self.fields, bytes);
        }
        Ok(())
    }

    /// Shows each value of the header with this name (given in lower case), in order; the head lies in
    /// `bytes`.
    pub(crate) fn each_header(&self, bytes: &[u8], name: &str, visit: &mut dyn FnMut(&[u8])) {
        let named = |field: &&Field| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(named).for_each(|field| visit(field.value.of(bytes)));
    }

    /// Whether bytes follow it, both ways, in place of a body.
    ///
    /// **Source**: Spec: RFC 9110 §9.3.6.
    pub(crate) fn opens_tunnel(&self) -> bool {
        self.to_connect && (200..300).contains(&self.status)
    }

    /// Whether a final answer follows this one.
    pub(crate) fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

fn parse_error(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooManyHeaders,
        httparse::Error::Version => HeadError::Version,
        _ => HeadError::Syntax,
    }
}

/// What the two fields that delimit a body say.
#[derive(Default)]
struct FramingFields {
    length: Option<u64>,
    is_chunked: bool,
}

impl FramingFields {
    fn content_length(&mut self, value: &[u8]) -> Result<(), HeadError> {
        let is_number = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
        if self.length.is_some() || !is_number {
            return Err(HeadError::ContentLength);
        }
        // 18 digits fit a u64.
        self.length = Some(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')));
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(HeadError::TransferEncoding);
        }
        self.is_chunked = true;
        Ok(())
    }

    /// **Source**: Spec: RFC 9112 §6.3. Differs: both fields together are always an error.
    fn for_request(&self) -> Result<Framing, HeadError> {
        match (self.length, self.is_chunked) {
            (Some(_), true) => Err(HeadError::ContentLengthAndTransferEncoding),
            (Some(length), false) => Ok(Framing::Length(length)),
            (None, true) => Ok(Framing::Chunked),
            (None, false) => Ok(Framing::Empty),
        }
    }

    fn for_response(&self, code: u16, to_head: bool, http10: bool) -> Result<Framing, HeadError> {
        match (self.length, self.is_chunked) {
            (Some(_), true) => Err(HeadError::ContentLengthAndTransferEncoding),
            (_, true) if http10 => Err(HeadError::TransferEncoding),
            _ if to_head || code < 200 || code == 204 || code == 304 => Ok(Framing::Empty),
            (Some(length), false) => Ok(Framing::Length(length)),
            (None, true) => Ok(Framing::Chunked),
            (None, false) => Ok(Framing::UntilClose),
        }
    }
}

/// What `connection` fields say.
#[derive(Default)]
struct Connection {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    names_fields: bool,
    count: u16,
}

/// Options of `connection`: each is compared with each header line.
const CONNECTION_OPTIONS_MAX: u16 = 64;

impl Connection {
    fn read(&mut self, value: &[u8]) -> Result<(), HeadError> {
        for option in members(value) {
            self.count += 1;
            if self.count > CONNECTION_OPTIONS_MAX {
                return Err(HeadError::ConnectionOptions);
            }
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.names_fields = true;
            }
        }
        Ok(())
    }

    fn is_persistent(&self, http10: bool) -> bool {
        !self.close && (!http10 || self.keep_alive)
    }
}

/// Takes fields that `connection` names as being of this hop out of what is passed on.
///
/// Only ordinary fields can be named away: a sender must not take Host, the framing or what
/// the mesh sets out of sight.
fn drop_named_fields(fields: &mut [Field], bytes: &[u8]) {
    for at in 0..fields.len() {
        if fields[at].kind != Kind::Connection {
            continue;
        }
        for option in members(fields[at].value.of(bytes)) {
            for field in fields.iter_mut().filter(|field| field.kind == Kind::EndToEnd) {
                if field.name.of(bytes).eq_ignore_ascii_case(option) {
                    field.kind = Kind::HopByHop;
                }
            }
        }
    }
}

/// Whether a protocol may be changed to: HTTP inside would not be judged request by request,
/// under whichever of its names.
pub(crate) fn is_upgrade_known_safe(protocol: &[u8]) -> bool {
    let is = |name: &[u8]| {
        protocol.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
    };
    !is(b"h2") && !is(b"http") && !is(b"tls")
}

/// Whether a text can stand in Host: a name or address with an optional port.
///
/// **Source**: Spec: RFC 9110 §7.2. Differs: escapes, empty labels and zones are refused, since
/// servers choose different virtual hosts for them.
pub(crate) fn is_host(value: &[u8]) -> bool {
    let (name, port) = match value.first() {
        Some(b'[') => {
            let Some(end) = memchr::memchr(b']', value) else { return false };
            (&value[..=end], &value[end + 1..])
        }
        _ => value.split_at(memchr::memchr(b':', value).unwrap_or(value.len())),
    };
    let is_port = port.is_empty()
        || port.len() <= PORT_BYTES_MAX
            && port[0] == b':'
            && port[1..].iter().all(u8::is_ascii_digit);
    let is_known = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(byte);
    let is_name = match name {
        [b'[', address @ .., b']'] => {
            address.contains(&b':')
                && address.iter().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte))
        }
        name => {
            let labels = name.strip_suffix(b".").unwrap_or(name);
            labels
                .split(|byte| *byte == b'.')
                .all(|label| !label.is_empty() && label.iter().all(is_known))
        }
    };
    is_name && is_port
}

/// Whether a text is a host with a port, as CONNECT names it.
pub(crate) fn is_host_with_port(value: &[u8]) -> bool {
    let port = value.iter().rposition(|byte| *byte == b':').map(|at| &value[at + 1..]);
    is_host(value)
        && port.is_some_and(|port| !port.is_empty() && port.iter().all(u8::is_ascii_digit))
}

/// A colon and the digits of the highest port.
const PORT_BYTES_MAX: usize = 6;

#[cfg(test)]
mod tests;
