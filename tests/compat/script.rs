//! Scripts: what is asked, one request after another.
//!
//! ```text
//! # The goal of the script, in words.
//! PUT /v1/kv/a?flags=1
//! > the body, line by line
//! = index header x-consul-index
//! = id json /ID
//!
//! & GET /v1/kv/a?index={index}&wait=5s
//! PUT /v1/kv/a
//! > another
//! ```
//!
//! A request that starts with `&` is sent and waits beside those that follow; its answer is
//! taken after the next one. What was taken with `=` stands for `{name}` from then on. A header is
//! sent by a line `@ name: value`.

use std::collections::BTreeMap;

/// Where a later request gets a value from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A header of the answer.
    Header(String),
    /// A value in the answer's body, by JSON pointer.
    Json(String),
}

/// One request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// Whether it waits beside the next one.
    pub(crate) is_beside: bool,
    pub(crate) takes: Vec<(String, Source)>,
}

impl Step {
    /// The request line as it stands in the script.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    /// The request with values in place of names.
    pub(crate) fn filled(&self, values: &BTreeMap<String, String>) -> Self {
        let fill = |text: &str| {
            values.iter().fold(text.to_owned(), |text, (name, value)| {
                text.replace(&format!("{{{name}}}"), value)
            })
        };
        Self {
            target: fill(&self.target),
            body: fill(&self.body),
            headers: self.headers.iter().map(|(name, it)| (name.clone(), fill(it))).collect(),
            ..self.clone()
        }
    }
}

/// Reads a script.
///
/// # Errors
/// The line that is not understood.
pub(crate) fn parse(text: &str) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let wrong = |what: &str| format!("line {}: {what}: {line:?}", number + 1);
        let (mark, rest) =
            line.split_at(line.char_indices().nth(1).map_or(line.len(), |(at, _)| at));
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        let last = steps.last_mut();
        match mark {
            "" | "#" => {}
            ">" => {
                let last = last.ok_or_else(|| wrong("a body before the first request"))?;
                if !last.body.is_empty() {
                    last.body.push('\n');
                }
                last.body.push_str(rest);
            }
            "@" => {
                let (name, value) = rest.split_once(": ").ok_or_else(|| wrong("no header"))?;
                let last = last.ok_or_else(|| wrong("a header before the first request"))?;
                last.headers.push((name.to_owned(), value.to_owned()));
            }
            "=" => {
                let words: Vec<&str> = rest.split(' ').collect();
                let (name, source) = match words[..] {
                    [name, "header", header] => (name, Source::Header(header.to_owned())),
                    [name, "json", pointer] => (name, Source::Json(pointer.to_owned())),
                    _ => return Err(wrong("write: = name header x, or: = name json /x")),
                };
                let last = last.ok_or_else(|| wrong("a value before the first request"))?;
                last.takes.push((name.to_owned(), source));
            }
            _ => {
                let request = line.strip_prefix("& ");
                let (method, target) = request
                    .unwrap_or(line)
                    .split_once(' ')
                    .filter(|(method, target)| is_method(method) && target.starts_with('/'))
                    .ok_or_else(|| wrong("not a request"))?;
                steps.push(Step {
                    method: method.to_owned(),
                    target: target.to_owned(),
                    is_beside: request.is_some(),
                    ..Step::default()
                });
            }
        }
    }
    match steps.last() {
        None => Err("the script asks nothing".to_owned()),
        Some(last) if last.is_beside => Err("the last request waits beside nothing".to_owned()),
        Some(_) => Ok(steps),
    }
}

fn is_method(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_and_what_is_none_is_named() {
        let text = "# goal\nPUT /v1/kv/a\n> one\n> two\n@ x-a: b\n= id json /0/ID\n\n\
                    & GET /v1/kv/{id}?wait=1s\nDELETE /v1/kv/a\n";
        let steps = parse(text).expect("a script");
        assert_eq!(steps.len(), 3);
        assert_eq!((steps[0].body.as_str(), steps[1].is_beside), ("one\ntwo", true));
        assert_eq!(steps[0].takes, [("id".to_owned(), Source::Json("/0/ID".to_owned()))]);
        let values = BTreeMap::from([("id".to_owned(), "7".to_owned())]);
        assert_eq!(steps[1].filled(&values).target, "/v1/kv/7?wait=1s");
        for (text, expected) in [
            ("", "asks nothing"),
            ("> body", "line 1"),
            ("get /v1/kv/a", "not a request"),
            ("GET v1/kv/a", "not a request"),
            ("GET /a\n= id", "write: = name"),
            ("& GET /a", "waits beside nothing"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
