//! `weft login` and `weft logout`: a token for a credential that somebody else vouches for.
//!
//! **Source**: Consul: commands/login, commands/logout.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use crate::client::ApiArgs;
use crate::output::print_line;

const LOGIN_EXAMPLES: &str = "\
Examples:
  In a pod: a token for its service account, kept in a file:
    weft login --method k8s --token-sink-file /run/weft/token \\
      --bearer-token-file /var/run/secrets/kubernetes.io/serviceaccount/token
  Use it:
    weft kv get app/config --token-file /run/weft/token";

const LOGOUT_EXAMPLES: &str = "\
Examples:
  Give the token back; nobody can use it any more:
    weft logout --token-file /run/weft/token";

/// Flags of `weft login`.
#[derive(Debug, Args)]
#[command(after_help = LOGIN_EXAMPLES)]
pub(crate) struct LoginArgs {
    /// The auth method
    #[arg(long, value_name = "NAME")]
    method: String,
    /// A file with the credential
    #[arg(long, value_name = "FILE")]
    bearer_token_file: PathBuf,
    /// Where the token's secret is written, readable by its owner alone
    #[arg(long, value_name = "FILE")]
    token_sink_file: PathBuf,
    /// What the token's description tells of where it was made; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    meta: Vec<String>,
    #[command(flatten)]
    api: ApiArgs,
}

/// Flags of `weft logout`.
#[derive(Debug, Args)]
#[command(after_help = LOGOUT_EXAMPLES)]
pub(crate) struct LogoutArgs {
    #[command(flatten)]
    api: ApiArgs,
}

pub(crate) async fn run(args: LoginArgs) -> anyhow::Result<ExitCode> {
    let path = &args.bearer_token_file;
    let bearer =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut meta = BTreeMap::new();
    for pair in &args.meta {
        let Some((key, value)) = pair.split_once('=') else {
            bail!("--meta {pair:?}: write KEY=VALUE");
        };
        meta.insert(key, value);
    }
    let body = json!({ "AuthMethod": args.method, "BearerToken": bearer.trim(), "Meta": meta });
    let client = args.api.client()?;
    let answer = client.call(Method::POST, "/v1/acl/login", body.to_string()).await?.ok()?;
    let token: Value = answer.json()?;
    let secret = token["SecretID"].as_str().context("the answer has no SecretID")?;
    write_secret(&args.token_sink_file, secret)?;
    let accessor = token["AccessorID"].as_str().unwrap_or_default();
    print_line(&format!(
        "Logged in; the token with AccessorID {accessor} is in {}.",
        args.token_sink_file.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn run_logout(args: LogoutArgs) -> anyhow::Result<ExitCode> {
    let client = args.api.client()?;
    client.call(Method::POST, "/v1/acl/logout", "").await?.ok()?;
    print_line("Logged out; the token is gone.")?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a new file and puts it in the place of the old one: who reads it never sees a part.
fn write_secret(path: &Path, secret: &str) -> anyhow::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let written = (|| {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(secret.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    })();
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_its_owners_alone_and_replaces_the_old_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        for secret in ["one", "two"] {
            write_secret(&path, secret).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("readable"), secret);
        }
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
