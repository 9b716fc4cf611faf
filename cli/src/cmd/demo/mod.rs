//! `weft demo`: a whole mesh as bare processes on loopback, and a guided tour of it.
//!
//! Everything goes through the doors that users have: config files, the HTTP API, DNS, the
//! sidecars' listeners. Nothing here reaches into a server, an agent or a proxy.

mod api;
mod child;
mod dns;
mod listeners;
mod load;
mod mesh;
mod ports;
mod probe;
mod report;
mod steps;
mod table;
mod topology;
pub(crate) mod watchdog;
pub(crate) mod web;
mod workdir;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use weft_runtime::{entropy, signal, task::TaskTree};

use self::mesh::Mesh;
use self::ports::Ports;
use self::report::{Form, Report};
use self::steps::Tour;
use self::topology::Topology;
use self::workdir::Workdir;

/// Exit status after Ctrl-C, as shells have it: 128 and the signal's number.
const INTERRUPTED: u8 = 130;

/// Flags of `weft demo`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DemoArgs {
    /// Check every claim of the tour and leave; fails at the first that does not hold
    #[arg(long)]
    check: bool,
    /// Print the results as one JSON document; implies --check
    #[arg(long)]
    json: bool,
    /// Keep the work directory with data and logs
    #[arg(long)]
    keep: bool,
    /// Wait for Enter between the steps
    #[arg(long, conflicts_with_all = ["check", "json"])]
    pause: bool,
}

impl DemoArgs {
    fn form(&self) -> Form {
        if self.json {
            Form::Json
        } else if self.check {
            Form::Check
        } else {
            Form::Tour
        }
    }
}

/// Runs the tour, and then the live table unless only claims are to be checked.
///
/// # Errors
/// When the demo cannot be set up. A claim that does not hold is told, and is an exit status.
pub(crate) async fn run(args: DemoArgs, tasks: TaskTree) -> anyhow::Result<ExitCode> {
    let form = args.form();
    let mut report = Report::to_stdout(form, args.pause);
    report.say("Bookinfo on Weft: every process is this binary, everything on 127.0.0.1.");
    let mut seed = [0; 2];
    entropy::fill(&mut seed);
    let mut ports = Ports::new(u16::from_le_bytes(seed));
    let topology = Topology::lay(&mut ports).await?;
    let workdir = Workdir::create(&temporary_folder(), args.keep)?;
    let mesh = Mesh::new(topology, workdir)?;
    ports.release();

    let mut tour = Tour { report, mesh, tasks, suspects: Vec::new() };
    let status = until_interrupted(&mut tour, form).await;
    tour.mesh.stop().await;
    status.context("waiting for Ctrl-C")
}

/// Tells the tour, then shows the table; Ctrl-C ends either.
async fn until_interrupted(tour: &mut Tour, form: Form) -> io::Result<ExitCode> {
    // Steps and table are cut short only by Ctrl-C, after which all processes are ended.
    let outcome = tokio::select! {
        outcome = steps::all(tour) => outcome,
        told = signal::shutdown() => return told.map(|()| ExitCode::from(INTERRUPTED)),
    };
    if let Err(fault) = outcome {
        tour.report.end(Some(&format!("{fault:#}")));
        let suspects = std::mem::take(&mut tour.suspects);
        tour.mesh.show_logs(&mut tour.report, &suspects);
        tour.mesh.keep_for_a_look(&mut tour.report);
        return Ok(ExitCode::FAILURE);
    }
    tour.report.end(None);
    if form == Form::Tour {
        tokio::select! {
            () = table::show(tour) => {}
            told = signal::shutdown() => told?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns where work directories are made: the system's temporary folder, unless its path is so
/// long that a unix socket in it would have a name that the kernel refuses (108 bytes).
fn temporary_folder() -> PathBuf {
    const PATH_BYTES_MAX: usize = 50;
    let folder = std::env::temp_dir();
    if folder.as_os_str().len() <= PATH_BYTES_MAX { folder } else { PathBuf::from("/tmp") }
}
