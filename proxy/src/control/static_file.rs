//! A snapshot from a file, for tests, measurements and looking into trouble.

use std::path::Path;

use weft_core::proxycfg::ProxySnapshot;

/// States why a file is not a snapshot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnreadableSnapshot {
    #[error("cannot read it")]
    Io(#[from] std::io::Error),
    #[error("it is not a snapshot in JSON")]
    Json(#[source] serde_json::Error),
    #[error("it is not a snapshot in binary form")]
    Envelope(#[source] weft_proto::envelope::InvalidEnvelope),
}

/// Reads a snapshot: JSON when it begins with a brace, else an envelope.
pub(super) fn read(path: &Path) -> Result<ProxySnapshot, UnreadableSnapshot> {
    let bytes = std::fs::read(path)?;
    if bytes.trim_ascii_start().starts_with(b"{") {
        serde_json::from_slice(&bytes).map_err(UnreadableSnapshot::Json)
    } else {
        weft_proto::envelope::decode(&bytes).map_err(UnreadableSnapshot::Envelope)
    }
}
