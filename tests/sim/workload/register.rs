//! One client of registers: read, written, compared and set, deleted.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use weft_runtime::tls::rustls::ClientConfig;

use super::store::{Store, name};
use super::{CALLS, Desk, draw, pair};
use crate::client::{Client, Reply};
use crate::history::{Call, Outcome, Place, Sight};

/// A client, and what it knows.
pub(super) struct Session {
    pub(super) desk: Desk,
    pub(super) number: usize,
    pub(super) client: Client,
    pub(super) rng: StdRng,
    /// The last cells read, with their values and modify indexes.
    pub(super) known: Vec<(Place, Option<(u64, u64)>)>,
}

/// Reads and writes until the end.
pub(super) async fn run(desk: Desk, number: usize, tls: Arc<ClientConfig>) {
    let rng = StdRng::seed_from_u64(desk.seed ^ (number as u64 + 1));
    let client = Client::new(tls);
    let mut session = Session { desk, number, client, rng, known: Vec::new() };
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
        match draw(epoch, &mut session.rng) {
            Some(register) => session.act(&register).await,
            None => session.act_on_pair(&pair(epoch)).await,
        }
        let pause = session.rng.random_range(5..60);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    session.desk.control.lock().busy -= 1;
}

impl Session {
    /// Draws which server to ask.
    pub(super) fn server(&mut self) -> usize {
        let servers = self.desk.control.lock().servers;
        self.rng.random_range(0..servers)
    }

    async fn act(&mut self, place: &Place) {
        let server = self.server();
        match self.rng.random_range(0..100) {
            0..40 => self.read(server, place, "").await,
            40..50 => self.read(server, place, "?consistent").await,
            50..62 => self.read_stale(server, place).await,
            62..80 => self.write(server, place).await,
            80..96 => self.compare_and_set(server, place).await,
            _ => self.delete(server, place).await,
        }
    }

    /// Reads one cell.
    pub(super) async fn read(&mut self, server: usize, place: &Place, mode: &str) {
        let life = self.life(server);
        let (store, call) = (Store::of(&place.object), Call::Read(place.cell));
        let open = self.desk.history.lock().call(self.number, server, &place.object, call);
        let path = store.path(place, mode);
        let reply = self.client.call(server, Method::GET, &path, String::new()).await;
        let Some(value) = reply.ok().and_then(|it| self.see((server, life), place, false, &it))
        else {
            return;
        };
        self.known = vec![(place.clone(), value)];
        let outcome = Outcome::Value(value.map(|(value, _)| value));
        self.desk.history.lock().returned(&open, outcome);
    }

    async fn read_stale(&mut self, server: usize, place: &Place) {
        let life = self.life(server);
        let path = Store::of(&place.object).path(place, "?stale");
        if let Ok(reply) = self.client.call(server, Method::GET, &path, String::new()).await {
            self.see((server, life), place, true, &reply);
        }
    }

    /// Writes one cell.
    pub(super) async fn write(&mut self, server: usize, place: &Place) {
        let new = self.desk.history.lock().new_value();
        let call = Call::Write(place.cell, new);
        let (path, body) = Store::of(&place.object).write(place, "", new);
        self.change(server, place, call, (Method::PUT, path, body)).await;
    }

    async fn compare_and_set(&mut self, server: usize, place: &Place) {
        let known = self.known(place);
        let new = self.desk.history.lock().new_value();
        let expect = known.map(|(value, _)| value);
        let call = Call::Cas { cell: place.cell, expect, new };
        let query = format!("?cas={}", known.map_or(0, |(_, index)| index));
        let (path, body) = Store::of(&place.object).write(place, &query, new);
        self.change(server, place, call, (Method::PUT, path, body)).await;
    }

    async fn delete(&mut self, server: usize, place: &Place) {
        let store = Store::of(&place.object);
        let (call, query) = match self.known(place) {
            Some((value, index)) if store == Store::Kv => {
                (Call::DeleteIf(place.cell, value), format!("?cas={index}"))
            }
            Some(_) | None => (Call::Delete(place.cell), String::new()),
        };
        let path = store.path(place, &query);
        self.change(server, place, call, (Method::DELETE, path, String::new())).await;
    }

    /// Makes a call that writes one cell, and notes what came of it.
    async fn change(
        &mut self,
        server: usize,
        place: &Place,
        call: Call,
        (method, path, body): (Method, String, String),
    ) {
        let is_plain_delete = matches!(call, Call::Delete(_));
        let open = self.desk.history.lock().call(self.number, server, &place.object, call);
        let reply = self.client.call(server, method, &path, body).await;
        let Some((StatusCode::OK, text)) = self.verdict(reply) else { return };
        let outcome = match text.as_str() {
            "false" => Outcome::Mismatch,
            // A config entry's delete is answered by what it was.
            _ if text == "true" || is_plain_delete => Outcome::Done,
            _ => return self.odd(format!("a write of {} was answered by {text:?}", name(place))),
        };
        self.desk.history.lock().returned(&open, outcome);
    }

    /// The cell, if it is the one last read.
    pub(super) fn known(&self, place: &Place) -> Option<(u64, u64)> {
        self.known.iter().find(|(known, _)| known == place).and_then(|(_, value)| *value)
    }

    fn life(&self, server: usize) -> u64 {
        self.desk.board.lock().lives[server]
    }

    /// Notes what an answer shows, of a server that was in that life when it was asked; returns
    /// the cell when the answer has it.
    fn see(
        &mut self,
        (server, life): (usize, u64),
        place: &Place,
        is_stale: bool,
        reply: &Reply,
    ) -> Option<Option<(u64, u64)>> {
        let value = Store::of(&place.object).cell(reply)?;
        let key = name(place);
        let Some(index) = reply.index() else {
            self.odd(format!("an answer about {key} has no index"));
            return None;
        };
        // Of which life a server answered that has begun another one since, nobody knows.
        if !is_stale || self.life(server) == life {
            let sight = Sight { client: self.number, server, life, is_stale, key, index, value };
            self.desk.history.lock().sights.push(sight);
        }
        Some(value)
    }

    /// Notes an answer that no good call gets.
    pub(super) fn verdict(&mut self, reply: anyhow::Result<Reply>) -> Option<(StatusCode, String)> {
        let reply = reply.ok()?;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        if reply.status.is_client_error() && reply.status != StatusCode::CONFLICT {
            self.odd(format!("a good write was answered by {} {text}", reply.status));
        }
        Some((reply.status, text))
    }

    pub(super) fn odd(&self, text: String) {
        self.desk.history.lock().oddities.push(text);
    }
}
