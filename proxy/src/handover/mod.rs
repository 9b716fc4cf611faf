//! From one process to the next: the running proxy gives its listening sockets to a new one of
//! the same program, and ends when its connections have.
//!
//! The new one asks (`take`), has its configuration put in force, and says so; only then does
//! the running one (`give`) stop accepting. If the new one fails before that, nothing has
//! changed. Both accept from the same sockets, so no connection that waits in them is lost.

mod estate;
mod give;
mod message;
mod standing;
mod succession;
mod take;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use estate::Estate;
pub(crate) use standing::Standing;
pub(crate) use succession::Succession;
use take::Heir;

/// How the proxy passes its listeners on, and whether it takes those of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandOver {
    /// The unix socket at which a running proxy of this workload gives.
    pub socket: PathBuf,
    /// Whether to take over from a running proxy, if there is one.
    pub takes_over: bool,
    /// How long connections may go on once another process has taken over.
    pub limit: Duration,
}

/// Who may use the socket: the user of the proxy.
const SOCKET_MODE: u32 = 0o600;
/// Who may use the folder of the socket.
const FOLDER_MODE: u32 = 0o700;

/// Opens the socket at which this proxy gives, in a folder that nobody else can write to.
pub(crate) fn open_door(path: &Path) -> std::io::Result<weft_runtime::net::UnixListener> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
        let found = std::fs::metadata(folder)?;
        let is_ours = found.uid() == weft_runtime::net::own_uid() || found.uid() == 0;
        if !is_ours || found.mode() & 0o022 != 0 {
            let text = format!("{} can be written to by others", folder.display());
            return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, text));
        }
    }
    weft_runtime::net::bind_unix(path, SOCKET_MODE)
}
