//! The `weft` command: the operator's hand, and the place where servers, agents and proxies are
//! put together. No decisions about meshes here.

mod args;
mod client;
mod cmd;
mod config;
mod credentials;
mod failure;
mod follow;
mod lifecycle;
mod output;
mod source;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use clap::error::ErrorKind;

use weft_runtime::task::TaskTree;

use crate::args::{Cli, Command};
use crate::failure::Failure;

/// Of every process: servers, agents and proxies ask for small pieces by the million, on several
/// threads, and give them back in another order.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cmd::demo::watchdog::arm();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not faults; a broken pipe is nobody's concern.
            let _ = error.print();
            let is_answer =
                matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if is_answer { ExitCode::SUCCESS } else { failure::USAGE.into() };
        }
    };
    match run(cli.command) {
        Ok(code) => code,
        Err(failure) => failure.tell(),
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Acl(args) => short_lived(|_| cmd::acl::run(args)),
        Command::Agent(args) => match &args.command {
            Some(command) => short_lived(|tasks| cmd::setup::agent::run(command, tasks)),
            None => cmd::agent::run(&args),
        },
        Command::Bookinfo(args) => short_lived(|tasks| cmd::bookinfo::run(args, tasks)),
        Command::Ca(args) => short_lived(|_| cmd::ca::run(args)),
        Command::CanI(args) => short_lived(|_| cmd::can_i::run(args)),
        Command::Capture(args) => short_lived(|_| cmd::capture::run(args)),
        Command::Catalog(args) => short_lived(|_| cmd::catalog::run(args)),
        Command::Check(args) => short_lived(|_| cmd::check::run(args)),
        Command::Chain(args) => short_lived(|_| cmd::chain::run(args)),
        Command::Completion(args) => cmd::completion::run(&args),
        Command::Debug(args) => short_lived(|_| cmd::debug::run(args)),
        Command::Demo(args) => short_lived(|tasks| cmd::demo::run(args, tasks)),
        Command::Detach(args) => cmd::detach::run(&args),
        Command::Dev(args) => cmd::dev::run(&args),
        Command::Dns(args) => short_lived(|_| cmd::dns::run(args)),
        Command::ForceLeave(args) => short_lived(|_| cmd::host::force_leave(args)),
        Command::Join(args) => short_lived(|_| cmd::host::join(args)),
        Command::Leave(args) => short_lived(|_| cmd::host::leave(args)),
        Command::Maint(args) => short_lived(|_| cmd::host::maint(args)),
        Command::Reload(args) => short_lived(|_| cmd::host::reload(args)),
        Command::Inject(args) => short_lived(|_| cmd::inject::run(*args)),
        Command::Info(args) => short_lived(|_| cmd::info::run(args)),
        Command::Monitor(args) => short_lived(|_| cmd::monitor::run(args)),
        Command::Mtls(args) => short_lived(|_| cmd::mtls::run(args)),
        Command::Man(args) => cmd::man::run(&args),
        Command::Members(args) => short_lived(|_| cmd::members::run(args)),
        Command::Operator(args) => short_lived(|_| cmd::operator::run(args)),
        Command::Event(args) => short_lived(|_| cmd::event::run(args)),
        Command::K8s(args) => cmd::k8s::run(args),
        Command::Kv(args) => short_lived(|_| cmd::kv::run(args)),
        Command::Lock(args) => short_lived(|_| cmd::lock::run(args)),
        Command::Config(args) => short_lived(|_| cmd::config::run(args)),
        Command::Intention(args) => short_lived(|_| cmd::intention::run(args)),
        Command::Login(args) => short_lived(|_| cmd::login::run(args)),
        Command::Logout(args) => short_lived(|_| cmd::login::run_logout(args)),
        Command::Proxy(args) => cmd::proxy::run(&args),
        Command::Ps(args) => short_lived(|_| cmd::ps::run(args)),
        Command::Rollout(args) => short_lived(|_| cmd::rollout::run(args)),
        Command::Server(args) => match &args.command {
            Some(command) => short_lived(|_| cmd::setup::server::run(command)),
            None => cmd::server::run(&args),
        },
        Command::Services(args) => short_lived(|_| cmd::services::run(args)),
        Command::Snapshot(args) => short_lived(|_| cmd::snapshot::run(args)),
        Command::Route(args) => short_lived(|_| cmd::route::run(args)),
        Command::Top(args) => short_lived(|_| cmd::top::run(args)),
        Command::Tap(args) => short_lived(|_| cmd::tap::run(*args)),
        Command::Version(args) => cmd::version::run(&args),
        Command::Watch(args) => short_lived(|_| cmd::watch::run(args)),
    }
}

/// Runs a command that brings its own order of ending.
fn short_lived<F>(command: impl FnOnce(TaskTree) -> F) -> Result<ExitCode, Failure>
where
    F: Future<Output = anyhow::Result<ExitCode>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    Ok(runtime.block_on(command(TaskTree::root("weft")))?)
}
