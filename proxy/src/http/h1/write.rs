//! Heads written for the next hop, mostly by copying whole runs of lines.

use super::body::Framing;
use super::field::{CLIENT_CERT, Field, Kind};
use super::message::{ForwardedProto, RequestRef, ResponseHead};
use super::told::is_timing;
use crate::http::{Changes, Edits};
use weft_core::traffic::{RequestView as _, Rewrite};

/// What is different in the request that the next hop gets.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RequestWriter<'a> {
    /// What becomes of the path.
    pub(crate) rewrite: Option<Rewrite<'a>>,
    /// What else is different in it.
    pub(crate) edits: Option<&'a Edits>,
    /// What a route changes of its headers.
    pub(crate) changes: Changes<'a>,
    /// The path that it has, where that is not the one it came with.
    pub(crate) path: Option<&'a [u8]>,
    /// The Host that an HTTP/1.0 request without one gets.
    pub(crate) host_default: &'a [u8],
    /// The Host that stands in place of the one it came with.
    pub(crate) host: Option<&'a [u8]>,
    /// Complete lines that the mesh adds.
    pub(crate) added_lines: &'a [u8],
    /// What becomes of the caller's `x-forwarded-client-cert`.
    pub(crate) client_cert: ClientCert<'a>,
    /// A complete line with the scheme by which the caller has asked, if it does not say so itself.
    pub(crate) proto_line: &'a [u8],
}

/// What becomes of an `x-forwarded-client-cert` that is there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ClientCert<'a> {
    /// This follows what it says; alone where it says nothing.
    Append(&'a [u8]),
    /// It goes on.
    Keep,
    #[default]
    Strip,
}

impl RequestWriter<'_> {
    /// Appends the head to `out`.
    pub(crate) fn write(&self, request: RequestRef<'_>, out: &mut Vec<u8>) {
        out.reserve(request.bytes.len() + self.added_lines.len() + 64);
        out.extend_from_slice(request.method_bytes());
        out.push(b' ');
        if request.is_connect() {
            out.extend_from_slice(request.head.raw_target.of(request.bytes));
        } else {
            self.write_target(request, out);
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        self.write_fields(request, out);
    }

    fn write_target(&self, request: RequestRef<'_>, out: &mut Vec<u8>) {
        let path = self.path.unwrap_or(request.path());
        match &self.rewrite {
            // The server as a whole has no path that could be another.
            Some(rewrite) if path != b"*" => rewrite.apply(path, out),
            Some(_) | None => out.extend_from_slice(path),
        }
        let query = match self.edits.and_then(|edits| edits.query.as_ref()) {
            Some(query) => query.as_deref(),
            None => request.query(),
        };
        if let Some(query) = query {
            out.push(b'?');
            out.extend_from_slice(query);
        }
    }

    fn write_fields(&self, request: RequestRef<'_>, out: &mut Vec<u8>) {
        let wants_upgrade = request.head.wants_upgrade;
        let mut is_framing_renewed = false;
        let mut says_proto = request.head.forwarded_proto == ForwardedProto::Clear;
        copy_runs(&request.head.fields, request.bytes, out, |field| match field.kind {
            Kind::ContentLength | Kind::TransferEncoding => {
                let is_plain = is_plain_framing(field, request.bytes);
                is_framing_renewed |= !is_plain;
                is_plain
            }
            Kind::EndToEnd => {
                let name = field.name.of(request.bytes);
                self.edits.is_none_or(|edits| !edits.removes(name)) && !self.changes.removes(name)
            }
            Kind::ClientCert => self.client_cert == ClientCert::Keep,
            Kind::Expect => true,
            Kind::ForwardedProto => {
                let is_made = self.edits.is_some_and(|edits| edits.sets(b"x-forwarded-proto"));
                says_proto &= !is_made && !self.changes.removes(b"x-forwarded-proto");
                says_proto
            }
            Kind::Host => self.host.is_none(),
            Kind::Upgrade => wants_upgrade,
            Kind::Connection | Kind::Disguised | Kind::Envoy | Kind::HopByHop | Kind::Mesh => false,
        });
        if is_framing_renewed {
            write_framing(request.head.framing, out);
        }
        if self.host.is_some() || request.host().is_none() {
            out.extend_from_slice(b"host: ");
            out.extend_from_slice(self.host.unwrap_or(self.host_default));
            out.extend_from_slice(b"\r\n");
        }
        if wants_upgrade {
            out.extend_from_slice(b"connection: upgrade\r\n");
        }
        if let Some(edits) = self.edits {
            edits.write_lines(&self.changes, out);
            says_proto |= edits.sets(b"x-forwarded-proto");
        }
        let each_header = |name: &str, visit: &mut dyn FnMut(&[u8])| {
            request.each_header(name, visit);
        };
        self.changes.write_lines(each_header, out);
        says_proto |= self.changes.sets("x-forwarded-proto");
        if !says_proto {
            out.extend_from_slice(self.proto_line);
        }
        out.extend_from_slice(self.added_lines);
        if let ClientCert::Append(own) = self.client_cert {
            append_client_cert(request, own, out);
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes what a request says of certificates, and what follows it.
fn append_client_cert(request: RequestRef<'_>, own: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(CLIENT_CERT);
    out.extend_from_slice(b": ");
    let said = request.head.fields.iter().filter(|field| field.kind == Kind::ClientCert);
    for field in said.filter(|field| !field.value.is_empty()) {
        out.extend_from_slice(field.value.of(request.bytes));
        out.push(b',');
    }
    out.extend_from_slice(own);
    out.extend_from_slice(b"\r\n");
}

/// Appends a field to a complete head of an answer.
pub(crate) fn add_field(name: &str, value: &str, out: &mut Vec<u8>) {
    out.truncate(out.len() - b"\r\n".len());
    out.extend([name, ": ", value, "\r\n\r\n"].iter().flat_map(|part| part.bytes()));
}

/// How the body of an answer is sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emission {
    /// As chunks, as its end is known only when the connection closes.
    Chunked,
    /// Without framing, to a client that does not know chunks; the connection closes after it.
    Unframed,
    /// As it came.
    Verbatim,
}

/// What is told to the client about its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionField {
    Close,
    KeepAlive,
    /// Nothing: HTTP/1.1 stays open by default.
    None,
    Upgrade,
}

/// Whether fields that only the mesh may set are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MeshFields {
    /// They come from a proxy of the mesh.
    Keep,
    /// They come from an application.
    Strip,
}

/// Appends the head of an answer to `out`.
pub(crate) fn write_response_head(
    head: &ResponseHead,
    bytes: &[u8],
    connection: ConnectionField,
    (emission, mesh_fields, changes): (Emission, MeshFields, Changes<'_>),
    out: &mut Vec<u8>,
) {
    out.reserve(bytes.len() + 64);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status_line.of(bytes));
    out.extend_from_slice(b"\r\n");
    copy_runs(&head.fields, bytes, out, |field| match field.kind {
        // Some clients would wait for a body that never comes.
        Kind::ContentLength => head.status >= 200 && head.status != 204 && !head.opens_tunnel(),
        Kind::EndToEnd | Kind::Envoy | Kind::ForwardedProto => {
            !changes.removes(field.name.of(bytes))
        }
        Kind::Expect | Kind::Host => true,
        Kind::ClientCert => mesh_fields == MeshFields::Keep,
        // Of what proxies have measured for each other nobody else hears.
        Kind::Mesh => mesh_fields == MeshFields::Keep && !is_timing(field.name.of(bytes)),
        Kind::TransferEncoding => {
            emission == Emission::Verbatim
                && head.status >= 200
                && head.status != 204
                && !head.opens_tunnel()
        }
        Kind::Upgrade => matches!(head.status, 101 | 426),
        Kind::Connection | Kind::Disguised | Kind::HopByHop => false,
    });
    if emission == Emission::Chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(match connection {
        ConnectionField::Close => b"connection: close\r\n".as_slice(),
        ConnectionField::KeepAlive => b"connection: keep-alive\r\n",
        ConnectionField::None => b"",
        ConnectionField::Upgrade => b"connection: upgrade\r\n",
    });
    let each_header =
        |name: &str, visit: &mut dyn FnMut(&[u8])| head.each_header(bytes, name, visit);
    changes.write_lines(each_header, out);
    out.extend_from_slice(b"\r\n");
}

impl Emission {
    /// Chooses how a body with this framing reaches the client.
    pub(crate) fn of(framing: Framing, client_is_http10: bool) -> Self {
        match (framing, client_is_http10) {
            (Framing::Chunked, true) | (Framing::UntilClose, true) => Self::Unframed,
            (Framing::UntilClose, false) => Self::Chunked,
            (Framing::Chunked | Framing::Empty | Framing::Length(_), _) => Self::Verbatim,
        }
    }
}

/// Whether a line that delimits the body is written in the one way that every recipient reads.
///
/// We also take other cases, blanks and leading zeros, which are legal but which some recipients
/// pass over or read as something else.
fn is_plain_framing(field: &Field, bytes: &[u8]) -> bool {
    let value = field.value.of(bytes);
    let is_plain_value = match field.kind {
        Kind::TransferEncoding => value == b"chunked",
        _ => value == b"0" || !value.starts_with(b"0"),
    };
    is_plain_value
        && &bytes[field.name.end()..field.value.start()] == b": "
        && bytes[field.value.end()..].starts_with(b"\r\n")
}

fn write_framing(framing: Framing, out: &mut Vec<u8>) {
    match framing {
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Length(length) => {
            out.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
        }
        Framing::Empty | Framing::UntilClose => {}
    }
}

/// Copies the lines that are kept; neighbours go in one piece.
fn copy_runs(
    fields: &[Field],
    bytes: &[u8],
    out: &mut Vec<u8>,
    mut keep: impl FnMut(&Field) -> bool,
) {
    // The empty line at the end of the head is not part of the last line.
    let lines_end = bytes.len() - b"\r\n".len();
    let mut run: Option<usize> = None;
    for field in fields {
        match (keep(field), run) {
            (true, None) => run = Some(field.name.start()),
            (false, Some(start)) => {
                out.extend_from_slice(&bytes[start..field.name.start()]);
                run = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
    if let Some(start) = run {
        out.extend_from_slice(&bytes[start..lines_end]);
    }
}

/// Appends the line before `length` bytes of a chunk.
pub(crate) fn write_chunk_start(length: usize, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(DIGITS[(length >> (4 * digit)) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends what follows a chunk, or the end of the body after the last one.
pub(crate) fn write_chunk_end(is_last: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if is_last { b"0\r\n\r\n" } else { b"\r\n" });
}
