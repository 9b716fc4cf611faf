//! `rollout`: how a new version of a service takes over, step by step, and what ends that.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::{Findings, shortened};
use super::rollout_status::{RolloutPhase, RolloutStatus};
use super::{HeaderMatch, InvalidEntry, Sticky, Weight};
use crate::index::Index;
use crate::limits;
use crate::name::ServiceName;
use crate::time::Span;

/// How a new version of a service takes over.
///
/// Not in Consul; what Flagger and Argo Rollouts do beside a mesh, done by the mesh.
///
/// **Shape**: either `steps`, or `step_weight` with `max_weight`, from which steps are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Rollout {
    /// The service.
    pub name: ServiceName,
    /// The subset that serves now; empty for the default of the service's resolver.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub stable: String,
    /// The subset that is to take over.
    #[serde(default)]
    pub canary: String,
    /// What is done in turn; after the last one the canary gets everything.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub steps: Vec<RolloutStep>,
    /// By how much the canary's share grows each step.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub step_weight: Weight,
    /// The share after which the canary gets everything; 0 means 50 %.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub max_weight: Weight,
    /// By what requests are told apart that are to stay with the version that they got.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub sticky: Option<Sticky>,
    /// How long is measured before gates are judged, and how long a step takes that does not say;
    /// zero means 60 s.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub interval: Span,
    /// What must hold for the canary.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub gates: RolloutGates,
    /// After how many intervals in a row that did not pass the rollout is taken back; 0 means 2.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub max_failures: u32,
    /// Who is asked or told on the way.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub webhooks: Vec<RolloutWebhook>,
    /// Free key-value pairs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// When the entry was created.
    #[serde(default)]
    pub create_index: Index,
    /// When the entry last changed.
    #[serde(default)]
    pub modify_index: Index,
    /// How far it has come; written by the servers alone.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub status: RolloutStatus,
}

/// One step of a rollout.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RolloutStep {
    /// The share of requests that the canary gets.
    #[serde(skip_serializing_if = "is_blank")]
    pub weight: Weight,
    /// Which requests the canary gets whatever its share; only those to the service by its own name.
    #[serde(skip_serializing_if = "is_blank")]
    pub header: Option<HeaderMatch>,
    /// The share of the other requests of which the canary gets a copy, whose answers nobody gets.
    #[serde(skip_serializing_if = "is_blank")]
    pub mirror: Weight,
    /// How long the step takes at least; zero means one interval.
    #[serde(skip_serializing_if = "is_blank")]
    pub duration: Span,
    /// Whether it goes on only when somebody says so, after its time.
    #[serde(skip_serializing_if = "is_blank")]
    pub manual: bool,
}

/// What must hold for the canary in each interval, as the proxies of its callers have measured.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RolloutGates {
    /// Requests without which nothing is judged: the interval goes on until there are as many. 0 means 20.
    #[serde(skip_serializing_if = "is_blank")]
    pub min_requests: u32,
    /// The share of requests that must go well.
    #[serde(skip_serializing_if = "is_blank")]
    pub success_rate: Weight,
    /// By how many points the share of the canary may be below that of the stable version.
    #[serde(skip_serializing_if = "is_blank")]
    pub success_rate_drop: Weight,
    /// Within what time half of the requests must be answered; zero for any.
    #[serde(rename = "LatencyP50", skip_serializing_if = "is_blank")]
    pub latency_p50: Span,
    /// As `latency_p50`, for 95 of a hundred.
    #[serde(rename = "LatencyP95", skip_serializing_if = "is_blank")]
    pub latency_p95: Span,
    /// As `latency_p50`, for 99 of a hundred.
    #[serde(rename = "LatencyP99", skip_serializing_if = "is_blank")]
    pub latency_p99: Span,
}

/// Somebody who is asked or told.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RolloutWebhook {
    /// What it is called in reasons.
    pub name: String,
    /// Where it is asked, `http://…` or `https://…`; by `POST` with the rollout as JSON.
    #[serde(rename = "URL")]
    pub url: String,
    /// When.
    pub when: WebhookTime,
    /// How long an answer may take; zero means 10 s.
    #[serde(skip_serializing_if = "is_blank")]
    pub timeout: Span,
}

/// When a webhook is called.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WebhookTime {
    /// Before the first step, which waits until it answers with a status of 200 to 299.
    Start,
    /// In each interval, which passes only when it answers with such a status.
    #[default]
    Interval,
    /// Before the canary gets everything, which waits as the first step does.
    Promote,
    /// When the canary has got everything; its answer changes nothing.
    Finish,
    /// When the rollout was taken back; its answer changes nothing.
    Rollback,
}

/// Who gets requests to a service at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RolloutShare<'a> {
    /// The canary's share.
    pub weight: Weight,
    /// Which requests go to it in any case.
    pub header: Option<&'a HeaderMatch>,
    /// The share of the others of which it gets a copy.
    pub mirror: Weight,
}

impl Rollout {
    /// Returns who gets requests at present.
    pub fn share(&self) -> RolloutShare<'_> {
        let whole = |weight| RolloutShare { weight, header: None, mirror: Weight::default() };
        match self.status.phase {
            RolloutPhase::Pending | RolloutPhase::RolledBack | RolloutPhase::Aborted => {
                whole(Weight::default())
            }
            RolloutPhase::Promoted => whole(Weight::FULL),
            RolloutPhase::Progressing | RolloutPhase::Waiting | RolloutPhase::Paused => {
                match self.steps.get(self.status.step as usize) {
                    Some(step) => RolloutShare {
                        weight: step.weight,
                        header: step.header.as_ref(),
                        mirror: step.mirror,
                    },
                    // One that is paused before its first step, or whose steps became fewer.
                    None => whole(Weight::default()),
                }
            }
        }
    }

    /// Returns how long is measured before gates are judged.
    pub fn interval(&self) -> Duration {
        or(self.interval, INTERVAL_DEFAULT)
    }

    /// Returns how long a step takes at least: never less than one interval.
    pub fn duration(&self, step: &RolloutStep) -> Duration {
        step.duration.0.max(self.interval())
    }

    /// Returns after how many failed intervals in a row the rollout is taken back.
    pub fn max_failures(&self) -> u32 {
        if self.max_failures == 0 { MAX_FAILURES_DEFAULT } else { self.max_failures }
    }

    /// Whether the other one rolls out the same in the same steps, so that this one's progress is its too.
    pub fn goes_the_way_of(&self, other: &Self) -> bool {
        self.stable == other.stable && self.canary == other.canary && self.steps == other.steps
    }

    pub(super) fn normalise(mut self) -> Result<Self, Vec<InvalidEntry>> {
        let mut findings = Findings::default();
        self.check_subsets(&mut findings);
        self.make_steps(&mut findings);
        self.check_steps(&mut findings);
        if !is_blank(&self.interval) && self.interval.0 < limits::ROLLOUT_INTERVAL_MIN {
            let min = Span(limits::ROLLOUT_INTERVAL_MIN);
            findings.add("Interval", format!("{} is shorter than {min}", self.interval));
        }
        findings.timeout("Interval", self.interval.0);
        if self.max_failures > limits::ROLLOUT_FAILURES_MAX {
            let max = limits::ROLLOUT_FAILURES_MAX;
            findings.add("MaxFailures", format!("is more than the {max} allowed"));
        }
        for (field, latency) in [
            ("Gates.LatencyP50", self.gates.latency_p50),
            ("Gates.LatencyP95", self.gates.latency_p95),
            ("Gates.LatencyP99", self.gates.latency_p99),
        ] {
            findings.timeout(field, latency.0);
        }
        if let Some(sticky) = &self.sticky {
            sticky.check("Sticky", &mut findings);
        }
        findings.count("Webhooks", self.webhooks.len(), limits::ROLLOUT_WEBHOOKS_MAX);
        for (at, hook) in self.webhooks.iter().enumerate() {
            hook.check(&format!("Webhooks[{at}]"), &mut findings);
        }
        findings.meta(&self.meta);
        findings.result(self)
    }

    fn check_subsets(&self, findings: &mut Findings) {
        if self.canary.is_empty() {
            let reason = "must name the subset that is to take over, one of the service's resolver";
            findings.add("Canary", reason);
        } else if self.canary == self.stable {
            findings.add("Canary", "is the same as Stable, so nothing would be rolled out");
        }
    }

    /// Makes steps of a share that grows.
    fn make_steps(&mut self, findings: &mut Findings) {
        let (by, max) = (self.step_weight, self.max_weight);
        match (self.steps.is_empty(), is_blank(&by)) {
            (true, true) => {
                findings.add("Steps", "write at least one step, or StepWeight");
            }
            (false, false) => {
                findings.add("StepWeight", "goes without Steps, which say each weight themselves");
            }
            (false, true) => {
                if !is_blank(&max) {
                    findings.add("MaxWeight", "goes with StepWeight");
                }
            }
            (true, false) => {
                let max = if is_blank(&max) { MAX_WEIGHT_DEFAULT } else { max };
                let weights = (1..)
                    .map_while(|at| by.hundredths().checked_mul(at))
                    .take_while(|sum| *sum <= max.hundredths())
                    .take(limits::ROLLOUT_STEPS_MAX + 1);
                let weights = weights.filter_map(Weight::from_hundredths);
                let step = |weight| RolloutStep { weight, ..RolloutStep::default() };
                self.steps = weights.map(step).collect();
                if self.steps.is_empty() {
                    findings.add("StepWeight", format!("is more than MaxWeight, which is {max}"));
                }
                (self.step_weight, self.max_weight) = Default::default();
            }
        }
    }

    fn check_steps(&mut self, findings: &mut Findings) {
        findings.count("Steps", self.steps.len(), limits::ROLLOUT_STEPS_MAX);
        let mut before = Weight::default();
        for (at, step) in self.steps.iter_mut().enumerate() {
            let field = |name: &str| format!("Steps[{at}].{name}");
            if step.weight < before {
                let reason =
                    format!("{} is less than the {before} of the step before", step.weight);
                findings.add(field("Weight"), reason);
            }
            before = step.weight;
            if step.mirror != Weight::default() && step.weight != Weight::default() {
                let reason = "goes without Weight: the canary would get some requests twice";
                findings.add(field("Mirror"), reason);
            }
            if let Some(header) = &mut step.header {
                header.normalise(&field("Header"), findings);
            }
            if step.duration.0 > limits::ROLLOUT_STEP_MAX {
                let max = Span(limits::ROLLOUT_STEP_MAX);
                let reason = format!("{} is longer than the {max} allowed", step.duration);
                findings.add(field("Duration"), reason);
            }
        }
    }
}

impl RolloutGates {
    /// Returns how many requests must have been measured before anything is judged.
    pub fn min_requests(&self) -> u64 {
        let given = if self.min_requests == 0 { MIN_REQUESTS_DEFAULT } else { self.min_requests };
        u64::from(given)
    }

    /// Whether anything is judged.
    pub fn is_any(&self) -> bool {
        let blank = Self { min_requests: self.min_requests, ..Self::default() };
        *self != blank
    }
}

impl RolloutWebhook {
    /// Returns how long an answer may take.
    pub fn timeout(&self) -> Duration {
        or(self.timeout, WEBHOOK_TIMEOUT_DEFAULT)
    }

    fn check(&self, field: &str, findings: &mut Findings) {
        let of = |name: &str| format!("{field}.{name}");
        if self.name.is_empty() {
            findings.add(of("Name"), "must not be empty");
        }
        findings.bytes(&of("Name"), self.name.len(), limits::META_KEY_BYTES_MAX);
        let rest = ["http://", "https://"].into_iter().find_map(|it| self.url.strip_prefix(it));
        let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
        if host.is_empty() || self.url.contains(|c: char| c.is_control() || c == ' ') {
            let url = shortened(&self.url);
            findings.add(of("URL"), format!("{url:?} must be an http or https URL"));
        } else if host.contains('@') {
            findings.add(of("URL"), "must hold no password: entries can be read");
        }
        findings.bytes(&of("URL"), self.url.len(), limits::PATH_BYTES_MAX);
        if self.timeout.0 > limits::ROLLOUT_WEBHOOK_MAX {
            let max = Span(limits::ROLLOUT_WEBHOOK_MAX);
            findings
                .add(of("Timeout"), format!("{} is longer than the {max} allowed", self.timeout));
        }
    }
}

fn or(span: Span, default: Duration) -> Duration {
    if is_blank(&span) { default } else { span.0 }
}

/// How long is measured before gates are judged, where an entry does not say.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(60);
/// Failed intervals in a row after which a rollout is taken back, where an entry does not say: one
/// bad minute has many causes.
const MAX_FAILURES_DEFAULT: u32 = 2;
/// The share up to which `StepWeight` goes, where an entry does not say: as Flagger's examples do.
const MAX_WEIGHT_DEFAULT: Weight = Weight::from_hundredths(5_000).expect("at most 10 000");
/// Requests for a judgement, where an entry does not say: of fewer, one failure is more than 5 %.
const MIN_REQUESTS_DEFAULT: u32 = 20;
/// How long a webhook may take, where an entry does not say.
const WEBHOOK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
