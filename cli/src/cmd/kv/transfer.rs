//! `weft kv export` and `import`: a part of the store as JSON.
//!
//! **Source**: Consul: commands/kv/export, commands/kv/import.

use anyhow::{Context, bail};
use clap::Args;
use http::Method;
use serde::{Deserialize, Serialize};
use weft_proto::json::kv::{KvPair, encode as base64};

use super::{key, path};
use crate::client::ApiClient;
use crate::output::{print_json, print_line};
use crate::source::read_value;

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The prefix; everything when left out
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,
}

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// What was exported; @FILE reads a file, - reads standard input
    #[arg(default_value = "-", hide_default_value = true)]
    data: String,
    /// Put before every key
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    prefix: String,
}

/// One entry of an export.
#[derive(Debug, Serialize, Deserialize)]
struct Exported {
    key: String,
    #[serde(default)]
    flags: u64,
    /// In base64.
    #[serde(default)]
    value: String,
}

pub(super) async fn export(client: &ApiClient, args: &ExportArgs) -> anyhow::Result<()> {
    let path = format!("{}?recurse=", path(key(&args.prefix)));
    let pairs = client.get(&path).await?.found()?;
    let pairs: Vec<KvPair> = pairs.map(|answer| answer.json()).transpose()?.unwrap_or_default();
    let exported: Vec<Exported> = pairs
        .into_iter()
        .map(|pair| Exported { key: pair.key, flags: pair.flags, value: base64(&pair.value) })
        .collect();
    print_json(&exported)
}

pub(super) async fn import(client: &ApiClient, args: &ImportArgs) -> anyhow::Result<()> {
    let data = read_value(&args.data)?;
    let entries: Vec<Exported> =
        serde_json::from_slice(&data).context("this is not what weft kv export writes")?;
    // Nothing is written before all of it is known to be good.
    let mut decoded = Vec::with_capacity(entries.len());
    for entry in entries {
        use base64::Engine as _;
        let value = base64::engine::general_purpose::STANDARD.decode(&entry.value);
        let value = value.with_context(|| format!("the value of {:?} is not base64", entry.key))?;
        decoded.push((format!("{}{}", key(&args.prefix), entry.key), entry.flags, value));
    }
    for (key, flags, value) in decoded {
        let path = format!("{}?flags={flags}", path(&key));
        if !client.call(Method::PUT, &path, value).await?.ok()?.json::<bool>()? {
            bail!("{key} was not written; the entries named above were");
        }
        print_line(&format!("Imported: {key}"))?;
    }
    Ok(())
}
