//! Where QUIC's datagrams come in and go out: one socket for each worker on the address of callers, of
//! which the kernel chooses by the connection that a datagram names, so that a caller may change its
//! address; and one of each worker's own for calls.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use quinn::{
    AsyncTimer, AsyncUdpSocket, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig,
    Runtime, TokioRuntime,
};
use weft_runtime::net::{Headers, StdUdpSocket, bind_udp_for, bind_udp_group};
use weft_runtime::task::TaskTree;
use weft_runtime::{clock, entropy};

use super::DONE;
use super::called::Knock;
use super::link::Dialled;
use super::settings::{CallerConfig, ServerConfig};

/// Bytes of the ids that we give to connections.
const ID_BYTES: usize = 8;
/// Where a datagram has the first two bytes of its connection's id. A caller that does not know our
/// ids yet has drawn one, and so drawn a worker.
///
/// **Source**: Spec: RFC 9000 §17.2, §17.3.1.
const HEADERS: Headers = Headers { long_at: 6, short_at: 1 };

/// The sockets for callers of all workers. The first worker opens them, as it alone can tell whether
/// another process has the address.
#[derive(Debug)]
pub(crate) struct Docks {
    workers: usize,
    waiting: Mutex<BTreeMap<SocketAddr, Vec<Option<StdUdpSocket>>>>,
}

impl Docks {
    /// Makes the docks of so many workers.
    pub(crate) fn new(workers: usize) -> Self {
        Self { workers, waiting: Mutex::default() }
    }

    /// Opens a worker's socket on an address. `None` when there is none for it.
    ///
    /// # Errors
    /// Those of the operating system, which the first worker gets.
    pub(crate) fn open(
        &self,
        worker: usize,
        address: SocketAddr,
        config: &ServerConfig,
        tasks: &TaskTree,
    ) -> io::Result<Option<Berth>> {
        let mut waiting = self.waiting.lock();
        if worker == 0 {
            let sockets = bind_udp_group(address, self.workers, HEADERS)?;
            waiting.insert(address, sockets.into_iter().map(Some).collect());
        }
        let socket = waiting.get_mut(&address).and_then(|them| them.get_mut(worker)?.take());
        drop(waiting);
        let Some(socket) = socket else { return Ok(None) };
        let runtime: Arc<dyn Runtime> = Arc::new(WorkerRuntime { tasks: tasks.clone() });
        let mut endpoint = EndpointConfig::default();
        let ids = Ids { worker, workers: self.workers };
        endpoint.cid_generator(move || Box::new(ids));
        let endpoint = Endpoint::new(endpoint, Some(config.0.clone()), socket, runtime)?;
        Ok(Some(Berth { endpoint, address }))
    }

    /// Closes the sockets on an address that nobody has fetched: they are not wanted any more. For
    /// the first worker to say.
    pub(crate) fn forget(&self, address: SocketAddr) {
        self.waiting.lock().remove(&address);
    }
}

/// One worker's socket for callers.
#[derive(Debug, Clone)]
pub(crate) struct Berth {
    endpoint: Endpoint,
    address: SocketAddr,
}

impl Berth {
    /// Returns where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Meets callers otherwise from now on.
    pub(crate) fn set_config(&self, config: &ServerConfig) {
        self.endpoint.set_server_config(Some(config.0.clone()));
    }

    /// Waits for the next caller; `None` when there will be none.
    ///
    /// # Cancel safety
    /// Nobody is lost.
    pub(crate) async fn knock(&self) -> Option<Knock> {
        self.endpoint.accept().await.map(Knock::new)
    }

    /// Returns the connections that are open.
    pub(crate) fn connections(&self) -> usize {
        self.endpoint.open_connections()
    }

    /// Closes what is open, and waits until that has been said.
    pub(crate) async fn end(&self) {
        self.endpoint.close(DONE, b"");
        self.idle().await;
    }

    /// Waits until no connection is open.
    pub(crate) async fn idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

/// One worker's sockets for calls, opened when they are needed.
#[derive(Debug)]
pub(crate) struct Caller {
    tasks: TaskTree,
    /// For the first kind of addresses, and the other.
    endpoints: RefCell<[Option<Endpoint>; 2]>,
}

impl Caller {
    /// Makes those of a worker.
    pub(crate) fn new(tasks: TaskTree) -> Self {
        Self { tasks, endpoints: RefCell::default() }
    }

    /// Calls an address under a name, which is told in TLS.
    ///
    /// # Errors
    /// Those of the operating system, of the network and of the handshake.
    pub(crate) async fn call(
        &self,
        config: CallerConfig,
        address: SocketAddr,
        name: &str,
    ) -> io::Result<Dialled> {
        let endpoint = self.endpoint(address)?;
        let connecting =
            endpoint.connect_with(config.0, address, name).map_err(io::Error::other)?;
        let connection = connecting.await.map_err(|error| {
            let kind = match &error {
                quinn::ConnectionError::TimedOut => io::ErrorKind::TimedOut,
                quinn::ConnectionError::TransportError(_) => io::ErrorKind::InvalidData,
                quinn::ConnectionError::ConnectionClosed(_) => io::ErrorKind::ConnectionRefused,
                _ => io::ErrorKind::Other,
            };
            io::Error::new(kind, error)
        })?;
        Ok(Dialled { connection })
    }

    /// Closes what is open, and waits until that has been said.
    pub(crate) async fn end(&self) {
        let endpoints = self.endpoints.take();
        for endpoint in endpoints.iter().flatten() {
            endpoint.close(DONE, b"");
        }
        for endpoint in endpoints.iter().flatten() {
            endpoint.wait_idle().await;
        }
    }

    fn endpoint(&self, peer: SocketAddr) -> io::Result<Endpoint> {
        let place = &mut self.endpoints.borrow_mut()[usize::from(peer.is_ipv6())];
        if let Some(endpoint) = place {
            return Ok(endpoint.clone());
        }
        let runtime: Arc<dyn Runtime> = Arc::new(WorkerRuntime { tasks: self.tasks.clone() });
        let socket = bind_udp_for(peer)?;
        let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, runtime)?;
        Ok(place.insert(endpoint).clone())
    }
}

/// Draws ids that lead to one worker.
#[derive(Debug, Clone, Copy)]
struct Ids {
    worker: usize,
    workers: usize,
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_BYTES];
        entropy::fill(&mut id);
        let (worker, workers) = (self.worker as u16, self.workers.max(1) as u16);
        let drawn = u16::from_be_bytes([id[0], id[1]]);
        let low = drawn - drawn % workers;
        let number = low.checked_add(worker).unwrap_or_else(|| low - workers + worker);
        [id[0], id[1]] = number.to_be_bytes();
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

/// The library's view of a worker's runtime.
#[derive(Debug)]
struct WorkerRuntime {
    tasks: TaskTree,
}

impl Runtime for WorkerRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.tasks.spawn("datagrams of QUIC", future);
    }

    fn wrap_udp_socket(&self, socket: StdUdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        clock::instant()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_to_its_worker() {
        for (worker, workers) in [(0, 1), (0, 2), (1, 2), (6, 7), (255, 256)] {
            let mut ids = Ids { worker, workers };
            for _ in 0..1000 {
                let id = ids.generate_cid();
                let number = u16::from_be_bytes([id[0], id[1]]);
                assert_eq!(usize::from(number) % workers, worker);
            }
        }
    }
}
