//! As much of D-Bus as asking the service manager takes: calls with texts, answered by a text.
//!
//! The libraries for D-Bus bring an executor and some forty packages along; this is a connection
//! over a unix socket, one message out, one in.
//! **Source**: Spec: D-Bus Specification 0.43, "Message Protocol", "Authentication Protocol".

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_runtime::net::{self, UnixStream};

/// Where the system's message bus listens.
pub(super) const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
/// Bytes of one message that is read; those that we ask for have some hundred.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Messages that may come before the answer to a call: signals that nobody asked for.
const STRAY_MESSAGES_MAX: usize = 64;

/// What is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
}

/// A connection to a message bus.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
}

impl Bus {
    /// Connects and introduces itself as this process's user.
    pub(super) async fn connect(socket: &Path) -> Result<Self, String> {
        let mut stream = net::connect_unix(socket).await.map_err(|error| error.to_string())?;
        let lost = |error: std::io::Error| format!("the message bus was lost: {error}");
        let user = rustix::process::geteuid().as_raw().to_string();
        let user: String = user.bytes().map(|byte| format!("{byte:02x}")).collect();
        let hello = format!("\0AUTH EXTERNAL {user}\r\n");
        stream.write_all(hello.as_bytes()).await.map_err(lost)?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < 256 {
            line.push(stream.read_u8().await.map_err(lost)?);
        }
        if !line.starts_with(b"OK ") {
            return Err("the message bus does not let this user in".to_owned());
        }
        stream.write_all(b"BEGIN\r\n").await.map_err(lost)?;
        let mut bus = Self { stream, serial: 0 };
        let name = "org.freedesktop.DBus";
        let hello = Call {
            destination: name,
            path: "/org/freedesktop/DBus",
            interface: name,
            member: "Hello",
        };
        bus.call(&hello, &[]).await?;
        Ok(bus)
    }

    /// Calls a method with texts; the answer is the text (or path, or variant with a text) with
    /// which its answer begins.
    pub(super) async fn call(&mut self, call: &Call<'_>, args: &[&str]) -> Result<String, String> {
        self.serial += 1;
        let message = encode(call, args, self.serial);
        let lost = |error: std::io::Error| format!("the message bus was lost: {error}");
        self.stream.write_all(&message).await.map_err(lost)?;
        for _ in 0..STRAY_MESSAGES_MAX {
            let mut head = [0; 16];
            self.stream.read_exact(&mut head).await.map_err(lost)?;
            let length = length_of_rest(&head)?;
            let mut rest = vec![0; length];
            self.stream.read_exact(&mut rest).await.map_err(lost)?;
            let reply = decode(&head, &rest).ok_or("the message bus sends what cannot be read")?;
            if reply.to == Some(self.serial) {
                let text = reply.text.unwrap_or_default();
                return match reply.error {
                    None => Ok(text),
                    Some(name) => Err(if text.is_empty() { name } else { text }),
                };
            }
        }
        Err("the message bus does not come to the answer".to_owned())
    }
}

/// Writes values one after the other, each at its alignment.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, number: usize) {
        self.align(4);
        // Lengths here are far below the bound of a message.
        self.0.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, signature: &str) {
        self.0.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.0.extend_from_slice(signature.as_bytes());
        self.0.push(0);
    }

    fn field(&mut self, code: u8, kind: &str, value: &str) {
        self.align(8);
        self.0.push(code);
        self.signature(kind);
        match kind {
            "g" => self.signature(value),
            _ => self.text(value),
        }
    }
}

fn encode(call: &Call<'_>, args: &[&str], serial: u32) -> Vec<u8> {
    let mut body = Writer::default();
    args.iter().for_each(|text| body.text(text));
    let mut fields = Writer::default();
    fields.field(1, "o", call.path);
    fields.field(2, "s", call.interface);
    fields.field(3, "s", call.member);
    fields.field(6, "s", call.destination);
    if !args.is_empty() {
        fields.field(8, "g", &"s".repeat(args.len()));
    }
    // Little endian, a method call, no flags, version 1.
    let mut message = Writer(vec![b'l', 1, 0, 1]);
    message.number(body.0.len());
    message.number(serial as usize);
    message.number(fields.0.len());
    message.0.extend_from_slice(&fields.0);
    message.align(8);
    message.0.extend_from_slice(&body.0);
    message.0
}

/// An answer, or another message.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reply {
    /// The call that it answers.
    to: Option<u32>,
    error: Option<String>,
    text: Option<String>,
}

fn length_of_rest(head: &[u8; 16]) -> Result<usize, String> {
    let mut reader = Reader { bytes: head, at: 4, is_big: head[0] == b'B' };
    let numbers = (reader.number(), {
        reader.at = 12;
        reader.number()
    });
    let (Some(body), Some(fields)) = numbers else { return Err(String::new()) };
    let length = fields.next_multiple_of(8).saturating_add(body);
    match length <= MESSAGE_BYTES_MAX {
        true => Ok(length),
        false => Err(format!("the message bus sends {length} bytes, more than are read")),
    }
}

/// Reads values one after the other, each at its alignment; `None` at the first that is cut.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    is_big: bool,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn number(&mut self) -> Option<usize> {
        self.align(4);
        let bytes = self.take(4)?.try_into().ok()?;
        let number =
            if self.is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
        usize::try_from(number).ok()
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number()?;
        let text = self.take(length)?;
        self.take(1)?;
        String::from_utf8(text.to_vec()).ok()
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(*self.take(1)?.first()?);
        let text = self.take(length)?;
        self.take(1)?;
        String::from_utf8(text.to_vec()).ok()
    }
}

fn decode(head: &[u8; 16], rest: &[u8]) -> Option<Reply> {
    let is_big = head[0] == b'B';
    let is_error = head[1] == 3;
    let fields_length = Reader { bytes: head, at: 12, is_big }.number()?;
    // Fields are aligned as if counted from the message's start; the head has 16 bytes.
    let mut fields = Reader { bytes: rest.get(..fields_length)?, at: 0, is_big };
    let mut reply = Reply::default();
    let mut signature = String::new();
    while fields.at < fields_length {
        fields.align(8);
        let Some(code) = fields.take(1).and_then(|bytes| bytes.first().copied()) else { break };
        let kind = fields.signature()?;
        match (code, kind.as_str()) {
            (5, "u") => reply.to = u32::try_from(fields.number()?).ok(),
            (4, "s") => reply.error = Some(fields.text()?),
            (8, "g") => signature = fields.signature()?,
            (_, "u") => drop(fields.number()?),
            (_, "g") => drop(fields.signature()?),
            (_, "s" | "o") => drop(fields.text()?),
            _ => return None,
        }
    }
    let mut body = Reader { bytes: rest.get(fields_length.next_multiple_of(8)..)?, at: 0, is_big };
    if signature.starts_with('v') {
        signature = body.signature()?;
    }
    if signature.starts_with(['s', 'o']) {
        reply.text = Some(body.text()?);
    }
    if is_error && reply.error.is_none() {
        reply.error = Some("an error without a name".to_owned());
    }
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_or_random_is_never_read_past_its_end() {
        let call = Call { destination: "a.b", path: "/c", interface: "d.e", member: "F" };
        let message = encode(&call, &["x", "yz"], 7);
        let head: [u8; 16] = message[..16].try_into().expect("a head");
        assert_eq!(length_of_rest(&head), Ok(message.len() - 16));
        let whole = decode(&head, &message[16..]).expect("our own");
        assert_eq!(whole, Reply { to: None, error: None, text: Some("x".to_owned()) });
        for length in 0..message.len() - 16 {
            // Cut anywhere it is refused or read as far as it goes.
            let _ = decode(&head, &message[16..16 + length]);
        }
        for (at, bit) in (16..message.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut damaged = message.clone();
            damaged[at] ^= 1 << bit;
            let _ = decode(&head, &damaged[16..]);
        }
        let mut huge = head;
        huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(length_of_rest(&huge).is_err());
    }
}
