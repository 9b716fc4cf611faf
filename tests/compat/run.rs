//! Runs a script against an API, and makes its answers comparable: what differs from run to run
//! becomes a placeholder.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use weft_tests::{Answer, Api, consistently};

use crate::script::{Source, Step};

/// Time for a request that waits beside the next one to have arrived.
const BESIDE: Duration = Duration::from_millis(200);
/// Headers that say nothing of the API.
const TRANSPORT: [&str; 5] =
    ["connection", "content-length", "date", "keep-alive", "transfer-encoding"];
/// The page whose lists of tags are sets, in any order.
const TAG_SETS: &str = "/v1/catalog/services";

/// One request with its answer, comparable.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exchange {
    /// The request line as it stands in the script.
    pub(crate) request: String,
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    /// JSON as it is, anything else as a JSON string.
    pub(crate) body: Value,
}

impl Exchange {
    /// What is kept of it in a recording.
    pub(crate) fn record(&self) -> Value {
        json!({
            "request": self.request, "status": self.status,
            "headers": self.headers, "body": self.body,
        })
    }

    /// Reads it from a recording.
    pub(crate) fn of_record(record: &Value) -> Option<Self> {
        let headers = record["headers"].as_object()?;
        let headers = headers
            .iter()
            .map(|(name, it)| (name.clone(), it.as_str().unwrap_or_default().to_owned()));
        Some(Self {
            request: record["request"].as_str()?.to_owned(),
            status: u16::try_from(record["status"].as_u64()?).ok()?,
            headers: headers.collect(),
            body: record["body"].clone(),
        })
    }
}

/// Runs all requests of a script.
///
/// # Errors
/// A request without an answer.
pub(crate) fn run(api: Api, steps: &[Step]) -> Result<Vec<Exchange>, String> {
    let mut values = BTreeMap::new();
    let mut names = Names::default();
    let mut exchanges = Vec::new();
    let mut beside: Option<(Step, thread::JoinHandle<Result<Answer, String>>)> = None;
    for step in steps {
        let filled = step.filled(&values);
        if step.is_beside {
            beside = Some((step.clone(), thread::spawn(move || send(api, &filled))));
            consistently(BESIDE, "the answer is not there yet", || {
                let ended = beside.as_ref().is_some_and(|(_, waiting)| waiting.is_finished());
                if ended { Err(format!("{} did not wait", step.line())) } else { Ok(()) }
            });
            continue;
        }
        let answer = send(api, &filled)?;
        take(step, &answer, &mut values);
        exchanges.push(names.comparable(step, &answer));
        if let Some((step, waiting)) = beside.take() {
            let answer = waiting.join().map_err(|_| format!("{} panicked", step.line()))??;
            take(&step, &answer, &mut values);
            exchanges.push(names.comparable(&step, &answer));
        }
    }
    Ok(exchanges)
}

fn send(api: Api, step: &Step) -> Result<Answer, String> {
    let headers: Vec<(&str, &str)> =
        step.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    api.request(&step.method, &step.target, &headers, &step.body)
}

/// Takes values for later requests. One that is not there leaves its name standing, so that what
/// follows differs as well.
fn take(step: &Step, answer: &Answer, values: &mut BTreeMap<String, String>) {
    for (name, source) in &step.takes {
        let found = match source {
            Source::Header(header) => answer.header(header).map(str::to_owned),
            Source::Json(pointer) => serde_json::from_str::<Value>(&answer.body)
                .ok()
                .and_then(|body| body.pointer(pointer).cloned())
                .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
        };
        values.extend(found.map(|value| (name.clone(), value)));
    }
}

/// The ids that were seen, so that the same one has the same placeholder.
#[derive(Default)]
struct Names(Vec<String>);

impl Names {
    fn comparable(&mut self, step: &Step, answer: &Answer) -> Exchange {
        let mut headers = BTreeMap::new();
        for (name, value) in &answer.headers {
            if TRANSPORT.contains(&name.as_str()) {
                continue;
            }
            let value = match name.as_str() {
                "x-consul-index" if value.parse::<u64>().is_ok_and(|index| index > 0) => "<index>",
                "x-consul-lastcontact" if value.parse::<u64>().is_ok() => "<ms>",
                "x-consul-contenthash" => "<hash>",
                _ => value,
            };
            headers.insert(name.clone(), value.to_owned());
        }
        let is_json =
            headers.get("content-type").is_some_and(|it| it.starts_with("application/json"));
        let body = match serde_json::from_str::<Value>(&answer.body) {
            Ok(body) if is_json && step.target.starts_with(TAG_SETS) => {
                sorted(self.value("", body))
            }
            Ok(body) if is_json => self.value("", body),
            // An archive: the text of what is none.
            Ok(_) | Err(_) if answer.body.contains(char::REPLACEMENT_CHARACTER) => "<bytes>".into(),
            Ok(_) | Err(_) => Value::String(self.text(answer.body.trim_end())),
        };
        Exchange { request: step.line(), status: answer.status, headers, body }
    }

    fn value(&mut self, key: &str, value: Value) -> Value {
        match value {
            Value::Array(items) => {
                Value::Array(items.into_iter().map(|item| self.value("", item)).collect())
            }
            Value::Object(fields) => Value::Object(
                fields.into_iter().map(|(key, it)| (key.clone(), self.value(&key, it))).collect(),
            ),
            Value::Number(_) if matches!(key, "CreateIndex" | "ModifyIndex" | "LastIndex") => {
                "<index>".into()
            }
            Value::Number(_) if key == "LastTerm" => "<term>".into(),
            Value::String(_) if matches!(key, "ContentHash" | "Hash") => "<hash>".into(),
            Value::String(text) => Value::String(self.text(&text)),
            other => other,
        }
    }

    /// Replaces ids, addresses with a port, times and indexes within a text.
    fn text(&mut self, text: &str) -> String {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "-.:+".contains(c);
        if let Some((before, domain)) = text.split_once(".internal.") {
            // A name for the handshake: the trust domain in it is an id.
            let (id, after) = domain.split_once('.').unwrap_or((domain, ""));
            return format!("{}.internal.{}.{after}", self.text(before), self.word(id));
        }
        let mut out = String::new();
        let mut rest = text;
        let mut previous = "";
        while let Some(start) = rest.find(is_part) {
            let (before, from) = rest.split_at(start);
            let (word, after) = from.split_at(from.find(|c| !is_part(c)).unwrap_or(from.len()));
            out.push_str(before);
            let is_index = matches!(previous, "index" | "index:") && word.parse::<u64>().is_ok();
            let shown = if is_index { "<index>".to_owned() } else { self.word(word) };
            out.push_str(&shown);
            (previous, rest) = (word, after);
        }
        out + rest
    }

    fn word(&mut self, word: &str) -> String {
        if is_uuid(word) {
            let known = self.0.iter().position(|id| id == word);
            let at = known.unwrap_or_else(|| {
                self.0.push(word.to_owned());
                self.0.len() - 1
            });
            return format!("<id {}>", at + 1);
        }
        let is_address =
            word.strip_prefix("127.0.0.1:").is_some_and(|port| port.parse::<u16>().is_ok());
        if is_address {
            return "<address>".to_owned();
        }
        let is_time = word.len() >= 19 && word.as_bytes()[10] == b'T' && word.ends_with('Z');
        if is_time { "<time>".to_owned() } else { word.to_owned() }
    }
}

/// Puts the lists in an object in order.
fn sorted(mut value: Value) -> Value {
    for list in value.as_object_mut().into_iter().flat_map(|object| object.values_mut()) {
        if let Value::Array(items) = list {
            items.sort_by_key(ToString::to_string);
        }
    }
    value
}

fn is_uuid(word: &str) -> bool {
    let parts: Vec<&str> = word.split('-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_run_to_run_becomes_a_placeholder() {
        let mut names = Names::default();
        let id = "0f8fad5b-d9cb-469f-a165-70867728950e";
        assert_eq!(
            names.text(&format!("session {id:?} of 127.0.0.1:8300")),
            "session \"<id 1>\" of <address>"
        );
        assert_eq!(names.text(id), "<id 1>");
        assert_eq!(names.text("7c9e6679-7425-40de-944b-e07fc1f90ae7"), "<id 2>");
        assert_eq!(names.text("2026-11-20T13:37:49.5Z, 10s"), "<time>, 10s");
        assert_eq!(
            names.text("modify index 7 != 1 (reset index: 8)"),
            "modify index <index> != 1 (reset index: <index>)"
        );
        let value = json!({ "CreateIndex": 7, "LockIndex": 0 });
        assert_eq!(names.value("", value), json!({ "CreateIndex": "<index>", "LockIndex": 0 }));
    }
}
