//! A snapshot on its way: read from its file at the sender, gathered in memory at the receiver.

use std::io::{self, Cursor, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};
use weft_runtime::disk::DiskFile;

/// Bytes read from a file at a time: some 50 µs from the system's cache, so that the thread may
/// wait for it.
const PIECE_BYTES: usize = 256 << 10;

/// A snapshot's bytes.
#[derive(Debug)]
pub(crate) enum SnapshotData {
    /// In a file, to be read.
    File {
        /// The file.
        file: Box<dyn DiskFile>,
        /// Where the next byte is read.
        at: u64,
    },
    /// In memory, to be written and read.
    Memory(Cursor<Vec<u8>>),
}

impl SnapshotData {
    /// Returns all bytes. Blocks the thread.
    pub(in crate::raft) fn into_bytes(self) -> io::Result<Vec<u8>> {
        match self {
            Self::File { file, .. } => read_whole(&*file),
            Self::Memory(bytes) => Ok(bytes.into_inner()),
        }
    }
}

/// Reads a file. Blocks the thread.
pub(super) fn read_whole(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.bytes()?).map_err(io::Error::other)?];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

impl AsyncRead for SnapshotData {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::File { file, at } => {
                let piece = into.remaining().min(PIECE_BYTES);
                let read = file.read_at(*at, into.initialize_unfilled_to(piece))?;
                into.advance(read);
                *at += read as u64;
                Poll::Ready(Ok(()))
            }
            Self::Memory(bytes) => Pin::new(bytes).poll_read(context, into),
        }
    }
}

impl AsyncWrite for SnapshotData {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::File { .. } => Poll::Ready(Err(io::ErrorKind::ReadOnlyFilesystem.into())),
            Self::Memory(memory) => Pin::new(memory).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for SnapshotData {
    fn start_seek(self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        match self.get_mut() {
            Self::File { file, at } => {
                let (base, by) = match position {
                    SeekFrom::Start(offset) => (offset, 0),
                    SeekFrom::Current(by) => (*at, by),
                    SeekFrom::End(by) => (file.bytes()?, by),
                };
                *at = base.checked_add_signed(by).ok_or(io::ErrorKind::InvalidInput)?;
                Ok(())
            }
            Self::Memory(bytes) => Pin::new(bytes).start_seek(position),
        }
    }

    fn poll_complete(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        match self.get_mut() {
            Self::File { at, .. } => Poll::Ready(Ok(*at)),
            Self::Memory(bytes) => Pin::new(bytes).poll_complete(context),
        }
    }
}
