//! The rules of an ACL policy: HCL or JSON, as people write them.
//!
//! **Source**: Consul: docs/security/acl/acl-rules.

use serde_json::{Map, Value};
use weft_core::acl::{Access, Resource, Rule, Rules, Scope};
use weft_core::limits;

use super::Fault;

/// Reads the rules of a policy.
///
/// # Errors
/// Every fault that was found, by resource and name; a syntax error alone with line and column.
pub fn parse_rules(text: &str) -> Result<Rules, Vec<Fault>> {
    if text.len() > limits::ACL_RULES_BYTES_MAX {
        let (length, limit) = (text.len(), limits::ACL_RULES_BYTES_MAX);
        let reason = format!("has {length} bytes, more than the {limit} allowed");
        return Err(vec![Fault::new("Rules", reason)]);
    }
    let value = super::parse("Rules", text).map_err(|fault| vec![fault])?;
    let Value::Object(object) = value else {
        return Err(vec![Fault::new("Rules", "must be blocks such as key_prefix \"\" { … }")]);
    };
    let mut reading = Reading::default();
    for (word, value) in &object {
        reading.resource(word, value);
    }
    if reading.rules.0.len() > limits::ACL_RULES_MAX {
        let (count, limit) = (reading.rules.0.len(), limits::ACL_RULES_MAX);
        let reason = format!("has {count} rules, more than the {limit} allowed");
        reading.faults.push(Fault::new("Rules", reason));
    }
    if reading.faults.is_empty() { Ok(reading.rules) } else { Err(reading.faults) }
}

/// The words that may stand at the top.
const WORDS: &str = "acl, agent, agent_prefix, event, event_prefix, key, key_prefix, keyring, \
                     mesh, node, node_prefix, operator, peering, query, query_prefix, service, \
                     service_prefix, session and session_prefix";

#[derive(Default)]
struct Reading {
    rules: Rules,
    faults: Vec<Fault>,
}

impl Reading {
    fn fault(&mut self, path: &str, reason: impl Into<String>) {
        self.faults.push(Fault::new(format!("Rules: {path}"), reason));
    }

    fn resource(&mut self, word: &str, value: &Value) {
        let bare = word.strip_suffix("_prefix");
        let resource = Resource::of_word(bare.unwrap_or(word));
        let resource = resource.filter(|it| *it != Resource::Intention);
        match resource {
            Some(resource) if !resource.is_named() && bare.is_none() => {
                if let Some(access) = self.access(word, value, resource) {
                    let rule = Rule { resource, scope: Scope::Whole, access, intentions: None };
                    self.rules.0.push(rule);
                }
            }
            Some(resource) if resource.is_named() => {
                self.named(word, value, resource, bare.is_some());
            }
            Some(_) | None => {
                self.fault(word, format!("is not a resource; the resources are {WORDS}"));
            }
        }
    }

    /// Reads the blocks of one word; those that repeat come as a list.
    fn named(&mut self, word: &str, value: &Value, resource: Resource, is_prefix: bool) {
        for blocks in one_or_more(value) {
            let Value::Object(blocks) = blocks else {
                self.fault(word, format!("write {word} \"name\" {{ policy = \"read\" }}"));
                continue;
            };
            for (name, block) in blocks {
                let path = format!("{word} {name:?}");
                let scope = match is_prefix {
                    true => Scope::Prefix(name.as_str().into()),
                    false => Scope::Exact(name.as_str().into()),
                };
                for block in one_or_more(block) {
                    match block {
                        Value::Object(block) => self.block(&path, block, resource, &scope),
                        _ => self.fault(&path, "must be a block with a policy"),
                    }
                }
            }
        }
    }

    fn block(&mut self, path: &str, block: &Map<String, Value>, resource: Resource, scope: &Scope) {
        let (mut access, mut intentions) = (None, None);
        let mut is_whole = block.contains_key("policy");
        if !is_whole {
            self.fault(path, "needs a policy: \"read\", \"write\" or \"deny\"");
        }
        for (field, value) in block {
            let at = format!("{path}.{field}");
            match field.as_str() {
                "policy" => access = self.access(&at, value, resource),
                "intentions" if resource == Resource::Service => {
                    intentions = self.access(&at, value, Resource::Intention);
                    is_whole &= intentions.is_some();
                }
                "sentinel" => self.fault(&at, "is not supported; remove it"),
                "intentions" => self.fault(&at, "belongs to rules on services"),
                _ => {
                    self.fault(&at, "is unknown; a block has policy and, for services, intentions")
                }
            }
        }
        if let (Some(access), true) = (access, is_whole) {
            self.rules.0.push(Rule { resource, scope: scope.clone(), access, intentions });
        }
    }

    fn access(&mut self, path: &str, value: &Value, resource: Resource) -> Option<Access> {
        let access = match value.as_str() {
            Some("deny") => Some(Access::Deny),
            Some("list") if resource == Resource::Key => Some(Access::List),
            Some("read") => Some(Access::Read),
            Some("write") => Some(Access::Write),
            Some(_) | None => None,
        };
        if access.is_none() {
            let words = match resource {
                Resource::Key => "\"read\", \"list\", \"write\" or \"deny\"",
                _ => "\"read\", \"write\" or \"deny\"",
            };
            self.fault(path, format!("is {value}, but must be {words}"));
        }
        access
    }
}

/// A block that repeats is a list of blocks.
fn one_or_more(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        other => std::slice::from_ref(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_in_both_forms() {
        let hcl = r#"
            operator = "read"
            key_prefix "app/" { policy = "write" }
            key_prefix "app/keep/" { policy = "list" }
            service "web" {
              policy = "read"
              intentions = "deny"
            }
            node "" { policy = "deny" }
        "#;
        let json = r#"{
            "operator": "read",
            "key_prefix": { "app/": { "policy": "write" }, "app/keep/": { "policy": "list" } },
            "service": [{ "web": [{ "policy": "read", "intentions": "deny" }] }],
            "node": { "": { "policy": "deny" } }
        }"#;
        let mut wanted = Rules::default()
            .prefix(Resource::Key, "app/", Access::Write)
            .prefix(Resource::Key, "app/keep/", Access::List)
            .exact(Resource::Node, "", Access::Deny)
            .whole(Resource::Operator, Access::Read)
            .exact(Resource::Service, "web", Access::Read);
        wanted.0[4].intentions = Some(Access::Deny);
        for text in [hcl, json] {
            assert_eq!(parse_rules(text), Ok(wanted.clone()), "{text}");
        }
        assert_eq!(parse_rules(" \n"), Ok(Rules::default()));
    }

    #[test]
    fn what_is_written_out_is_read_back() {
        for policy in [
            weft_core::acl::Policy::global_management(),
            weft_core::acl::Policy::global_read_only(),
        ] {
            let read = parse_rules(&policy.text).expect("rules");
            let sorted = |mut rules: Rules| {
                rules.0.sort_by(|a, b| (a.resource, &a.scope).cmp(&(b.resource, &b.scope)));
                rules
            };
            assert_eq!(sorted(read), sorted(policy.rules));
        }
        let odd = Rules::default().exact(Resource::Key, "a\"\\b", Access::Read);
        assert_eq!(parse_rules(&odd.to_string()), Ok(odd));
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let text = r#"
            acl = "list"
            acl_prefix "" { policy = "read" }
            intention "web" { policy = "read" }
            key "a" { policy = "rite" }
            node "n" {}
            service "s" {
              policy = "read"
              intentions = "list"
            }
            session "s" {
              policy = "read"
              intentions = "read"
            }
            query = "read"
            event "e" {
              policy = "read"
              sentinel = "x"
              other = 1
            }
        "#;
        let faults = parse_rules(text).expect_err("nothing is right");
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        for wanted in [
            "Rules: acl: is \"list\", but must be \"read\", \"write\" or \"deny\"",
            "Rules: acl_prefix: is not a resource",
            "Rules: intention: is not a resource",
            "Rules: key \"a\".policy: is \"rite\", but must be",
            "Rules: node \"n\": needs a policy",
            "Rules: service \"s\".intentions: is \"list\"",
            "Rules: session \"s\".intentions: belongs to rules on services",
            "Rules: query: write query \"name\"",
            "Rules: event \"e\".sentinel: is not supported",
            "Rules: event \"e\".other: is unknown",
        ] {
            assert!(told.iter().any(|told| told.starts_with(wanted)), "{wanted} in {told:#?}");
        }
        assert_eq!(told.len(), 10, "{told:#?}");
        assert!(parse_rules("key \"a\" { policy = ").is_err());
        assert!(parse_rules(&" ".repeat(limits::ACL_RULES_BYTES_MAX + 1)).is_err());
    }
}
