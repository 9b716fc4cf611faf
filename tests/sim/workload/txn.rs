//! What the client of registers does by transactions: both cells of an object at once.

use http::{Method, StatusCode};
use rand::Rng;
use serde_json::{Value, json};
use weft_proto::json::kv::{KvPair, encode};

use super::register::Session;
use super::store::{name, told};
use crate::history::{CELLS, Call, Cells, Outcome, Place};

impl Session {
    /// One call on an object of several cells.
    pub(super) async fn act_on_pair(&mut self, object: &str) {
        let server = self.server();
        let cell = self.rng.random_range(0..CELLS);
        match self.rng.random_range(0..100) {
            0..25 => self.read_all(server, object, "").await,
            25..35 => self.read_all(server, object, "?consistent").await,
            35..45 => self.read(server, &place(object, cell), "").await,
            45..55 => self.write(server, &place(object, cell)).await,
            _ => self.write_all(server, object).await,
        }
    }

    async fn read_all(&mut self, server: usize, object: &str, mode: &str) {
        let ops: Vec<Value> =
            (0..CELLS).map(|cell| op("get-or-empty", &place(object, cell), json!({}))).collect();
        let open = self.desk.history.lock().call(self.number, server, object, Call::ReadAll);
        let Some((StatusCode::OK, body)) = self.txn(server, mode, &ops).await else { return };
        let pairs: Vec<Option<(u64, u64)>> = body["Results"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|it| serde_json::from_value::<KvPair>(it["KV"].clone()).ok())
            .map(|pair| told(&pair))
            .collect();
        let Ok(found) = <[_; CELLS]>::try_from(pairs) else {
            return self.odd(format!("a transaction that reads {object} was answered by {body}"));
        };
        self.known = found.iter().enumerate().map(|(at, it)| (place(object, at), *it)).collect();
        let cells: Cells = found.map(|it| it.map(|(value, _)| value));
        self.desk.history.lock().returned(&open, Outcome::Values(cells));
    }

    /// Writes all cells, each perhaps only if it is as it was. The operations on one cell stand
    /// after all of another, so that what is refused late has something to undo.
    async fn write_all(&mut self, server: usize, object: &str) {
        let new = self.desk.history.lock().new_value();
        let mut after: Cells = [Some(new); CELLS];
        let mut expect = Vec::new();
        let mut ops = Vec::new();
        let first = self.rng.random_range(0..CELLS);
        for cell in (0..CELLS).map(|at| (first + at) % CELLS) {
            let place = place(object, cell);
            let value = encode(new.to_string().as_bytes());
            let known = self.known(&place);
            let index = known.map_or(0, |(_, index)| index);
            let is_read = self.known.iter().any(|(known, _)| *known == place);
            let is_compared = is_read && self.rng.random_ratio(2, 3);
            if is_compared {
                expect.push((cell, known.map(|(value, _)| value)));
            }
            match (is_compared, self.rng.random_range(0..4)) {
                (true, 0) => ops.push(op("cas", &place, json!({ "Value": value, "Index": index }))),
                (_, choice) => {
                    if is_compared && known.is_some() {
                        ops.push(op("check-index", &place, json!({ "Index": index })));
                    } else if is_compared {
                        ops.push(op("check-not-exists", &place, json!({})));
                    }
                    if choice == 1 && cell == 1 {
                        after[cell] = None;
                        ops.push(op("delete", &place, json!({})));
                    } else {
                        ops.push(op("set", &place, json!({ "Value": value })));
                    }
                }
            }
        }
        let call = Call::Txn { expect, after };
        let open = self.desk.history.lock().call(self.number, server, object, call);
        let outcome = match self.txn(server, "", &ops).await {
            Some((StatusCode::OK, _)) => Outcome::Done,
            Some((StatusCode::CONFLICT, _)) => Outcome::Mismatch,
            Some(_) | None => return,
        };
        self.desk.history.lock().returned(&open, outcome);
    }

    async fn txn(
        &mut self,
        server: usize,
        mode: &str,
        ops: &[Value],
    ) -> Option<(StatusCode, Value)> {
        let path = format!("/v1/txn{mode}");
        let body = Value::from(ops).to_string();
        let reply = self.client.call(server, Method::PUT, &path, body).await;
        let (status, text) = self.verdict(reply)?;
        Some((status, serde_json::from_str(&text).unwrap_or_default()))
    }
}

fn place(object: &str, cell: usize) -> Place {
    Place { object: object.to_owned(), cell }
}

fn op(verb: &str, place: &Place, rest: Value) -> Value {
    let mut op = json!({ "Verb": verb, "Key": name(place) });
    if let (Value::Object(op), Value::Object(rest)) = (&mut op, rest) {
        op.extend(rest);
    }
    json!({ "KV": op })
}
