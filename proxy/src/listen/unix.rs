//! Unix sockets where the local instance calls: one for all workers, as the kernel does not
//! spread connections over several at one path.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use weft_core::local_address::SocketPath;
use weft_runtime::net::{ListeningSocket, LocalListener, SocketFile, listen_unix};

/// The sockets that workers share. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct UnixDoors(Arc<Mutex<BTreeMap<SocketPath, Weak<UnixDoor>>>>);

/// One socket; its file goes with the last worker that accepts there.
#[derive(Debug)]
pub(super) struct UnixDoor {
    /// `None` for what another process has opened. The first to go: nobody else takes the path
    /// while somebody listens there.
    file: Mutex<Option<SocketFile>>,
    socket: ListeningSocket,
    /// The number of the tenant whose callers come here.
    owner: u64,
}

impl UnixDoors {
    /// Finds, takes over or opens a socket.
    ///
    /// # Errors
    /// Those of the operating system.
    pub(super) fn open(
        &self,
        (path, mode): (&SocketPath, u32),
        inherited: Option<ListeningSocket>,
        owner: u64,
    ) -> io::Result<Arc<UnixDoor>> {
        let mut doors = self.0.lock();
        doors.retain(|_, door| door.strong_count() > 0);
        match doors.get(path).and_then(Weak::upgrade) {
            Some(door) if door.owner == owner => return Ok(door),
            Some(_) => {
                let text = format!("another service of this host listens at {path}");
                return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
            }
            None => {}
        }
        let (socket, file) = match inherited {
            Some(socket) => (socket, None),
            None => listen_unix(path, mode).map(|(socket, file)| (socket, Some(file)))?,
        };
        let door = Arc::new(UnixDoor { socket, file: Mutex::new(file), owner });
        doors.insert(path.clone(), Arc::downgrade(&door));
        Ok(door)
    }
}

impl UnixDoor {
    /// Returns a handle for the worker of the calling thread.
    ///
    /// # Errors
    /// Those of the operating system, such as too many open files.
    pub(super) fn listener(&self) -> io::Result<LocalListener> {
        self.socket.try_clone()?.into_listener()
    }

    /// Leaves the file to another process, which accepts there from now on.
    pub(super) fn leave(&self) {
        self.file.lock().iter_mut().for_each(SocketFile::leave);
    }

    /// Gives the file another mode.
    pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.file.lock().as_ref().map_or(Ok(()), |file| file.set_mode(mode))
    }
}
