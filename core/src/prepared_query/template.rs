//! A query that is made for each name that begins as it says.

use std::collections::BTreeMap;

use regex::{Captures, Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use super::PreparedQuery;
use crate::limits;

/// How a query is made for a name.
///
/// **Source**: Consul: api-docs/query#prepared-query-templates.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct QueryTemplate {
    /// For which names it is.
    #[serde(rename = "Type")]
    pub kind: TemplateKind,
    /// Takes names apart for `${match(N)}`; empty for none.
    pub regexp: String,
    /// Whether tags that come out empty are left out.
    pub remove_empty_tags: bool,
}

/// For which names a template is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateKind {
    /// Those that begin with its own.
    NamePrefixMatch,
    /// None but its own: it is no template.
    #[default]
    #[serde(rename = "")]
    Unset,
}

impl QueryTemplate {
    pub(super) fn check(&self) -> Result<(), String> {
        self.compiled().map(drop)
    }

    fn compiled(&self) -> Result<Option<Regex>, String> {
        if self.regexp.is_empty() {
            return Ok(None);
        }
        if self.regexp.len() > limits::REGEX_BYTES_MAX {
            return Err(format!("has more than {} bytes", limits::REGEX_BYTES_MAX));
        }
        let built =
            RegexBuilder::new(&self.regexp).size_limit(limits::REGEX_COMPILED_BYTES_MAX).build();
        built.map(Some).map_err(|error| {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("is not usable: {reason}")
        })
    }
}

impl PreparedQuery {
    /// Makes the query for a name; one that is no template is itself.
    ///
    /// `${name.full}`, `${name.prefix}`, `${name.suffix}` and `${match(N)}` are filled in, in every
    /// text of the question; `$${` stands for `${`.
    ///
    /// # Errors
    /// In words: something else stands between `${` and `}`, or the result is too long.
    pub fn render(&self, name: &str) -> Result<Self, String> {
        let Some(template) = &self.template else { return Ok(self.clone()) };
        // Checked when it was written.
        let regex = template.compiled()?;
        let found = regex.as_ref().and_then(|regex| regex.captures(name));
        let suffix = name.get(self.name.len()..).unwrap_or_default();
        let values = Values { full: name, prefix: &self.name, suffix, found };
        let mut query = self.clone();
        query.name = name.to_owned();
        query.template = None;
        let service = &mut query.service;
        for text in [&mut service.service, &mut service.near]
            .into_iter()
            .chain(&mut service.tags)
            .chain(&mut service.ignore_check_ids)
            .chain(&mut service.failover.datacenters)
        {
            *text = values.fill(text)?;
        }
        for target in &mut service.failover.targets {
            target.peer = values.fill(&target.peer)?;
            target.datacenter = values.fill(&target.datacenter)?;
        }
        service.node_meta = values.fill_map(&service.node_meta)?;
        service.service_meta = values.fill_map(&service.service_meta)?;
        if template.remove_empty_tags {
            service.tags.retain(|tag| !tag.is_empty());
        }
        query.dns.ttl = values.fill(&query.dns.ttl)?;
        Ok(query)
    }
}

/// What is filled in.
struct Values<'a> {
    full: &'a str,
    prefix: &'a str,
    suffix: &'a str,
    found: Option<Captures<'a>>,
}

impl Values<'_> {
    fn fill_map(&self, map: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
        let fill = |(key, value): (&String, &String)| Ok((self.fill(key)?, self.fill(value)?));
        map.iter().map(fill).collect()
    }

    fn fill(&self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, after) = rest.split_at(at);
            let inside = &after[2..];
            if let Some(before) = before.strip_suffix('$') {
                out.push_str(before);
                out.push_str("${");
                rest = inside;
                continue;
            }
            out.push_str(before);
            let Some((word, after)) = inside.split_once('}') else {
                return Err(format!("the \"${{\" in {text:?} has no end"));
            };
            out.push_str(self.value(word.trim())?);
            rest = after;
        }
        out.push_str(rest);
        match out.len() > limits::QUERY_TEXT_BYTES_MAX {
            true => Err(format!("{text:?} becomes too long")),
            false => Ok(out),
        }
    }

    fn value(&self, word: &str) -> Result<&str, String> {
        match word {
            "agent.segment" => return Ok(""),
            "name.full" => return Ok(self.full),
            "name.prefix" => return Ok(self.prefix),
            "name.suffix" => return Ok(self.suffix),
            _ => {}
        }
        let number = word.strip_prefix("match(").and_then(|rest| rest.strip_suffix(')'));
        let number = number.and_then(|number| number.trim().parse::<usize>().ok());
        let Some(number) = number else {
            return Err(format!(
                "{word:?} cannot be filled in; write name.full, name.prefix, name.suffix or \
                 match(N)"
            ));
        };
        let found = self.found.as_ref().and_then(|found| found.get(number));
        Ok(found.map_or("", |found| found.as_str()))
    }
}
