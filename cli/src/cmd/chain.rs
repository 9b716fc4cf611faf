//! `weft chain`: what a service's config entries compile to, drawn as a tree.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::Value;

use crate::client::{ApiArgs, encode};
use crate::output::{OutputArgs, Tree, print, print_json};

const EXAMPLES: &str = "\
Examples:
  Where do calls of web go?
    weft chain web
  The same as Consul's API tells it:
    weft chain web --json | jq .Chain.Targets
  Where does one request go, and why?
    weft route explain --from shop --to web --path /api";

/// Steps of a chain below each other: as many as servers compile.
const DEPTH_MAX: usize = 64;

/// Flags of `weft chain`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ChainArgs {
    /// The service called
    #[arg(value_name = "SERVICE")]
    service: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    api: ApiArgs,
}

pub(crate) async fn run(args: ChainArgs) -> anyhow::Result<ExitCode> {
    let client = args.api.client()?;
    let path = format!("/v1/discovery-chain/{}", encode(&args.service));
    let answer: Value = client.get(&path).await?.ok()?.json()?;
    if args.output.json {
        print_json(&answer)?;
    } else {
        print(drawn(&answer["Chain"]).context("the answer is no chain")?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn drawn(chain: &Value) -> Option<String> {
    let (service, protocol) = (chain["ServiceName"].as_str()?, chain["Protocol"].as_str()?);
    let start = chain["StartNode"].as_str()?;
    let mut tree = Tree::new(format!("{service} ({protocol})"));
    tree.push(node(chain, start, 0)?);
    Some(tree.text())
}

fn node(chain: &Value, name: &str, depth: usize) -> Option<Tree> {
    let node = &chain["Nodes"][name];
    let next = |part: &Value| match depth < DEPTH_MAX {
        true => self::node(chain, part["NextNode"].as_str()?, depth + 1),
        false => None,
    };
    match node["Type"].as_str()? {
        "router" => {
            let mut tree = Tree::new(name.to_owned());
            for (number, route) in (1..).zip(node["Routes"].as_array()?) {
                let definition = &route["Definition"];
                let conditions = conditions(&definition["Match"]["HTTP"]);
                let mut branch = Tree::new(format!("{number}. {conditions}{}", deeds(definition)));
                branch.push(next(route)?);
                tree.push(branch);
            }
            Some(tree)
        }
        "splitter" => {
            let mut tree = Tree::new(format!("{name}{}", sticky(&node["Sticky"])));
            for leg in node["Splits"].as_array()? {
                let mut branch = Tree::new(format!("{} %", leg["Weight"]));
                branch.push(next(leg)?);
                tree.push(branch);
            }
            Some(tree)
        }
        _ => target(chain, &node["Resolver"]),
    }
}

/// The conditions of a route in a line.
fn conditions(http: &Value) -> String {
    let fields: Vec<_> = http.as_object().into_iter().flatten().collect();
    if fields.is_empty() {
        return "everything".to_owned();
    }
    let shown = |(name, value): (&String, &Value)| format!("{name} {value}");
    fields.into_iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// By what the same leg of a splitter is found again, behind its name.
pub(super) fn sticky(sticky: &Value) -> String {
    match sticky {
        Value::Null => String::new(),
        sticky => format!("; Sticky {sticky}"),
    }
}

/// What a route does with a request, in a line.
fn deeds(definition: &Value) -> String {
    let deeds = definition["Destination"].as_object().into_iter().flatten();
    deeds.map(|(name, value)| format!("; {name} {value}")).collect()
}

/// A target, and where to when it is down.
fn target(chain: &Value, resolver: &Value) -> Option<Tree> {
    let id = resolver["Target"].as_str()?;
    let filter = chain["Targets"][id]["Subset"]["Filter"].as_str().unwrap_or_default();
    let filter = if filter.is_empty() { String::new() } else { format!(" ({filter})") };
    let mut tree = Tree::new(format!("→ {id}{filter}"));
    for other in resolver["Failover"]["Targets"].as_array().into_iter().flatten() {
        tree.push(Tree::new(format!("when it is down → {}", other.as_str()?)));
    }
    Some(tree)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_chain_is_drawn_with_routes_legs_and_targets() {
        let chain = json!({
            "ServiceName": "web", "Protocol": "http", "StartNode": "router:web",
            "Nodes": {
                "router:web": { "Type": "router", "Routes": [
                    { "Definition": { "Match": { "HTTP": { "PathPrefix": "/api" } },
                        "Destination": { "PrefixRewrite": "/" } }, "NextNode": "splitter:web" },
                    { "Definition": { "Match": { "HTTP": {} }, "Destination": {} },
                        "NextNode": "resolver:web" },
                ] },
                "splitter:web": { "Type": "splitter", "Splits": [
                    { "Weight": 99.5, "NextNode": "resolver:web" },
                    { "Weight": 0.5, "NextNode": "resolver:v2" },
                ] },
                "resolver:web": { "Type": "resolver",
                    "Resolver": { "Target": "web.dc1", "Failover": { "Targets": ["old.dc1"] } } },
                "resolver:v2": { "Type": "resolver", "Resolver": { "Target": "v2.web.dc1" } },
            },
            "Targets": { "v2.web.dc1": { "Subset": { "Filter": "Service.Meta.version == v2" } } },
        });
        let expected = "\
web (http)
└─ router:web
   ├─ 1. PathPrefix \"/api\"; PrefixRewrite \"/\"
   │  └─ splitter:web
   │     ├─ 99.5 %
   │     │  └─ → web.dc1
   │     │     └─ when it is down → old.dc1
   │     └─ 0.5 %
   │        └─ → v2.web.dc1 (Service.Meta.version == v2)
   └─ 2. everything
      └─ → web.dc1
         └─ when it is down → old.dc1
";
        assert_eq!(drawn(&chain).as_deref(), Some(expected));
        assert_eq!(drawn(&json!({ "ServiceName": "web" })), None);
    }
}
