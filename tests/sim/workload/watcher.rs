//! One who follows a register by blocking queries.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use weft_runtime::tls::rustls::ClientConfig;

use super::Desk;
use super::store::{Store, name};
use crate::client::Client;
use crate::history::Place;

/// How long a watch waits at most: not so short that a lost event would go unseen.
const WATCH_SECONDS: u64 = 300;

/// Follows one register until the end.
pub(super) async fn run(desk: Desk, place: Place, tls: Arc<ClientConfig>) {
    let mut client = Client::new(tls);
    let mut rng = StdRng::seed_from_u64(desk.seed ^ 0x77);
    let (store, key) = (Store::of(&place.object), name(&place));
    let mut index = 0;
    loop {
        let server = rng.random_range(0..desk.control.lock().servers);
        let path = store.path(&place, &format!("?index={index}&wait={WATCH_SECONDS}s"));
        let limit = Duration::from_secs(2 * WATCH_SECONDS);
        let reply = client.call_within(server, Method::GET, &path, String::new(), limit).await;
        let seen = reply.ok().and_then(|reply| Some((reply.index()?, store.cell(&reply)?)));
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
