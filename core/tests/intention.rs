//! Runs the intention scripts: who may call whom, and how it is said. `WEFT_BLESS=1` writes the
//! answers of the present code into the scripts.

mod golden;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Value, json};
use weft_core::config_entry::{
    ConfigEntry, IntentionAction, IntentionPrecedence, ServiceIntentions,
};
use weft_core::intention::IntentionSet;
use weft_core::name::ServiceName;

#[derive(Default)]
struct World {
    /// By source and destination: what is said of the source.
    intentions: BTreeMap<(String, String), Value>,
    /// Destinations that ask for tokens.
    tokens: BTreeSet<String>,
    default: Option<IntentionAction>,
    precedence: IntentionPrecedence,
}

impl World {
    fn entries(&self) -> Vec<ServiceIntentions> {
        let mut sources: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for ((source, destination), said) in &self.intentions {
            let mut said = said.clone();
            said["Name"] = source.as_str().into();
            sources.entry(destination).or_default().push(said);
        }
        let entry = |(name, sources): (&str, Vec<Value>)| {
            let mut json = json!({
                "Kind": "service-intentions", "Name": name, "Sources": sources,
            });
            if self.tokens.contains(name) {
                json["JWT"] = json!({ "Providers": [{ "Name": "accounts" }] });
            }
            let entry: ConfigEntry = serde_json::from_value(json).expect("an entry");
            match entry.normalise().expect("an entry that is right") {
                ConfigEntry::ServiceIntentions(entry) => entry,
                other => panic!("{other:?} holds no intentions"),
            }
        };
        sources.into_iter().map(entry).collect()
    }

    fn step(&mut self, line: &str) -> Option<String> {
        let words: Vec<&str> = line.split(' ').collect();
        let key = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        match words[..] {
            ["default", "allow"] => self.default = Some(IntentionAction::Allow),
            ["default", "deny"] => self.default = Some(IntentionAction::Deny),
            ["precedence", word] => {
                self.precedence = serde_json::from_value(word.into()).expect("a precedence");
            }
            [action @ ("allow" | "deny"), from, to] => {
                self.intentions.insert(key(from, to), json!({ "Action": action }));
            }
            ["try", action, from, to] => {
                let tried = json!({ "Action": action, "DryRun": true });
                self.intentions.insert(key(from, to), tried);
            }
            [action @ ("allow" | "deny"), from, to, path] => {
                let permission = json!({ "Action": action, "HTTP": { "PathPrefix": path } });
                let said = json!({ "Permissions": [permission] });
                self.intentions.insert(key(from, to), said);
            }
            ["token", to] => {
                self.tokens.insert(to.to_owned());
            }
            ["forget", from, to] => {
                self.intentions.remove(&key(from, to)).expect("an intention to forget");
            }
            ["?", from, to] => {
                let name = |text| ServiceName::parse(text).expect("a name");
                let default = self.default.expect("a default");
                let (from, to) = (name(from), name(to));
                let decides = (self.precedence, default);
                let set = IntentionSet::for_destination(&to, &self.entries(), decides);
                return Some(set.explain(&from, &to));
            }
            _ => assert!(line.is_empty() || line.starts_with('#'), "{line:?} is no step"),
        }
        None
    }
}

/// Runs a script and returns it with the answers that were found.
fn run(script: &str) -> String {
    let mut world = World::default();
    let mut found = String::new();
    for line in script.lines().filter(|line| !line.starts_with("  ")) {
        writeln!(found, "{line}").expect("text");
        if let Some(answer) = world.step(line) {
            writeln!(found, "  {answer}").expect("text");
        }
    }
    found
}

#[test]
fn scripts_hold() {
    golden::check("intention", |script| {
        let found = run(script);
        assert!(found.contains("\n  "), "nothing is asked");
        found
    });
}
