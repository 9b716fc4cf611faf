//! `weft route explain`: where one request goes, by which decisions, and whether it is let in.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::chain::sticky;
use crate::client::{ApiArgs, ApiClient, encode};
use crate::output::{OutputArgs, Tree, print, print_json};

const EXAMPLES: &str = "\
Examples:
  Where does a request of shop to web go, and why?
    weft route explain --from shop --to web --method GET --path /api/items --header end-user:jason
  The same for scripts; the exit code is 1 where no target would let it in and answer:
    weft route explain --from shop --to web --path / --json";

/// Flags of `weft route`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RouteArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say where a request goes: each route, split, target and instance, and the intention that decides
    Explain(Box<ExplainArgs>),
}

#[derive(Debug, Args)]
struct ExplainArgs {
    /// The calling service
    #[arg(long, value_name = "SERVICE")]
    from: String,
    /// The service called
    #[arg(long, value_name = "SERVICE")]
    to: String,
    /// The method of the request
    #[arg(long, default_value = "GET")]
    method: String,
    /// The path of the request, with its query if it has one; not needed for bytes
    #[arg(long)]
    path: Option<String>,
    /// A header of the request, as name:value; may be given several times
    #[arg(long, value_name = "NAME:VALUE")]
    header: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(args: RouteArgs) -> anyhow::Result<ExitCode> {
    let client = args.api.client()?;
    let What::Explain(explain) = &args.what;
    let mut answer = explain.ask(&client).await?;
    let mut ends = Vec::new();
    collect(&answer["Decision"], &mut ends);
    for end in &ends {
        let verdict = explain.judged(&client, &answer, end).await?;
        answer["Targets"][&end.target]["Intention"] = verdict;
    }
    if explain.output.json {
        print_json(&answer)?;
    } else {
        print(drawn(explain, &answer).context("the answer is no explanation")?)?;
    }
    let serves = |end: &End| {
        let target = &answer["Targets"][&end.target];
        target["Intention"]["Allowed"] != false && is_there(target)
    };
    let is_served = is_answered(&answer["Decision"]) || ends.iter().any(serves);
    Ok(if is_served { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where requests end.
#[derive(Debug, PartialEq)]
struct End {
    target: String,
    /// The path that it sees.
    path: String,
}

fn collect(decision: &Value, ends: &mut Vec<End>) {
    if let (Some(target), Some(path)) = (decision["Target"].as_str(), decision["Path"].as_str()) {
        let end = End { target: target.to_owned(), path: path.to_owned() };
        if !ends.contains(&end) {
            ends.push(end);
        }
    }
    if decision["Next"].is_object() {
        collect(&decision["Next"], ends);
    }
    decision["Legs"].as_array().into_iter().flatten().for_each(|leg| collect(leg, ends));
}

/// Whether the caller's proxy answers by itself.
fn is_answered(decision: &Value) -> bool {
    decision["Type"] == "answer" || decision["Next"].is_object() && is_answered(&decision["Next"])
}

/// Whether anybody is there to answer.
fn is_there(target: &Value) -> bool {
    !target["Outside"].is_null() || target["Endpoints"].as_array().is_some_and(|it| !it.is_empty())
}

impl ExplainArgs {
    /// Asks where the request goes.
    async fn ask(&self, client: &ApiClient) -> anyhow::Result<Value> {
        let to = encode(&self.to);
        let (method, source) = (encode(&self.method), encode(&self.from));
        let mut path = format!("/v1/discovery-chain/{to}/explain?method={method}&source={source}");
        for (name, value) in self
            .path
            .iter()
            .map(|it| ("path", it))
            .chain(self.header.iter().map(|it| ("header", it)))
        {
            path.push_str(&format!("&{name}={}", encode(value)));
        }
        client.get(&path).await?.ok()?.json()
    }

    /// Asks whether the target lets the request in; null where that cannot be seen.
    async fn judged(&self, client: &ApiClient, answer: &Value, end: &End) -> anyhow::Result<Value> {
        let target = &answer["Targets"][&end.target];
        if !target["Outside"].is_null() {
            return Ok(Value::Null);
        }
        let service = target["Service"].as_str().context("a target names its service")?;
        let mut path = format!(
            "/v1/connect/intentions/explain?source={}&destination={}&method={}&path={}",
            encode(&self.from),
            encode(service),
            encode(&self.method),
            encode(&end.path),
        );
        if let Some(sni) = target["SNI"].as_str() {
            path.push_str(&format!("&sni={}", encode(sni)));
        }
        for header in &self.header {
            path.push_str(&format!("&header={}", encode(header)));
        }
        // Who may not see intentions is still told the way.
        match client.get(&path).await?.ok() {
            Ok(verdict) => {
                let verdict: Value = verdict.json()?;
                Ok(json!({ "Allowed": verdict["Allowed"], "Reason": verdict["Reason"] }))
            }
            Err(refusal) => Ok(json!({ "Allowed": null, "Reason": refusal.to_string() })),
        }
    }
}

fn drawn(args: &ExplainArgs, answer: &Value) -> Option<String> {
    let protocol = answer["Protocol"].as_str()?;
    let path = args.path.as_deref().unwrap_or_default();
    let asked = if path.is_empty() { String::new() } else { format!(" {} {path}", args.method) };
    let mut tree = Tree::new(format!("{} → {} ({protocol}){asked}", args.from, args.to));
    tree.push(step(answer, &answer["Decision"])?);
    Some(tree.text())
}

fn step(answer: &Value, decision: &Value) -> Option<Tree> {
    let mut tree = Tree::new(decision["Node"].as_str()?.to_owned());
    match decision["Type"].as_str()? {
        "router" => {
            for route in decision["Routes"].as_array()? {
                tree.push(routed(route)?);
            }
            tree.push(step(answer, &decision["Next"])?);
        }
        "splitter" => {
            tree =
                Tree::new(format!("{}{}", decision["Node"].as_str()?, sticky(&decision["Sticky"])));
            for leg in decision["Legs"].as_array()? {
                tree.push(step(answer, leg)?);
            }
        }
        "answer" => {
            let location = decision["Location"].as_str().map(|it| format!(" to {it}"));
            let (share, status) = (&decision["Share"], &decision["Status"]);
            let location = location.unwrap_or_default();
            tree = Tree::new(format!("{share} % → the caller's proxy answers {status}{location}"));
        }
        _ => return reached(answer, decision),
    }
    Some(tree)
}

/// Why a route takes the request, or does not.
fn routed(route: &Value) -> Option<Tree> {
    let texts = |name: &str| -> Vec<String> {
        let all = route[name].as_array().into_iter().flatten();
        all.filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let (met, unmet) = (texts("Met"), texts("Unmet"));
    let is_taken = route["IsTaken"].as_bool()?;
    let word = if is_taken { "takes it" } else { "passes it over" };
    let mut tree = Tree::new(format!("route {} {word}", route["Route"]));
    if is_taken && met.is_empty() {
        tree.push(Tree::new("it takes everything".to_owned()));
    }
    let holds = met.into_iter().map(|text| format!("holds: {text}"));
    let fails = unmet.into_iter().map(|text| format!("does not hold: {text}"));
    let does = texts("Does").into_iter().map(|text| format!("does: {text}"));
    holds.chain(fails).chain(does).for_each(|line| tree.push(Tree::new(line)));
    Some(tree)
}

/// The target, who lets it in, and who is there.
fn reached(answer: &Value, decision: &Value) -> Option<Tree> {
    let id = decision["Target"].as_str()?;
    let target = &answer["Targets"][id];
    let path = decision["Path"].as_str().unwrap_or_default();
    let path = if path.is_empty() { String::new() } else { format!(" as {path}") };
    let mut tree = Tree::new(format!("{} % → {id}{path}", decision["Share"]));
    let intention = &target["Intention"];
    if let Some(reason) = intention["Reason"].as_str() {
        let word = match intention["Allowed"].as_bool() {
            Some(true) => "allowed",
            Some(false) => "refused",
            None => "intention not known",
        };
        tree.push(Tree::new(format!("{word}: {reason}")));
    }
    if let Some(addresses) = target["Outside"].as_array() {
        let addresses = addresses.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
        tree.push(Tree::new(format!("outside the mesh: {addresses}")));
        return Some(tree);
    }
    let endpoints = target["Endpoints"].as_array()?;
    if endpoints.is_empty() {
        let all = &target["Instances"];
        tree.push(Tree::new(format!(
            "nobody is there: none of {all} instances is healthy and meant"
        )));
    }
    for endpoint in endpoints {
        let (instance, address) = (endpoint["ID"].as_str()?, endpoint["Address"].as_str()?);
        tree.push(Tree::new(format!("{instance} at {address}, weight {}", endpoint["Weight"])));
    }
    for other in decision["Failover"].as_array().into_iter().flatten() {
        tree.push(Tree::new(format!("when it is down → {}", other.as_str()?)));
    }
    Some(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_decision_is_drawn_with_its_reason() {
        let args = ExplainArgs {
            from: "shop".to_owned(),
            to: "web".to_owned(),
            method: "GET".to_owned(),
            path: Some("/api/x".to_owned()),
            header: Vec::new(),
            output: OutputArgs { json: false },
        };
        let leg = |target: &str, share: f64| {
            json!({ "Node": format!("resolver:{target}"), "Share": share, "Type": "resolver",
                "Target": target, "Failover": ["old"], "Path": "/x" })
        };
        let answer = json!({
            "Protocol": "http",
            "Decision": { "Node": "router:web", "Share": 100.0, "Type": "router",
                "Routes": [
                    { "Route": 1, "IsTaken": false, "Met": [], "Unmet": ["Methods [\"POST\"]"] },
                    { "Route": 2, "IsTaken": true, "Met": ["PathPrefix \"/api\""], "Unmet": [],
                        "Does": ["PrefixRewrite \"/\""] },
                ],
                "Next": { "Node": "splitter:web", "Share": 100.0, "Type": "splitter",
                    "Legs": [leg("v1", 90.0), leg("v2", 10.0)] } },
            "Targets": {
                "v1": { "Outside": null, "Instances": 1,
                    "Endpoints": [{ "ID": "web-1", "Address": "10.0.0.1:21000", "Weight": 1 }],
                    "Intention": { "Allowed": true, "Reason": "it may" } },
                "v2": { "Outside": null, "Instances": 1, "Endpoints": [] },
            },
        });
        let expected = "\
shop → web (http) GET /api/x
└─ router:web
   ├─ route 1 passes it over
   │  └─ does not hold: Methods [\"POST\"]
   ├─ route 2 takes it
   │  ├─ holds: PathPrefix \"/api\"
   │  └─ does: PrefixRewrite \"/\"
   └─ splitter:web
      ├─ 90.0 % → v1 as /x
      │  ├─ allowed: it may
      │  ├─ web-1 at 10.0.0.1:21000, weight 1
      │  └─ when it is down → old
      └─ 10.0 % → v2 as /x
         ├─ nobody is there: none of 1 instances is healthy and meant
         └─ when it is down → old
";
        assert_eq!(drawn(&args, &answer).as_deref(), Some(expected));
        let mut ends = Vec::new();
        collect(&answer["Decision"], &mut ends);
        assert_eq!(ends.len(), 2);
        assert!(is_there(&answer["Targets"]["v1"]) && !is_there(&answer["Targets"]["v2"]));
        let answered = json!({ "Node": "route:web#1", "Share": 100.0, "Type": "answer",
            "Status": 308, "Location": "https://web.example/" });
        assert!(is_answered(&answered) && !is_answered(&answer["Decision"]));
        let line = "100.0 % → the caller's proxy answers 308 to https://web.example/\n";
        assert_eq!(step(&answer, &answered).map(|tree| tree.text()).as_deref(), Some(line));
    }
}
