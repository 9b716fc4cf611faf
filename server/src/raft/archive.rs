//! Snapshots for operators: saved from the present state, restored through the log.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use bytes::Bytes;
use openraft::CommittedLeaderId;
use tokio::sync::mpsc;
use weft_core::state::State;
use weft_runtime::task::{TaskFailure, TaskTree};

use super::consensus::Consensus;
use super::snapshot::{self, NotASnapshot};
use super::types::{LogId, SnapshotMeta};

/// Bytes that are handed on at a time.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces made before the reader must have taken one: what a slow reader costs in memory.
const PIECES_AHEAD: usize = 4;

/// What a snapshot says of itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SnapshotInfo {
    /// The last index in it.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
    /// Its bytes.
    pub size: u64,
    /// The id of the cluster that it is of.
    pub cluster: Option<String>,
    /// The digest of the state in it.
    pub digest: String,
    /// How many records of each kind there are, by kind.
    pub records: Vec<(&'static str, usize)>,
}

/// Reads a snapshot whole.
///
/// # Errors
/// [`NotASnapshot`] when any of its bytes is not what was written.
pub fn inspect_snapshot(bytes: &[u8]) -> Result<SnapshotInfo, NotASnapshot> {
    let (meta, state) = snapshot::decode(bytes)?;
    Ok(SnapshotInfo {
        index: state.index().0,
        term: meta.last_log_id.map_or(0, |id| id.leader_id.term),
        size: bytes.len() as u64,
        cluster: state.cluster().map(|cluster| cluster.id.clone()),
        digest: snapshot::digest(&state),
        records: state.record_counts(),
    })
}

/// Reads the state in a snapshot.
///
/// # Errors
/// As [`inspect_snapshot`].
pub(crate) fn read_snapshot(bytes: &[u8]) -> Result<State, NotASnapshot> {
    Ok(snapshot::decode(bytes)?.1)
}

/// Saves snapshots of states.
#[derive(Clone)]
pub(crate) struct Archive {
    consensus: Consensus,
    tasks: TaskTree,
}

impl Archive {
    pub(crate) fn new(consensus: Consensus, tasks: TaskTree) -> Self {
        Self { consensus, tasks }
    }

    /// Writes down a state, piece by piece, as fast as the pieces are taken. The last one is
    /// an error when it could not be completed.
    pub(crate) fn save(&self, state: Arc<State>) -> mpsc::Receiver<io::Result<Bytes>> {
        let (pieces, taken) = mpsc::channel(PIECES_AHEAD);
        let meta = self.describe(&state);
        let work = self.tasks.blocking(move || {
            let mut writer = BufWriter::with_capacity(PIECE_BYTES, Pieces(pieces.clone()));
            let written = snapshot::write(&meta, &state, &mut writer).and_then(|()| writer.flush());
            if let Err(error) = written {
                // Whoever asked may have gone; then nobody hears it.
                let _ = pieces.blocking_send(Err(error));
            }
        });
        drop(work);
        taken
    }

    /// Returns the digest of a state.
    ///
    /// # Errors
    /// [`TaskFailure`] when the process is ending.
    pub(crate) async fn digest(&self, state: Arc<State>) -> Result<String, TaskFailure> {
        self.tasks.blocking(move || snapshot::digest(&state)).await
    }

    /// Reads a snapshot, apart from the async threads.
    ///
    /// # Errors
    /// [`TaskFailure`] when the process is ending.
    pub(crate) async fn inspect(
        &self,
        bytes: Bytes,
    ) -> Result<Result<SnapshotInfo, NotASnapshot>, TaskFailure> {
        self.tasks.blocking(move || inspect_snapshot(&bytes)).await
    }

    /// Makes of another cluster's snapshot one of this cluster, as it is now, apart from the
    /// async threads.
    ///
    /// # Errors
    /// [`TaskFailure`] when the process is ending.
    pub(crate) async fn take_over(
        &self,
        bytes: Bytes,
        ours: Arc<State>,
    ) -> Result<Result<Bytes, NotASnapshot>, TaskFailure> {
        let archive = self.clone();
        let work = move || {
            let theirs = read_snapshot(&bytes)?;
            let Some(cluster) = ours.cluster().cloned() else { return Ok(bytes) };
            let taken = theirs.to_snapshot().taken_over(cluster, ours.index());
            let state = State::from_snapshot(taken);
            let mut written = Vec::new();
            let meta = archive.describe(&state);
            // A vector takes every write.
            snapshot::write(&meta, &state, &mut written).map_err(|_| NotASnapshot::Content)?;
            Ok(Bytes::from(written))
        };
        self.tasks.blocking(work).await
    }

    fn describe(&self, state: &State) -> SnapshotMeta {
        let metrics = self.consensus.raft.metrics();
        let metrics = metrics.borrow();
        let index = state.index().0;
        let leader = CommittedLeaderId::new(metrics.current_term, metrics.id);
        SnapshotMeta {
            last_log_id: Some(LogId::new(leader, index)),
            last_membership: (*metrics.membership_config).clone(),
            snapshot_id: format!("{}-{index}", metrics.current_term),
        }
    }
}

/// Hands on what is written.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
