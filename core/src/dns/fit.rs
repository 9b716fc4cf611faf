//! Cutting an answer to what its transport carries.
//!
//! **Source**: Consul's `trimDNSResponse`; RFC 1035 §4.2.1, RFC 6891 §6.2.5.

use super::record::name_bytes;
use super::{Answer, Question, Record, RecordData, RecordType, Settings, Truncation};
use crate::limits;

/// How an answer travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// A stream: up to 64 KiB.
    Tcp,
    /// A datagram to a caller without EDNS: up to 512 bytes.
    Udp,
    /// A datagram to a caller with EDNS.
    UdpEdns {
        /// The bytes that it takes.
        payload: u16,
    },
}

/// Bytes of a message's head (RFC 1035 §4.1.1).
const HEAD_BYTES: usize = 12;
/// Bytes of type and class of the question.
const QUESTION_FIXED_BYTES: usize = 4;
/// Bytes of an empty OPT record (RFC 6891 §6.1.2).
const OPT_BYTES: usize = 11;
/// Bytes kept free, as in the reference.
const MARGIN_BYTES: usize = 8;
/// Bytes of a datagram without EDNS (RFC 1035 §4.2.1).
const DATAGRAM_BYTES: usize = 512;
/// Bytes of the largest datagram: 65 535 less the IP and UDP heads, less 40.
const EDNS_BYTES_MAX: usize = 65_467;
/// Bytes of the largest message on a stream, less the reference's margin of 12.
const STREAM_BYTES: usize = 65_523;

/// Names of one message that are compressed: encoders stop looking for earlier copies at some
/// count, as that takes longer with each (ours stops at 120, and counts names inside records).
const COMPRESSED_NAMES_MAX: usize = 60;

/// Cuts an answer; at least one record is left of what was asked for.
pub(super) fn cut(answer: &mut Answer, asked: &Question, delivery: Delivery, settings: &Settings) {
    let whole = answer.answers.len();
    let is_address =
        |record: &Record| matches!(record.data, RecordData::A(_) | RecordData::Aaaa(_));
    // The operator's own limit is no truncation: all callers see the same.
    let mut addresses = settings.a_records_max.unwrap_or(usize::MAX).max(1);
    answer.answers.retain(|record| {
        !is_address(record) || {
            let is_kept = addresses > 0;
            addresses = addresses.saturating_sub(1);
            is_kept
        }
    });
    let limited = answer.answers.len();
    debug_assert!(limited <= whole, "a limit never adds");

    let room = Room::of(delivery, settings, asked.kind);
    answer.answers.truncate(room.answers_max);
    if answer.answers.len() < limited {
        keep_named_additionals(answer);
    }
    fit_bytes(answer, asked, room);
    answer.is_truncated =
        answer.answers.len() < limited && settings.truncation == Truncation::Flagged;
}

/// What an answer may have of records and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Records in the answer.
    pub answers_max: usize,
    /// Bytes of the message.
    pub bytes_max: usize,
    /// Whether bytes are counted as they were without compression.
    pub counts_uncompressed: bool,
}

impl Room {
    /// Returns what a delivery has room for.
    pub fn of(delivery: Delivery, settings: &Settings, kind: RecordType) -> Self {
        let is_srv = kind == RecordType::Srv;
        let answers_max = match delivery {
            Delivery::Tcp if is_srv => limits::DNS_SRV_ANSWERS_MAX,
            Delivery::Tcp => limits::DNS_ANSWERS_MAX,
            Delivery::Udp => settings.udp_answers_max.clamp(1, limits::DNS_UDP_ANSWERS_MAX),
            Delivery::UdpEdns { .. } => usize::MAX,
        };
        let bytes_max = match delivery {
            Delivery::Tcp => STREAM_BYTES,
            Delivery::Udp => DATAGRAM_BYTES - MARGIN_BYTES,
            Delivery::UdpEdns { payload } => {
                usize::from(payload).clamp(DATAGRAM_BYTES, EDNS_BYTES_MAX) - MARGIN_BYTES
            }
        };
        // Callers without EDNS may be old ones that count uncompressed bytes.
        Self { answers_max, bytes_max, counts_uncompressed: delivery == Delivery::Udp }
    }
}

fn fit_bytes(answer: &mut Answer, asked: &Question, room: Room) {
    let limit = room.bytes_max;
    let bytes_of = |(at, record): (usize, &Record)| match room.counts_uncompressed {
        false if at < COMPRESSED_NAMES_MAX => record.bytes_compressed(&asked.name),
        true | false => record.bytes(),
    };
    let fixed = HEAD_BYTES + name_bytes(&asked.name) + QUESTION_FIXED_BYTES + OPT_BYTES;
    let total = |answer: &Answer| {
        let Answer { answers, authority, additional, .. } = answer;
        let records = answers.iter().chain(authority).chain(additional);
        fixed + records.enumerate().map(bytes_of).sum::<usize>()
    };
    if total(answer) > limit && !answer.answers.is_empty() {
        answer.authority.clear();
    }
    if total(answer) > limit {
        // The largest count that fits, found by halving: lists may be long.
        let count = partition_point(answer.answers.len(), |count| {
            let mut shorter = answer.clone();
            shorter.answers.truncate(count);
            keep_named_additionals(&mut shorter);
            total(&shorter) <= limit
        });
        answer.answers.truncate(count.max(1));
        keep_named_additionals(answer);
    }
    if total(answer) > limit {
        answer.additional.clear();
    }
}

/// Returns the largest count up to `max` that fits; fitting is lost only by growing.
fn partition_point(max: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut good, mut bad) = (0, max + 1);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle) { good = middle } else { bad = middle }
    }
    good
}

/// Leaves out additional records of targets that are no longer named.
fn keep_named_additionals(answer: &mut Answer) {
    let Answer { answers, additional, .. } = answer;
    let named: std::collections::BTreeSet<&str> = answers
        .iter()
        .filter_map(|record| match &record.data {
            RecordData::Srv { target, .. } | RecordData::Ns(target) => Some(target.as_str()),
            RecordData::A(_)
            | RecordData::Aaaa(_)
            | RecordData::Cname(_)
            | RecordData::Ptr(_)
            | RecordData::Soa(_)
            | RecordData::Txt(_) => None,
        })
        .collect();
    additional.retain(|record| named.contains(record.name.as_str()));
}
