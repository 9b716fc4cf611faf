//! The command line: subcommands, and what their help teaches.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use weft_core::time::Span;
use weft_runtime::telemetry::log::LogFormat;

use crate::cmd;

/// Groups the commands and says where to begin. clap lists them flat otherwise; a test checks
/// that none is missing here.
const COMMANDS: &str = "\
First steps:
  demo       Watch a mesh of example services work, step by step
  dev        Run a whole mesh in this one process, for trying out and developing
Run a mesh:
  server     Run a server: catalog, configuration, certificate authority
  agent      Run the agent of this host: services, checks, HTTP API, DNS
  proxy      Run the sidecar of a service
  capture    Lead what programs of this host call to their proxies
  inject     Put sidecars into manifests of Kubernetes, or beside a unit of systemd
  k8s        Install Weft in Kubernetes, and run its webhook
Look and change:
  catalog    List nodes, services and datacenters
  services   Register services with this host's agent, and export them
  config     Read, write and check config entries
  chain      Draw what a service's config entries compile to
  route      Say where a request goes, by which decisions, and whether it is let in
  rollout    See how far new versions have come; pause, promote, end
  intention  Say who may call whom, and ask
  mtls       See who still calls without mutual TLS
  kv         Read and write the key/value store
  lock       Run a program while a lock is held
  event      Fire a user event, or list the last ones
  watch      Follow a view, and hand every change to a program
Look after it:
  check      See whether this host is fit for the mesh, and what to mend
  members    List hosts and servers, and whether they answer
  ps         List the proxies of this host, and what each has in force
  tap        Watch requests and connections of a service while they happen
  top        Show who calls whom on this host: requests a second, success, latency
  monitor    Follow the log of this host's agent
  reload     Have this host's agent read its files again
  maint      Take this host or a service of it out of use, or back in
  join       Have this host's agent take up servers that moved
  leave      Take this host out of the mesh and end its agent
  force-leave  Take a host that is gone out of the catalog
  operator   Look after the servers: leadership, members, autopilot
  snapshot   Save, restore and inspect the whole state
  info       Show where agent, servers and catalog stand
  debug      Write a folder of what support asks for first
  dns        Check whether this host finds the names of the mesh
Rights:
  acl        Tokens, policies, roles, auth methods
  ca         Look after the certificate authority: roots, rotation, providers
  can-i      Ask whether a token may do something, and why not
  login      Get a token for a credential of Kubernetes or another issuer
  logout     Give such a token back
More:
  version    Print the version
  help       Print this help, or that of a command: weft help agent

Start with `weft dev`; it prints what to try. In production, `weft server init` on the first host
prints what to type on the others: `weft server join TOKEN`, and `weft agent join TOKEN` on every
host. A `weft proxy` runs beside each service, or one for the whole host.";

const DEMO_EXAMPLES: &str = "\
Examples:
  Take the tour; it ends on a live table, until Ctrl-C:
    weft demo
  Only check that every claim holds:
    weft demo --check";

const TEMPLATE: &str = "{about}\n\nUsage: weft <COMMAND> [OPTIONS]\n{after-help}\n";

/// A service mesh in one program: discovery, identity, authorisation and routing between
/// services on any host
#[derive(Debug, Parser)]
#[command(name = "weft", version, help_template = TEMPLATE, after_help = COMMANDS)]
#[command(arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Tokens, policies, roles, auth methods
    Acl(cmd::acl::AclArgs),
    /// Run the agent of this host: services, checks, HTTP API, DNS
    Agent(Box<cmd::agent::AgentArgs>),
    /// Run one of the demo's applications
    #[command(hide = true)]
    Bookinfo(cmd::bookinfo::BookinfoArgs),
    /// Look after the certificate authority: roots, rotation, providers, revocation
    Ca(cmd::ca::CaArgs),
    /// Ask whether a token may do something, and why not
    CanI(cmd::can_i::CanIArgs),
    /// Lead what programs of this host call to their proxies
    Capture(cmd::capture::CaptureArgs),
    /// List nodes, services and datacenters
    Catalog(cmd::catalog::CatalogArgs),
    /// See whether this host is fit for the mesh, or whether all is well in it
    Check(cmd::check::CheckArgs),
    /// Draw what a service's config entries compile to
    Chain(cmd::chain::ChainArgs),
    /// Print what a shell needs to complete commands and flags: bash, fish or zsh
    #[command(hide = true)]
    Completion(cmd::completion::CompletionArgs),
    /// Write a folder of what support asks for first
    Debug(cmd::debug::DebugArgs),
    /// Read, write and check config entries
    Config(cmd::config::ConfigArgs),
    /// Watch a mesh of example services work, step by step
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(cmd::demo::DemoArgs),
    /// Start a program that outlives its caller
    #[command(hide = true)]
    Detach(cmd::detach::DetachArgs),
    /// Run a whole mesh in this one process, for trying out and developing
    Dev(cmd::dev::DevArgs),
    /// Check whether this host finds the names of the mesh
    Dns(cmd::dns::DnsArgs),
    /// Show where agent, servers and catalog stand
    Info(cmd::info::InfoArgs),
    /// Put sidecars into manifests of Kubernetes, or beside a unit of systemd
    Inject(Box<cmd::inject::InjectArgs>),
    /// Write the pages of the manual
    #[command(hide = true)]
    Man(cmd::man::ManArgs),
    /// List hosts and servers, and whether they answer
    Members(cmd::members::MembersArgs),
    /// Say who still talks plaintext to services, and whether strict mutual TLS is safe
    Mtls(cmd::mtls::MtlsArgs),
    /// Follow the log of this host's agent
    Monitor(cmd::monitor::MonitorArgs),
    /// Take a host that is gone out of the catalog
    ForceLeave(cmd::host::ForceLeaveArgs),
    /// Have this host's agent take up servers that moved
    Join(cmd::host::JoinArgs),
    /// Take this host out of the mesh and end its agent
    Leave(cmd::host::LeaveArgs),
    /// Take this host or a service of it out of use, or back in
    Maint(cmd::host::MaintArgs),
    /// Have this host's agent read its files again
    Reload(cmd::host::ReloadArgs),
    /// See how far new versions of services have come; pause, promote, end
    Rollout(cmd::rollout::RolloutArgs),
    /// Look after the servers: leadership, members, autopilot
    Operator(cmd::operator::OperatorArgs),
    /// Fire a user event, or list the last ones
    Event(cmd::event::EventArgs),
    /// Install Weft in Kubernetes, and run its webhook
    #[command(name = "k8s")]
    K8s(cmd::k8s::K8sArgs),
    /// Read and write the key/value store
    Kv(cmd::kv::KvArgs),
    /// Run a program while a lock is held
    Lock(cmd::lock::LockArgs),
    /// Say who may call whom, and ask
    Intention(cmd::intention::IntentionArgs),
    /// Get a token for a credential of Kubernetes or another issuer
    Login(cmd::login::LoginArgs),
    /// Give such a token back
    Logout(cmd::login::LogoutArgs),
    /// Run the sidecar of a service
    Proxy(Box<cmd::proxy::ProxyArgs>),
    /// List the proxies of this host, and what each has in force
    Ps(cmd::ps::PsArgs),
    /// Run a server: catalog, configuration, certificate authority
    Server(Box<cmd::server::ServerArgs>),
    /// Register services with this host's agent, and export them
    Services(cmd::services::ServicesArgs),
    /// Save, restore and inspect the state of the servers
    Snapshot(cmd::snapshot::SnapshotArgs),
    /// Watch requests and connections of a service while they happen
    Tap(Box<cmd::tap::TapArgs>),
    /// Say where a request goes, by which decisions, and whether it is let in
    Route(cmd::route::RouteArgs),
    /// Show who calls whom on this host: requests a second, success, latency
    Top(cmd::top::TopArgs),
    /// Print the version
    Version(cmd::version::VersionArgs),
    /// Follow a view, and hand every change to a program
    Watch(cmd::watch::WatchArgs),
}

/// What every long-running command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Process")]
pub(crate) struct ProcessArgs {
    /// What is logged: off, error, warn, info, debug, trace, or a filter such as
    /// "info,weft_agent=debug". WEFT_LOG beats it
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// The form of log lines: text or json
    #[arg(long, value_name = "FORMAT", value_parser = log_format)]
    pub(crate) log_format: Option<LogFormat>,
    /// How long requests in flight may take to finish when the process is told to end
    /// [default: 10s; proxy: 15s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) drain_limit: Option<Duration>,
    /// Write a JSON file with the addresses once the process serves, for scripts
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
}

/// Where configuration files are.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConfigArgs {
    /// A configuration file in HCL or JSON, or a folder whose .hcl and .json files are read in
    /// lexical order; repeatable. Later files beat earlier ones, flags beat files
    #[arg(long = "config", short = 'c', value_name = "FILE|DIR")]
    pub(crate) files: Vec<PathBuf>,
}

/// Reads a time such as `10s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<Span>().map(|span| span.0).map_err(|error| error.to_string())
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err("write \"text\" or \"json\"".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound_and_every_command_stands_in_the_overview() {
        let command = Cli::command();
        command.clone().debug_assert();
        for subcommand in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            let line = format!("\n  {} ", subcommand.get_name());
            assert!(COMMANDS.contains(&line), "{line:?} is not in the overview");
        }
    }

    #[test]
    fn every_command_shows_an_example() {
        for subcommand in Cli::command().get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let help = subcommand.clone().render_long_help().to_string();
            assert!(help.contains("Examples:"), "{} shows none:\n{help}", subcommand.get_name());
        }
    }
}
