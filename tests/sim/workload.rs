//! What clients do: registers read, written, compared and set, deleted and watched.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use weft_runtime::tls::rustls::ClientConfig;

use crate::client::{Client, Reply, join};
use crate::cluster::SharedBoard;
use crate::history::{Call, Outcome, SharedHistory, Sight};
use crate::host::Process;

/// Registers in use at once; others take their place with the next epoch.
pub(crate) const KEYS: usize = 3;
/// Calls of one epoch: a history that can be searched whole.
const CALLS: usize = 120;
/// Clients that read and write.
pub(crate) const CLIENTS: usize = 4;
/// How long a watch waits at most: not so short that a lost event would go unseen.
const WATCH_SECONDS: u64 = 300;

/// What the scenario tells the clients.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// Which registers are in use.
    pub(crate) epoch: u64,
    /// Calls on them.
    pub(crate) calls: usize,
    pub(crate) is_over: bool,
    /// The lives of the servers' processes.
    pub(crate) lives: Vec<u64>,
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
            for client in 0..CLIENTS {
                desk.control.lock().busy += 1;
                tokio::spawn(run_client(desk.clone(), client, tls.clone()));
            }
            let mut watched = 0;
            loop {
                // The registers of each epoch are watched from its start to the end of the run.
                let epoch = desk.control.lock().epoch;
                while watched <= epoch {
                    for at in 0..KEYS {
                        tokio::spawn(run_watcher(desk.clone(), key(watched, at), tls.clone()));
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
            match join(&token, "n1").await {
                Ok(tls) => return tls,
                Err(error) => tracing::debug!(%error, "not joined yet"),
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The name of a register.
pub(crate) fn key(epoch: u64, at: usize) -> String {
    format!("r{epoch}-{at}")
}

async fn run_client(desk: Desk, number: usize, tls: Arc<ClientConfig>) {
    let rng = StdRng::seed_from_u64(desk.seed ^ (number as u64 + 1));
    let mut session = Session { desk, number, client: Client::new(tls), rng, known: None };
    loop {
        let (epoch, is_over) = {
            let mut control = session.desk.control.lock();
            control.calls += 1;
            if control.calls > CALLS {
                control.next_epoch();
            }
            (control.epoch, control.is_over)
        };
        if is_over {
            break;
        }
        let key = key(epoch, session.rng.random_range(0..KEYS));
        session.act(&key).await;
        let pause = session.rng.random_range(5..60);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    session.desk.control.lock().busy -= 1;
}

struct Session {
    desk: Desk,
    number: usize,
    client: Client,
    rng: StdRng,
    /// The last register read, with its value and modify index.
    known: Option<(String, Option<(u64, u64)>)>,
}

impl Session {
    async fn act(&mut self, key: &str) {
        let servers = self.desk.control.lock().servers;
        let server = self.rng.random_range(0..servers);
        match self.rng.random_range(0..100) {
            0..40 => self.read(server, key, "").await,
            40..50 => self.read(server, key, "?consistent").await,
            50..62 => self.read_stale(server, key).await,
            62..80 => self.write(server, key).await,
            80..96 => self.compare_and_set(server, key).await,
            _ => self.delete(server, key).await,
        }
    }

    async fn read(&mut self, server: usize, key: &str, mode: &str) {
        let open = self.desk.history.lock().call(self.number, server, key, Call::Read);
        let reply = self.client.call(server, Method::GET, &path(key, mode), String::new()).await;
        let Some(value) = reply.ok().and_then(|reply| self.see(server, key, false, &reply)) else {
            return;
        };
        self.known = Some((key.to_owned(), value));
        let outcome = Outcome::Value(value.map(|(value, _)| value));
        self.desk.history.lock().returned(&open, outcome);
    }

    async fn read_stale(&mut self, server: usize, key: &str) {
        let path = path(key, "?stale");
        if let Ok(reply) = self.client.call(server, Method::GET, &path, String::new()).await {
            self.see(server, key, true, &reply);
        }
    }

    async fn write(&mut self, server: usize, key: &str) {
        let new = self.desk.history.lock().new_value();
        let open = self.desk.history.lock().call(self.number, server, key, Call::Write(new));
        let reply = self.client.call(server, Method::PUT, "/v1/config", body(key, new)).await;
        if let Some((StatusCode::OK, text)) = self.verdict(reply) {
            if text != "true" {
                self.odd(format!("a write of {key} was answered by {text:?}"));
            }
            self.desk.history.lock().returned(&open, Outcome::Done);
        }
    }

    async fn compare_and_set(&mut self, server: usize, key: &str) {
        let expect = match &self.known {
            Some((known, value)) if known == key => *value,
            Some(_) | None => None,
        };
        let new = self.desk.history.lock().new_value();
        let call = Call::Cas { expect: expect.map(|(value, _)| value), new };
        let open = self.desk.history.lock().call(self.number, server, key, call);
        let index = expect.map_or(0, |(_, index)| index);
        let path = format!("/v1/config?cas={index}");
        let reply = self.client.call(server, Method::PUT, &path, body(key, new)).await;
        match self.verdict(reply) {
            Some((StatusCode::OK, text)) if text == "true" => {
                self.desk.history.lock().returned(&open, Outcome::Done);
            }
            Some((StatusCode::OK, text)) if text == "false" => {
                self.desk.history.lock().returned(&open, Outcome::Mismatch);
            }
            Some((StatusCode::OK, text)) => {
                self.odd(format!("a compare-and-set of {key} was answered by {text:?}"));
            }
            Some(_) | None => {}
        }
    }

    async fn delete(&mut self, server: usize, key: &str) {
        let open = self.desk.history.lock().call(self.number, server, key, Call::Delete);
        let reply = self.client.call(server, Method::DELETE, &path(key, ""), String::new()).await;
        if let Some((StatusCode::OK, _)) = self.verdict(reply) {
            self.desk.history.lock().returned(&open, Outcome::Done);
        }
    }

    /// Notes what an answer shows; returns the register when the answer has it.
    fn see(
        &mut self,
        server: usize,
        key: &str,
        is_stale: bool,
        reply: &Reply,
    ) -> Option<Option<(u64, u64)>> {
        let value = register(reply)?;
        let Some(index) = reply.index() else {
            self.odd(format!("an answer about {key} has no index"));
            return None;
        };
        let life = self.desk.control.lock().lives[server];
        let key = key.to_owned();
        let sight = Sight { client: self.number, server, life, is_stale, key, index, value };
        self.desk.history.lock().sights.push(sight);
        Some(value)
    }

    fn verdict(&mut self, reply: anyhow::Result<Reply>) -> Option<(StatusCode, String)> {
        let reply = reply.ok()?;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        if reply.status.is_client_error() {
            self.odd(format!("a good write was answered by {} {text}", reply.status));
        }
        Some((reply.status, text))
    }

    fn odd(&self, text: String) {
        self.desk.history.lock().oddities.push(text);
    }
}

/// Follows one register by blocking queries until the end.
async fn run_watcher(desk: Desk, key: String, tls: Arc<ClientConfig>) {
    let mut client = Client::new(tls);
    let mut rng = StdRng::seed_from_u64(desk.seed ^ 0x77);
    let mut index = 0;
    loop {
        let server = rng.random_range(0..desk.control.lock().servers);
        let path = path(&key, &format!("?index={index}&wait={WATCH_SECONDS}s"));
        let limit = Duration::from_secs(2 * WATCH_SECONDS);
        let reply = client.call_within(server, Method::GET, &path, String::new(), limit).await;
        let seen = reply.ok().and_then(|reply| Some((reply.index()?, register(&reply)?)));
        match seen {
            Some((seen, value)) => {
                let step = (index, seen, value.map(|(value, _)| value));
                desk.history.lock().watched.entry(key.clone()).or_default().steps.push(step);
                // As every client does: an index that fell starts the watch anew.
                index = if seen < index { 0 } else { seen };
            }
            None => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn path(key: &str, query: &str) -> String {
    format!("/v1/config/service-defaults/{key}{query}")
}

fn body(key: &str, value: u64) -> String {
    serde_json::json!({
        "Kind": "service-defaults",
        "Name": key,
        "Meta": { "value": value.to_string() },
    })
    .to_string()
}

/// The register in an answer, with its modify index; `None` when the answer tells nothing.
pub(crate) fn register(reply: &Reply) -> Option<Option<(u64, u64)>> {
    match reply.status {
        StatusCode::NOT_FOUND => Some(None),
        StatusCode::OK => {
            let body: serde_json::Value = serde_json::from_slice(&reply.body).ok()?;
            let value = body["Meta"]["value"].as_str()?.parse().ok()?;
            Some(Some((value, body["ModifyIndex"].as_u64()?)))
        }
        _ => None,
    }
}
