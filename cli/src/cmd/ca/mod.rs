//! `weft ca`: the care of the certificate authority.

mod revoke;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::client::ApiArgs;
use crate::output::OutputArgs;

use revoke::{RevokeArgs, UnrevokeArgs};

const EXAMPLES: &str = "\
Examples:
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
    /// List whom nobody trusts any more
    Revocations(OutputArgs),
    /// Have nobody trust a certificate, a service or a host any more; live connections are cut
    Revoke(RevokeArgs),
    /// Take a revocation back
    Unrevoke(UnrevokeArgs),
}

pub(crate) async fn run(args: CaArgs) -> anyhow::Result<ExitCode> {
    let client = args.api.client()?;
    match args.what {
        What::Revocations(output) => revoke::list(&client, &output).await?,
        What::Revoke(args) => revoke::revoke(&client, args).await?,
        What::Unrevoke(args) => revoke::unrevoke(&client, &args).await?,
    }
    Ok(ExitCode::SUCCESS)
}
