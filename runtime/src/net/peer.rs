//! The process at the other end of a unix socket: which one it is, and whether it still is.
//!
//! A number of a process is used again after its end. What is said here of a process was read
//! while a handle of the kernel held it to be the one that connected.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::UnixStream;

/// The process that connected to a unix socket.
#[derive(Debug)]
pub struct PeerProcess {
    uid: u32,
    gid: u32,
    pid: i32,
    /// Readable once the process has ended.
    handle: OwnedFd,
}

/// Returns the user as which this process runs.
pub fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Returns the user who connected to a unix socket, or on the side that connects the user who began to
/// listen there. The process itself may have ended.
///
/// # Errors
/// Those of the operating system.
///
/// **Source**: unix(7), `SO_PEERCRED`.
pub fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
    Ok(getsockopt(stream, sockopt::PeerCredentials)?.uid())
}

/// States why it is not known who is at the other end.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The process has ended; somebody else may have its end of the connection, or its number.
    #[error("the process {pid} that connected has ended")]
    Ended {
        /// The number that it had.
        pid: i32,
    },
    /// The process cannot be seen from here: it runs in a world of its own.
    #[error("the process that connected cannot be seen from here")]
    Hidden,
    /// The system does not tell.
    #[error("the system does not tell who connected")]
    System(#[source] io::Error),
}

impl PeerProcess {
    /// Finds out who connected, by what the kernel noted then.
    ///
    /// # Errors
    /// [`PeerError`].
    ///
    /// **Source**: unix(7), `SO_PEERCRED`; `SO_PEERPIDFD` (Linux 6.5); pidfd_open(2).
    pub fn of(stream: &UnixStream) -> Result<Self, PeerError> {
        let credentials = getsockopt(stream, sockopt::PeerCredentials);
        let credentials = credentials.map_err(|error| PeerError::System(error.into()))?;
        let (uid, gid, pid) = (credentials.uid(), credentials.gid(), credentials.pid());
        if pid <= 0 {
            return Err(PeerError::Hidden);
        }
        let handle = match getsockopt(stream, sockopt::PeerPidfd) {
            Ok(handle) => Self { uid, gid, pid, handle },
            Err(Errno::ESRCH | Errno::ENODATA) => return Err(PeerError::Ended { pid }),
            // An older kernel.
            Err(Errno::ENOPROTOOPT) => Self::by_number((uid, gid, pid))?,
            Err(error) => return Err(PeerError::System(error.into())),
        };
        handle.check()?;
        Ok(handle)
    }

    /// Takes the process that has the number now. It may have got it after the connection was
    /// made; it is the same one as far as it runs as the same user and group.
    fn by_number((uid, gid, pid): (u32, u32, i32)) -> Result<Self, PeerError> {
        let number = Pid::from_raw(pid).ok_or(PeerError::Hidden)?;
        let handle = match pidfd_open(number, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Err(PeerError::Ended { pid }),
            Err(error) => return Err(PeerError::System(error.into())),
        };
        let peer = Self { uid, gid, pid, handle };
        let status = peer.read("status")?;
        let runs_as = |name: &str, id: u32| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            // The real one, and the one that the kernel notes: the effective.
            line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()) == Some(id)
        };
        match runs_as("Uid:", uid) && runs_as("Gid:", gid) {
            true => Ok(peer),
            false => Err(PeerError::Ended { pid }),
        }
    }

    /// Returns the user as which it connected.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Returns the group as which it connected.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Returns its number. Whatever is read by it may be of another process.
    pub fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// Returns what the kernel says of its control groups, as `/proc/PID/cgroup` has it now.
    ///
    /// # Errors
    /// [`PeerError`], also when the process ended meanwhile.
    pub fn cgroup(&self) -> Result<String, PeerError> {
        self.read("cgroup")
    }

    /// Reads a file of the process in `/proc`, which the kernel makes up in memory.
    fn read(&self, file: &str) -> Result<String, PeerError> {
        let read = std::fs::read_to_string(format!("/proc/{}/{file}", self.pid));
        // After the reading: the number has been its own all the time if it still lives.
        self.check()?;
        read.map_err(PeerError::System)
    }

    fn check(&self) -> Result<(), PeerError> {
        let handle = self.handle.as_fd();
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&at_once));
        match ready.map_err(|error| PeerError::System(error.into()))? {
            0 => Ok(()),
            _ => Err(PeerError::Ended { pid: self.pid }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use tempfile::TempDir;

    use super::*;
    use crate::net::{UnixListener, bind_unix};

    const SOCKET: &str = "WEFT_TEST_SOCKET";

    /// Run in a process of its own by the tests below: connects, and stays until it is killed.
    #[test]
    fn connects_when_it_is_told_where() {
        let Some(path) = std::env::var_os(SOCKET) else { return };
        let _stream = std::os::unix::net::UnixStream::connect(path).expect("somebody listens");
        // Its standard input never ends by itself.
        let _ = std::io::stdin().read_line(&mut String::new());
    }

    struct Door {
        listener: UnixListener,
        folder: TempDir,
    }

    impl Door {
        fn open() -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let listener = bind_unix(&folder.path().join("s"), 0o600).expect("a socket");
            Self { listener, folder }
        }

        async fn caller(&self) -> (Child, UnixStream) {
            let this = std::env::current_exe().expect("this program has a path");
            let child = Command::new(this)
                .args(["--exact", "net::peer::tests::connects_when_it_is_told_where"])
                .env(SOCKET, self.folder.path().join("s"))
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .expect("this program can be started");
            let (stream, _) = self.listener.accept().await.expect("it connects");
            (child, stream)
        }
    }

    fn end(mut child: Child) {
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
    }

    #[tokio::test]
    async fn a_caller_is_known_until_it_ends() {
        let (child, stream) = Door::open().caller().await;
        let peer = PeerProcess::of(&stream).expect("it lives");
        assert_eq!(peer.pid(), child.id());
        assert_eq!(peer.uid(), rustix::process::getuid().as_raw());
        assert_eq!(peer.gid(), rustix::process::getgid().as_raw());
        let own = std::fs::read_to_string("/proc/self/cgroup").expect("this process has groups");
        assert_eq!(peer.cgroup().expect("it lives"), own);
        end(child);
        assert!(matches!(peer.cgroup(), Err(PeerError::Ended { .. })));
    }

    #[tokio::test]
    async fn a_caller_that_died_before_it_was_looked_at_is_refused() {
        let (child, stream) = Door::open().caller().await;
        end(child);
        let refused = PeerProcess::of(&stream);
        assert!(matches!(refused, Err(PeerError::Ended { .. })), "{refused:?}");
    }

    #[tokio::test]
    async fn where_the_kernel_has_no_handle_a_number_that_was_taken_over_is_refused() {
        let (child, stream) = Door::open().caller().await;
        let peer = PeerProcess::of(&stream).expect("it lives");
        let of = (peer.uid(), peer.gid(), peer.pid);
        assert_eq!(PeerProcess::by_number(of).expect("it lives").pid(), child.id());
        // Who has the number now is somebody else's.
        let others = (peer.uid() + 1, peer.gid(), peer.pid);
        assert!(matches!(PeerProcess::by_number(others), Err(PeerError::Ended { .. })));
        end(child);
        assert!(matches!(PeerProcess::by_number(of), Err(PeerError::Ended { .. })));
    }
}
