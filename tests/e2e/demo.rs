//! The demo leaves nothing behind, however it ends; that its claims hold is `weft demo --check`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use weft_tests::eventually::eventually;
use weft_tests::process::{Daemon, weft};
use weft_tests::tools;

/// Seventeen processes start and end within this time on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Server, agent, and at least one app with its sidecar.
const CHILDREN_MIN: usize = 4;

/// Starts a demo whose work directory is made in `folder`.
fn demo(name: &str, folder: &Path) -> Daemon {
    let mut command = Command::new(weft());
    command.args(["demo", "--check"]).env("TMPDIR", folder.join("tmp"));
    Daemon::program(name, folder, command)
}

/// Waits until a demo has children, and returns their ids.
fn children(demo: &Daemon) -> BTreeSet<u32> {
    eventually(LIMIT, "the demo has children", || {
        let found = children_of(demo.pid());
        if found.len() >= CHILDREN_MIN { Ok(found) } else { Err(format!("{}", found.len())) }
    })
}

fn children_of(parent: u32) -> BTreeSet<u32> {
    let processes = fs::read_dir("/proc").expect("there is /proc").flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| parent_of(*pid) == Some(parent))
        .collect()
}

/// Returns a process's parent; `None` for one that is gone, or dead and not yet reaped.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; state and parent follow it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z").then_some(parent)
}

fn work_directories(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("tmp")).expect("the temporary folder is there");
    entries.flatten().map(|entry| entry.path()).collect()
}

fn eventually_gone(pids: &BTreeSet<u32>) {
    eventually(LIMIT, "the children are gone", || {
        let left: Vec<u32> = pids.iter().copied().filter(|pid| parent_of(*pid).is_some()).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?} run")) }
    });
}

#[test]
fn a_killed_demo_takes_its_processes_along_and_the_next_one_removes_its_files() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("tmp")).expect("a temporary folder can be written");

    let mut killed = demo("killed", folder.path());
    let pids = children(&killed);
    killed.kill();
    eventually_gone(&pids);
    let left = work_directories(folder.path());
    assert_eq!(left.len(), 1, "a kill leaves the files: {left:?}");

    let mut next = demo("next", folder.path());
    let pids = children(&next);
    assert!(!left[0].exists(), "the next demo removes what a killed one left");
    assert_eq!(work_directories(folder.path()).len(), 1);

    tools::run("kill", &["-INT", &next.pid().to_string()]).ok().expect("it takes a signal");
    let code = eventually(LIMIT, "the demo ends after Ctrl-C", || {
        next.exit_code().ok_or_else(|| format!("it runs on:\n{}", next.log()))
    });
    assert_eq!(code, Some(130), "{}", next.log());
    eventually_gone(&pids);
    let left = work_directories(folder.path());
    assert!(left.is_empty(), "a demo that ends in order leaves no files: {left:?}");
}
