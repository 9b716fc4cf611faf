//! `weft reload`, `maint`, `join`, `leave` and `force-leave`: orders to this host's agent.
//!
//! **Source**: Consul: commands/reload, maint, join, leave, force-leave.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use http::Method;
use serde_json::Value;

use crate::client::{ApiArgs, ApiClient, encode};
use crate::output::print_line;

const RELOAD_EXAMPLES: &str = "\
Examples:
  After a change in the agent's configuration folder; what is wrong is named:
    weft reload
  The same without the API, as service managers do it:
    kill -HUP $(pidof weft)";

const MAINT_EXAMPLES: &str = "\
Examples:
  Take the whole host out of use:
    weft maint --enable --reason 'new disks'
  One service, by the id of its instance:
    weft maint --enable --service web-1 --reason 'upgrade'
  Back in use; and see what is out:
    weft maint --disable
    weft maint";

const FORCE_LEAVE_EXAMPLES: &str = "\
Examples:
  A host that was thrown away, with all that was registered on it:
    weft force-leave host-7";

const JOIN_EXAMPLES: &str = "\
Examples:
  The servers have moved, and one of them is here now:
    weft join 10.0.0.4:8300";

const LEAVE_EXAMPLES: &str = "\
Examples:
  Before this host is taken down for good:
    weft leave";

/// Flags of `weft reload`.
#[derive(Debug, Args)]
#[command(after_help = RELOAD_EXAMPLES)]
pub(crate) struct ReloadArgs {
    #[command(flatten)]
    api: ApiArgs,
}

/// Flags of `weft maint`.
#[derive(Debug, Args)]
#[command(after_help = MAINT_EXAMPLES)]
pub(crate) struct MaintArgs {
    /// Take out of use
    #[arg(long, conflicts_with = "disable")]
    enable: bool,
    /// Take back in use
    #[arg(long)]
    disable: bool,
    /// The id of a service's instance, instead of the whole host
    #[arg(long, value_name = "ID")]
    service: Option<String>,
    /// Why, for those who look
    #[arg(long, requires = "enable")]
    reason: Option<String>,
    #[command(flatten)]
    api: ApiArgs,
}

/// Flags of `weft join`.
#[derive(Debug, Args)]
#[command(after_help = JOIN_EXAMPLES)]
pub(crate) struct JoinArgs {
    /// A server of this mesh: a host name or address, with a port if it is not 8300
    address: String,
    #[command(flatten)]
    api: ApiArgs,
}

/// Flags of `weft leave`.
#[derive(Debug, Args)]
#[command(after_help = LEAVE_EXAMPLES)]
pub(crate) struct LeaveArgs {
    #[command(flatten)]
    api: ApiArgs,
}

/// Flags of `weft force-leave`.
#[derive(Debug, Args)]
#[command(after_help = FORCE_LEAVE_EXAMPLES)]
pub(crate) struct ForceLeaveArgs {
    /// The host's name in the catalog
    node: String,
    #[command(flatten)]
    api: ApiArgs,
}

pub(crate) async fn reload(args: ReloadArgs) -> anyhow::Result<ExitCode> {
    order(&args.api.client()?, "/v1/agent/reload").await?;
    print_line("Configuration reloaded")?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn join(args: JoinArgs) -> anyhow::Result<ExitCode> {
    order(&args.api.client()?, &format!("/v1/agent/join/{}", encode(&args.address))).await?;
    print_line("Took up the servers that it named")?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn leave(args: LeaveArgs) -> anyhow::Result<ExitCode> {
    order(&args.api.client()?, "/v1/agent/leave").await?;
    print_line("Left the mesh; the agent ends")?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn force_leave(args: ForceLeaveArgs) -> anyhow::Result<ExitCode> {
    order(&args.api.client()?, &format!("/v1/agent/force-leave/{}", encode(&args.node))).await?;
    print_line(&format!("Took out: {}", args.node))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn maint(args: MaintArgs) -> anyhow::Result<ExitCode> {
    let client = args.api.client()?;
    if !args.enable && !args.disable {
        if args.service.is_some() {
            bail!("say --enable or --disable with --service");
        }
        return list(&client).await;
    }
    let page = match &args.service {
        Some(id) => format!("/v1/agent/service/maintenance/{}", encode(id)),
        None => "/v1/agent/maintenance".to_owned(),
    };
    let reason = args.reason.as_deref().map(|reason| format!("&reason={}", encode(reason)));
    let enable = args.enable;
    order(&client, &format!("{page}?enable={enable}{}", reason.unwrap_or_default())).await?;
    let what = args.service.map_or("This host".to_owned(), |id| format!("Service {id}"));
    print_line(&format!("{what} is {} use", if enable { "out of" } else { "in" }))?;
    Ok(ExitCode::SUCCESS)
}

/// Lists what is out of use.
async fn list(client: &ApiClient) -> anyhow::Result<ExitCode> {
    let checks: Value = client.get("/v1/agent/checks").await?.ok()?.json()?;
    for (_, check) in checks.as_object().into_iter().flatten() {
        if check["Type"] == "maintenance" {
            let what = match check["ServiceID"].as_str() {
                None | Some("") => "This host".to_owned(),
                Some(id) => format!("Service {id}"),
            };
            let reason = check["Notes"].as_str().unwrap_or_default();
            print_line(&format!("{what} is out of use: {reason}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn order(client: &ApiClient, path: &str) -> anyhow::Result<()> {
    client.call(Method::PUT, path, "").await?.ok()?;
    Ok(())
}
