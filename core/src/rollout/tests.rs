//! A rollout from its start to its ends, over intervals that pass, fail and measure too little.

use super::*;
use crate::config_entry::{
    ConfigEntry, Rollout, RolloutGates, RolloutPhase, RolloutStatus, RolloutStep, Weight,
};
use crate::index::Index;
use crate::name::ServiceName;
use crate::time::{Span, Timestamp};
use crate::traffic::flow::HistogramCounts;

fn percent(of: u32) -> Weight {
    Weight::from_hundredths(of * 100).expect("a share")
}

fn step(weight: u32) -> RolloutStep {
    RolloutStep { weight: percent(weight), ..RolloutStep::default() }
}

fn rollout(steps: Vec<RolloutStep>) -> Rollout {
    Rollout {
        name: ServiceName::parse("web").expect("a name"),
        stable: "v1".to_owned(),
        canary: "v2".to_owned(),
        steps,
        step_weight: Weight::default(),
        max_weight: Weight::default(),
        sticky: None,
        interval: Span::seconds(10),
        gates: RolloutGates {
            min_requests: 10,
            success_rate: percent(99),
            success_rate_drop: percent(1),
            latency_p99: Span(std::time::Duration::from_millis(100)),
            ..RolloutGates::default()
        },
        max_failures: 0,
        webhooks: Vec::new(),
        meta: Default::default(),
        create_index: Index::default(),
        modify_index: Index::default(),
        status: RolloutStatus::default(),
    }
}

/// So many requests of which so many failed, all within 5 ms.
fn measured(requests: u64, failed: u64) -> Measured {
    let mut durations = HistogramCounts::default();
    durations[1] = requests;
    Measured { requests, failed, durations }
}

/// Judges each interval as it is due, everybody who is asked agreeing; returns where it stands after each.
fn run(rollout: &mut Rollout, intervals: &[(Measured, Measured)]) -> Vec<(RolloutPhase, u32, u32)> {
    let mut now = Timestamp(1_000_000);
    assert_eq!(due(rollout, now), Due::Start);
    rollout.status = started(now);
    let mut stood = Vec::new();
    for (stable, canary) in intervals {
        now = match due(rollout, now) {
            Due::At(at) => at,
            other => panic!("{other:?} at {now:?}"),
        };
        assert_eq!(due(rollout, now), Due::Judge);
        match judge(rollout, now, (stable, canary), Some(Ok(()))) {
            Judgement::Stay => {}
            Judgement::Pass(status) | Judgement::Stand(status) => rollout.status = *status,
        }
        stood.push((rollout.status.phase, rollout.status.step, rollout.status.failures));
    }
    stood
}

#[test]
fn steps_that_pass_lead_to_promotion() {
    use RolloutPhase::{Progressing, Promoted, Waiting};
    let good = (measured(100, 0), measured(50, 0));
    let long = RolloutStep { duration: Span::seconds(20), ..step(20) };
    let mut plain = rollout(vec![step(5), long.clone(), step(50)]);
    let stood = run(&mut plain, &[good; 4]);
    let expected =
        [(Progressing, 1, 0), (Progressing, 1, 0), (Progressing, 2, 0), (Promoted, 2, 0)];
    assert_eq!(stood, expected, "the second step takes two intervals");
    assert_eq!(plain.share().weight, Weight::FULL);
    assert_eq!(due(&plain, Timestamp(u64::MAX)), Due::Nothing);

    let mut manual = rollout(vec![RolloutStep { manual: true, ..step(5) }, step(50)]);
    assert_eq!(run(&mut manual, &[good; 2]), [(Waiting, 0, 0); 2]);
    assert_eq!(manual.share().weight, percent(5), "what waits keeps its share");
}

#[test]
fn what_fails_too_often_in_a_row_is_taken_back_and_says_why() {
    use RolloutPhase::{Progressing, RolledBack};
    let (good, bad) = ((measured(100, 0), measured(50, 0)), (measured(100, 0), measured(50, 9)));
    let mut once = rollout(vec![step(5), step(10), step(20)]);
    let stood = run(&mut once, &[bad, good, bad, bad]);
    let expected =
        [(Progressing, 0, 1), (Progressing, 1, 0), (Progressing, 1, 1), (RolledBack, 1, 2)];
    assert_eq!(stood, expected);
    assert_eq!(once.status.reason, "82 % of requests went well, and 99 % must");
    assert_eq!(once.share().weight, Weight::default());
    let canary = once.status.canary.expect("measured");
    assert_eq!((canary.requests, canary.success_rate), (50, percent(82)));
}

#[test]
fn too_little_is_not_judged_and_is_told_once() {
    let few = (measured(100, 0), measured(9, 9));
    let mut rollout = rollout(vec![step(5)]);
    rollout.status = started(Timestamp(0));
    let now = Timestamp(60_000);
    let first = judge(&rollout, now, (&few.0, &few.1), None);
    let Judgement::Stand(status) = first else { panic!("{first:?}") };
    assert_eq!(
        (status.measured_since, status.failures),
        (Timestamp(0), 0),
        "the window stays open"
    );
    assert_eq!(status.reason, "waits for 10 requests to the new version in one interval");
    rollout.status = *status;
    assert_eq!(judge(&rollout, now, (&few.0, &few.1), None), Judgement::Stay);
}

#[test]
fn gates_judge_rates_drops_and_latencies() {
    let gates = rollout(Vec::new()).gates;
    let stable = measured(1_000, 0);
    let verdict = |canary: Measured| check(&gates, &canary.measure(), &stable.measure());
    assert_eq!(verdict(measured(1_000, 10)), GateVerdict::Passed);
    let worse = RolloutGates { success_rate: Weight::default(), ..gates.clone() };
    let found = check(&worse, &measured(1_000, 11).measure(), &stable.measure());
    let told =
        "98.9 % of requests went well, more than 1 points below the 100 % of the stable version";
    assert_eq!(found, GateVerdict::Failed(told.to_owned()));
    let idle = check(&worse, &measured(1_000, 11).measure(), &measured(3, 0).measure());
    assert_eq!(idle, GateVerdict::Passed, "nothing to compare with");
    let mut slow = measured(100, 0);
    slow.durations[1] = 90;
    slow.durations[8] = 10;
    assert!(matches!(verdict(slow), GateVerdict::Failed(told) if told.starts_with("99 of 100")));
    let none = RolloutGates::default();
    assert_eq!(check(&none, &measured(0, 0).measure(), &stable.measure()), GateVerdict::Passed);
}

#[test]
fn those_who_are_asked_can_hold_it_up() {
    let mut rollout = rollout(vec![step(5)]);
    rollout.status = started(Timestamp(0));
    let (stable, canary) = (measured(100, 0), measured(50, 0));
    let now = Timestamp(20_000);
    let first = judge(&rollout, now, (&stable, &canary), None);
    assert!(matches!(&first, Judgement::Pass(status) if status.phase == RolloutPhase::Promoted));
    let refused = Some(Err("load-test: answered 500".to_owned()));
    let Judgement::Stand(status) = judge(&rollout, now, (&stable, &canary), refused) else {
        panic!("a refusal is judged")
    };
    assert_eq!((status.phase, status.failures), (RolloutPhase::Progressing, 1));
    assert_eq!(status.reason, "failed 1 of 2 times in a row: load-test: answered 500");
    let waits = held_up(&rollout, now, "qa: answered 403");
    assert_eq!((waits.reason.as_str(), waits.measured_since), ("qa: answered 403", now));
}

#[test]
fn a_step_that_sends_nothing_is_not_measured() {
    let mut rollout = rollout(vec![RolloutStep { manual: true, ..step(0) }]);
    let nothing = (measured(100, 0), measured(0, 0));
    assert_eq!(run(&mut rollout, &[nothing]), [(RolloutPhase::Waiting, 0, 0)]);
}

#[test]
fn a_window_begins_where_its_interval_does() {
    let (service, target): (ServiceName, _) = (
        ServiceName::parse("web").expect("a name"),
        crate::chain::TargetId::new(
            &ServiceName::parse("web").expect("a name"),
            "v2",
            &crate::name::Datacenter::parse("dc1").expect("a name"),
        ),
    );
    let report = |requests| RolloutReport {
        service: service.clone(),
        target: target.clone(),
        measured: measured(requests, 1),
    };
    let mut tally = Tally::default();
    tally.handle_reports(vec![report(5)]);
    tally.handle_interval(&service, Timestamp(1));
    assert_eq!(tally.window(&service, &target), Measured::default());
    tally.handle_reports(vec![report(7), report(8)]);
    tally.handle_interval(&service, Timestamp(1));
    assert_eq!(tally.window(&service, &target).requests, 15);
    tally.handle_interval(&service, Timestamp(2));
    assert_eq!(tally.window(&service, &target).requests, 0, "a new interval");
    tally.handle_reports(vec![report(3)]);
    assert_eq!(tally.window(&service, &target), measured(3, 1));
    tally.retain(|_| false);
    assert_eq!(tally.window(&service, &target).requests, 0);
}

#[test]
fn steps_are_made_of_a_share_that_grows() {
    let entry = |step_weight, max_weight| {
        let entry = Rollout {
            step_weight: percent(step_weight),
            max_weight: percent(max_weight),
            ..rollout(Vec::new())
        };
        ConfigEntry::Rollout(entry).normalise().map_err(|faults| faults[0].to_string())
    };
    let weights = |entry: ConfigEntry| {
        let steps = &entry.as_rollout().expect("a rollout").steps;
        steps.iter().map(|step| step.weight.hundredths() / 100).collect::<Vec<_>>()
    };
    assert_eq!(entry(20, 0).map(weights), Ok(vec![20, 40]));
    assert_eq!(entry(25, 100).map(weights), Ok(vec![25, 50, 75, 100]));
    let told = "StepWeight: is more than MaxWeight, which is 10";
    assert_eq!(entry(20, 10).map(weights), Err(told.to_owned()));
    assert_eq!(
        entry(0, 0).map(weights),
        Err("Steps: write at least one step, or StepWeight".into())
    );
}
