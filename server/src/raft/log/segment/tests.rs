//! The log on a disk that fails or loses power at every single call.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use openraft::{CommittedLeaderId, EntryPayload};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use weft_core::state::{Command, GroupId};
use weft_core::time::Timestamp;
use weft_proto::encoded::Encoded;
use weft_proto::envelope;
use weft_runtime::disk::{Disk, Fault, SimulatedDisk};

use super::scan::file_name;
use super::*;
use crate::raft::types::{Batch, Group};

const DIR: &str = "/data/log";
/// Small, so that a short script needs many files.
const SEGMENT_BYTES: u64 = 4096;

fn id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1, 1), index)
}

fn entry(index: u64, bytes: usize) -> Bytes {
    let command = Command::ActivateCaRoot { fingerprint: "x".repeat(bytes) };
    let commands = vec![Encoded::new(command)];
    let group_id = GroupId { origin: 0, number: 0, answered_below: 0 };
    let groups = vec![Group { id: group_id, commands: Arc::new(commands) }];
    let batch = Batch { now: Timestamp(index), groups };
    envelope::encode(&Entry { log_id: id(index), payload: EntryPayload::Normal(batch) })
}

#[derive(Debug, Clone)]
enum Step {
    Append(u64, Bytes),
    Purge(u64),
    Truncate(u64),
}

/// What a log should hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    purged: Option<u64>,
    entries: BTreeMap<u64, Bytes>,
}

impl Model {
    fn after(&self, step: &Step) -> Self {
        let mut next = self.clone();
        match step {
            Step::Append(index, bytes) => {
                next.entries.insert(*index, bytes.clone());
            }
            Step::Purge(upto) => {
                next.purged = Some(*upto);
                next.entries = next.entries.split_off(&(upto + 1));
            }
            Step::Truncate(from) => {
                next.entries.split_off(from);
            }
        }
        next
    }

    fn of(log: &SegmentLog) -> Self {
        let bounds = log.bounds();
        let mut model = Self { purged: bounds.purged.map(|id| id.index), entries: BTreeMap::new() };
        if let (Some(first), Some(last)) = (log.shared.first(), bounds.last) {
            let read = log.shared.read(first, last.index + 1, u64::MAX).expect("readable");
            model.entries = (first..).zip(read.into_iter().map(Bytes::from)).collect();
        }
        model
    }
}

/// Groups of steps; each group is synced at once.
fn script() -> Vec<Vec<Step>> {
    let append = |indexes: std::ops::RangeInclusive<u64>, bytes: usize| {
        indexes.map(|index| Step::Append(index, entry(index, bytes))).collect::<Vec<_>>()
    };
    let mut groups = vec![append(1..=1, 10), append(2..=9, 100), append(10..=40, 300)];
    // A conflict with another leader: the end goes and is written anew.
    groups.push(vec![Step::Truncate(35)]);
    groups.push([vec![Step::Truncate(33)], append(33..=50, 200)].concat());
    groups.push(vec![Step::Purge(20)]);
    groups.push(append(51..=51, 9000));
    groups.push([append(52..=60, 500), vec![Step::Purge(48)], append(61..=70, 50)].concat());
    groups.push(append(71..=90, 400));
    // A snapshot from the leader that goes beyond the log.
    groups.push([vec![Step::Purge(200)], append(201..=202, 100)].concat());
    groups.push(append(203..=220, 350));
    groups
}

fn write(log: &mut SegmentLog, step: &Step) -> Result<(), LogDamage> {
    match step {
        Step::Append(index, bytes) => log.append(&[(*index, bytes.clone())]),
        Step::Purge(upto) => log.purge(id(*upto)),
        Step::Truncate(from) => log.truncate(*from),
    }
}

fn open(disk: &SimulatedDisk) -> Result<SegmentLog, LogDamage> {
    SegmentLog::open_with(Arc::new(disk.clone()), Path::new(DIR), SEGMENT_BYTES)
}

fn do_chores(log: &mut SegmentLog) {
    if let Some(chore) = log.chore() {
        chore();
    }
}

/// Carries out the script as far as the disk lets it. Returns what the log should hold after
/// each step that was begun, and how many steps were acknowledged.
fn run(disk: &SimulatedDisk) -> (Vec<Model>, usize) {
    let (mut models, mut acknowledged) = (vec![Model::default()], 0);
    let Ok(mut log) = open(disk) else { return (models, 0) };
    for group in script() {
        for step in &group {
            models.push(models.last().expect("the first").after(step));
            if write(&mut log, step).is_err() {
                assert!(log.sync().is_err(), "nothing is acknowledged after a failure");
                return (models, acknowledged);
            }
        }
        if log.sync().is_err() {
            assert!(log.sync().is_err(), "nor is a sync that is tried again");
            return (models, acknowledged);
        }
        acknowledged = models.len() - 1;
        do_chores(&mut log);
    }
    (models, acknowledged)
}

#[test]
fn a_log_without_faults_holds_what_was_written() {
    let disk = SimulatedDisk::default();
    let (models, acknowledged) = run(&disk);
    assert_eq!(acknowledged, models.len() - 1);
    let log = open(&disk).expect("whole");
    assert_eq!(Some(&Model::of(&log)), models.last());
    assert!(log.segments.len() < 8, "files that nothing needs are removed: {:?}", log.segments);
    assert!(log.segments[0].segment.sequence > 5, "{:?}", log.segments);
}

/// **Source**: the rule that an acknowledged entry is never lost; every call is tried.
#[test]
fn no_fault_at_any_call_loses_what_was_acknowledged() {
    let disk = SimulatedDisk::default();
    run(&disk);
    let calls = disk.calls();
    assert!(calls > 80, "{calls}");
    let mut tried = 0;
    for fault in [Fault::Cut, Fault::Error] {
        for call in 1..=calls {
            for seed in 0..2 {
                tried += 1;
                let disk = SimulatedDisk::default();
                disk.plan(call, fault);
                let (models, acknowledged) = run(&disk);
                let mut dice = StdRng::seed_from_u64(call * 10 + seed);
                check_restart(&disk.cut(&mut dice), &models[acknowledged..], &mut dice)
                    .unwrap_or_else(|why| panic!("{fault:?} at call {call}, seed {seed}: {why}"));
            }
        }
    }
    println!("{tried} faults at {calls} calls: every acknowledged entry was there");
}

/// A restart finds the acknowledged steps, and of those after them the first few or none.
fn check_restart(disk: &SimulatedDisk, allowed: &[Model], dice: &mut StdRng) -> Result<(), String> {
    let mut log = open(disk).map_err(|damage| damage.to_string())?;
    let found = Model::of(&log);
    if !allowed.contains(&found) {
        return Err(format!("found {found:?}, last allowed {:?}", allowed.last()));
    }
    // What is written from here on stands alone: nothing that was cut off comes back.
    let mut expected = found;
    for _ in 0..3 {
        let index = log.next.max(1);
        let step = Step::Append(index, entry(index, 40));
        write(&mut log, &step).and_then(|()| log.sync()).map_err(|damage| damage.to_string())?;
        expected = expected.after(&step);
        do_chores(&mut log);
    }
    let log = open(&disk.cut(dice)).map_err(|damage| damage.to_string())?;
    let found = Model::of(&log);
    if found != expected {
        return Err(format!("after a restart found {found:?} instead of {expected:?}"));
    }
    Ok(())
}

/// A planted bug, which the test above must be able to see: a sync that is left out.
#[test]
fn a_sync_that_was_left_out_is_noticed() {
    let mut noticed = 0;
    for seed in 0..20 {
        let disk = SimulatedDisk::default();
        let mut log = open(&disk).expect("a new log");
        log.append(&[(1, entry(1, 2000))]).and_then(|()| log.sync()).expect("written");
        let last = log.segments.back().expect("a file");
        let mut record = Vec::new();
        let body = entry(2, 2000);
        let group = u32::try_from(log.end).expect("small");
        Record { kind: Kind::Entry, group, index: 2, body: &body }.put(1, &mut record);
        last.segment.file.write_at(log.end, &record).expect("written, and not synced");
        let mut dice = StdRng::seed_from_u64(seed);
        let mut model = Model::default();
        for (index, bytes) in [(1, entry(1, 2000)), (2, body)] {
            model = model.after(&Step::Append(index, bytes));
        }
        noticed += usize::from(check_restart(&disk.cut(&mut dice), &[model], &mut dice).is_err());
    }
    assert!(noticed > 10, "{noticed}");
}

#[test]
fn damage_before_the_last_group_is_refused_wherever_it_is() {
    let disk = SimulatedDisk::default();
    let (models, _) = run(&disk);
    let log = open(&disk).expect("whole");
    let without_last = &models[models.len() - 1 - 18];
    let mut refused = 0;
    for live in &log.segments {
        let is_last = live.segment.sequence == log.segments.back().expect("some").segment.sequence;
        let end = live.segment.file.bytes().expect("known");
        for offset in (0..end).step_by(5) {
            let disk = disk.image();
            disk.damage(&live.segment.path, offset).expect("there");
            match open(&disk).map(|log| Model::of(&log)) {
                Err(LogDamage::Bytes { .. } | LogDamage::Record(_)) => refused += 1,
                Err(other) => panic!("{other}"),
                // Zeros after the end, the padding of records, or the group that nothing follows:
                // of that the commit mark must say that it is gone.
                Ok(found) if Some(&found) == models.last() => {}
                Ok(found) => {
                    assert!(is_last, "{:?} at {offset}", live.segment.path);
                    assert!(found.entries.len() >= without_last.entries.len());
                }
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn a_missing_file_is_refused() {
    let disk = SimulatedDisk::default();
    run(&disk);
    let log = open(&disk).expect("whole");
    let paths: Vec<_> = log.segments.iter().map(|live| live.segment.path.clone()).collect();
    assert!(paths.len() > 2, "{paths:?}");
    for path in &paths[..paths.len() - 1] {
        let disk = disk.image();
        disk.remove(path).expect("there");
        assert!(open(&disk).is_err(), "{path:?}");
    }
}

#[test]
fn a_full_disk_stops_the_log_and_what_was_acknowledged_stays() {
    let disk = SimulatedDisk::default();
    disk.set_capacity(Some(3 * SEGMENT_BYTES));
    let (models, acknowledged) = run(&disk);
    assert!(acknowledged > 5 && acknowledged < models.len() - 1, "{acknowledged}");
    let mut dice = StdRng::seed_from_u64(1);
    disk.set_capacity(None);
    let after = disk.cut(&mut dice);
    check_restart(&after, &models[acknowledged..], &mut dice).expect("goes on once there is room");
}

#[test]
fn a_read_is_bounded_in_bytes_but_never_empty() {
    let disk = SimulatedDisk::default();
    let mut log = open(&disk).expect("a new log");
    for index in 1..=10 {
        log.append(&[(index, entry(index, 1000))]).expect("taken");
    }
    log.sync().expect("written");
    let count = |bytes| log.shared.read(3, 11, bytes).expect("readable").len();
    assert_eq!((count(0), count(2500), count(u64::MAX)), (1, 2, 8));
    let size = log.shared.size_from(6);
    assert!(size.bytes > 5000 && size.bytes < 6000, "{size:?}");
    assert!(matches!(log.append(&[(12, entry(12, 1))]), Err(LogDamage::Hole { index: 11 })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn no_file_makes_the_log_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        at in 0usize..6000,
        keeps in any::<bool>(),
    ) {
        let disk = SimulatedDisk::default();
        if keeps {
            run(&disk);
        }
        let sequence = if keeps { 8 } else { 1 };
        let path = Path::new(DIR).join(file_name(sequence));
        let file = disk.open(&path).or_else(|_| disk.create(&path)).expect("a file");
        let magic_at = if keeps { at } else { 8 };
        file.write_at(0, MAGIC).expect("written");
        file.write_at(magic_at as u64, &bytes).expect("written");
        let _ = open(&disk);
    }
}
