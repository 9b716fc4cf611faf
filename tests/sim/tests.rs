//! The seeds that protect main, and the proof that planted bugs are found.
//!
//! Each run is a process of its own, as a run repeats exactly only as the first of its process.

use std::process::Command;

/// Seeds of every run of the tests; other ones: `make sim SEEDS=1..500`.
const SEEDS: &str = "3..6";
/// Seeds tried until a planted bug is found.
const BUG_SEEDS: std::ops::RangeInclusive<u64> = 2..=5;

fn simulate(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_weft-sim"))
        .args(arguments)
        .output()
        .expect("the simulator is built with its tests");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn clusters_keep_their_promises_in_every_seed() {
    let seeds = std::env::var("WEFT_SIM_SEEDS").unwrap_or_else(|_| SEEDS.to_owned());
    let (holds, output) = simulate(&[&seeds]);
    println!("{output}");
    assert!(holds, "{output}");
}

/// A server that restarted asked to be taken in by the cluster, of which it was a member, before
/// its consensus had read the log. When all had lost power nobody led, and nobody came back.
#[test]
fn all_servers_come_back_after_a_power_cut_of_all() {
    let (holds, output) = simulate(&["5", "--one", "--only", "power-cut-of-all"]);
    assert!(holds, "{output}");
}

#[test]
fn a_seed_repeats_exactly() {
    let (first, second) = (simulate(&["3", "--one"]), simulate(&["3", "--one"]));
    assert!(first.1.starts_with("seed 3: "), "{}", first.1);
    assert_eq!(first, second);
}

/// Runs seeds with a bug until one finds it, by a breach that has the words.
fn is_found(bug: &str, words: &str) {
    let mut outputs = Vec::new();
    for seed in BUG_SEEDS {
        let (holds, output) = simulate(&[&seed.to_string(), "--one", "--bug", bug]);
        if !holds && output.contains(words) {
            return;
        }
        outputs.push(output);
    }
    panic!("{bug} was not found: {outputs:#?}");
}

#[test]
fn commands_that_are_applied_twice_are_found() {
    is_found("applies-twice", "is not linearizable");
}

#[test]
fn lost_watch_events_are_found() {
    is_found("drops-watch-events", "the watch of ");
}

#[test]
fn skipped_syncs_are_found() {
    is_found("forgets-syncs", "BREACH");
}

#[test]
fn a_stale_read_in_default_mode_is_found() {
    is_found("stale-reads", "is not linearizable");
}

/// A server that does not hear what became of its commands sends them again under their name;
/// a compare-and-set that was done is then refused, though it happened.
#[test]
fn writes_that_are_repeated_are_found() {
    is_found("repeats-writes", "BREACH");
}

#[test]
fn locks_without_their_delay_are_found() {
    is_found("forgets-lock-delays", "its delay was cut short");
}
