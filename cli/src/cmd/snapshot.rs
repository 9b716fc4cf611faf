//! `weft snapshot`: the whole state of the servers in one file.
//!
//! **Source**: Consul: commands/snapshot.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use weft_runtime::store::write_file;
use weft_server::{SnapshotInfo, Values, inspect_snapshot, list_snapshot};

use crate::client::{ApiArgs, ApiClient};
use crate::output::{OutputArgs, Table, print, print_json};

/// A large state takes a while to come and to be put in force on every server.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(600);

const EXAMPLES: &str = "\
Examples:
  Save everything, and look at what was saved:
    weft snapshot save backup.snap
    weft snapshot inspect backup.snap
  Put it in force again on every server:
    weft snapshot restore backup.snap
  Which keys are in it?
    weft snapshot decode backup.snap | jq -r 'select(.Type == \"KV\").Record.key'
  Into a new cluster, after the old one was lost:
    weft snapshot restore --foreign backup.snap
  For scripts:
    weft snapshot inspect --json backup.snap | jq .Index";

/// Flags of `weft snapshot`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SnapshotArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print what a file holds as lines of JSON, without secrets; needs no server
    Decode(DecodeArgs),
    /// Say what a file holds; needs no server
    Inspect(FileArgs),
    /// Put a saved state in force on every server; writes since then are lost
    Restore(RestoreArgs),
    /// Save the state of the servers to a file, which is readable by its owner alone
    Save(FileArgs),
}

#[derive(Debug, Args)]
struct RestoreArgs {
    #[command(flatten)]
    file: FileArgs,
    /// The file is of another cluster, which is lost: take its content over, not its identity
    #[arg(long)]
    foreign: bool,
}

#[derive(Debug, Args)]
struct DecodeArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Also print the values of keys, in base64: people keep secrets in them
    #[arg(long)]
    values: bool,
}

#[derive(Debug, Args)]
struct FileArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(args: SnapshotArgs) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Decode(args) => decode(&args)?,
        What::Inspect(file) => inspect(&file)?,
        What::Restore(file) => restore(&args.api.client_with(SNAPSHOT_LIMIT)?, &file).await?,
        What::Save(file) => save(&args.api.client_with(SNAPSHOT_LIMIT)?, &file).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn save(client: &ApiClient, args: &FileArgs) -> anyhow::Result<()> {
    let answer = client.get("/v1/snapshot").await?.ok()?;
    let info = inspect_snapshot(answer.body())
        .context("what came is not whole, and was not kept; try again")?;
    write_file(&args.file, 0o600, answer.body())
        .with_context(|| format!("cannot write {}", args.file.display()))?;
    if args.output.json {
        return print_json(&info);
    }
    print(format!("Saved and verified snapshot to index {}\n", info.index))
}

async fn restore(client: &ApiClient, args: &RestoreArgs) -> anyhow::Result<()> {
    let (bytes, info) = read(&args.file.file)?;
    let path = if args.foreign { "/v1/snapshot?foreign" } else { "/v1/snapshot" };
    client.call(Method::PUT, path, bytes).await?.ok()?;
    if args.file.output.json {
        return print_json(&info);
    }
    print(format!("Restored snapshot of index {}\n", info.index))
}

fn inspect(args: &FileArgs) -> anyhow::Result<()> {
    let (_, info) = read(&args.file)?;
    if args.output.json {
        return print_json(&info);
    }
    let mut head = Table::new(&["Index", "Term", "Bytes", "Cluster"]);
    let cluster = info.cluster.clone().unwrap_or_default();
    head.row([info.index.to_string(), info.term.to_string(), info.size.to_string(), cluster]);
    let mut records = Table::new(&["Type", "Count"]);
    for (kind, count) in &info.records {
        records.row([(*kind).to_owned(), count.to_string()]);
    }
    print(format!("{}\n{}\nDigest {}\n", head.text(), records.text(), info.digest))
}

fn decode(args: &DecodeArgs) -> anyhow::Result<()> {
    let bytes = std::fs::read(&args.file)
        .with_context(|| format!("cannot read {}", args.file.display()))?;
    let values = if args.values { Values::Shown } else { Values::Hidden };
    let lines = match list_snapshot(&bytes, values) {
        Ok(lines) => lines,
        Err(reason) => bail!("{}: {reason}", args.file.display()),
    };
    let mut text = String::new();
    for line in lines {
        text.push_str(&line.to_string());
        text.push('\n');
    }
    print(text)
}

fn read(path: &Path) -> anyhow::Result<(Bytes, SnapshotInfo)> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    match inspect_snapshot(&bytes) {
        Ok(info) => Ok((bytes.into(), info)),
        Err(reason) => bail!("{}: {reason}", path.display()),
    }
}
