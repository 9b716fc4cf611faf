//! Recovery of a cluster that lost its majority for good: who is left is written in a file.
//!
//! `peers.json` in the data directory of each server that is left is read once at the start,
//! before anything else happens, and becomes the newest membership in the log. What the lost
//! servers alone had is lost; nothing that is here is.
//!
//! **Source**: Consul: "Disaster recovery for Consul clusters", the form of `peers.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use openraft::entry::RaftEntry;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::{CommittedLeaderId, StorageHelper};
use serde::Deserialize;
use tracing::warn;
use weft_runtime::task::TaskTree;

use super::error::ConsensusError;
use super::log::Log;
use super::state_machine::StateMachine;
use super::types::{Entry, LogId, Member, NodeId};

/// The name of the file in the data directory.
const FILE: &str = "peers.json";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// As `weft operator raft list-peers` shows it.
    id: String,
    /// `host:port` of its RPC door.
    address: String,
    /// Its node name; that of before when left out.
    name: Option<String>,
    #[serde(default)]
    non_voter: bool,
}

/// Who is left.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    voters: BTreeSet<NodeId>,
    nodes: BTreeMap<NodeId, Member>,
}

/// Reads the file; `known` are the members of before. The words of an error follow the path.
fn read(text: &str, me: NodeId, known: &BTreeMap<NodeId, Member>) -> Result<Left, String> {
    let lines: Vec<Line> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut left = Left { voters: BTreeSet::new(), nodes: BTreeMap::new() };
    for line in lines {
        let id = u64::from_str_radix(&line.id, 16)
            .map_err(|_| format!("id: {:?} is not the id of a server", line.id))?;
        let before = known.get(&id);
        let name = line.name.or_else(|| before.map(|member| member.name.clone()));
        let name = name.ok_or_else(|| format!("name: say that of {:?}, it is new", line.id))?;
        if left.nodes.values().any(|member| member.address == line.address) {
            return Err(format!("address: {:?} stands twice", line.address));
        }
        let is_read_replica = before.is_some_and(|member| member.is_read_replica);
        let member = Member { name, address: line.address, is_read_replica };
        if left.nodes.insert(id, member).is_some() {
            return Err(format!("id: {:?} stands twice", line.id));
        }
        if !line.non_voter && !is_read_replica {
            left.voters.insert(id);
        }
    }
    if left.voters.is_empty() {
        return Err("it names no voter".to_owned());
    }
    if !left.nodes.contains_key(&me) {
        return Err(format!("it does not name this server, whose id is {me:016x}"));
    }
    Ok(left)
}

/// Makes what the file says the newest membership, if there is a file.
pub(super) async fn recover(
    dir: &Path,
    me: NodeId,
    (log, machine): (&mut Log, &mut StateMachine),
    tasks: &TaskTree,
) -> Result<(), ConsensusError> {
    let path = dir.join(FILE);
    let failed = |reason: String| ConsensusError::Recovery { path: path.clone(), reason };
    let of_read = path.clone();
    let text = tasks.blocking(move || std::fs::read_to_string(&of_read)).await;
    let text = match text.map_err(|failure| failed(failure.message))? {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error.to_string())),
    };
    let state = StorageHelper::new(log, machine).get_membership().await;
    let before = state.map_err(|error| failed(error.to_string()))?;
    let known = before.effective().nodes().map(|(id, member)| (*id, member.clone())).collect();
    let left = read(&text, me, &known).map_err(failed)?;
    let end = log.get_log_state().await.map_err(|error| failed(error.to_string()))?;
    // The vote is never older than the end of the log.
    let vote = log.read_vote().await.map_err(|error| failed(error.to_string()))?;
    let vote = vote.unwrap_or_default();
    let leader = CommittedLeaderId::new(
        vote.leader_id().term,
        vote.leader_id().voted_for().unwrap_or_default(),
    );
    let index = end.last_log_id.map_or(0, |last| last.index + 1);
    warn!(
        voters = left.voters.len(),
        members = left.nodes.len(),
        index,
        "recovering: the members are those of peers.json from now on"
    );
    let membership = openraft::Membership::new(vec![left.voters], left.nodes);
    let entry = Entry::new_membership(LogId::new(leader, index), membership);
    log.blocking_append([entry]).await.map_err(|error| failed(error.to_string()))?;
    // Read once. Should it be there again after a crash, it says the same again.
    let of_removal = path.clone();
    let removed = tasks.blocking(move || remove(&of_removal)).await;
    removed.map_err(|failure| failed(failure.message))?.map_err(failed)
}

fn remove(path: &PathBuf) -> Result<(), String> {
    std::fs::remove_file(path).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, address: &str) -> Member {
        Member { name: name.to_owned(), address: address.to_owned(), is_read_replica: false }
    }

    #[test]
    fn who_is_left_is_read_and_faults_are_named() {
        let known = BTreeMap::from([(0xa1, member("s1", "10.0.0.1:8300"))]);
        let one = r#"[{"id": "00000000000000a1", "address": "10.0.0.9:8300"}]"#;
        let left = read(one, 0xa1, &known).expect("one is left");
        assert_eq!(left.nodes[&0xa1], member("s1", "10.0.0.9:8300"), "its name is known");
        assert_eq!(left.voters, BTreeSet::from([0xa1]));
        for (text, reason) in [
            ("[]", "it names no voter"),
            ("{", "expected a sequence"),
            (r#"[{"id": "a1", "address": "a:1", "vote": true}]"#, "unknown field"),
            (r#"[{"id": "x", "address": "a:1"}]"#, "id: \"x\" is not the id"),
            (r#"[{"id": "b2", "address": "a:1"}]"#, "name: say that of \"b2\""),
            (r#"[{"id": "a1", "address": "a:1", "non_voter": true}]"#, "it names no voter"),
            (r#"[{"id": "b2", "address": "a:1", "name": "s2"}]"#, "does not name this server"),
            (
                r#"[{"id": "a1", "address": "a:1"}, {"id": "b2", "address": "a:1", "name": "s2"}]"#,
                "address: \"a:1\" stands twice",
            ),
            (
                r#"[{"id": "a1", "address": "a:1"}, {"id": "a1", "address": "a:2"}]"#,
                "id: \"a1\" stands twice",
            ),
        ] {
            let error = read(text, 0xa1, &known).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
