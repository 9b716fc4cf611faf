//! What clients do: registers read, written, compared and set, deleted and watched; transactions;
//! a lock that several want.
//!
//! `register` and `txn` are what one client of registers does, `store` where those are kept,
//! `watcher` who follows one, `lock` who takes the lock.

mod lock;
mod register;
mod store;
mod txn;
mod watcher;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;
use weft_runtime::tls::rustls::ClientConfig;

pub(crate) use self::lock::{LOCK, TTL};
pub(crate) use self::store::Store;
use crate::client::join;
use crate::cluster::SharedBoard;
use crate::history::{Place, SharedHistory};
use crate::host::Process;

/// The node of the clients.
const NODE: &str = "n1";
/// Registers in use at once in each store; others take their place with the next epoch.
const KEYS: usize = 2;
/// Calls of one epoch: a history that can be searched whole.
const CALLS: usize = 200;
/// Clients that read and write registers.
const CLIENTS: usize = 4;
/// Clients that take the lock.
const TAKERS: usize = 3;

/// What the scenario tells the clients.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// Which registers are in use.
    pub(crate) epoch: u64,
    /// Calls on them.
    pub(crate) calls: usize,
    pub(crate) is_over: bool,
    /// Clients that have not ended.
    pub(crate) busy: usize,
    /// How many servers there are.
    pub(crate) servers: usize,
}

impl Control {
    /// Puts other registers in use.
    pub(crate) fn next_epoch(&mut self) {
        self.epoch += 1;
        self.calls = 0;
    }
}

pub(crate) type SharedControl = Arc<Mutex<Control>>;

/// What the process of the clients' host shares.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) board: SharedBoard,
    pub(crate) control: SharedControl,
    pub(crate) history: SharedHistory,
    pub(crate) seed: u64,
}

/// Makes the process of the clients' host.
pub(crate) fn clients(desk: Desk) -> Process {
    Arc::new(move || {
        let desk = desk.clone();
        Box::pin(async move {
            let tls = become_member(&desk).await;
            desk.control.lock().busy += CLIENTS + TAKERS;
            for client in 0..CLIENTS {
                tokio::spawn(register::run(desk.clone(), client, tls.clone()));
            }
            for client in CLIENTS..CLIENTS + TAKERS {
                tokio::spawn(lock::run(desk.clone(), client, tls.clone()));
            }
            let mut watched = 0;
            loop {
                // The registers of each epoch are watched from its start to the end of the run.
                let epoch = desk.control.lock().epoch;
                while watched <= epoch {
                    for register in registers(watched) {
                        tokio::spawn(watcher::run(desk.clone(), register, tls.clone()));
                    }
                    watched += 1;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
    })
}

async fn become_member(desk: &Desk) -> Arc<ClientConfig> {
    loop {
        let token = desk.board.lock().agent_token.clone();
        if let Some(token) = token {
            match join(&token, NODE).await {
                Ok(tls) => return tls,
                Err(error) => tracing::debug!(%error, "not joined yet"),
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The registers of an epoch.
pub(crate) fn registers(epoch: u64) -> Vec<Place> {
    let places = ["r", "k"].into_iter().flat_map(|store| {
        (0..KEYS).map(move |at| Place { object: format!("{store}{epoch}-{at}"), cell: 0 })
    });
    places.collect()
}

/// The object of an epoch that transactions write.
fn pair(epoch: u64) -> String {
    format!("p{epoch}")
}

/// Draws a register of an epoch, or none for the object of the transactions.
fn draw(epoch: u64, rng: &mut StdRng) -> Option<Place> {
    let mut all = registers(epoch);
    let at = rng.random_range(0..=all.len());
    (at < all.len()).then(|| all.swap_remove(at))
}
