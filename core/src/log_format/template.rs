//! A form: literals and operators in order, as a line of text or as a JSON object.

use serde_json::Value as Json;

use super::InvalidLogFormat;
use super::captured::Captured;
use super::escape::{push_json, push_text};
use super::operator::{Names, Operator};
use super::record::{LogRecord, LogScope, Value};

/// Bytes of a form.
const FORMAT_BYTES_MAX: usize = 16 << 10;
/// Operators in a form: each may cost a text of a request.
const OPERATORS_MAX: usize = 128;
/// Objects within objects.
const DEPTH_MAX: usize = 8;

/// A compiled form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFormat {
    shape: Shape,
    names: Names,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    Json(Node),
    Text(Vec<Part>),
}

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Literal(Box<str>),
    /// With the number of characters at most.
    Value(Operator, Option<usize>),
}

/// A value of a JSON form; keys and literals are JSON already.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Array(Vec<Node>),
    Literal(Box<str>),
    Object(Vec<(Box<str>, Node)>),
    Text(Vec<Part>),
    /// One operator alone: a number stays a number, and what is absent is null.
    Typed(Operator),
}

struct Compiler {
    names: Names,
    operators: usize,
}

impl LogFormat {
    /// Returns the form that lines have when nothing else is said.
    ///
    /// **Source**: Consul: docs/connect/observability/access-logs, the default JSON form. Differs:
    /// the path has no query, which may hold secrets.
    pub fn standard() -> Self {
        Self::json(STANDARD).expect("the standard form is a form")
    }

    /// Compiles a form of one line of text.
    ///
    /// # Errors
    /// An operator that is not known, and whatever else is wrong, by name.
    pub fn text(form: &str) -> Result<Self, InvalidLogFormat> {
        let invalid = |reason| InvalidLogFormat { place: String::new(), reason };
        let form = form.strip_suffix('\n').unwrap_or(form);
        bounded(form).map_err(invalid)?;
        if form.chars().any(|letter| letter.is_control() && letter != '\t') {
            return Err(invalid("has a line break or control character: write one line".into()));
        }
        let mut compiler = Compiler { names: Names::default(), operators: 0 };
        let parts = compiler.parts(form).map_err(invalid)?;
        Ok(Self { shape: Shape::Text(parts), names: compiler.names })
    }

    /// Compiles a form of a JSON object, given as text.
    ///
    /// # Errors
    /// As [`Self::text`], with the place in the object.
    pub fn json(form: &str) -> Result<Self, InvalidLogFormat> {
        let invalid = |reason| InvalidLogFormat { place: String::new(), reason };
        bounded(form).map_err(invalid)?;
        let json =
            serde_json::from_str(form).map_err(|error| invalid(format!("is not JSON: {error}")))?;
        let Json::Object(_) = &json else {
            return Err(invalid("must be a JSON object".to_owned()));
        };
        let mut compiler = Compiler { names: Names::default(), operators: 0 };
        let node = compiler.node(&json, "", 0)?;
        Ok(Self { shape: Shape::Json(node), names: compiler.names })
    }

    /// Whether a line tells where the time of its request went.
    pub fn has_latency(&self) -> bool {
        self.names.has_latency
    }

    /// Keeps what the form needs of a request's headers.
    pub fn request_headers(&self, each: impl Fn(&str, &mut dyn FnMut(&[u8]))) -> Captured {
        Captured::of(&self.names.request, each)
    }

    /// Keeps what the form needs of an answer's headers.
    pub fn response_headers(&self, each: impl Fn(&str, &mut dyn FnMut(&[u8]))) -> Captured {
        Captured::of(&self.names.response, each)
    }

    /// Keeps what the form needs of the fields after an answer's body.
    pub fn trailers(&self, each: impl Fn(&str, &mut dyn FnMut(&[u8]))) -> Captured {
        Captured::of(&self.names.trailers, each)
    }

    /// Appends the line about a request or connection, without the line break.
    pub fn write(&self, scope: &LogScope, record: &LogRecord, out: &mut String) {
        let value = |operator: &Operator| record.value(operator, scope);
        match &self.shape {
            Shape::Json(node) => write_node(node, &value, out),
            Shape::Text(parts) => write_parts(parts, &value, push_text, out),
        }
    }
}

/// Takes a text apart; returns the names of headers in it as well.
pub(super) fn parts_of(form: &str) -> Result<(Vec<Part>, Names), String> {
    let mut compiler = Compiler { names: Names::default(), operators: 0 };
    let parts = compiler.parts(form)?;
    Ok((parts, compiler.names))
}

fn bounded(form: &str) -> Result<(), String> {
    match form.len() {
        0 => Err("says nothing".to_owned()),
        bytes if bytes > FORMAT_BYTES_MAX => {
            Err(format!("has {bytes} bytes, more than the {FORMAT_BYTES_MAX} allowed"))
        }
        _ => Ok(()),
    }
}

impl Compiler {
    fn node(&mut self, json: &Json, place: &str, depth: usize) -> Result<Node, InvalidLogFormat> {
        let invalid = |reason| InvalidLogFormat { place: place.to_owned(), reason };
        if depth > DEPTH_MAX {
            return Err(invalid(format!("is nested deeper than {DEPTH_MAX} levels")));
        }
        Ok(match json {
            Json::Array(items) => {
                let items = items.iter().enumerate();
                let node = |(at, item)| self.node(item, &format!("{place}[{at}]"), depth + 1);
                Node::Array(items.map(node).collect::<Result<_, _>>()?)
            }
            Json::Object(fields) => {
                let mut nodes = Vec::with_capacity(fields.len());
                for (name, value) in fields {
                    let mut key = String::new();
                    push_json(name, &mut key);
                    let node = self.node(value, &format!("{place}.{name}"), depth + 1)?;
                    nodes.push((key.into(), node));
                }
                Node::Object(nodes)
            }
            Json::String(text) => {
                let mut parts = self.parts(text).map_err(invalid)?;
                match (parts.pop(), parts.is_empty()) {
                    (Some(Part::Value(operator, None)), true) => Node::Typed(operator),
                    (last, _) => {
                        parts.extend(last);
                        Node::Text(parts)
                    }
                }
            }
            Json::Bool(_) | Json::Null | Json::Number(_) => Node::Literal(json.to_string().into()),
        })
    }

    fn parts(&mut self, form: &str) -> Result<Vec<Part>, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = form;
        while let Some((before, after)) = rest.split_once('%') {
            literal.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal).into()));
            }
            let (part, after) = self.operator(after)?;
            parts.push(part);
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal.into()));
        }
        Ok(parts)
    }

    /// Reads an operator up to the `%` that ends it; returns what follows.
    fn operator<'a>(&mut self, text: &'a str) -> Result<(Part, &'a str), String> {
        let is_word =
            |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
        let end = text.find(|letter| !is_word(letter)).unwrap_or(text.len());
        let (word, mut rest) = text.split_at(end);
        let open = || format!("%{word} is not ended by another %; write %% for the sign itself");
        if word.is_empty() {
            return Err("a % begins no operator; write %% for the sign itself".to_owned());
        }
        let mut argument = None;
        if let Some(inside) = rest.strip_prefix('(') {
            let (found, after) = inside.split_once(')').ok_or_else(open)?;
            (argument, rest) = (Some(found), after);
        }
        let (length, after) = rest.split_once('%').ok_or_else(open)?;
        let length = match length.strip_prefix(':').map(str::parse::<usize>) {
            Some(Ok(length)) => Some(length),
            None if length.is_empty() => None,
            Some(Err(_)) | None => {
                return Err(format!("%{word}: {length:?} is no length; write :20 or nothing"));
            }
        };
        self.operators += 1;
        if self.operators > OPERATORS_MAX {
            return Err(format!("has more than {OPERATORS_MAX} operators"));
        }
        let operator = Operator::parse(word, argument, &mut self.names)?;
        Ok((Part::Value(operator, length), after))
    }
}

fn write_node<'a>(node: &Node, value: &impl Fn(&Operator) -> Value<'a>, out: &mut String) {
    match node {
        Node::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                out.push(if at == 0 { '[' } else { ',' });
                write_node(item, value, out);
            }
            out.push_str(if items.is_empty() { "[]" } else { "]" });
        }
        Node::Literal(json) => out.push_str(json),
        Node::Object(fields) => {
            for (at, (name, field)) in fields.iter().enumerate() {
                out.push(if at == 0 { '{' } else { ',' });
                out.push_str(name);
                out.push(':');
                write_node(field, value, out);
            }
            out.push_str(if fields.is_empty() { "{}" } else { "}" });
        }
        Node::Text(parts) => {
            let mut text = String::new();
            write_parts(parts, value, |text, out| out.push_str(text), &mut text);
            push_json(&text, out);
        }
        Node::Typed(operator) => match value(operator) {
            Value::Nothing => out.push_str("null"),
            Value::Number(number) => out.push_str(&number.to_string()),
            Value::Text(text) => push_json(&text, out),
        },
    }
}

fn write_parts<'a>(
    parts: &[Part],
    value: &impl Fn(&Operator) -> Value<'a>,
    push: fn(&str, &mut String),
    out: &mut String,
) {
    for part in parts {
        match part {
            Part::Literal(text) => out.push_str(text),
            Part::Value(operator, length) => {
                push_value(&value(operator), *length, push, out);
            }
        }
    }
}

fn push_value(
    value: &Value<'_>,
    length: Option<usize>,
    push: fn(&str, &mut String),
    out: &mut String,
) {
    match (value, length) {
        (Value::Nothing, _) => out.push('-'),
        (Value::Number(number), _) => out.push_str(&number.to_string()),
        (Value::Text(text), None) => push(text, out),
        (Value::Text(text), Some(length)) => {
            let end = text.char_indices().nth(length).map_or(text.len(), |(at, _)| at);
            push(&text[..end], out);
        }
    }
}

const STANDARD: &str = r#"{
    "authority": "%REQ(:AUTHORITY)%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "duration": "%DURATION%",
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ)%",
    "protocol": "%PROTOCOL%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "response_code": "%RESPONSE_CODE%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "response_flags": "%RESPONSE_FLAGS%",
    "route_name": "%ROUTE_NAME%",
    "start_time": "%START_TIME%",
    "upstream_cluster": "%UPSTREAM_CLUSTER%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "user_agent": "%REQ(USER-AGENT)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%"
}"#;

/// The form for people.
pub const PLAIN_LOG_FORMAT: &str = "%START_TIME% %WEFT_DIRECTION% %WEFT_SERVICE% \"%REQ(:METHOD)% %PATH(NQ)% \
                     %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% \
                     %BYTES_RECEIVED%B %BYTES_SENT%B %DURATION%ms peer=%DOWNSTREAM_PEER_URI_SAN% \
                     to=%UPSTREAM_CLUSTER% host=%UPSTREAM_HOST%";
