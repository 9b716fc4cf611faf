//! Queries over TCP: a bounded number of callers, each with a bounded patience.
//!
//! **Source**: RFC 7766 §6.2.1 (many queries on one connection), §6.2.3 (idle ones are closed).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::NetError;
use hickory_server::net::runtime::TokioTime;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponse;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};
use weft_core::limits;
use weft_runtime::net;
use weft_runtime::task::TaskTree;

use super::handler::Handler;

/// How long a caller may be silent, or slow to read.
pub(super) const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// The pause after the system had no connection to give: its want passes only with time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves callers until the tasks are cancelled; when there are too many, further ones wait in
/// the system's queue.
pub(super) async fn serve(listener: net::TcpListener, handler: Arc<Handler>, tasks: TaskTree) {
    let places = Arc::new(Semaphore::new(limits::DNS_TCP_CALLERS_MAX));
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await;
            let place = place.expect("nobody closes the semaphore");
            listener.accept().await.map(|(stream, caller)| (stream, caller, place))
        };
        // A place that is dropped is free again; a connection that was not accepted is still
        // in the queue.
        let accepted = tokio::select! {
            () = tasks.cancelled() => return,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, caller, place)) => {
                let (handler, token) = (handler.clone(), tasks.token());
                tasks.spawn("caller", async move {
                    let _place = place;
                    tokio::select! {
                        () = token.cancelled() => {}
                        ended = converse(stream, caller, &handler) => {
                            if let Err(error) = ended {
                                debug!(%caller, %error, "a DNS caller over TCP was left");
                            }
                        }
                    }
                });
            }
            Err(error) => {
                warn!(%error, "a DNS caller over TCP could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers one caller's queries in order, until it ends or is too slow.
async fn converse(
    mut stream: net::TcpStream,
    caller: SocketAddr,
    handler: &Handler,
) -> io::Result<()> {
    loop {
        let query = match timeout(IDLE_LIMIT, read(&mut stream)).await?? {
            Some(query) => query,
            None => return Ok(()),
        };
        let request =
            Request::from_bytes(query, caller, Protocol::Tcp).map_err(io::Error::other)?;
        let written = Written::default();
        handler.handle_request::<_, TokioTime>(&request, written.clone()).await;
        let answer = std::mem::take(&mut *written.bytes.lock());
        timeout(IDLE_LIMIT, stream.write_all(&answer)).await??;
    }
}

/// Reads one query, `None` at a clean end.
async fn read(stream: &mut net::TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut query = vec![0; usize::from(length)];
    stream.read_exact(&mut query).await?;
    Ok(Some(query))
}

/// Takes an answer as the bytes that go to the caller, with their length in front.
#[derive(Clone, Default)]
struct Written {
    bytes: Arc<Mutex<Vec<u8>>>,
}

#[async_trait::async_trait]
impl ResponseHandler for Written {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut message = Vec::with_capacity(512);
        let mut encoder = BinEncoder::new(&mut message);
        encoder.set_max_size(u16::MAX);
        let info = response.destructive_emit(&mut encoder)?;
        let length = u16::try_from(message.len()).expect("the encoder keeps to its maximum");
        let mut bytes = self.bytes.lock();
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&message);
        Ok(info)
    }
}
