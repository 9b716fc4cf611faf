//! Runs the chain scripts: config entries, then the chains that they make.
//!
//! A script opens with its goal. `entry` lines write an entry, `remove` lines take one away;
//! `? chain NAME` asks for a chain and `? reads NAME` for the entries that it looked up; the
//! lines until the next blank one are the answer. `WEFT_BLESS=1` writes the answers of the
//! present code into the scripts.

mod golden;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use weft_core::chain::{ChainError, ChainNode, CompiledChain, compile};
use weft_core::config_entry::{ConfigEntry, EntryKey};
use weft_core::name::{Datacenter, ServiceName, TrustDomain};
use weft_core::time::Span;

#[derive(Default)]
struct World(BTreeMap<EntryKey, ConfigEntry>);

impl World {
    fn entry(&mut self, json: &str) {
        let entry: ConfigEntry = serde_json::from_str(json).expect(json);
        let entry = entry.normalise().expect(json);
        self.0.insert(entry.key(), entry);
    }

    fn remove(&mut self, key: &str) {
        let (kind, name) = key.split_once('/').expect("kind/name");
        let key = EntryKey::new(kind.parse().expect("a kind"), name);
        self.0.remove(&key).expect("an entry to remove");
    }

    fn compile(&self, name: &str) -> Result<CompiledChain, Vec<ChainError>> {
        let service = ServiceName::parse(name).expect("a service");
        let datacenter = Datacenter::parse("dc1").expect("a datacenter");
        let trust_domain = TrustDomain::parse("a1.mesh").expect("a trust domain");
        compile(&service, &datacenter, &trust_domain, &self.0)
    }

    fn answer(&self, question: &str) -> String {
        let (what, name) = question.split_once(' ').expect("what and a name");
        match (what, self.compile(name)) {
            (_, Err(errors)) => errors.iter().map(|error| format!("error: {error}\n")).collect(),
            ("chain", Ok(chain)) => shown(&chain),
            ("reads", Ok(chain)) => chain.reads.iter().map(|key| format!("{key}\n")).collect(),
            (other, Ok(_)) => panic!("{other:?} is not a question"),
        }
    }
}

fn shown(chain: &CompiledChain) -> String {
    let mut out = format!("{} at {}\n", chain.protocol, chain.start_node);
    for (name, node) in &chain.nodes {
        match node {
            ChainNode::Router(router) => {
                writeln!(out, "{name}").expect("text");
                for route in &router.routes {
                    let matches = serde_json::to_value(&route.matches).expect("JSON");
                    match route.sni.as_slice() {
                        [] => write!(out, "  {matches}").expect("text"),
                        names => write!(out, "  SNI {}", names.join(" ")).expect("text"),
                    }
                    write!(out, " -> {}", route.next_node).expect("text");
                    if let Some(path) = &route.action.prefix_rewrite {
                        write!(out, " path {path}").expect("text");
                    }
                    if let Some(timeout) = route.action.request_timeout {
                        write!(out, " within {}", Span(timeout)).expect("text");
                    }
                    out.push('\n');
                }
            }
            ChainNode::Splitter(splitter) => {
                writeln!(out, "{name}").expect("text");
                for split in &splitter.splits {
                    writeln!(out, "  {} % -> {}", split.weight, split.next_node).expect("text");
                }
            }
            ChainNode::Resolver(resolver) => {
                let target = &chain.targets[&resolver.target];
                let (connect, answer) =
                    (Span(resolver.connect_timeout), Span(resolver.request_timeout));
                writeln!(out, "{name} connects in {connect}, answers in {answer}").expect("text");
                writeln!(out, "  as {} by {}", target.sni, target.spiffe_id).expect("text");
                for failover in &resolver.failover {
                    let target = &chain.targets[failover];
                    writeln!(out, "  else {failover} as {}", target.sni).expect("text");
                }
                if !target.filter.is_empty() {
                    writeln!(out, "  where {}", target.filter).expect("text");
                }
                if target.only_passing {
                    writeln!(out, "  only passing").expect("text");
                }
            }
        }
    }
    out
}

/// Runs a script and returns it with the answers that were found.
fn run(script: &str) -> String {
    let mut world = World::default();
    let mut found = String::new();
    let mut lines = script.lines();
    while let Some(line) = lines.next() {
        writeln!(found, "{line}").expect("text");
        if let Some(json) = line.strip_prefix("entry ") {
            world.entry(json);
        } else if let Some(key) = line.strip_prefix("remove ") {
            world.remove(key);
        } else if let Some(question) = line.strip_prefix("? ") {
            found.push_str(&world.answer(question));
            found.push('\n');
            // The answer that stands there, with the blank line after it.
            lines.by_ref().take_while(|line| !line.is_empty()).for_each(drop);
        } else {
            assert!(line.is_empty() || line.starts_with('#'), "{line:?} is no line of a script");
        }
    }
    found.trim_end().to_owned() + "\n"
}

#[test]
fn scripts_hold() {
    golden::check("chain", run);
}
