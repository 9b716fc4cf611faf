//! The log when the power goes, on a real file system: what reached the device is copied while a
//! writer is stopped, and looked through for every entry that was acknowledged.
//!
//! ext4 on a loop device whose image lies in memory: what was written to the image is what the
//! device has. A page cache that was not synced is not in it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::{CommittedLeaderId, EntryPayload, RaftLogReader};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use weft_core::state::{Command as StateCommand, GroupId};
use weft_core::time::Timestamp;
use weft_proto::encoded::Encoded;
use weft_runtime::disk::RealDisk;
use weft_runtime::store::Store;
use weft_runtime::task::TaskTree;

use super::Log;
use crate::raft::gauge::Gauges;
use crate::raft::types::{Batch, Entry, Group, LogId, Vote};

const DIR: &str = "WEFT_TEST_LOG_WRITER";
const TRIALS: &str = "WEFT_POWER_CUT_TRIALS";
/// Room for two files of the log, the store, and the file system itself.
const IMAGE_BYTES: u64 = 160 << 20;

fn id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1, 1), index)
}

fn entry(index: u64, bytes: usize) -> Entry {
    let command = StateCommand::ActivateCaRoot { fingerprint: "x".repeat(bytes) };
    let commands = vec![Encoded::new(command)];
    let id_of_group = GroupId { origin: 1, number: index, answered_below: 0 };
    let groups = vec![Group { id: id_of_group, commands: Arc::new(commands) }];
    let batch = Batch { now: Timestamp(index), groups };
    Entry { log_id: id(index), payload: EntryPayload::Normal(batch) }
}

fn open(dir: &Path, tasks: &TaskTree) -> Log {
    let store = Store::open(&dir.join("store")).expect("a store");
    Log::open(Arc::new(RealDisk), &dir.join("log"), &store, Gauges::default(), tasks)
        .expect("a log that was not damaged")
}

/// Writes entries and votes until it is ended; tells each on standard output once it is kept.
async fn write_for_ever(dir: &Path) {
    let tasks = TaskTree::root("writer");
    let mut log = open(dir, &tasks);
    let mut index =
        log.get_log_state().await.expect("known").last_log_id.map_or(1, |it| it.index + 1);
    let mut dice = StdRng::seed_from_u64(index);
    let mut told = std::io::stdout();
    loop {
        let count = *[1, 1, 1, 16, 64].get(dice.random_range(0..5)).expect("one of five");
        let entries: Vec<_> =
            (index..index + count).map(|at| entry(at, dice.random_range(0..1500))).collect();
        log.blocking_append(entries).await.expect("written");
        index += count;
        writeln!(told, "entry {}", index - 1).expect("heard");
        if dice.random_range(0..40) == 0 {
            let vote = Vote::new_committed(index, 1);
            log.save_vote(&vote).await.expect("written");
            writeln!(told, "vote {index}").expect("heard");
        }
        if index.is_multiple_of(7) {
            log.save_committed(Some(id(index - 1))).await.expect("written");
        }
        if dice.random_range(0..400) == 0 {
            log.purge(id(index - index.min(500))).await.expect("purged");
        }
    }
}

/// What the writer said is kept.
#[derive(Debug, Default)]
struct Acknowledged {
    entry: u64,
    vote: u64,
}

impl Acknowledged {
    fn hear(&mut self, line: &str) {
        let (what, number) = line.split_once(' ').unwrap_or_default();
        let number = number.trim().parse().unwrap_or_default();
        match what {
            "entry" => self.entry = number,
            "vote" => self.vote = number,
            // The test runner speaks on the same line.
            _ => {}
        }
    }
}

struct Writer {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Writer {
    /// This same test in a process of its own, as the writer.
    fn start(test: &str, dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(DIR, dir)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the writer starts");
        let said = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, said }
    }

    fn hear(&mut self, lines: usize, heard: &mut Acknowledged) {
        let mut line = String::new();
        for _ in 0..lines {
            line.clear();
            assert!(self.said.read_line(&mut line).expect("readable") > 0, "the writer ended");
            heard.hear(&line);
        }
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().expect("kill is there");
        assert!(sent.success());
    }

    /// Kills it and hears what it had said before.
    fn kill(mut self, heard: &mut Acknowledged) {
        self.signal("-KILL");
        self.child.wait().expect("it ends");
        let mut line = String::new();
        while self.said.read_line(&mut line).expect("readable") > 0 {
            if line.ends_with('\n') {
                heard.hear(&line);
            }
            line.clear();
        }
    }
}

/// Looks up everything that was acknowledged. Returns how many entries were read.
async fn check(dir: &Path, acknowledged: &Acknowledged) -> usize {
    let tasks = TaskTree::root("check");
    let mut log = open(dir, &tasks);
    log.check_reach(None).expect("nothing agreed on is gone");
    let state = log.get_log_state().await.expect("known");
    let last = state.last_log_id.map_or(0, |id| id.index);
    assert!(last >= acknowledged.entry, "{acknowledged:?}, but the log ends at {last}");
    let entries = log.try_get_log_entries(..).await.expect("every entry");
    let mut expected = state.last_purged_log_id.map_or(1, |id| id.index + 1);
    for entry in &entries {
        assert_eq!(entry.log_id, id(expected));
        expected += 1;
    }
    assert_eq!(expected, last + 1);
    let vote = log.read_vote().await.expect("readable").map_or(0, |vote| vote.leader_id.term);
    assert!(vote >= acknowledged.vote, "{acknowledged:?}, but the vote is {vote}");
    drop(log);
    tasks.join(std::time::Duration::from_secs(20)).await.expect("the journal ends");
    entries.len()
}

/// A file system in an image, mounted.
struct Mounted {
    at: PathBuf,
}

impl Mounted {
    fn new(image: &Path, at: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(at).map_err(|error| error.to_string())?;
        run("mount", &["-o", "loop", &image.to_string_lossy(), &at.to_string_lossy()])?;
        Ok(Self { at: at.to_owned() })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = run("umount", &[&self.at.to_string_lossy()]) {
            eprintln!("{error}");
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

fn make_image(image: &Path) -> Result<(), String> {
    let file = std::fs::File::create(image).map_err(|error| error.to_string())?;
    file.set_len(IMAGE_BYTES).map_err(|error| error.to_string())?;
    run("mkfs.ext4", &["-q", "-F", &image.to_string_lossy()])
}

fn writer_dir() -> Option<PathBuf> {
    std::env::var_os(DIR).map(PathBuf::from)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_loses_nothing_that_was_acknowledged() {
    if let Some(dir) = writer_dir() {
        return write_for_ever(&dir).await;
    }
    let memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let memory = memory.expect("a directory");
    let (image, copy) = (memory.path().join("image"), memory.path().join("copy"));
    let (live, look) = (memory.path().join("live"), memory.path().join("look"));
    let can_mount = make_image(&image).and_then(|()| Mounted::new(&image, &live).map(drop));
    if let Err(reason) = can_mount {
        eprintln!("SKIPPED power cut: no ext4 can be mounted on a loop device here: {reason}");
        return;
    }
    let trials: u64 = std::env::var(TRIALS).ok().and_then(|it| it.parse().ok()).unwrap_or(3);
    let test = "raft::log::power_cut::a_power_cut_loses_nothing_that_was_acknowledged";
    let mut totals = BTreeMap::from([("acknowledged", 0), ("read", 0)]);
    for trial in 0..trials {
        make_image(&image).expect("made before");
        let mounted = Mounted::new(&image, &live).expect("mounted before");
        let mut writer = Writer::start(test, &live);
        let mut heard = Acknowledged::default();
        let lines = StdRng::seed_from_u64(trial).random_range(5..3000);
        writer.hear(lines, &mut heard);
        writer.signal("-STOP");
        std::fs::copy(&image, &copy).expect("room for a copy");
        let at_the_cut = Acknowledged { ..heard };
        writer.kill(&mut heard);
        drop(mounted);
        let mounted = Mounted::new(&copy, &look).expect("the copy is a file system");
        let read = check(&look, &at_the_cut).await;
        drop(mounted);
        println!("cut {trial}: acknowledged up to {}, {read} entries read", at_the_cut.entry);
        *totals.entry("acknowledged").or_default() += at_the_cut.entry;
        *totals.entry("read").or_default() += read as u64;
    }
    println!("{trials} power cuts, nothing lost: {totals:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_loses_nothing_that_was_acknowledged() {
    if let Some(dir) = writer_dir() {
        return write_for_ever(&dir).await;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let test = "raft::log::power_cut::a_kill_loses_nothing_that_was_acknowledged";
    let mut heard = Acknowledged::default();
    let kills = 6;
    for kill in 0..kills {
        let mut writer = Writer::start(test, dir.path());
        writer.hear(StdRng::seed_from_u64(kill).random_range(3..400), &mut heard);
        writer.kill(&mut heard);
        check(dir.path(), &heard).await;
    }
    println!("{kills} kills, nothing of {} lost", heard.entry);
}
