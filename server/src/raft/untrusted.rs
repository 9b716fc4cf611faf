//! The decoders of what other servers and the disk say, for fuzzing.

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use weft_proto::envelope;

use super::call::{Call, CallError, Said};
use super::snapshot;
use super::types::{Entry, LogId, Member, NodeId, TypeConfig, Vote};

/// Reads bytes as a log entry, as the marks beside the log, and as every message of consensus.
pub fn raft(bytes: &[u8]) {
    let _ = envelope::decode::<Entry>(bytes);
    let _ = envelope::decode::<Vote>(bytes);
    let _ = envelope::decode::<LogId>(bytes);
    let _ = envelope::decode::<Member>(bytes);
    let _ = envelope::decode::<AppendEntriesRequest<TypeConfig>>(bytes);
    let _ = envelope::decode::<AppendEntriesResponse<NodeId>>(bytes);
    let _ = envelope::decode::<InstallSnapshotRequest<TypeConfig>>(bytes);
    let _ = envelope::decode::<InstallSnapshotResponse<NodeId>>(bytes);
    let _ = envelope::decode::<VoteRequest<NodeId>>(bytes);
    let _ = envelope::decode::<VoteResponse<NodeId>>(bytes);
    let _ = envelope::decode::<Call>(bytes);
    let _ = envelope::decode::<Result<Said, CallError>>(bytes);
}

/// Reads bytes as a snapshot's file, also with the checksum that they should have.
pub fn snapshot(bytes: &[u8]) {
    let _ = snapshot::decode(bytes);
    let mut mended = bytes.to_vec();
    mended.extend_from_slice(&crc32fast::hash(bytes).to_le_bytes());
    let _ = snapshot::decode(&mended);
}
