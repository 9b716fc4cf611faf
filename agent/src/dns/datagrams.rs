//! Queries over UDP: threads that take them in batches and answer what is ready; tasks for the
//! rest.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_server::net::xfer::Protocol;
use tokio::sync::Semaphore;
use tracing::{debug, error};
use weft_core::limits;
use weft_runtime::net::{Batch, DatagramSocket};
use weft_runtime::task::TaskTree;
use weft_runtime::telemetry::metrics::Counter;
use weft_runtime::{clock, entropy};

use super::front::Front;
use super::handler::Handler;
use super::prepared::Desk;
use super::sources::{Sources, Verdict};

/// How long a thread waits for queries before it looks whether it is to end.
const WAIT_MAX: Duration = Duration::from_millis(250);
/// The pause after the system failed to give what came; its want passes only with time.
const FAULT_PAUSE: Duration = Duration::from_millis(100);

/// What queries over UDP meet; clones share it.
#[derive(Clone)]
pub(super) struct Datagrams {
    pub(super) front: Front,
    pub(super) handler: Arc<Handler>,
    pub(super) sources: Arc<Sources>,
    /// Queries that were not answered.
    pub(super) dropped: Counter,
    pub(super) tasks: TaskTree,
}

impl Datagrams {
    /// Answers what comes to each socket, until the tasks are cancelled.
    ///
    /// # Errors
    /// Those of the system on preparing a socket.
    pub(super) fn serve(self, sockets: &[DatagramSocket]) -> io::Result<()> {
        let places = Arc::new(Semaphore::new(limits::DNS_QUERIES_AT_WORK_MAX));
        for socket in sockets {
            // Made once here, so that a fault is told at the start.
            drop(socket.batch(WAIT_MAX)?);
            let (own, socket, places) = (self.clone(), socket.clone(), places.clone());
            self.tasks.thread("dns-udp", move || match socket.batch(WAIT_MAX) {
                Ok(batch) => own.run(batch, &socket, &places),
                Err(failure) => error!(error = %failure, "a DNS socket cannot be used"),
            })?;
        }
        Ok(())
    }

    fn run(&self, mut batch: Batch, socket: &DatagramSocket, places: &Arc<Semaphore>) {
        let mut desk = Desk::new(Box::new(entropy::rng()));
        while !self.tasks.is_cancelled() {
            let mut came = None;
            let done = batch.exchange(|query, caller, answer| {
                let now = *came.get_or_insert_with(clock::instant);
                match self.sources.judge(caller.ip(), now) {
                    Verdict::Answer => {}
                    Verdict::Drop => {
                        self.dropped.inc();
                        return;
                    }
                    Verdict::Truncate => {
                        truncated(query, answer);
                        return;
                    }
                }
                if !self.front.answer(query, (false, now), &mut desk, answer) {
                    self.pass_on(query, (caller, socket), places);
                }
            });
            if let Err(failure) = done {
                error!(error = %failure, "DNS queries cannot be taken");
                std::thread::sleep(FAULT_PAUSE);
            }
        }
    }

    /// Has a query answered by a task.
    fn pass_on(
        &self,
        query: &[u8],
        (caller, socket): (SocketAddr, &DatagramSocket),
        places: &Arc<Semaphore>,
    ) {
        let Ok(place) = places.clone().try_acquire_owned() else {
            self.dropped.inc();
            return;
        };
        let (handler, socket, query) = (self.handler.clone(), socket.clone(), query.to_vec());
        self.tasks.spawn("query", async move {
            let _place = place;
            let Some(answer) = handler.respond(query, (caller, Protocol::Udp)).await else {
                return;
            };
            if let Err(failure) = socket.send_to(&answer, caller) {
                debug!(error = %failure, "a DNS answer could not be sent");
            }
        });
    }
}

/// Tells a caller to ask again over TCP, which proves its address.
fn truncated(query: &[u8], answer: &mut Vec<u8>) {
    let Some(plain) = super::plain::Plain::read(query) else { return };
    answer.extend_from_slice(&plain.id);
    answer.extend_from_slice(&[0x82 | u8::from(plain.wants_recursion), 0]);
    answer.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    answer.extend_from_slice(plain.question);
}
