//! `weft ca`: the care of the certificate authority.

mod authority;
mod revoke;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::client::ApiArgs;
use crate::output::OutputArgs;

use authority::{Config, RootsArgs, RotateArgs};
use revoke::{RevokeArgs, UnrevokeArgs};

const EXAMPLES: &str = "\
Examples:
  Who signs, for how long, and what to do next:
    weft ca status
  The roots that are trusted, and until when:
    weft ca roots
  Replace the root; nothing is restarted and no request fails:
    weft ca rotate
  Let leaves live for an hour, or have Vault keep the root:
    weft ca config get > ca.json
    weft ca config set ca.json
  One certificate was stolen; its service gets another one by itself:
    weft ca revoke --serial 5a:0b:12 --reason 'found in a backup'
  Every certificate of a service up to now; its instances get others:
    weft ca revoke --service web --only-until-now
  A service is to be cut off, and to get no certificates any more:
    weft ca revoke --service web
  So is a host, with its agent:
    weft ca revoke --node n7
  What is revoked, and taking it back:
    weft ca revocations
    weft ca unrevoke 5a:0b:12";

/// Flags of `weft ca`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CaArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Who signs, and for how long
    #[command(subcommand)]
    Config(Config),
    /// List whom nobody trusts any more
    Revocations(OutputArgs),
    /// Have nobody trust a certificate, a service or a host any more; live connections are cut
    Revoke(RevokeArgs),
    /// List the roots that are trusted
    Roots(RootsArgs),
    /// Put a new root in the place of the one that signs
    Rotate(RotateArgs),
    /// Say where the CA stands, and what to do next
    Status(OutputArgs),
    /// Take a revocation back
    Unrevoke(UnrevokeArgs),
}

pub(crate) async fn run(args: CaArgs) -> anyhow::Result<ExitCode> {
    let client = args.api.client()?;
    match args.what {
        What::Config(what) => authority::config(&client, what).await?,
        What::Revocations(output) => revoke::list(&client, &output).await?,
        What::Revoke(args) => revoke::revoke(&client, args).await?,
        What::Roots(args) => authority::roots(&client, &args).await?,
        What::Rotate(args) => authority::rotate(&client, &args).await?,
        What::Status(output) => authority::status(&client, output).await?,
        What::Unrevoke(args) => revoke::unrevoke(&client, &args).await?,
    }
    Ok(ExitCode::SUCCESS)
}
