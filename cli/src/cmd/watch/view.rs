//! What can be watched, and where it is read.

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::WAIT;
use crate::client::{ApiClient, encode};
use crate::cmd::kv;

#[derive(Debug, Args)]
pub(super) struct ViewArgs {
    /// What is watched
    #[arg(long = "type", value_name = "TYPE")]
    kind: Kind,
    /// The key of type key
    #[arg(long)]
    key: Option<String>,
    /// The prefix of type keyprefix
    #[arg(long)]
    prefix: Option<String>,
    /// The service of types service, checks and connect_leaf
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// The id of type agent_service
    #[arg(long, value_name = "ID")]
    service_id: Option<String>,
    /// Only instances with this tag; repeatable
    #[arg(long)]
    tag: Vec<String>,
    /// Only instances whose checks pass
    #[arg(long)]
    passingonly: bool,
    /// The state of type checks: passing, warning, critical; any when left out
    #[arg(long)]
    state: Option<String>,
    /// The event of type event; every one when left out
    #[arg(long)]
    name: Option<String>,
    /// Only what this expression holds for
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Kind {
    /// One service of the agent, by id
    AgentService,
    /// The checks of a service, or all in a state
    Checks,
    /// The certificate of a service of the agent
    ConnectLeaf,
    /// The roots of the mesh
    ConnectRoots,
    /// User events
    Event,
    /// One key
    Key,
    /// The keys below a prefix
    #[value(name = "keyprefix")]
    KeyPrefix,
    /// The hosts
    Nodes,
    /// The instances of a service
    Service,
    /// The names of services
    Services,
}

/// Where a view was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mark {
    /// What an agent's own pages tell.
    Hash(String),
    /// What the other pages tell.
    Index(u64),
    /// Nowhere yet.
    Start,
}

impl Mark {
    /// Returns the index, 0 where there is none.
    pub(super) fn index(&self) -> u64 {
        match self {
            Self::Index(index) => *index,
            Self::Hash(_) | Self::Start => 0,
        }
    }
}

/// A view of the API.
pub(super) struct View {
    kind: Kind,
    path: String,
    query: Vec<String>,
}

impl View {
    pub(super) fn of(args: &ViewArgs) -> anyhow::Result<Self> {
        let needed = |value: &Option<String>, flag: &str| {
            let value = value.as_deref().filter(|value| !value.is_empty());
            value.map(str::to_owned).with_context(|| format!("this type needs --{flag}"))
        };
        let mut query = Vec::new();
        let path = match args.kind {
            Kind::AgentService => {
                format!("/v1/agent/service/{}", encode(&needed(&args.service_id, "service-id")?))
            }
            Kind::Checks => match (&args.service, &args.state) {
                (Some(_), Some(_)) => bail!("say either --service or --state"),
                (Some(service), None) => format!("/v1/health/checks/{}", encode(service)),
                (None, state) => {
                    format!("/v1/health/state/{}", encode(state.as_deref().unwrap_or("any")))
                }
            },
            Kind::ConnectLeaf => {
                format!("/v1/agent/connect/ca/leaf/{}", encode(&needed(&args.service, "service")?))
            }
            Kind::ConnectRoots => "/v1/agent/connect/ca/roots".to_owned(),
            Kind::Event => {
                query.extend(args.name.as_ref().map(|name| format!("name={}", encode(name))));
                "/v1/event/list".to_owned()
            }
            Kind::Key => kv::path(&needed(&args.key, "key")?),
            Kind::KeyPrefix => {
                query.push("recurse=".to_owned());
                kv::path(&needed(&args.prefix, "prefix")?)
            }
            Kind::Nodes => "/v1/catalog/nodes".to_owned(),
            Kind::Service => {
                query.extend(args.tag.iter().map(|tag| format!("tag={}", encode(tag))));
                query.extend(args.passingonly.then(|| "passing=1".to_owned()));
                format!("/v1/health/service/{}", encode(&needed(&args.service, "service")?))
            }
            Kind::Services => "/v1/catalog/services".to_owned(),
        };
        query.extend(args.filter.as_ref().map(|text| format!("filter={}", encode(text))));
        Ok(Self { kind: args.kind, path, query })
    }

    /// Returns where to go on after a view: an index that fell is begun with anew, unless it only
    /// stands for something, as that of events does.
    pub(super) fn next(&self, last: &Mark, at: Mark) -> Mark {
        match (last, at) {
            (Mark::Index(last), Mark::Index(at)) if at < *last && self.kind != Kind::Event => {
                Mark::Start
            }
            (_, at) => at,
        }
    }

    /// Reads the view once it is another than at a mark.
    pub(super) async fn read(
        &self,
        client: &ApiClient,
        since: &Mark,
    ) -> anyhow::Result<(Value, Mark)> {
        let mut query = self.query.clone();
        match since {
            Mark::Hash(hash) => query.push(format!("hash={}&wait={WAIT}", encode(hash))),
            Mark::Index(index) => query.push(format!("index={index}&wait={WAIT}")),
            Mark::Start => {}
        }
        let answer = client.get(&format!("{}?{}", self.path, query.join("&"))).await?;
        let at = match (answer.index(), answer.content_hash()) {
            (0, Some(hash)) => Mark::Hash(hash),
            (0, None) => Mark::Start,
            (index, _) => Mark::Index(index),
        };
        let found = answer.found()?;
        let value: Value = found.map(|found| found.json()).transpose()?.unwrap_or_default();
        let value = match (self.kind, value) {
            // One entry, as it is, or null.
            (Kind::Key, Value::Array(entries)) => entries.into_iter().next().unwrap_or_default(),
            (Kind::KeyPrefix, Value::Null) => Value::Array(Vec::new()),
            (_, value) => value,
        };
        Ok((value, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        view: ViewArgs,
    }

    fn view(line: &str) -> anyhow::Result<String> {
        let args = Cli::try_parse_from(format!("watch {line}").split(' '))?.view;
        let view = View::of(&args)?;
        Ok(format!("{}?{}", view.path, view.query.join("&")))
    }

    #[test]
    fn every_type_has_its_page() {
        for (line, path) in [
            ("--type key --key a/b", "/v1/kv/a/b?"),
            ("--type keyprefix --prefix a/", "/v1/kv/a/?recurse="),
            ("--type services", "/v1/catalog/services?"),
            ("--type nodes --filter x", "/v1/catalog/nodes?filter=x"),
            (
                "--type service --service web --tag v1 --tag v2 --passingonly",
                "/v1/health/service/web?tag=v1&tag=v2&passing=1",
            ),
            ("--type checks", "/v1/health/state/any?"),
            ("--type checks --service web", "/v1/health/checks/web?"),
            ("--type event --name deploy", "/v1/event/list?name=deploy"),
            ("--type connect_roots", "/v1/agent/connect/ca/roots?"),
            ("--type connect_leaf --service web", "/v1/agent/connect/ca/leaf/web?"),
        ] {
            assert_eq!(view(line).expect(line), path, "{line}");
        }
        for line in ["--type key", "--type what", "--type checks --service a --state any"] {
            assert!(view(line).is_err(), "{line}");
        }
    }
}
