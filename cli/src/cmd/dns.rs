//! `weft dns check`: does this host find the mesh's names, and if not, what is missing?

mod ask;
mod mend;

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use weft_runtime::net;

use crate::client::ApiArgs;
use crate::output::{OutputArgs, print_json, print_line};

use ask::{Asked, Transport, ask};

const EXAMPLES: &str = "\
Examples:
  Does this host find names of the mesh?
    weft dns check
  And through a resolver that is not (yet) this host's:
    weft dns check --resolver 10.0.0.2";

/// Where the system says which resolvers it asks.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The port of DNS.
const PORT: u16 = 53;
/// How long the system's own look-up may take: its attempts at a silent resolver, and to spare.
const LOOKUP_LIMIT: Duration = Duration::from_secs(15);

/// Flags of `weft dns`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DnsArgs {
    #[command(subcommand)]
    command: DnsCommand,
}

#[derive(Debug, Subcommand)]
enum DnsCommand {
    /// Ask whether this host's resolver reaches the agent, and how to mend it
    #[command(after_help = EXAMPLES)]
    Check(CheckArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// A resolver to ask, instead of those of /etc/resolv.conf: IP or IP:PORT
    #[arg(long, value_name = "ADDR", value_parser = resolver)]
    resolver: Option<SocketAddr>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    api: ApiArgs,
}

fn resolver(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT)))
        .map_err(|_| "write an IP address, or IP:PORT".to_owned())
}

/// One thing that was looked at.
#[derive(Debug)]
struct Finding {
    what: String,
    /// What is wrong; `None` when nothing is.
    fault: Option<String>,
}

impl Finding {
    fn new(what: String, asked: Result<Asked, String>, wanted: Option<IpAddr>) -> Self {
        let fault = match asked {
            Err(reason) => Some(reason),
            Ok(asked) if asked.code != 0 => Some(format!("answers with {}", asked.code_name())),
            Ok(asked) => match wanted.filter(|wanted| !asked.addresses.contains(wanted)) {
                Some(wanted) => Some(format!("knows {:?}, not {wanted}", asked.addresses)),
                None => None,
            },
        };
        Self { what, fault }
    }
}

pub(crate) async fn run(args: DnsArgs) -> anyhow::Result<ExitCode> {
    let DnsCommand::Check(args) = args.command;
    let own: Value = args.api.client()?.get("/v1/agent/self").await?.ok()?.json()?;
    let text = |section: &str, field: &str| own[section][field].as_str().map(str::to_owned);
    let address = text("Weft", "DnsAddr").context(
        "this agent answers no DNS: its configuration says dns { addr = \"off\" }, or it is none",
    )?;
    let agent: SocketAddr = address.parse().with_context(|| format!("the address {address:?}"))?;
    let domain = text("Weft", "DnsDomain").context("the agent does not tell its zone")?;
    let checked = check(agent, &domain, args.resolver).await;
    tell(&checked, (agent, &domain), args.output)?;
    let is_good = checked.findings.iter().all(|finding| finding.fault.is_none());
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What was found, and what to do about it.
pub(crate) struct Checked {
    findings: Vec<Finding>,
    advice: Option<String>,
}

impl Checked {
    /// Returns the first thing that is wrong, in words.
    pub(crate) fn fault(&self) -> Option<String> {
        let fault =
            |finding: &Finding| Some(format!("{} {}", finding.what, finding.fault.as_ref()?));
        self.findings.iter().find_map(fault)
    }

    /// Returns what to do about it.
    pub(crate) fn advice(&self) -> Option<&str> {
        self.advice.as_deref()
    }
}

/// Goes the way of a query from its end: the agent, the resolvers, the system's look-up.
pub(crate) async fn check(
    agent: SocketAddr,
    domain: &str,
    resolver: Option<SocketAddr>,
) -> Checked {
    // Whatever is in the catalog, this name leads to the agent that answers.
    let name = format!("ns.{domain}");
    let mut findings = Vec::new();
    let direct = ask(agent, &name, Transport::Udp).await;
    let own = direct.as_ref().ok().and_then(|asked| asked.addresses.first().copied());
    findings.push(Finding::new(format!("the agent at {agent} over UDP"), direct, own));
    let stream = ask(agent, &name, Transport::Tcp).await;
    findings.push(Finding::new(format!("the agent at {agent} over TCP"), stream, own));
    if findings.iter().any(|finding| finding.fault.is_some()) {
        return Checked { findings, advice: Some(mend::agent(agent)) };
    }
    let listed = match resolver {
        Some(resolver) => vec![resolver],
        None => {
            let text = tokio::fs::read_to_string(RESOLV_CONF).await.unwrap_or_default();
            mend::resolvers(&text)
        }
    };
    if listed.is_empty() {
        let fault = Some("names no resolver".to_owned());
        findings.push(Finding { what: RESOLV_CONF.to_owned(), fault });
    }
    for resolver in &listed {
        let asked = ask(*resolver, &name, Transport::Udp).await;
        findings.push(Finding::new(format!("the resolver {resolver}"), asked, own));
    }
    if resolver.is_none() {
        let looked_up = tokio::time::timeout(LOOKUP_LIMIT, net::lookup(&format!("{name}:0"))).await;
        let fault = match looked_up {
            Err(_) => Some("takes too long".to_owned()),
            Ok(Err(error)) => Some(error.to_string()),
            Ok(Ok(found)) if own.is_none_or(|own| found.iter().any(|it| it.ip() == own)) => None,
            Ok(Ok(found)) => Some(format!("finds {found:?}")),
        };
        findings.push(Finding { what: format!("this host's look-up of {name}"), fault });
    }
    let is_good = findings.iter().all(|finding| finding.fault.is_none());
    let advice = (!is_good).then(|| mend::resolver(&listed, agent, domain));
    Checked { findings, advice }
}

fn tell(
    checked: &Checked,
    (agent, domain): (SocketAddr, &str),
    output: OutputArgs,
) -> anyhow::Result<()> {
    if output.json {
        let findings: Vec<Value> = checked
            .findings
            .iter()
            .map(|finding| json!({ "What": finding.what, "Fault": finding.fault }))
            .collect();
        return print_json(&json!({
            "Agent": agent.to_string(),
            "Domain": domain,
            "Findings": findings,
            "Advice": checked.advice,
        }));
    }
    for finding in &checked.findings {
        match &finding.fault {
            None => print_line(&format!("ok    {}", finding.what))?,
            Some(fault) => print_line(&format!("FAIL  {}: {fault}", finding.what))?,
        }
    }
    match &checked.advice {
        None => print_line(&format!("Names below {domain} are found on this host."))?,
        Some(advice) => print_line(&format!("\n{}", advice.trim_end()))?,
    }
    Ok(())
}
