//! `weft ca config`, `roots`, `rotate`, `status`: who signs, under which root.
//!
//! **Source**: Consul: commands/connect/ca.

use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use crate::client::ApiClient;
use crate::output::{OutputArgs, Table, print, print_json, print_line, shown};

const CONFIGURATION: &str = "/v1/connect/ca/configuration";
const ROOTS: &str = "/v1/connect/ca/roots";

#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Print the configuration as JSON, without secrets; it can be written back as it is
    Get,
    /// Replace the configuration; another provider or root takes over at once
    Set(SetArgs),
}

#[derive(Debug, Args)]
pub(super) struct SetArgs {
    /// A file with JSON as `get` prints it, or - for the standard input
    file: PathBuf,
    /// Go on also when the root in force cannot certify the new one; connections may fail for a
    /// moment
    #[arg(long)]
    force_without_cross_signing: bool,
}

#[derive(Debug, Args)]
pub(super) struct RootsArgs {
    /// Print the certificates as PEM
    #[arg(long, conflicts_with = "json")]
    pem: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// The kind of the new key: ec, rsa or ed25519 [default: as before]
    #[arg(long, value_name = "TYPE")]
    key_type: Option<String>,
    /// Its bits: 256 or 384 for ec, 2048 or 4096 for rsa
    #[arg(long, value_name = "NUMBER", requires = "key_type")]
    key_bits: Option<u32>,
    /// Go on also when the root in force cannot certify the new one; connections may fail for a
    /// moment
    #[arg(long)]
    force_without_cross_signing: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn config(client: &ApiClient, what: Config) -> anyhow::Result<()> {
    match what {
        Config::Get => print_json(&read(client, CONFIGURATION).await?),
        Config::Set(args) => set(client, &args).await,
    }
}

async fn read(client: &ApiClient, path: &str) -> anyhow::Result<Value> {
    client.get(path).await?.ok()?.json()
}

async fn set(client: &ApiClient, args: &SetArgs) -> anyhow::Result<()> {
    let text = if args.file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read the standard input")?;
        text
    } else {
        std::fs::read_to_string(&args.file)
            .with_context(|| format!("cannot read {:?}", args.file))?
    };
    let mut body: Value =
        serde_json::from_str(&text).with_context(|| format!("{:?} is not JSON", args.file))?;
    if args.force_without_cross_signing {
        body["ForceWithoutCrossSigning"] = true.into();
    }
    let before = active(&read(client, ROOTS).await?);
    client.call(Method::PUT, CONFIGURATION, body.to_string()).await?.ok()?;
    let roots = read(client, ROOTS).await?;
    if before == active(&roots) {
        return print_line("Configuration written; the root stays.");
    }
    print_line(&format!("Configuration written; {}", tell_rotation(&roots)))
}

pub(super) async fn roots(client: &ApiClient, args: &RootsArgs) -> anyhow::Result<()> {
    let answer = read(client, ROOTS).await?;
    if args.output.json {
        return print_json(&answer);
    }
    if args.pem {
        let pem = |root: &Value| root["RootCert"].as_str().map(str::to_owned);
        return print(all(&answer).into_iter().filter_map(pem).collect::<String>());
    }
    let mut table = Table::new(&["ID", "State", "Key", "Ends", "Trusted until", "Name"]);
    for root in all(&answer) {
        let is_active = root["Active"].as_bool().unwrap_or(false);
        table.row([
            short(&shown(&root["ID"])),
            if is_active { "signs" } else { "replaced" }.to_owned(),
            format!("{} {}", shown(&root["PrivateKeyType"]), shown(&root["PrivateKeyBits"])),
            shown(&root["NotAfter"]),
            shown(&root["TrustedUntil"]),
            shown(&root["Name"]),
        ]);
    }
    print(table.text())
}

pub(super) async fn rotate(client: &ApiClient, args: &RotateArgs) -> anyhow::Result<()> {
    let mut body = json!({ "ForceWithoutCrossSigning": args.force_without_cross_signing });
    if let Some(kind) = &args.key_type {
        body["PrivateKeyType"] = kind.as_str().into();
        body["PrivateKeyBits"] = args.key_bits.unwrap_or_default().into();
    }
    client.call(Method::PUT, "/v1/connect/ca/rotate", body.to_string()).await?.ok()?;
    let roots = read(client, ROOTS).await?;
    if args.output.json {
        return print_json(&roots);
    }
    print_line(&tell_rotation(&roots))
}

/// What has happened, and what happens by itself.
fn tell_rotation(roots: &Value) -> String {
    let replaced = all(roots);
    let until = replaced.iter().filter_map(|root| root["TrustedUntil"].as_str()).max();
    let active = active(roots);
    let rest = match until {
        Some(until) => format!(
            "The one before is trusted until {until}; by then everything that runs has a new \
             certificate. Nothing needs to be restarted."
        ),
        None => "Nothing needs to be restarted.".to_owned(),
    };
    format!("root {} signs now. {rest}\nFollow it with `weft ca roots`.", short(&active))
}

pub(super) async fn status(client: &ApiClient, output: OutputArgs) -> anyhow::Result<()> {
    let roots = read(client, ROOTS).await?;
    let configuration = read(client, CONFIGURATION).await?;
    if output.json {
        return print_json(&json!({ "Configuration": configuration, "Roots": roots }));
    }
    let config = &configuration["Config"];
    let found = all(&roots);
    let active = found.iter().find(|root| root["Active"] == Value::Bool(true));
    let active = active.context("the cluster has no root yet; try again in a moment")?;
    let provider = match configuration["Provider"].as_str() {
        Some("vault") => format!(
            "Vault at {}, mount {}",
            shown(&config["Address"]),
            shown(&config["RootPKIPath"])
        ),
        Some(_) | None => "built in".to_owned(),
    };
    print_line(&format!("Trust domain:   {}", shown(&roots["TrustDomain"])))?;
    print_line(&format!("Provider:       {provider}"))?;
    print_line(&format!("Root:           {}", shown(&active["ID"])))?;
    print_line(&format!("  name:         {}", shown(&active["Name"])))?;
    print_line(&format!("  ends:         {}", shown(&active["NotAfter"])))?;
    print_line(&format!("Leaves live:    {}", shown(&config["LeafCertTTL"])))?;
    print_line(&format!("Intermediates:  {}", shown(&config["IntermediateCertTTL"])))?;
    let replaced: Vec<&&Value> =
        found.iter().filter(|root| root["Active"] != Value::Bool(true)).collect();
    for root in &replaced {
        let id = short(&shown(&root["ID"]));
        let until = match root["TrustedUntil"].as_str() {
            Some(until) => format!("is trusted until {until} and removed then"),
            None => "stays trusted".to_owned(),
        };
        print_line(&format!("Replaced:       {id} {until}"))?;
    }
    let next = match replaced.is_empty() {
        true => "Next: nothing to do. `weft ca rotate` replaces the root without a restart.",
        false => "Next: nothing to do; a rotation is under way and ends by itself.",
    };
    print_line(next)
}

fn all(roots: &Value) -> Vec<&Value> {
    roots["Roots"].as_array().map(|all| all.iter().collect()).unwrap_or_default()
}

fn active(roots: &Value) -> String {
    shown(&roots["ActiveRootID"])
}

/// Enough of a fingerprint to tell roots apart.
fn short(id: &str) -> String {
    id.chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_is_told_with_what_happens_next() {
        let roots = json!({ "ActiveRootID": "b".repeat(64), "Roots": [
            { "ID": "b".repeat(64), "Active": true, "TrustedUntil": null },
            { "ID": "a".repeat(64), "TrustedUntil": "2026-11-20T10:00:00Z" },
        ]});
        let told = tell_rotation(&roots);
        assert!(told.starts_with("root bbbbbbbbbbbbbbbb signs now."), "{told}");
        assert!(told.contains("until 2026-11-20T10:00:00Z"), "{told}");
    }
}
