//! Where two answers differ, and which differences are meant.

use serde_json::Value;

use crate::run::Exchange;

/// One difference: in which script and request, what differs, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) script: String,
    pub(crate) request: String,
    /// `status`, `header NAME`, `body` or `body /JSON/POINTER`.
    pub(crate) what: String,
    /// Theirs and ours.
    pub(crate) how: String,
}

/// Finds every difference between the recorded answers and ours.
pub(crate) fn differences(script: &str, theirs: &[Exchange], ours: &[Exchange]) -> Vec<Difference> {
    let mut found = Vec::new();
    for (theirs, ours) in theirs.iter().zip(ours) {
        let mut note = |what: String, how: String| {
            let request = theirs.request.clone();
            found.push(Difference { script: script.to_owned(), request, what, how });
        };
        if theirs.status != ours.status {
            note("status".to_owned(), format!("{} -> {}", theirs.status, ours.status));
        }
        let names = theirs.headers.keys().chain(ours.headers.keys());
        let mut names: Vec<&String> = names.collect();
        names.sort();
        names.dedup();
        for name in names {
            let (theirs, ours) = (theirs.headers.get(name), ours.headers.get(name));
            if theirs != ours {
                let show = |value: Option<&String>| value.map_or("none".to_owned(), Clone::clone);
                note(format!("header {name}"), format!("{} -> {}", show(theirs), show(ours)));
            }
        }
        compare("", &theirs.body, &ours.body, &mut |path, how| {
            let what = if path.is_empty() { "body".to_owned() } else { format!("body {path}") };
            note(what, how);
        });
    }
    found
}

fn compare(path: &str, theirs: &Value, ours: &Value, note: &mut impl FnMut(&str, String)) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for (key, value) in theirs {
                let path = format!("{path}/{key}");
                match ours.get(key) {
                    Some(own) => compare(&path, value, own, note),
                    None => note(&path, format!("{value} -> none")),
                }
            }
            for (key, value) in ours.iter().filter(|(key, _)| !theirs.contains_key(*key)) {
                note(&format!("{path}/{key}"), format!("none -> {value}"));
            }
        }
        (Value::Array(theirs), Value::Array(ours)) if theirs.len() == ours.len() => {
            for (at, (theirs, ours)) in theirs.iter().zip(ours).enumerate() {
                compare(&format!("{path}/{at}"), theirs, ours, note);
            }
        }
        _ if theirs == ours => {}
        _ => note(path, format!("{theirs} -> {ours}")),
    }
}

/// A difference that is meant, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meant {
    script: String,
    request: String,
    what: String,
    /// The line in the list.
    pub(crate) line: usize,
}

/// Reads the list of what is meant: `SCRIPT | REQUEST | WHAT` a line, each below the reason for
/// it. `*` stands for anything.
///
/// # Errors
/// A line that is none, or one without a reason.
pub(crate) fn meant(text: &str) -> Result<Vec<Meant>, String> {
    let mut list = Vec::new();
    let mut has_reason = false;
    for (number, line) in (1..).zip(text.lines()) {
        match line.trim() {
            "" => has_reason = false,
            line if line.starts_with('#') => has_reason |= line.len() > 20,
            line => {
                let parts: Vec<&str> = line.split('|').map(str::trim).collect();
                let [script, request, what] = parts[..] else {
                    return Err(format!("line {number}: write SCRIPT | REQUEST | WHAT"));
                };
                if !has_reason {
                    return Err(format!("line {number}: say why, in a comment above"));
                }
                let [script, request, what] = [script, request, what].map(str::to_owned);
                list.push(Meant { script, request, what, line: number });
            }
        }
    }
    Ok(list)
}

impl Meant {
    /// Whether it speaks of a difference.
    pub(crate) fn covers(&self, difference: &Difference) -> bool {
        matches(&self.script, &difference.script)
            && matches(&self.request, &difference.request)
            && matches(&self.what, &difference.what)
    }
}

/// Whether a text fits a pattern in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            text.char_indices()
                .map(|(at, _)| at)
                .chain([text.len()])
                .any(|at| matches(rest, &text[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn exchange(status: u16, body: Value) -> Exchange {
        let headers = [("vary".to_owned(), "x".to_owned())].into_iter().collect();
        Exchange { request: "GET /v1/kv/a".to_owned(), status, headers, body }
    }

    #[test]
    fn each_difference_is_found_and_only_what_is_written_down_is_meant() {
        let theirs = exchange(200, json!([{ "Key": "a", "Flags": 1 }]));
        let mut ours = exchange(404, json!([{ "Key": "b", "New": true }]));
        ours.headers.clear();
        let found = differences("kv", &[theirs], &[ours]);
        let what: Vec<&str> = found.iter().map(|it| it.what.as_str()).collect();
        assert_eq!(what, ["status", "header vary", "body /0/Flags", "body /0/Key", "body /0/New"]);
        let list = meant("# A reason that is long enough.\n* | GET /v1/kv/* | body /*/New\n");
        let list = list.expect("a list");
        let covered: Vec<bool> = found.iter().map(|it| list[0].covers(it)).collect();
        assert_eq!(covered, [false, false, false, false, true]);
        assert!(meant("kv | * | status").expect_err("no reason").contains("say why"));
        assert!(meant("# A reason that is long enough.\nkv | *").is_err());
    }
}
