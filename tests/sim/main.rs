//! Runs seeds: `weft-sim 7`, `weft-sim 1..100`, `weft-sim 7 --one --bug stale-reads`,
//! `weft-sim 7 --one --only power-cut-of-all`.
//!
//! Each seed runs in a process of its own, so that a run repeats exactly; as many at once as
//! there are cores. Ends with a failure when a seed does; its number is all that is needed to
//! see it again. `WEFT_SIM_LOG=info` shows what happens.

use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context as _, bail};
use weft_sim::{Bug, Fault, Scenario, run};

fn main() -> anyhow::Result<ExitCode> {
    let mut seeds = None;
    let mut bug = None;
    let mut only = None;
    let mut is_one = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bug" => bug = Some(arguments.next().context("--bug wants a name")?),
            "--one" => is_one = true,
            "--only" => only = Some(arguments.next().context("--only wants a fault")?),
            text => seeds = Some(parse(text)?),
        }
    }
    let (first, last) = seeds.context("say which seeds: 7, or 1..100")?;
    if is_one {
        return one(first, bug.as_deref(), only.as_deref());
    }
    many(first, last, bug.as_deref(), only.as_deref())
}

fn parse(text: &str) -> anyhow::Result<(u64, u64)> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    Ok((first.parse()?, last.trim_start_matches('=').parse()?))
}

fn bug_of(name: &str) -> anyhow::Result<Bug> {
    Ok(match name {
        "applies-twice" => Bug::AppliesTwice,
        "drops-watch-events" => Bug::DropsWatchEvents,
        "forgets-lock-delays" => Bug::ForgetsLockDelays,
        "forgets-syncs" => Bug::ForgetsSyncs,
        "repeats-writes" => Bug::RepeatsWrites,
        "stale-reads" => Bug::StaleReads,
        _ => bail!(
            "the bugs are applies-twice, drops-watch-events, forgets-lock-delays, forgets-syncs, \
             repeats-writes, stale-reads"
        ),
    })
}

/// Runs one seed in this process.
fn one(seed: u64, bug: Option<&str>, only: Option<&str>) -> anyhow::Result<ExitCode> {
    if let Ok(filter) = std::env::var("WEFT_SIM_LOG") {
        let filter = tracing_subscriber::EnvFilter::try_new(filter)?;
        tracing_subscriber::fmt().with_env_filter(filter).without_time().init();
    }
    let mut scenario = Scenario::of(seed);
    scenario.bug = bug.map(bug_of).transpose()?;
    if let Some(only) = only {
        let fault = Fault::named(only).with_context(|| format!("there is no fault {only:?}"))?;
        scenario.faults = vec![fault];
    }
    // Deep futures without optimisation need more than the usual stack.
    let thread = std::thread::Builder::new().stack_size(64 << 20);
    let verdict = thread.spawn(move || run(&scenario))?.join();
    let Ok(verdict) = verdict else {
        println!("seed {seed}: the run panicked");
        return Ok(ExitCode::FAILURE);
    };
    println!("seed {seed}: {}", verdict.summary);
    for breach in &verdict.breaches {
        println!("seed {seed}: BREACH {breach}");
    }
    Ok(if verdict.breaches.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs seeds, each in a process.
fn many(first: u64, last: u64, bug: Option<&str>, only: Option<&str>) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, failed) = (AtomicU64::new(first), AtomicU64::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > last {
                        return;
                    }
                    let mut command = Command::new(&program);
                    command.args([&seed.to_string(), "--one"]);
                    for (option, value) in [("--bug", bug), ("--only", only)] {
                        command.args(value.into_iter().flat_map(|value| [option, value]));
                    }
                    if !command.status().is_ok_and(|status| status.success()) {
                        failed.fetch_add(1, Ordering::Relaxed);
                        println!("FAILED seed {seed}; again: make sim SEEDS={seed}");
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    let ran = last + 1 - first;
    println!("{ran} seeds in {} s, {failed} failed", began.elapsed().as_secs());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
