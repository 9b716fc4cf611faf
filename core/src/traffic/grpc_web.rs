//! gRPC-Web, as callers speak it that cannot read trailers: the same messages, with the trailers in
//! a last frame of the body, and all of it in base64 where bytes cannot be read either.
//!
//! **Source**: Spec: gRPC `doc/PROTOCOL-WEB.md`.

use std::fmt::Write as _;

/// The type of gRPC, before what says how messages are written.
const GRPC: &str = "application/grpc";
/// The flag of the frame that has the trailers.
const TRAILERS: u8 = 0x80;
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// How bodies are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebForm {
    /// As bytes.
    Binary,
    /// In base64.
    Text,
}

impl WebForm {
    /// Reads a `content-type`: the form, and what says how messages are written, such as `+proto`;
    /// `None` for all that is not gRPC-Web.
    pub fn of(content_type: &str) -> Option<(Self, &str)> {
        let name = content_type.split(';').next().unwrap_or_default().trim_end();
        let (head, rest) = name.split_at_checked(GRPC.len())?;
        if !head.eq_ignore_ascii_case(GRPC) {
            return None;
        }
        let starts = |word: &str| {
            rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
        };
        let (form, messages) = if starts("-web-text") {
            (Self::Text, &rest["-web-text".len()..])
        } else if starts("-web") {
            (Self::Binary, &rest["-web".len()..])
        } else {
            return None;
        };
        (messages.is_empty() || messages.starts_with('+')).then_some((form, messages))
    }

    /// Returns the `content-type` of an answer in this form, given that of gRPC; `None` if it is
    /// no answer of gRPC.
    pub fn answer_type(self, content_type: &str) -> Option<String> {
        let name = content_type.split(';').next().unwrap_or_default().trim_end();
        let messages = name.strip_prefix(GRPC)?;
        let web = if self == Self::Text { "-web-text" } else { "-web" };
        let is_grpc = messages.is_empty() || messages.starts_with('+');
        is_grpc.then(|| format!("{GRPC}{web}{messages}"))
    }
}

/// Returns the `content-type` of gRPC for messages that are written so.
pub fn grpc_type(messages: &str) -> String {
    format!("{GRPC}{messages}")
}

/// Writes trailers as the last frame of a body.
pub fn trailer_frame<'a>(trailers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut frame = vec![TRAILERS, 0, 0, 0, 0];
    for (name, value) in trailers {
        frame.extend_from_slice(name.as_bytes());
        frame.extend_from_slice(b": ");
        frame.extend_from_slice(value);
        frame.extend_from_slice(b"\r\n");
    }
    let length = u32::try_from(frame.len() - 5).unwrap_or(u32::MAX);
    frame[1..5].copy_from_slice(&length.to_be_bytes());
    frame
}

/// Writes a piece of a body in base64, padded by itself: it can be read without the next one.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let digit = char::from(DIGITS[(word >> (18 - 6 * place) & 63) as usize]);
            // Writing into a String cannot fail.
            let _ = text.write_char(if place <= group.len() { digit } else { '=' });
        }
    }
    text
}

/// Reads base64 piece by piece. Padding may stand wherever a caller has ended a piece.
#[derive(Debug, Default)]
pub struct Decoder {
    digits: u32,
    count: u8,
    padding: u8,
}

/// States that a body is not what its type says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not base64, which application/grpc-web-text is")]
pub struct InvalidText;

impl Decoder {
    /// Reads a piece.
    ///
    /// # Errors
    /// [`InvalidText`]; nothing can be read after that.
    pub fn decode(&mut self, text: &[u8]) -> Result<Vec<u8>, InvalidText> {
        let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
        for byte in text {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' if self.count >= 2 => {
                    self.padding += 1;
                    0
                }
                _ => return Err(InvalidText),
            };
            if self.padding > 0 && *byte != b'=' {
                return Err(InvalidText);
            }
            self.digits = self.digits << 6 | u32::from(digit);
            self.count += 1;
            if self.count == 4 {
                let whole = self.digits.to_be_bytes();
                bytes.extend_from_slice(&whole[1..4 - usize::from(self.padding)]);
                *self = Self::default();
            }
        }
        Ok(bytes)
    }

    /// Whether nothing is missing of what has begun.
    pub fn is_whole(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_tell_the_form_and_how_messages_are_written() {
        for (name, want) in [
            ("application/grpc-web", Some((WebForm::Binary, ""))),
            ("application/grpc-web+proto", Some((WebForm::Binary, "+proto"))),
            ("Application/gRPC-Web-Text+json; x=y", Some((WebForm::Text, "+json"))),
            ("application/grpc-web-text", Some((WebForm::Text, ""))),
            ("application/grpc", None),
            ("application/grpc+proto", None),
            ("application/grpc-webby", None),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(WebForm::of(name), want, "{name}");
        }
        let of = |form: WebForm, name: &str| form.answer_type(name);
        assert_eq!(
            of(WebForm::Binary, "application/grpc").as_deref(),
            Some("application/grpc-web")
        );
        assert_eq!(
            of(WebForm::Text, "application/grpc+proto").as_deref(),
            Some("application/grpc-web-text+proto")
        );
        assert_eq!(of(WebForm::Text, "text/html"), None);
        assert_eq!(of(WebForm::Text, "application/grpcx"), None);
    }

    #[test]
    fn trailers_are_a_frame_of_lines() {
        let trailers = [("grpc-status", &b"0"[..]), ("x-bin", b"AQ")];
        let frame = trailer_frame(trailers.into_iter());
        assert_eq!(frame, b"\x80\0\0\0\x1bgrpc-status: 0\r\nx-bin: AQ\r\n");
        assert_eq!(trailer_frame([].into_iter()), b"\x80\0\0\0\0");
    }

    /// RFC 4648 §10.
    #[test]
    fn base64_is_that_of_the_standard() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            let mut decoder = Decoder::default();
            assert_eq!(decoder.decode(text.as_bytes()).as_deref(), Ok(bytes.as_bytes()));
            assert!(decoder.is_whole());
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(Decoder::default().decode(encode(&all).as_bytes()), Ok(all));
    }

    #[test]
    fn pieces_may_be_cut_anywhere_and_padded_each() {
        let text = [encode(b"a"), encode(b"bc"), encode(b"def")].concat();
        for cut in 0..=text.len() {
            let mut decoder = Decoder::default();
            let (first, rest) = text.as_bytes().split_at(cut);
            let read = [decoder.decode(first), decoder.decode(rest)].map(|it| it.expect("base64"));
            assert_eq!(read.concat(), b"abcdef");
            assert!(decoder.is_whole());
        }
        for text in ["=", "A=", "A===", "AA=A", "A A=", "A-AA", "====", "AA=\n"] {
            let mut decoder = Decoder::default();
            let read = decoder.decode(text.as_bytes());
            assert!(read.is_err() || !decoder.is_whole(), "{text}: {read:?}");
        }
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(b"AAA"), Ok(Vec::new()));
        assert!(!decoder.is_whole());
    }
}
