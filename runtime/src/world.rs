//! The seam of the simulation: what stands in for the outside world on a thread that simulates
//! it. Only there with the feature `sim`; no program that we ship has it.
//!
//! The doors (`clock`, `disk`, `entropy`, `net`, `store`, `task`) ask here first. A world belongs to one
//! simulated host; the simulation enters it before that host runs, and leaves it afterwards.

use std::cell::RefCell;
use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use weft_core::time::Timestamp;

use crate::disk::{Disk, RealDisk};
use crate::store::Twin;

/// One simulated host, as what runs on it sees the outside.
pub trait World: Send + Sync {
    /// Returns the wall time; it may jump.
    fn wall(&self) -> Timestamp;

    /// Fills the bytes from the seed.
    fn fill(&self, bytes: &mut [u8]);

    /// Listens on an address of this host.
    ///
    /// # Errors
    /// `AddrInUse` when something of this host listens there.
    fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn WorldListener>>;

    /// Connects to `ip:port`.
    fn connect(&self, host_port: &str) -> BoxFuture<'static, io::Result<Box<dyn WorldStream>>>;

    /// Returns the disk of the log and of snapshots. Its content must outlive a crash as far as
    /// the simulation wants it to; what is here by itself outlives every crash.
    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(RealDisk)
    }

    /// Returns what the store in a directory keeps over a crash.
    fn twin(&self, dir: &Path) -> Twin;

    /// Returns what [`crate::knob`] gives under a name; `None` for the usual number.
    fn knob(&self, name: &'static str) -> Option<u64>;

    /// Returns how long the disk takes for the next group of writes.
    fn disk_pause(&self) -> Duration;
}

/// A listener of a simulated network.
pub trait WorldListener: Send + Sync + Debug {
    /// Returns the address.
    fn local_addr(&self) -> SocketAddr;

    /// Waits for the next connection.
    ///
    /// # Cancel safety
    /// May be dropped and called again at any time.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn WorldStream>, SocketAddr)>>;
}

/// A connection of a simulated network.
pub trait WorldStream: AsyncRead + AsyncWrite + Unpin + Send + Debug {
    /// Returns the address of the other end.
    fn peer_addr(&self) -> SocketAddr;
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<dyn World>>> = const { RefCell::new(None) };
}

/// Leaves the world when dropped.
#[derive(Debug)]
pub struct Entered {
    before: Option<Before>,
    /// It belongs to the thread.
    _not_send: PhantomData<*const ()>,
}

struct Before(Option<Arc<dyn World>>);

impl Debug for Before {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Before").finish_non_exhaustive()
    }
}

/// Makes a world that of this thread until the guard is dropped.
#[must_use]
pub fn enter(world: Arc<dyn World>) -> Entered {
    let before = CURRENT.with(|current| current.borrow_mut().replace(world));
    Entered { before: Some(Before(before)), _not_send: PhantomData }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(Before(before)) = self.before.take() {
            CURRENT.with(|current| *current.borrow_mut() = before);
        }
    }
}

/// Returns the world of this thread, `None` outside a simulation.
pub fn current() -> Option<Arc<dyn World>> {
    CURRENT.with(|current| current.borrow().clone())
}
