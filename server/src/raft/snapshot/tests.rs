//! Snapshots on a disk that fails or loses power at every single call.

use openraft::{CommittedLeaderId, StoredMembership};
use rand::SeedableRng;
use rand::rngs::StdRng;
use weft_core::index::Index;
use weft_core::state::Command;
use weft_core::time::Timestamp;
use weft_runtime::disk::{Fault, SimulatedDisk};

use super::*;

const DIR: &str = "/data/snapshots";

fn id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1, 1), index)
}

fn meta(index: u64) -> SnapshotMeta {
    SnapshotMeta {
        last_log_id: Some(id(index)),
        last_membership: StoredMembership::default(),
        snapshot_id: index.to_string(),
    }
}

fn state(index: u64) -> State {
    let mut state = State::default();
    let registration = serde_json::from_value(serde_json::json!({
        "node": { "Node": format!("n{index}"), "Address": "10.0.0.1", "Datacenter": "dc1" },
    }));
    let command = Command::Register(registration.expect("a registration"));
    state.apply(Index(index), Timestamp(1), command);
    state
}

fn open(disk: &SimulatedDisk) -> Result<Snapshots, SnapshotDamage> {
    Snapshots::open(Arc::new(disk.clone()), Path::new(DIR))
}

/// Writes three snapshots. Returns which one was acknowledged last.
fn run(disk: &SimulatedDisk) -> Option<u64> {
    let mut acknowledged = None;
    let snapshots = open(disk).ok()?;
    for index in [10, 20, 30] {
        if snapshots.build(&meta(index), &state(index)).is_ok() {
            acknowledged = Some(index);
        }
    }
    acknowledged
}

#[test]
fn the_newest_two_are_kept_and_told() {
    let disk = SimulatedDisk::default();
    assert_eq!(run(&disk), Some(30));
    let snapshots = open(&disk).expect("there");
    let kept = *snapshots.kept().borrow();
    assert_eq!((kept.newest, kept.previous), (Some(30), Some(20)));
    assert!(kept.bytes > 100, "{kept:?}");
    let (meta_found, state_found) = snapshots.recall(Some(id(30))).expect("whole");
    assert_eq!(meta_found, meta(30));
    assert_eq!(state_found.nodes().1.len(), 1);

    // One from the leader takes the place of all.
    let (_, data) = snapshots.newest().expect("readable").expect("there");
    let bytes = data.into_bytes().expect("readable");
    snapshots.keep(&meta(40), &bytes).expect("kept");
    assert_eq!(snapshots.finished().expect("listed").len(), 1);
    assert_eq!(snapshots.kept().borrow().newest, Some(40));
}

#[test]
fn no_fault_at_any_call_loses_an_acknowledged_snapshot() {
    let disk = SimulatedDisk::default();
    run(&disk);
    let calls = disk.calls();
    assert!(calls > 15, "{calls}");
    for fault in [Fault::Cut, Fault::Error] {
        for call in 1..=calls {
            for seed in 0..8 {
                let disk = SimulatedDisk::default();
                disk.plan(call, fault);
                let acknowledged = run(&disk);
                let disk = disk.cut(&mut StdRng::seed_from_u64(seed));
                let purged = acknowledged.map(id);
                let recalled = open(&disk).and_then(|snapshots| snapshots.recall(purged));
                let (found, _) = recalled.unwrap_or_else(|damage| {
                    panic!("{fault:?} at call {call}, seed {seed}: {damage}")
                });
                assert!(found.last_log_id >= purged, "{fault:?} at call {call}");
            }
        }
    }
}

#[test]
fn behind_a_damaged_snapshot_is_the_one_before_if_the_log_reaches_it() {
    let disk = SimulatedDisk::default();
    run(&disk);
    let newest = Path::new(DIR).join(format!("{:020}-{:020}.snap", 1, 30));
    disk.damage(&newest, 60).expect("there");
    let snapshots = open(&disk).expect("there");
    let refused = snapshots.recall(Some(id(25))).expect_err("the log begins after 25");
    let told = refused.to_string();
    assert!(told.contains("-00000000000000000030.snap") && told.contains("entry 25"), "{told}");
    let (found, _) = snapshots.recall(Some(id(20))).expect("the log reaches it");
    assert_eq!(found.last_log_id, Some(id(20)));
    assert_eq!(snapshots.kept().borrow().newest, Some(20));
    assert!(disk.list(Path::new(DIR)).expect("listed").iter().any(|it| it.ends_with(DAMAGED)));

    // The whole log is enough as well.
    let older = Path::new(DIR).join(format!("{:020}-{:020}.snap", 1, 20));
    disk.damage(&older, 60).expect("there");
    let (found, _) = open(&disk).and_then(|it| it.recall(None)).expect("from the start");
    assert_eq!(found.last_log_id, None);
}

#[test]
fn a_full_disk_leaves_the_old_snapshot_and_no_remains() {
    let disk = SimulatedDisk::default();
    let snapshots = open(&disk).expect("new");
    snapshots.build(&meta(10), &state(10)).expect("written");
    disk.set_capacity(Some(disk.used() + 50));
    let error = snapshots.build(&meta(20), &state(20)).expect_err("no room");
    assert!(error.to_string().contains("write"), "{error}");
    assert_eq!(disk.list(Path::new(DIR)).expect("listed").len(), 1);
    disk.set_capacity(None);
    snapshots.build(&meta(20), &state(20)).expect("there is room again");
}
