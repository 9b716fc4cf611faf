//! `weft kv`: the key/value store.
//!
//! **Source**: Consul: commands/kv.

mod transfer;

use std::process::ExitCode;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use weft_proto::json::kv::{KvPair, encode as base64};

use crate::client::{ApiArgs, ApiClient, encode};
use crate::output::{OutputArgs, Table, print, print_json, print_line};
use crate::source::read_value;

const EXAMPLES: &str = "\
Examples:
  Write a value, from the command line, a file or standard input:
    weft kv put config/limit 5
    weft kv put config/page @page.html
    date | weft kv put config/built -
  Read it, and everything below a prefix:
    weft kv get config/limit
    weft kv get --recurse config/
    weft kv get --keys --separator / config/
  Write only what nobody has changed since it was read:
    weft kv get --detailed config/limit
    weft kv put --cas --modify-index 17 config/limit 6
  Move a part of the store:
    weft kv export config/ > config.json
    weft kv import @config.json";

/// Flags of `weft kv`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct KvArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Remove a key, or all below a prefix
    Delete(DeleteArgs),
    /// Print all below a prefix as JSON, to be imported elsewhere
    Export(transfer::ExportArgs),
    /// Read a value, or all below a prefix
    Get(GetArgs),
    /// Write what was exported
    Import(transfer::ImportArgs),
    /// Write a value
    Put(PutArgs),
}

#[derive(Debug, Args)]
struct GetArgs {
    /// The key or prefix
    #[arg(default_value = "", hide_default_value = true)]
    key: String,
    /// Show the value as base64
    #[arg(long)]
    base64: bool,
    /// Show all that is known of the entry
    #[arg(long)]
    detailed: bool,
    /// List the keys that start with the prefix
    #[arg(long)]
    keys: bool,
    /// Read every entry whose key starts with the prefix
    #[arg(long)]
    recurse: bool,
    /// With --keys: list keys up to the next of these
    #[arg(long, value_name = "TEXT", default_value = "/")]
    separator: String,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct PutArgs {
    /// The key
    key: String,
    /// The value; @FILE reads a file, - reads standard input; empty when left out
    #[arg(default_value = "", hide_default_value = true, allow_hyphen_values = true)]
    value: String,
    /// Acquire the lock on the key for --session
    #[arg(long, requires = "session", conflicts_with_all = ["cas", "release"])]
    acquire: bool,
    /// The value is base64
    #[arg(long)]
    base64: bool,
    /// Write only if the entry has --modify-index
    #[arg(long)]
    cas: bool,
    /// A number kept beside the value
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    flags: u64,
    /// With --cas: the index that the entry must have; 0 for no entry
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    modify_index: u64,
    /// Release the lock that --session has
    #[arg(long, requires = "session", conflicts_with = "cas")]
    release: bool,
    /// The session of the lock
    #[arg(long, value_name = "ID")]
    session: Option<String>,
}

#[derive(Debug, Args)]
struct DeleteArgs {
    /// The key or prefix
    #[arg(default_value = "", hide_default_value = true)]
    key: String,
    /// Remove only if the entry has --modify-index
    #[arg(long, conflicts_with = "recurse", requires = "modify_index")]
    cas: bool,
    /// With --cas: the index that the entry must have
    #[arg(long, value_name = "INDEX")]
    modify_index: Option<u64>,
    /// Remove every entry whose key starts with the prefix
    #[arg(long)]
    recurse: bool,
}

pub(crate) async fn run(args: KvArgs) -> anyhow::Result<ExitCode> {
    let client = args.api.client()?;
    match args.what {
        What::Delete(args) => delete(&client, &args).await?,
        What::Export(args) => transfer::export(&client, &args).await?,
        What::Get(args) => get(&client, &args).await?,
        What::Import(args) => transfer::import(&client, &args).await?,
        What::Put(args) => put(&client, &args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the path of a key; slashes stay what they are.
pub(crate) fn path(key: &str) -> String {
    let segments: Vec<String> = key.split('/').map(encode).collect();
    format!("/v1/kv/{}", segments.join("/"))
}

/// A key as it is meant: without the slash that people write in front.
fn key(text: &str) -> &str {
    text.trim_start_matches('/')
}

async fn get(client: &ApiClient, args: &GetArgs) -> anyhow::Result<()> {
    let key = key(&args.key);
    if args.keys {
        let query = format!("{}?keys=&separator={}", path(key), encode(&args.separator));
        let keys = client.get(&query).await?.found()?;
        let keys: Vec<String> = keys.map(|answer| answer.json()).transpose()?.unwrap_or_default();
        return match args.output.json {
            true => print_json(&keys),
            false => print(keys.iter().map(|key| format!("{key}\n")).collect::<String>()),
        };
    }
    if args.recurse {
        let found = client.get(&format!("{}?recurse=", path(key))).await?.found()?;
        let Some(found) = found else {
            return if args.output.json { print_line("[]") } else { Ok(()) };
        };
        if args.output.json {
            return print_json(&found.json::<serde_json::Value>()?);
        }
        for (at, pair) in found.json::<Vec<KvPair>>()?.iter().enumerate() {
            if args.detailed {
                print(if at > 0 { "\n" } else { "" })?;
                print(detailed(pair, args.base64))?;
            } else {
                let line = [pair.key.as_bytes(), b":", &shown(pair, args.base64), b"\n"].concat();
                print(line)?;
            }
        }
        return Ok(());
    }
    if key.is_empty() {
        bail!("say which key: weft kv get KEY, or list them with weft kv get --keys");
    }
    let Some(found) = client.get(&path(key)).await?.found()? else {
        bail!("no key exists at: {key} (list what there is with weft kv get --keys)");
    };
    if args.output.json {
        return print_json(&found.json::<serde_json::Value>()?);
    }
    let pairs: Vec<KvPair> = found.json()?;
    let pair = pairs.first().context("the API told no entry")?;
    if args.detailed {
        return print(detailed(pair, args.base64));
    }
    print([&shown(pair, args.base64)[..], b"\n"].concat())
}

fn shown(pair: &KvPair, as_base64: bool) -> Vec<u8> {
    if as_base64 { base64(&pair.value).into_bytes() } else { pair.value.to_vec() }
}

fn detailed(pair: &KvPair, as_base64: bool) -> String {
    let mut table = Table::new(&["CreateIndex", &pair.create_index.to_string()]);
    for (field, value) in [
        ("Flags", pair.flags.to_string()),
        ("Key", pair.key.clone()),
        ("LockIndex", pair.lock_index.to_string()),
        ("ModifyIndex", pair.modify_index.to_string()),
        ("Session", pair.session.clone()),
        ("Value", String::from_utf8_lossy(&shown(pair, as_base64)).into_owned()),
    ] {
        table.row([field.to_owned(), value]);
    }
    table.text()
}

async fn put(client: &ApiClient, args: &PutArgs) -> anyhow::Result<()> {
    let key = key(&args.key);
    let mut value = read_value(&args.value)?;
    if args.base64 {
        use base64::Engine as _;
        let engine = base64::engine::general_purpose::STANDARD;
        let decoded = engine.decode(value.trim_ascii());
        value = decoded.context("the value is not base64")?;
    }
    let mut query = vec![format!("flags={}", args.flags)];
    let session = args.session.as_deref().map(encode).unwrap_or_default();
    let failed = if args.cas {
        query.push(format!("cas={}", args.modify_index));
        "the entry has another index; read it again with weft kv get --detailed"
    } else if args.acquire {
        query.push(format!("acquire={session}"));
        "another session holds the lock, or one that ended a short while ago did"
    } else if args.release {
        query.push(format!("release={session}"));
        "the session does not hold the lock"
    } else {
        "the API refused it"
    };
    let path = format!("{}?{}", path(key), query.join("&"));
    if client.call(Method::PUT, &path, value).await?.ok()?.json::<bool>()? {
        return print_line(&format!("Success! Data written to: {key}"));
    }
    bail!("did not write to {key}: {failed}")
}

async fn delete(client: &ApiClient, args: &DeleteArgs) -> anyhow::Result<()> {
    let key = key(&args.key);
    if key.is_empty() && !args.recurse {
        bail!("say which key, or remove everything with weft kv delete --recurse \"\"");
    }
    let query = match (args.recurse, args.cas, args.modify_index) {
        (true, _, _) => "?recurse=".to_owned(),
        (false, true, Some(index)) => format!("?cas={index}"),
        (false, _, _) => String::new(),
    };
    let path = format!("{}{query}", path(key));
    if !client.call(Method::DELETE, &path, Bytes::new()).await?.ok()?.json::<bool>()? {
        bail!(
            "did not delete key {key}: the entry has another index; read it again with weft kv \
             get --detailed"
        );
    }
    print_line(&match args.recurse {
        true => format!("Success! Deleted keys with prefix: {key}"),
        false => format!("Success! Deleted key: {key}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_of_a_key_stay_and_the_rest_is_escaped() {
        assert_eq!(path("a/b c/é?"), "/v1/kv/a/b%20c/%C3%A9%3F");
        assert_eq!(key("/a/b"), "a/b");
    }
}
