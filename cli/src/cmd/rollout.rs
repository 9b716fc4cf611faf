//! `weft rollout`: how far new versions of services have come, and what is said to that.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use http::Method;
use weft_core::config_entry::{RolloutMeasure, RolloutPhase};
use weft_core::time::Span;
use weft_proto::json::rollout::RolloutBody;

use crate::client::{ApiArgs, ApiClient, encode};
use crate::output::{CLEAR, OutputArgs, Table, print, print_json, print_line};

const EXAMPLES: &str = "\
Examples:
  Begin: write an entry of the kind rollout
    weft config write reviews-rollout.hcl
  How far are all, and how far is that of reviews?
    weft rollout status
    weft rollout status reviews
  Follow it until it is over; the exit code is 1 when it was taken back
    weft rollout status reviews --watch
  Stop it where it is, and go on
    weft rollout pause reviews
    weft rollout resume reviews
  Go on with the next step where it waits for that, or to the end at once
    weft rollout promote reviews
    weft rollout promote reviews --full
  Send everything back to the stable version
    weft rollout abort reviews";

/// How long one question of a live view waits for a change.
const WAIT: Duration = Duration::from_secs(60);
/// How long an answer may take beyond that: servers add a sixteenth of the wait.
const SLACK: Duration = Duration::from_secs(30);

/// Flags of `weft rollout`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RolloutArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// End a rollout: the stable version gets everything
    Abort(Named),
    /// Stop a rollout where it is
    Pause(Named),
    /// Go on with the next step, or to the end
    Promote(Promote),
    /// Go on where a rollout was paused
    Resume(Named),
    /// Begin a rollout anew
    Restart(Named),
    /// Say how far rollouts have come
    Status(Status),
}

#[derive(Debug, Args)]
struct Named {
    /// The service
    #[arg(value_name = "SERVICE")]
    service: String,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct Promote {
    #[command(flatten)]
    named: Named,
    /// Give the new version everything at once
    #[arg(long)]
    full: bool,
}

#[derive(Debug, Args)]
struct Status {
    /// Only this service
    #[arg(value_name = "SERVICE")]
    service: Option<String>,
    /// Print again whenever something changes, until the rollout of the service is over
    #[arg(long, requires = "service")]
    watch: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(args: RolloutArgs) -> anyhow::Result<ExitCode> {
    let client = args.api.client_with(WAIT + SLACK)?;
    match args.what {
        What::Abort(named) => say(&client, &named, "abort").await,
        What::Pause(named) => say(&client, &named, "pause").await,
        What::Promote(Promote { named, full: false }) => say(&client, &named, "promote").await,
        What::Promote(Promote { named, full: true }) => say(&client, &named, "promote-full").await,
        What::Resume(named) => say(&client, &named, "resume").await,
        What::Restart(named) => say(&client, &named, "restart").await,
        What::Status(status) => match &status.service {
            Some(service) => one(&client, service, &status).await,
            None => all(&client, &status.output).await,
        },
    }
}

async fn say(client: &ApiClient, named: &Named, signal: &str) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/rollout/{}/{signal}", encode(&named.service));
    let body: RolloutBody = client.call(Method::PUT, &path, "").await?.ok()?.json()?;
    if named.output.json {
        print_json(&body)?;
    } else {
        let RolloutBody { service, canary, phase, weight, .. } = &body;
        print_line(&format!("{service}: {phase}, {canary} gets {weight} %"))?;
        let next = match phase.is_over() {
            true => format!("Begin it anew with: weft rollout restart {service}"),
            false => format!("Follow it with: weft rollout status {service} --watch"),
        };
        print_line(&next)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn all(client: &ApiClient, output: &OutputArgs) -> anyhow::Result<ExitCode> {
    let bodies: Vec<RolloutBody> = client.get("/v1/rollouts").await?.ok()?.json()?;
    if output.json {
        print_json(&bodies)?;
        return Ok(ExitCode::SUCCESS);
    }
    if bodies.is_empty() {
        print_line("Nothing is rolled out; write an entry of the kind rollout to begin.")?;
        return Ok(ExitCode::SUCCESS);
    }
    let columns = ["Service", "Stable", "Canary", "Phase", "Step", "Weight", "Since", "Reason"];
    let mut table = Table::new(&columns);
    for body in bodies {
        let step = format!("{}/{}", body.step, body.steps);
        table.row([
            body.service.to_string(),
            or_default(&body.stable).to_owned(),
            body.canary,
            body.phase.to_string(),
            step,
            format!("{} %", body.weight),
            body.since,
            body.reason,
        ]);
    }
    print(table.text())?;
    Ok(ExitCode::SUCCESS)
}

async fn one(client: &ApiClient, service: &str, args: &Status) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/rollout/{}", encode(service));
    let is_screen = std::io::stdout().is_terminal() && args.watch;
    let mut index = 0;
    loop {
        let wait = WAIT.as_secs();
        let question = match index {
            0 => path.clone(),
            index => format!("{path}?index={index}&wait={wait}s"),
        };
        let answer = client.get(&question).await?.ok()?;
        let body: RolloutBody = answer.json()?;
        let is_new = std::mem::replace(&mut index, answer.index()) != index;
        if is_new && args.output.json {
            print_line(&serde_json::to_string(&body).context("a rollout as JSON")?)?;
        } else if is_new {
            print(format!("{}{}", if is_screen { CLEAR } else { "" }, text(&body)))?;
        }
        if !args.watch || body.phase.is_over() {
            return Ok(code(args.watch, body.phase));
        }
    }
}

/// What a script that has followed a rollout goes by.
fn code(has_watched: bool, phase: RolloutPhase) -> ExitCode {
    match phase {
        RolloutPhase::RolledBack | RolloutPhase::Aborted if has_watched => ExitCode::FAILURE,
        RolloutPhase::Pending
        | RolloutPhase::Progressing
        | RolloutPhase::Waiting
        | RolloutPhase::Paused
        | RolloutPhase::Promoted
        | RolloutPhase::RolledBack
        | RolloutPhase::Aborted => ExitCode::SUCCESS,
    }
}

/// A rollout in a few lines.
fn text(body: &RolloutBody) -> String {
    let RolloutBody { service, canary, phase, step, steps, weight, .. } = body;
    let stable = or_default(&body.stable);
    let mut text = format!(
        "{service}: {stable} → {canary}, {phase}, step {step} of {steps}\n{} {weight} %\n",
        bar(weight.hundredths())
    );
    if let Some(header) = &body.header {
        let header = serde_json::to_string(header).unwrap_or_default();
        text.push_str(&format!("and requests with {header}\n"));
    }
    if body.mirror.hundredths() > 0 {
        text.push_str(&format!("and copies of {} % of the others\n", body.mirror));
    }
    if !body.since.is_empty() {
        text.push_str(&format!("since {}: {}\n", body.since, body.reason));
    } else if !body.reason.is_empty() {
        text.push_str(&format!("{}\n", body.reason));
    }
    if body.failures > 0 {
        let max = body.max_failures;
        text.push_str(&format!("{} of {max} failed intervals in a row\n", body.failures));
    }
    if let (Some(new), Some(old)) = (&body.measured.canary, &body.measured.stable) {
        let mut table = Table::new(&["Version", "Requests", "Success", "p50", "p95", "p99"]);
        table.row(measured(canary, new));
        table.row(measured(stable, old));
        text.push_str(&table.text());
    }
    text.push('\n');
    text
}

fn measured(version: &str, of: &RolloutMeasure) -> [String; 6] {
    let time = |us: u64| Span(Duration::from_micros(us)).to_string();
    [
        version.to_owned(),
        of.requests.to_string(),
        if of.requests == 0 { String::new() } else { format!("{} %", of.success_rate) },
        time(of.p50_us),
        time(of.p95_us),
        time(of.p99_us),
    ]
}

/// A share of forty characters.
fn bar(hundredths: u32) -> String {
    let full = (hundredths as usize * 40).div_ceil(10_000).min(40);
    format!("[{}{}]", "█".repeat(full), "·".repeat(40 - full))
}

fn or_default(subset: &str) -> &str {
    if subset.is_empty() { "(default)" } else { subset }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rollout_is_told_with_what_was_measured() {
        let measure = |requests, rate| {
            json!({ "Requests": requests, "SuccessRate": rate,
                "LatencyP50Us": 900, "LatencyP95Us": 4_000, "LatencyP99Us": 21_000 })
        };
        let body: RolloutBody = serde_json::from_value(json!({
            "Service": "reviews", "Stable": "", "Canary": "v2", "Phase": "progressing",
            "Step": 2, "Steps": 3, "Weight": 12.5, "Mirror": 0, "Since": "2026-01-02T03:04:05.000Z",
            "Reason": "failed 1 of 2 times in a row: too slow", "Failures": 1, "MaxFailures": 2,
            "Measured": { "Canary": measure(40, 97.5), "Stable": measure(300, 100.0) },
        }))
        .expect("a rollout");
        let expected = "\
reviews: (default) → v2, progressing, step 2 of 3
[█████···································] 12.5 %
since 2026-01-02T03:04:05.000Z: failed 1 of 2 times in a row: too slow
1 of 2 failed intervals in a row
Version    Requests  Success  p50    p95  p99
v2         40        97.5 %   900µs  4ms  21ms
(default)  300       100 %    900µs  4ms  21ms

";
        assert_eq!(text(&body), expected);
    }
}
