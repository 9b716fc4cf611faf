//! The value of a header that a route writes: text, with operators for what is known of a request
//! when it goes on, or of its answer.

use super::operator::{Names, Operator};
use super::record::{LogRecord, LogScope, Plain, Value};
use super::template::{Part, parts_of};

/// Of which message a header is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderSide {
    /// Of the answer.
    Answer,
    /// Of the request.
    Request,
}

/// The value of a header, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderForm {
    parts: Vec<Part>,
    names: Names,
}

impl HeaderForm {
    /// Compiles a value; `%%` stands for the sign itself.
    ///
    /// **Source**: Envoy: HTTP header manipulation, custom request/response headers. Differs: of the
    /// operators those are known that can be told at this point.
    ///
    /// # Errors
    /// What is wrong, in words: an operator that is not known, or has no value yet when the header
    /// is written.
    pub fn parse(side: HeaderSide, value: &str) -> Result<Self, String> {
        if value.contains(|letter: char| letter.is_control() && letter != '\t') {
            return Err("has a control character".to_owned());
        }
        let (parts, names) = parts_of(value)?;
        for part in &parts {
            if let Part::Value(operator, _) = part
                && !is_known(operator, side)
            {
                return Err(format!("{value:?} has an operator that {}", not_told(side)));
            }
        }
        Ok(Self { parts, names })
    }

    /// Returns the value where it is the same for every message.
    pub fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Appends the value; what is absent is left out. `each_header` shows the values of a header of
    /// the message.
    pub fn write(
        &self,
        record: &LogRecord,
        each_header: impl Fn(&str, &mut dyn FnMut(&[u8])),
        out: &mut Vec<u8>,
    ) {
        let scope = LogScope::default();
        for part in &self.parts {
            let (operator, length) = match part {
                Part::Literal(text) => {
                    out.extend_from_slice(text.as_bytes());
                    continue;
                }
                Part::Value(operator, length) => (operator, length.unwrap_or(usize::MAX)),
            };
            let start = out.len();
            if let Some(names) = operator.header_names(&self.names) {
                // The first that is there, and of it the first value.
                for name in names.into_iter().flatten() {
                    let mut is_found = false;
                    each_header(name, &mut |value| {
                        if !std::mem::replace(&mut is_found, true) {
                            out.extend_from_slice(value);
                        }
                    });
                    if is_found {
                        break;
                    }
                }
            } else {
                match record.value(operator, &scope) {
                    Value::Nothing => {}
                    Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
                    Value::Text(text) => out.extend_from_slice(text.as_bytes()),
                }
            }
            out.truncate(start.saturating_add(length).min(out.len()));
        }
    }
}

/// Whether an operator has a value when a header of such a message is written.
fn is_known(operator: &Operator, side: HeaderSide) -> bool {
    match (operator, side) {
        (Operator::Plain(plain), _) => matches!(
            plain,
            Plain::ConnectionId
                | Plain::DownstreamLocal(_)
                | Plain::DownstreamRemote(_)
                | Plain::Protocol
                | Plain::RouteName
                | Plain::UpstreamCluster
                | Plain::UpstreamPeerUriSan
        ),
        (Operator::StartTime(_), _)
        | (Operator::Path { .. } | Operator::Request(..), HeaderSide::Request) => true,
        (Operator::Response(..), HeaderSide::Answer) => operator.is_of_headers(),
        (Operator::Path { .. } | Operator::Request(..), HeaderSide::Answer)
        | (Operator::Response(..), HeaderSide::Request)
        | (Operator::Trailer(..), _) => false,
    }
}

fn not_told(side: HeaderSide) -> &'static str {
    match side {
        HeaderSide::Answer => {
            "cannot be told in a header of an answer; there are DOWNSTREAM_REMOTE_ADDRESS and its \
             like, PROTOCOL, RESP(name), ROUTE_NAME, START_TIME, UPSTREAM_CLUSTER"
        }
        HeaderSide::Request => {
            "cannot be told before the request has gone on; there are DOWNSTREAM_REMOTE_ADDRESS and \
             its like, PATH, PROTOCOL, REQ(name), ROUTE_NAME, START_TIME, UPSTREAM_CLUSTER"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(side: HeaderSide, value: &str) -> Result<String, String> {
        let form = HeaderForm::parse(side, value)?;
        let record = LogRecord {
            remote: Some("192.0.2.1:70".parse().expect("an address")),
            protocol: Some("HTTP/1.1"),
            method: "GET".into(),
            path: "/a".into(),
            cluster: "web.default".into(),
            ..LogRecord::default()
        };
        let mut out = Vec::new();
        form.write(
            &record,
            |name, visit| {
                if name == "x-user" {
                    visit(b"ada");
                    visit(b"eve");
                }
            },
            &mut out,
        );
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn operators_stand_for_what_is_known_when_the_header_is_written() {
        use HeaderSide::{Answer, Request};
        for (side, value, want) in [
            (Request, "", ""),
            (Request, "a 100%% \"b\"", "a 100% \"b\""),
            (Request, "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "192.0.2.1"),
            (Request, "<%DOWNSTREAM_REMOTE_PORT%>", "<70>"),
            (Request, "%REQ(X-User)%", "ada"),
            (Request, "%REQ(X-User):2%!", "ad!"),
            (Request, "%REQ(x-none?x-user)%", "ada"),
            (Request, "%REQ(x-none)%", ""),
            (Request, "%REQ(:METHOD)% %PATH(NQ)% %PROTOCOL%", "GET /a HTTP/1.1"),
            (Answer, "%UPSTREAM_CLUSTER% %RESP(x-user)%", "web.default ada"),
        ] {
            assert_eq!(written(side, value).as_deref(), Ok(want), "{value}");
        }
        for (side, value, why) in [
            (Request, "50%", "begins no operator"),
            (Request, "%NONSENSE%", "not an operator that is known"),
            (Request, "%RESPONSE_CODE%", "before the request has gone on"),
            (Request, "%RESP(x)%", "before the request has gone on"),
            (Answer, "%REQ(x)%", "in a header of an answer"),
            (Answer, "%DURATION%", "in a header of an answer"),
            (Answer, "%RESP(:status)%", "in a header of an answer"),
            (Request, "a\r\nhost: b", "control character"),
        ] {
            let refused = written(side, value).expect_err(value);
            assert!(refused.contains(why), "{value}: {refused}");
        }
    }
}
