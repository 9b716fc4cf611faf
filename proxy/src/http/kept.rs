//! What has left of a request, kept as long as it may have to be sent again.

use std::fmt::Write as _;
use std::time::Duration;

use weft_core::traffic::deadline::{TIMEOUT_FIELD, timeout_ms};
use weft_core::traffic::{Answered, BodyKept};

/// The field by which a calling proxy says that a request is a further attempt, and which one. It never reaches
/// a service.
pub(crate) const ATTEMPT_FIELD: &str = "x-weft-attempt";
/// The field with a proxy's cause for answering itself.
pub(crate) const CAUSE_FIELD: &str = "x-weft-cause";
/// The field by which a proxy says that a request reached no application.
pub(crate) const UNREACHED_FIELD: &str = "x-weft-unreached";
/// Causes that say of a proxy, or of one further on, that it has too much to do.
const OVERLOADS: [&[u8]; 4] =
    [b"overload", b"concurrency-limit", b"connection-limit", b"descriptor-limit"];

/// Who gets a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Somebody outside the mesh, who is told nothing of attempts.
    Nothing,
    /// Another proxy, which is told which attempt it is.
    Attempts,
}

/// A request over HTTP/1 of which a further attempt may be made. Its head, and what has come of the
/// body with it, are in the output; the rest of the body is here.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Bytes of the output that are the head, and how many of them say which attempt it is.
    head_bytes: usize,
    attempt_bytes: usize,
    attempt: u32,
    told: Told,
    body: Vec<u8>,
    /// How much of the body may still be kept.
    room: usize,
    is_lost: bool,
}

impl Kept {
    /// Begins, with a head of this length as all that is in the output.
    pub(crate) fn new((head_bytes, told): (usize, Told), room: usize) -> Box<Self> {
        let (attempt_bytes, attempt, body, is_lost) = (0, 1, Vec::new(), false);
        Box::new(Self { head_bytes, attempt_bytes, attempt, told, body, room, is_lost })
    }

    /// Keeps a piece of the body that has left.
    pub(crate) fn keep(&mut self, piece: &[u8]) {
        if self.is_lost || piece.len() > self.room {
            self.lose();
        } else {
            self.room -= piece.len();
            self.body.extend_from_slice(piece);
        }
    }

    /// Keeps nothing any more.
    pub(crate) fn lose(&mut self) {
        (self.is_lost, self.body) = (true, Vec::new());
    }

    /// Whether all that has left is there.
    pub(crate) fn state(&self) -> BodyKept {
        if self.is_lost { BodyKept::No } else { BodyKept::Yes }
    }

    /// Makes the output what the next attempt begins with, for which there is so much time left.
    pub(crate) fn rewind(&mut self, output: &mut Vec<u8>, left: Option<Duration>) {
        self.attempt = self.attempt.saturating_add(1);
        let mut line = String::new();
        if self.told == Told::Attempts {
            // Writing into a String cannot fail.
            let _ = write!(line, "{ATTEMPT_FIELD}: {}\r\n", self.attempt);
            if let Some(left) = left {
                // The head says more already, perhaps; who reads it takes the least.
                let _ = write!(line, "{TIMEOUT_FIELD}: {}\r\n", timeout_ms(left));
            }
        }
        // Before the empty line that ends the head.
        let end = self.head_bytes - b"\r\n".len();
        output.splice(end - self.attempt_bytes..end, line.bytes());
        self.head_bytes += line.len() - self.attempt_bytes;
        self.attempt_bytes = line.len();
        output.append(&mut self.body);
    }
}

/// Whether a cause says of a proxy, or of one further on, that it has too much to do.
pub(crate) fn says_overload(cause: &[u8]) -> bool {
    OVERLOADS.contains(&cause)
}

/// Reads from the head of an answer what it says of trying again.
pub(crate) fn answered(
    status: u16,
    is_unreached: bool,
    each_header: impl Fn(&str, &mut dyn FnMut(&[u8])),
) -> Answered {
    let mut answered = Answered { status, is_unreached, ..Answered::default() };
    each_header(CAUSE_FIELD, &mut |cause| answered.is_overload |= says_overload(cause));
    each_header("grpc-status", &mut |code| answered.grpc_status = number(code));
    each_header("retry-after", &mut |seconds| {
        // A date is passed over: it is of another clock.
        let seconds: Option<u32> = number(seconds);
        answered.retry_after = seconds.map(|seconds| Duration::from_secs(seconds.into()));
    });
    each_header("x-envoy-ratelimited", &mut |_| answered.is_rate_limited = true);
    answered
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_rewound_with_its_number_and_its_body() {
        let mut output = b"GET / HTTP/1.1\r\nhost: web\r\n\r\nab".to_vec();
        let mut kept = Kept::new((output.len() - 2, Told::Attempts), 4);
        kept.keep(b"cd");
        for attempt in 2..=11 {
            kept.rewind(&mut output, None);
            let want =
                format!("GET / HTTP/1.1\r\nhost: web\r\nx-weft-attempt: {attempt}\r\n\r\nabcd");
            assert_eq!(String::from_utf8_lossy(&output), want);
        }
        let mut output = b"GET / HTTP/1.1\r\n\r\n".to_vec();
        Kept::new((output.len(), Told::Nothing), 4).rewind(&mut output, Some(Duration::ZERO));
        assert_eq!(output, b"GET / HTTP/1.1\r\n\r\n");
        kept.keep(b"efg");
        assert_eq!(kept.state(), BodyKept::No);
        kept.keep(b"e");
        assert!(kept.body.is_empty());
    }

    #[test]
    fn an_answer_says_when_to_ask_again() {
        let read = |fields: &[(&str, &str)]| {
            answered(503, false, |name, visit| {
                let values = fields.iter().filter(|(field, _)| *field == name);
                values.for_each(|(_, value)| visit(value.as_bytes()));
            })
        };
        assert_eq!(read(&[("retry-after", "2")]).retry_after, Some(Duration::from_secs(2)));
        for none in ["Wed, 21 Oct 2015 07:28:00 GMT", "-1", "", "99999999999"] {
            assert_eq!(read(&[("retry-after", none)]).retry_after, None, "{none}");
        }
        assert_eq!(read(&[("grpc-status", "14")]).grpc_status, Some(14));
        assert!(read(&[("x-weft-cause", "overload")]).is_overload);
        assert!(!read(&[("x-weft-cause", "no-endpoint")]).is_overload);
        assert!(read(&[("x-envoy-ratelimited", "")]).is_rate_limited);
    }
}
