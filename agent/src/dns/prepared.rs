//! An answer in the bytes of the wire, from which each caller's own is put together: records are
//! copied in a drawn order until the delivery has no more room.
//!
//! It says what `core::dns::answer_of` says of the same plan; a test holds the two together.

use std::ops::Range;

use rand_core::RngCore;
use weft_core::dns::{
    Delivery, Order, Plan, Question, Record, RecordData, RecordType, ResponseCode, Room, Settings,
    Shuffler, Truncation,
};

use super::plain::{HEAD_BYTES, Plain};

/// Records of a plan that is prepared; longer ones are seldom, and answered the other way.
const RECORDS_MAX: usize = 256;
/// A pointer to the question's name, which stands behind the head (RFC 1035 §4.1.4).
const POINTER_TO_QUESTION: [u8; 2] = [0xc0, HEAD_BYTES as u8];
/// Bytes that a pointer reaches.
const POINTER_MAX: usize = 0x3fff;
/// Bytes of an OPT record without options.
const OPT_BYTES: usize = 11;

/// What every answer of one agent has in common.
#[derive(Debug, Clone)]
pub(super) struct Style {
    pub(super) settings: Settings,
    /// Whether queries for other zones are passed on.
    pub(super) has_recursion: bool,
}

/// An answer to one question.
#[derive(Debug)]
pub(super) struct Prepared {
    kind: RecordType,
    code: u8,
    order: Order,
    picks_max: usize,
    weights: Vec<u32>,
    /// Places that are as near as each other.
    ranges: Vec<Range<usize>>,
    picks: Vec<Piece>,
    extras: Vec<Extra>,
    /// Records that go with any answer, whole.
    authority: Section,
    additional: Section,
    bytes: Vec<u8>,
}

/// A record of the answer.
#[derive(Debug)]
struct Piece {
    at: Range<usize>,
    /// Bytes without compression.
    plain_bytes: usize,
    /// Where in it the name stands that it points to.
    target_at: usize,
    beside: Range<usize>,
}

/// A record beside one of the answer: its name, which is that one's target, is left out.
#[derive(Debug)]
struct Extra {
    at: Range<usize>,
    plain_bytes: usize,
    /// The first record that says the same.
    same_as: usize,
}

/// Records that stand one behind the other.
#[derive(Debug, Default)]
struct Section {
    at: Range<usize>,
    count: u16,
    plain_bytes: usize,
}

/// Room for putting answers together; kept between them.
pub(super) struct Desk {
    rng: Box<dyn RngCore + Send>,
    shuffler: Shuffler,
    /// The extras of an answer, with the places of their names.
    extras: Vec<(usize, usize)>,
}

impl Desk {
    pub(super) fn new(rng: Box<dyn RngCore + Send>) -> Self {
        Self { rng, shuffler: Shuffler::default(), extras: Vec::new() }
    }
}

impl Prepared {
    /// Prepares a plan; `None` for those that are answered the other way.
    pub(super) fn new(plan: &Plan, question: &Question) -> Option<Self> {
        let beside: usize = plan.picks.iter().map(|pick| pick.beside.len()).sum();
        if question.kind == RecordType::Any || plan.is_alias() {
            return None;
        }
        if plan.picks.len() + beside > RECORDS_MAX {
            return None;
        }
        let mut writer = Writer { question, bytes: Vec::new() };
        let mut extras: Vec<Extra> = Vec::new();
        let mut known: Vec<&Record> = Vec::new();
        let mut picks = Vec::new();
        for pick in &plan.picks {
            let from = extras.len();
            for record in &pick.beside {
                let same_as = known.iter().position(|other| *other == record);
                let at = writer.write_body(record)?;
                extras.push(Extra {
                    at,
                    plain_bytes: record.bytes(),
                    same_as: same_as.unwrap_or(extras.len()),
                });
                known.push(record);
            }
            let at = writer.write(&pick.record)?;
            // Name, type, class, TTL and length, then priority, weight and port.
            let target_at = POINTER_TO_QUESTION.len() + 10 + 6;
            let (plain_bytes, beside) = (pick.record.bytes(), from..extras.len());
            picks.push(Piece { at, plain_bytes, target_at, beside });
        }
        let authority = writer.section(&plan.authority)?;
        let additional = writer.section(&plan.additional)?;
        Some(Self {
            kind: question.kind,
            code: match plan.code {
                ResponseCode::NoError => 0,
                ResponseCode::NxDomain => 3,
                // These are told once, not kept.
                ResponseCode::NotImplemented | ResponseCode::ServFail => return None,
            },
            order: plan.order,
            picks_max: plan.picks_max,
            weights: plan.picks.iter().map(|pick| pick.weight).collect(),
            ranges: plan.ranges(),
            picks,
            extras,
            authority,
            additional,
            bytes: writer.bytes,
        })
    }

    /// Returns the response code.
    pub(super) fn code(&self) -> u8 {
        self.code
    }

    /// Appends the answer to a query; `false`, with nothing appended, when it is one for the other
    /// way.
    pub(super) fn write(
        &self,
        query: &Plain<'_>,
        (delivery, style): (Delivery, &Style),
        desk: &mut Desk,
        into: &mut Vec<u8>,
    ) -> bool {
        let room = Room::of(delivery, &style.settings, self.kind);
        let start = into.len();
        into.extend_from_slice(&[0; HEAD_BYTES]);
        into.extend_from_slice(query.question);
        let limited = self.limited(&style.settings);
        let places = match self.order {
            Order::Drawn => {
                let count = limited.min(room.answers_max);
                Some(desk.shuffler.draw(&self.weights, &self.ranges, count, &mut *desk.rng))
            }
            Order::Kept => None,
        };
        desk.extras.clear();
        let fixed = HEAD_BYTES + query.question.len() + OPT_BYTES;
        let (authority, additional) = (&self.authority, &self.additional);
        let mut used = fixed + authority.plain_bytes + additional.plain_bytes;
        let mut answers = 0;
        while answers < limited.min(room.answers_max) {
            let place = places.map_or(answers, |places| places[answers] as usize);
            let name_at = into.len() - start + self.picks[place].target_at;
            let before = desk.extras.len();
            let needed = self.needed(place, room, (name_at, &mut desk.extras));
            if used + needed > room.bytes_max {
                desk.extras.truncate(before);
                break;
            }
            used += needed;
            into.extend_from_slice(&self.bytes[self.picks[place].at.clone()]);
            answers += 1;
        }
        let extras = desk.extras.len() + usize::from(additional.count);
        let last = desk.extras.last().map_or(0, |(_, name_at)| *name_at);
        let fits = used <= room.bytes_max && last <= POINTER_MAX;
        if !fits || (answers == 0 && limited > 0) {
            into.truncate(start);
            return false;
        }
        into.extend_from_slice(&self.bytes[authority.at.clone()]);
        into.extend_from_slice(&self.bytes[additional.at.clone()]);
        for (extra, name_at) in &desk.extras {
            into.extend_from_slice(&(0xc000 | *name_at as u16).to_be_bytes());
            into.extend_from_slice(&self.bytes[self.extras[*extra].at.clone()]);
        }
        if let Some(edns) = query.edns {
            let [high, low] = edns.payload.max(512).to_be_bytes();
            let flags = u8::from(edns.dnssec_ok) << 7;
            into.extend_from_slice(&[0, 0, 41, high, low, 0, 0, flags, 0, 0, 0]);
        }
        let is_cut = answers < limited && style.settings.truncation == Truncation::Flagged;
        let counts =
            [1, answers as u16, authority.count, extras as u16 + u16::from(query.edns.is_some())];
        self.write_head(query, (style, is_cut), counts, &mut into[start..]);
        true
    }

    /// Returns how many records any answer has at most.
    fn limited(&self, settings: &Settings) -> usize {
        let is_address = matches!(self.kind, RecordType::A | RecordType::Aaaa);
        let addresses_max = settings.a_records_max.filter(|_| is_address).unwrap_or(usize::MAX);
        self.picks.len().min(self.picks_max).min(addresses_max.max(1))
    }

    /// Returns the bytes of a record with what goes along and is not there yet, which is added.
    fn needed(
        &self,
        place: usize,
        room: Room,
        (name_at, extras): (usize, &mut Vec<(usize, usize)>),
    ) -> usize {
        let piece = &self.picks[place];
        let mut needed = if room.counts_uncompressed { piece.plain_bytes } else { piece.at.len() };
        for extra in &self.extras[piece.beside.clone()] {
            if extras.iter().any(|(there, _)| *there == extra.same_as) {
                continue;
            }
            extras.push((extra.same_as, name_at));
            needed += match room.counts_uncompressed {
                true => extra.plain_bytes,
                false => POINTER_TO_QUESTION.len() + extra.at.len(),
            };
        }
        needed
    }

    fn write_head(
        &self,
        query: &Plain<'_>,
        (style, is_cut): (&Style, bool),
        counts: [u16; 4],
        head: &mut [u8],
    ) {
        head[..2].copy_from_slice(&query.id);
        // An answer, with authority.
        head[2] = 0x84 | u8::from(is_cut) << 1 | u8::from(query.wants_recursion);
        head[3] =
            u8::from(style.has_recursion) << 7 | u8::from(query.checking_disabled) << 4 | self.code;
        for (count, place) in counts.iter().zip(head[4..HEAD_BYTES].chunks_exact_mut(2)) {
            place.copy_from_slice(&count.to_be_bytes());
        }
    }
}

/// Writes records behind each other.
struct Writer<'a> {
    question: &'a Question,
    bytes: Vec<u8>,
}

impl Writer<'_> {
    fn section(&mut self, records: &[Record]) -> Option<Section> {
        let from = self.bytes.len();
        for record in records {
            self.write(record)?;
        }
        let plain_bytes = records.iter().map(Record::bytes).sum();
        let count = u16::try_from(records.len()).ok()?;
        Some(Section { at: from..self.bytes.len(), count, plain_bytes })
    }

    fn write(&mut self, record: &Record) -> Option<Range<usize>> {
        let from = self.bytes.len();
        self.name(&record.name)?;
        self.write_body(record)?;
        Some(from..self.bytes.len())
    }

    /// Writes all behind a record's name; `None` when it has no form on the wire.
    fn write_body(&mut self, record: &Record) -> Option<Range<usize>> {
        let from = self.bytes.len();
        let kind: u16 = match &record.data {
            RecordData::A(_) => 1,
            RecordData::Ns(_) => 2,
            RecordData::Cname(_) => 5,
            RecordData::Soa(_) => 6,
            RecordData::Ptr(_) => 12,
            RecordData::Txt(_) => 16,
            RecordData::Aaaa(_) => 28,
            RecordData::Srv { .. } => 33,
        };
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend(1_u16.to_be_bytes());
        self.bytes.extend(record.ttl.to_be_bytes());
        let length_at = self.bytes.len();
        self.bytes.extend([0; 2]);
        match &record.data {
            RecordData::A(ip) => self.bytes.extend(ip.octets()),
            RecordData::Aaaa(ip) => self.bytes.extend(ip.octets()),
            RecordData::Cname(name) | RecordData::Ns(name) | RecordData::Ptr(name) => {
                self.name(name)?;
            }
            RecordData::Soa(soa) => {
                self.name(&soa.mname)?;
                self.name(&soa.rname)?;
                for number in [soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum] {
                    self.bytes.extend(number.to_be_bytes());
                }
            }
            RecordData::Srv { priority, weight, port, target } => {
                for number in [priority, weight, port] {
                    self.bytes.extend(number.to_be_bytes());
                }
                self.name(target)?;
            }
            RecordData::Txt(texts) => {
                for text in texts {
                    self.bytes.push(u8::try_from(text.len()).ok()?);
                    self.bytes.extend(text.as_bytes());
                }
            }
        }
        let length = u16::try_from(self.bytes.len() - length_at - 2).ok()?;
        self.bytes[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
        Some(from..self.bytes.len())
    }

    /// Writes a name; as much of it as the question has points there.
    fn name(&mut self, name: &str) -> Option<()> {
        let Question { name: asked, domain, .. } = self.question;
        if name == asked {
            self.bytes.extend(POINTER_TO_QUESTION);
            return Some(());
        }
        let shared = [asked.as_str(), domain.as_str()].into_iter().find_map(|suffix| {
            let own = name.strip_suffix(suffix)?;
            let before = asked.strip_suffix(suffix)?;
            let is_whole = |text: &str| text.is_empty() || text.ends_with('.');
            // Each label has one byte before it on the wire, and one dot behind it here.
            (is_whole(own) && is_whole(before)).then_some((own, HEAD_BYTES + before.len()))
        });
        let (own, pointer) = shared.map_or((name, None), |(own, at)| (own, Some(at)));
        for label in own.split('.').filter(|label| !label.is_empty()) {
            let length = u8::try_from(label.len()).ok().filter(|length| *length < 64)?;
            self.bytes.push(length);
            self.bytes.extend(label.as_bytes());
        }
        match pointer {
            Some(at) => self.bytes.extend((0xc000 | u16::try_from(at).ok()?).to_be_bytes()),
            None => self.bytes.push(0),
        }
        (name.len() < 254).then_some(())
    }
}

#[cfg(test)]
mod tests;
