//! Putting the state of a saved snapshot in the place of the present one, on every server at the
//! same entry of the log.
//!
//! The snapshot comes in pieces, as one entry does not hold it. What it says is read by the
//! caller, in whose form it is written; what of it is taken is decided here.

use std::sync::Arc;

use bytes::Bytes;
use imbl::Vector;
use serde::{Deserialize, Serialize};

use super::{Answer, Refusal, State};
use crate::index::Index;
use crate::limits;

/// One step of a restore. A new one ends what came before of another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum RestoreCommand {
    /// Forgets what came.
    Abandon {
        /// Which restore.
        id: String,
    },
    /// Announces a snapshot.
    Begin {
        /// Names the restore; a UUID.
        id: String,
        /// Bytes of the snapshot.
        bytes: u64,
    },
    /// Puts the snapshot in force: needs [`State::restoring`] and [`State::restored`].
    Finish {
        /// Which restore.
        id: String,
    },
    /// Brings the next bytes.
    Piece {
        /// Which restore.
        id: String,
        /// Where they belong; a piece that came already is passed over.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
}

/// What has come of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Restoring {
    id: String,
    bytes: u64,
    received: u64,
    pieces: Vector<Bytes>,
}

impl State {
    /// Carries out a step.
    pub(super) fn restore(&mut self, command: RestoreCommand) -> Result<Answer, Refusal> {
        match command {
            RestoreCommand::Abandon { id } => {
                if self.restoring.as_ref().is_some_and(|restoring| restoring.id == id) {
                    self.restoring = None;
                }
            }
            RestoreCommand::Begin { id, bytes } => {
                if bytes > limits::SNAPSHOT_BYTES_MAX {
                    return Err(refused(format!(
                        "the snapshot has {bytes} bytes, at most {} are taken",
                        limits::SNAPSHOT_BYTES_MAX
                    )));
                }
                let is_known = self.restoring.as_ref().is_some_and(|it| it.id == id);
                if !is_known {
                    let restoring = Restoring { id, bytes, received: 0, pieces: Vector::new() };
                    self.restoring = Some(Arc::new(restoring));
                }
            }
            RestoreCommand::Finish { .. } => {
                return Err(refused("a snapshot is put in force by its reader alone".to_owned()));
            }
            RestoreCommand::Piece { id, offset, bytes } => {
                let restoring = self.restoring.as_mut().filter(|restoring| restoring.id == id);
                let Some(restoring) = restoring else { return Err(overtaken()) };
                let restoring = Arc::make_mut(restoring);
                // A write that was sent twice, as nobody knew what became of it.
                let is_new = offset == restoring.received;
                if is_new && offset + bytes.len() as u64 <= restoring.bytes {
                    restoring.received += bytes.len() as u64;
                    restoring.pieces.push_back(bytes);
                } else if offset >= restoring.received {
                    return Err(refused("a piece of the snapshot is missing".to_owned()));
                }
            }
        }
        Ok(Answer::Done { changed: false })
    }

    /// Returns the snapshot that has come.
    ///
    /// # Errors
    /// [`Refusal::Restore`] when another restore took its place, or a part is missing.
    pub fn restoring(&self, id: &str) -> Result<Vec<u8>, Refusal> {
        let restoring = self.restoring.as_ref().filter(|restoring| restoring.id == id);
        let restoring = restoring.ok_or_else(overtaken)?;
        if restoring.received != restoring.bytes {
            return Err(refused("a part of the snapshot has not come".to_owned()));
        }
        Ok(restoring.pieces.iter().flat_map(|piece| piece.iter().copied()).collect())
    }

    /// Returns the state that takes the place of this one: all that the snapshot holds, but the
    /// cluster's identity, its CA and its join tokens stay. Certificates in use were signed
    /// by these roots, and a token that was used up must not be good again.
    ///
    /// Differs: Consul restores its CA too.
    ///
    /// # Errors
    /// [`Refusal::Restore`] when the snapshot is of another cluster, or of this one's future.
    pub fn restored(&self, index: Index, snapshot: Self) -> Result<Self, Refusal> {
        let id_of = |state: &Self| state.cluster.as_ref().map(|cluster| cluster.id.clone());
        let (ours, theirs) = (id_of(self), id_of(&snapshot));
        if ours != theirs {
            let name = |id: Option<String>| id.unwrap_or_else(|| "none".to_owned());
            return Err(refused(format!(
                "the snapshot is of cluster {}, this is cluster {}; to take another cluster's \
                 content over all the same, restore it with --foreign",
                name(theirs),
                name(ours)
            )));
        }
        if snapshot.index >= index {
            return Err(refused(format!(
                "the snapshot is of entry {}, which is yet to come here: this cluster was put \
                 together from older data",
                snapshot.index.0
            )));
        }
        let mut state = Self {
            index,
            cluster: self.cluster.clone(),
            ca_settings: self.ca_settings.clone(),
            roots: self.roots.clone(),
            roots_retired: self.roots_retired.clone(),
            join_tokens: self.join_tokens.clone(),
            // Commands on their way are those of this cluster as it is.
            recent: self.recent.clone(),
            restored_at: index,
            restoring: None,
            ..snapshot
        };
        state.rows.roots = self.rows.roots;
        state.operator.keep_revocations(&self.operator);
        Ok(state)
    }

    /// Returns when a snapshot was last put in force: nothing in the state may be said to have
    /// changed last before that.
    pub fn restored_at(&self) -> Index {
        self.restored_at
    }
}

fn refused(reason: String) -> Refusal {
    Refusal::Restore { reason }
}

fn overtaken() -> Refusal {
    refused("another restore was begun".to_owned())
}
