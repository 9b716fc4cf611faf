//! Those who take a lock: a session, the lock, some time with it, and one of the ways to end.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use weft_core::time::Timestamp;
use weft_proto::json::kv::KvPair;
use weft_runtime::clock;
use weft_runtime::tls::rustls::ClientConfig;

use super::{Desk, NODE};
use crate::client::{Client, Reply};
use crate::history::{Act, LockCall, LockOutcome};

/// The lock's key.
pub(crate) const LOCK: &str = "lock";
/// The TTL of sessions; servers end them after twice as long.
pub(crate) const TTL: Duration = Duration::from_secs(1);
/// How long the lock stays closed after a session was ended under it.
const DELAYS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(1_500)];
/// How often one tries to get the lock before it gives up.
const TRIES: usize = 12;

/// One who takes the lock.
struct Taker {
    desk: Desk,
    number: usize,
    client: Client,
    rng: StdRng,
}

/// Takes the lock again and again, until the end.
pub(super) async fn run(desk: Desk, number: usize, tls: Arc<ClientConfig>) {
    let rng = StdRng::seed_from_u64(desk.seed ^ 0x10c5 ^ (number as u64) << 32);
    let mut taker = Taker { desk, number, client: Client::new(tls), rng };
    taker.register().await;
    while !taker.is_over() {
        taker.turn().await;
        taker.pause(5..60).await;
    }
    taker.desk.control.lock().busy -= 1;
}

impl Taker {
    fn is_over(&self) -> bool {
        self.desk.control.lock().is_over
    }

    /// Sessions are carried by a node that is in the catalog.
    async fn register(&mut self) {
        let body = json!({ "Node": NODE, "Address": "10.0.0.100" }).to_string();
        while !self.is_over() {
            let server = self.server();
            let path = "/v1/catalog/register";
            let reply = self.client.call(server, Method::PUT, path, body.clone()).await;
            if reply.is_ok_and(|reply| reply.status == StatusCode::OK) {
                return;
            }
            self.pause(10..150).await;
        }
    }

    async fn turn(&mut self) {
        let Some(session) = self.create().await else { return };
        if self.acquire(&session).await {
            for _ in 0..self.rng.random_range(0..4) {
                self.pause(10..250).await;
                match self.rng.random_range(0..3) {
                    0 => self.look(&session).await,
                    _ => self.renew(&session).await,
                }
            }
        }
        let path = |verb: &str| format!("/v1/kv/{LOCK}?{verb}={session}");
        match self.rng.random_range(0..10) {
            0..5 => {
                self.write(&session, Act::Release, &path("release")).await;
                self.destroy(&session).await;
            }
            5..8 => self.destroy(&session).await,
            // Its TTL ends it.
            _ => {}
        }
    }

    async fn create(&mut self) -> Option<String> {
        let delay = DELAYS[self.rng.random_range(0..DELAYS.len())];
        let body = json!({
            "Node": NODE,
            "TTL": format!("{}ms", TTL.as_millis()),
            "LockDelay": format!("{}ms", delay.as_millis()),
        });
        let (server, called) = (self.server(), clock::wall());
        let path = "/v1/session/create";
        let reply = self.client.call(server, Method::PUT, path, body.to_string()).await;
        let (StatusCode::OK, text) = self.verdict(path, reply)? else { return None };
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        let session = body["ID"].as_str()?.to_owned();
        let (ttl_ms, delay_ms) = (millis(TTL), millis(delay));
        let act = Act::Create { ttl_ms, delay_ms };
        let mut history = self.desk.history.lock();
        history.locks.call(LockCall {
            client: self.number,
            server,
            session: session.clone(),
            act,
            called,
            returned: clock::wall(),
            outcome: LockOutcome::Done,
        });
        Some(session)
    }

    /// Says whether it got the lock.
    async fn acquire(&mut self, session: &str) -> bool {
        for _ in 0..TRIES {
            if self.is_over() {
                return false;
            }
            let path = format!("/v1/kv/{LOCK}?acquire={session}");
            match self.write(session, Act::Acquire, &path).await {
                LockOutcome::Done => return true,
                LockOutcome::Declined => self.renew(session).await,
                LockOutcome::Seen { .. } | LockOutcome::Unknown => {}
            }
            self.pause(30..200).await;
        }
        false
    }

    /// A write of the lock for a session. That its session has ended is no answer about the lock.
    async fn write(&mut self, session: &str, act: Act, path: &str) -> LockOutcome {
        let (server, at) = self.begin(session, act);
        let body = session.to_owned();
        let reply = self.client.call(server, Method::PUT, path, body).await;
        let outcome = match self.verdict(path, reply) {
            Some((StatusCode::OK, text)) if text == "true" => LockOutcome::Done,
            Some((StatusCode::OK, text)) if text == "false" => LockOutcome::Declined,
            Some(_) | None => LockOutcome::Unknown,
        };
        self.end(at, outcome.clone());
        outcome
    }

    async fn renew(&mut self, session: &str) {
        let (server, at) = self.begin(session, Act::Renew);
        let path = format!("/v1/session/renew/{session}");
        let reply = self.client.call(server, Method::PUT, &path, String::new()).await;
        let outcome = match reply.map(|reply| reply.status) {
            Ok(StatusCode::OK) => LockOutcome::Done,
            Ok(StatusCode::NOT_FOUND) => LockOutcome::Declined,
            Ok(_) | Err(_) => LockOutcome::Unknown,
        };
        self.end(at, outcome);
    }

    async fn destroy(&mut self, session: &str) {
        self.write(session, Act::Destroy, &format!("/v1/session/destroy/{session}")).await;
    }

    async fn look(&mut self, session: &str) {
        let (server, at) = self.begin(session, Act::Look);
        let path = format!("/v1/kv/{LOCK}");
        let reply = self.client.call(server, Method::GET, &path, String::new()).await;
        let seen = reply.ok().filter(|reply| reply.status == StatusCode::OK).and_then(|reply| {
            let pairs: Vec<KvPair> = serde_json::from_slice(&reply.body).ok()?;
            let pair = pairs.into_iter().next()?;
            let holder = (!pair.session.is_empty()).then_some(pair.session);
            let (lock_index, modify_index) = (pair.lock_index, pair.modify_index);
            Some(LockOutcome::Seen { holder, lock_index, modify_index })
        });
        self.end(at, seen.unwrap_or(LockOutcome::Unknown));
    }

    /// Notes a call of a server before it is made.
    fn begin(&mut self, session: &str, act: Act) -> (usize, usize) {
        let server = self.server();
        let call = LockCall {
            client: self.number,
            server,
            session: session.to_owned(),
            act,
            called: clock::wall(),
            returned: Timestamp(u64::MAX),
            outcome: LockOutcome::Unknown,
        };
        (server, self.desk.history.lock().locks.call(call))
    }

    fn end(&self, at: usize, outcome: LockOutcome) {
        self.desk.history.lock().locks.returned(at, clock::wall(), outcome);
    }

    /// Notes an answer that no good call gets.
    fn verdict(&self, path: &str, reply: anyhow::Result<Reply>) -> Option<(StatusCode, String)> {
        let reply = reply.ok()?;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        if reply.status.is_client_error() {
            let text = format!("{path} was answered by {} {text}", reply.status);
            self.desk.history.lock().oddities.push(text);
        }
        Some((reply.status, text))
    }

    fn server(&mut self) -> usize {
        let servers = self.desk.control.lock().servers;
        self.rng.random_range(0..servers)
    }

    async fn pause(&mut self, ms: std::ops::Range<u64>) {
        let pause = self.rng.random_range(ms);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
