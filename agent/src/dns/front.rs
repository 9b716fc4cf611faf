//! The quick way: a plain query whose answer is ready is answered on the spot, on whatever thread
//! took it. All else is the handler's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_core::dns::Delivery;
use weft_runtime::telemetry::metrics::{Counter, Family};

use super::plain::Plain;
use super::prepared::{Desk, Style};
use super::table::Table;
use crate::views::Views;

/// Answers by code.
pub(super) type ByCode = Family<Vec<(&'static str, String)>, Counter>;

/// What quick answers are made of; clones share it.
#[derive(Clone)]
pub(super) struct Front {
    pub(super) style: Arc<Style>,
    pub(super) table: Table,
    pub(super) views: Views,
    pub(super) counts: Counts,
    /// How long answers are given without a word from a server.
    pub(super) stale_max: Duration,
}

/// Counts answers.
#[derive(Clone)]
pub(super) struct Counts {
    by_code: ByCode,
    good: Counter,
    no_name: Counter,
    /// Answers while no server was connected.
    pub(super) stale: Counter,
}

impl Counts {
    pub(super) fn new(by_code: ByCode, stale: Counter) -> Self {
        let of = |code: &str| by_code.get_or_create(&vec![("code", code.to_owned())]).clone();
        Self { good: of("NOERROR"), no_name: of("NXDOMAIN"), by_code, stale }
    }

    /// Counts an answer by its code's name.
    pub(super) fn count(&self, code: String) {
        self.by_code.get_or_create(&vec![("code", code)]).inc();
    }
}

impl Front {
    /// Appends the answer to a query, when it is plain and its answer is ready; says whether it
    /// was.
    pub(super) fn answer(
        &self,
        query: &[u8],
        (is_stream, now): (bool, Instant),
        desk: &mut Desk,
        into: &mut Vec<u8>,
    ) -> bool {
        let Some(plain) = Plain::read(query) else { return false };
        let Some(ready) = self.table.find(&plain.key(), now) else { return false };
        let away_for = self.views.away_for(now);
        if away_for.is_some_and(|away_for| away_for > self.stale_max) {
            return false;
        }
        let delivery = match (is_stream, plain.edns) {
            (true, _) => Delivery::Tcp,
            (false, None) => Delivery::Udp,
            (false, Some(edns)) => Delivery::UdpEdns { payload: edns.payload },
        };
        if !ready.prepared.write(&plain, (delivery, &self.style), desk, into) {
            return false;
        }
        let counter =
            if ready.prepared.code() == 0 { &self.counts.good } else { &self.counts.no_name };
        counter.inc();
        if away_for.is_some() {
            self.counts.stale.inc();
        }
        true
    }
}
