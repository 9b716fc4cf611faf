//! Queries over TCP: a bounded number of callers, each with a bounded patience.
//!
//! **Source**: RFC 7766 §6.2.1 (many queries on one connection), §6.2.3 (idle ones are closed).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_server::net::xfer::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};
use weft_core::limits;
use weft_runtime::task::TaskTree;
use weft_runtime::{clock, entropy, net};

use super::front::Front;
use super::handler::Handler;
use super::prepared::Desk;

/// How long a caller may be silent, or slow to read.
pub(super) const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// The pause after the system had no connection to give: its want passes only with time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes before a message that tell its length (RFC 1035 §4.2.2).
const LENGTH_BYTES: usize = 2;
/// Bytes of queries that are taken at once, and of answers that are sent at once.
const ROOM_BYTES: usize = 16 << 10;

/// What queries over TCP meet.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) front: Front,
    pub(super) handler: Arc<Handler>,
}

/// Serves callers until the tasks are cancelled; when there are too many, further ones wait in
/// the system's queue.
pub(super) async fn serve(listener: net::TcpListener, streams: Streams, tasks: TaskTree) {
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
                let (streams, token) = (streams.clone(), tasks.token());
                tasks.spawn("caller", async move {
                    let _place = place;
                    tokio::select! {
                        () = token.cancelled() => {}
                        ended = converse(stream, caller, &streams) => {
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

/// Answers one caller's queries in order, until it ends or is too slow. Queries that came together
/// are answered together.
async fn converse(
    mut stream: net::TcpStream,
    caller: SocketAddr,
    streams: &Streams,
) -> io::Result<()> {
    let mut desk = Desk::new(Box::new(entropy::rng()));
    let mut came = Vec::with_capacity(ROOM_BYTES);
    let mut answers = Vec::with_capacity(ROOM_BYTES);
    let mut until = clock::instant() + IDLE_LIMIT;
    loop {
        let patience = until.saturating_duration_since(clock::instant());
        if timeout(patience, stream.read_buf(&mut came)).await?? == 0 {
            return Ok(());
        }
        let (mut done, now) = (0, clock::instant());
        while let Some(query) = first_query(&came[done..]) {
            done += LENGTH_BYTES + query.len();
            let start = answers.len();
            answers.extend([0; LENGTH_BYTES]);
            if !streams.front.answer(query, (true, now), &mut desk, &mut answers) {
                let answer = streams.handler.respond(query.to_vec(), (caller, Protocol::Tcp)).await;
                let no_query = || io::Error::other("it sends something else than queries");
                answers.extend(answer.ok_or_else(no_query)?);
            }
            let length = answers.len() - start - LENGTH_BYTES;
            let length = u16::try_from(length).expect("no answer is longer than a message");
            answers[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
            if answers.len() >= ROOM_BYTES {
                write(&mut stream, &mut answers).await?;
            }
        }
        if done > 0 {
            // Whoever sends a byte now and then does not keep the place.
            until = now + IDLE_LIMIT;
            came.drain(..done);
        }
        write(&mut stream, &mut answers).await?;
    }
}

async fn write(stream: &mut net::TcpStream, answers: &mut Vec<u8>) -> io::Result<()> {
    timeout(IDLE_LIMIT, stream.write_all(answers)).await??;
    answers.clear();
    Ok(())
}

/// Returns the query at the front, when all of it has come.
fn first_query(came: &[u8]) -> Option<&[u8]> {
    let (length, rest) = came.split_first_chunk::<LENGTH_BYTES>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}
