//! Runs the scripts of `tests/filter`: expressions over a record, and what they say of it.

use std::path::Path;

use weft_core::filter::{Filter, SERVICE_INSTANCE};

fn outcome(expression: &str, record: &serde_json::Value) -> String {
    match Filter::parse_for(expression, &SERVICE_INSTANCE) {
        Ok(filter) => filter.matches(record).to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn scripts_hold() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/filter/service_instance.txt");
    let script = std::fs::read_to_string(&path).expect("the script is there");
    let (_, rest) = script.split_once("\nrecord\n").expect("a record");
    let (record, rest) = rest.split_once("\nend\n").expect("the record's end");
    let record: serde_json::Value = serde_json::from_str(record).expect("JSON");
    let mut wrong = Vec::new();
    let lines = rest.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines.clone() {
        let (expression, wanted) = line.rsplit_once("=>").expect("`=>` and what is wanted");
        let found = outcome(expression.trim(), &record);
        if found != wanted.trim() {
            wrong.push(format!("{}\n  wanted {}\n  found  {found}", expression, wanted.trim()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(lines.count() > 50, "the script has shrunk");
}
