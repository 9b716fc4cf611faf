//! The simulated network: TCP between hosts, with faults.
//!
//! A segment that is lost is sent again, as TCP does: it and all behind it come later. A cut link
//! holds segments back until it is whole again. Connections break by resets: when a process dies,
//! and when a segment reaches a host that knows nothing of its connection. So bytes never change
//! their order within a connection; connections overtake each other.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Bytes on their way or unread before the sender has to wait.
pub(crate) const WINDOW_BYTES: usize = 256 << 10;
/// How long a lost segment takes to be sent again.
///
/// **Source**: Spec: RFC 6298 §2; Linux starts at 200 ms on a fast link.
const RETRANSMIT: Duration = Duration::from_millis(200);

/// Which end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Client,
    Server,
}

impl End {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
    fn at(self) -> usize {
        match self {
            Self::Client => 0,
            Self::Server => 1,
        }
    }
}

/// What one end sent and the other has not yet read.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    in_flight: VecDeque<(Duration, Segment)>,
    pub(crate) ready: VecDeque<Bytes>,
    pub(crate) bytes: usize,
    pub(crate) is_ended: bool,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
}

#[derive(Debug)]
enum Segment {
    Data(Bytes),
    End,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    ends: [SocketAddr; 2],
    /// By who sends.
    sent: [Direction; 2],
    /// Ends that their process has given up.
    gone: [bool; 2],
    /// Ends that were told that the connection is broken.
    broken: [bool; 2],
    /// A break on its way to an end.
    breaking: [Option<Duration>; 2],
}

/// A connection that asks to be accepted.
#[derive(Debug)]
struct Knock {
    at: Duration,
    to: SocketAddr,
    connection: u64,
    answer: Arc<Mutex<Answer>>,
}

/// What came of an attempt to connect.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) outcome: Option<io::Result<()>>,
    pub(crate) waker: Option<Waker>,
}

/// The accept queue of a listener.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    pub(crate) waiting: VecDeque<u64>,
    pub(crate) waker: Option<Waker>,
}

/// How a link is now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quality {
    /// The shortest and the longest way, in milliseconds.
    pub(crate) delay_ms: (u64, u64),
    /// The share of segments that are lost, in thousandths.
    pub(crate) loss_permille: u32,
}

impl Default for Quality {
    fn default() -> Self {
        Self { delay_ms: (1, 3), loss_permille: 0 }
    }
}

/// The network.
#[derive(Debug)]
pub(crate) struct Network {
    now: Duration,
    rng: StdRng,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    knocks: Vec<Knock>,
    pub(crate) listeners: BTreeMap<SocketAddr, Backlog>,
    next_port: BTreeMap<IpAddr, u16>,
    /// Links that let nothing through, by sender and receiver.
    cut: BTreeMap<(IpAddr, IpAddr), ()>,
    /// Hosts without power: nobody answers for them.
    dark: BTreeMap<IpAddr, ()>,
    quality: Quality,
    /// Segments that were late because of a fault.
    pub(crate) faults_felt: u64,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: Duration::ZERO,
            rng: StdRng::seed_from_u64(seed),
            connections: BTreeMap::new(),
            next_connection: 0,
            knocks: Vec::new(),
            listeners: BTreeMap::new(),
            next_port: BTreeMap::new(),
            cut: BTreeMap::new(),
            dark: BTreeMap::new(),
            quality: Quality::default(),
            faults_felt: 0,
        }
    }

    /// Lets nothing through from one host to another.
    pub(crate) fn cut(&mut self, from: IpAddr, to: IpAddr) {
        self.cut.insert((from, to), ());
    }

    /// Makes every link whole again.
    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        self.quality = Quality::default();
    }

    /// Sets how all links are.
    pub(crate) fn set_quality(&mut self, quality: Quality) {
        self.quality = quality;
    }

    /// Breaks every connection between two hosts; both ends are told.
    pub(crate) fn reset(&mut self, a: IpAddr, b: IpAddr) {
        let now = self.now;
        for connection in self.connections.values_mut() {
            let ips = [connection.ends[0].ip(), connection.ends[1].ip()];
            if ips == [a, b] || ips == [b, a] {
                connection.breaking = [Some(now), Some(now)];
            }
        }
    }

    /// A process ends: its listeners and connections with it. With the power, nobody tells the
    /// other ends before the host is back.
    pub(crate) fn host_ends(&mut self, host: IpAddr, is_power_cut: bool) {
        self.listeners.retain(|address, _| address.ip() != host);
        let arrives = self.now + Duration::from_millis(1);
        for connection in self.connections.values_mut() {
            for end in [End::Client, End::Server] {
                if connection.ends[end.at()].ip() == host {
                    connection.gone[end.at()] = true;
                    if !is_power_cut {
                        connection.breaking[end.other().at()].get_or_insert(arrives);
                    }
                }
            }
        }
        if is_power_cut {
            self.dark.insert(host, ());
        }
    }

    /// A host has power again; what it knows of old connections is that there are none.
    pub(crate) fn host_begins(&mut self, host: IpAddr) {
        self.dark.remove(&host);
    }

    fn way(&mut self, from: IpAddr, to: IpAddr) -> Duration {
        if from == to {
            return Duration::from_millis(1);
        }
        let (shortest, longest) = self.quality.delay_ms;
        let mut way = Duration::from_millis(self.rng.random_range(shortest..=longest));
        let mut again = RETRANSMIT;
        while self.rng.random_range(0..1000) < self.quality.loss_permille {
            way += again;
            again *= 2;
            self.faults_felt += 1;
        }
        way
    }

    /// Starts to connect; the answer comes later, or never.
    pub(crate) fn knock(&mut self, from: IpAddr, to: SocketAddr) -> (u64, Arc<Mutex<Answer>>) {
        let port = self.next_port.entry(from).or_insert(40_000);
        *port = if *port == u16::MAX { 40_000 } else { *port + 1 };
        let ends = [SocketAddr::new(from, *port), to];
        let id = self.next_connection;
        self.next_connection += 1;
        let connection = Connection {
            ends,
            sent: [Direction::default(), Direction::default()],
            gone: [false, true],
            broken: [false; 2],
            breaking: [None; 2],
        };
        self.connections.insert(id, connection);
        let answer = Arc::<Mutex<Answer>>::default();
        let at = self.now + self.way(from, to.ip());
        self.knocks.push(Knock { at, to, connection: id, answer: answer.clone() });
        (id, answer)
    }

    pub(crate) fn ends(&self, id: u64) -> Option<[SocketAddr; 2]> {
        self.connections.get(&id).map(|connection| connection.ends)
    }

    /// What an end has to read; `None` when the connection is broken for it.
    pub(crate) fn incoming(&mut self, id: u64, end: End) -> Option<&mut Direction> {
        let connection = self.connections.get_mut(&id)?;
        if connection.broken[end.at()] {
            return None;
        }
        Some(&mut connection.sent[end.other().at()])
    }

    /// Sends bytes, or waits for room (`Ok(false)`).
    pub(crate) fn send(
        &mut self,
        id: u64,
        end: End,
        bytes: Option<Bytes>,
        waker: &Waker,
    ) -> io::Result<bool> {
        let connection = self.connections.get(&id).ok_or(io::ErrorKind::ConnectionReset)?;
        if connection.gone[end.at()] {
            // The process has ended; what its tasks do while they are dropped reaches nobody.
            return Err(io::ErrorKind::NotConnected.into());
        }
        let ends = connection.ends;
        let way = self.way(ends[end.at()].ip(), ends[end.other().at()].ip());
        let arrives = self.now + way;
        let connection = self.connections.get_mut(&id).ok_or(io::ErrorKind::ConnectionReset)?;
        if connection.broken[end.at()] {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let sent = &mut connection.sent[end.at()];
        let segment = match bytes {
            Some(bytes) => {
                if sent.bytes >= WINDOW_BYTES {
                    sent.writer = Some(waker.clone());
                    return Ok(false);
                }
                sent.bytes += bytes.len();
                Segment::Data(bytes)
            }
            None => Segment::End,
        };
        let arrives = sent.in_flight.back().map_or(arrives, |(last, _)| arrives.max(*last));
        sent.in_flight.push_back((arrives, segment));
        Ok(true)
    }

    /// An end is dropped by its process.
    pub(crate) fn close(&mut self, id: u64, end: End, waker: &Waker) {
        let _ = self.send(id, end, None, waker);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.gone[end.at()] = true;
        // What it had not read is answered by a reset, after what it has sent.
        if connection.sent[end.other().at()].bytes > 0 {
            let last = connection.sent[end.at()].in_flight.back().map(|(at, _)| *at);
            connection.breaking[end.other().at()].get_or_insert(last.unwrap_or(self.now));
        }
    }

    /// Moves on: delivers what is due. Returns the wakers of those who wait for it.
    pub(crate) fn deliver(&mut self, now: Duration) -> Vec<Waker> {
        self.now = now;
        let mut wakers = Vec::new();
        self.deliver_knocks(&mut wakers);
        let (cut, dark) = (&self.cut, &self.dark);
        for connection in self.connections.values_mut() {
            for end in [End::Client, End::Server] {
                let from = connection.ends[end.at()].ip();
                let to = connection.ends[end.other().at()].ip();
                if cut.contains_key(&(from, to)) || dark.contains_key(&to) {
                    hold_back(&mut connection.sent[end.at()], now, &mut self.faults_felt);
                    continue;
                }
                connection.deliver(end, now, &mut wakers);
            }
        }
        self.connections.retain(|_, connection| {
            let is_over = |end: End| connection.gone[end.at()] || connection.broken[end.at()];
            !(is_over(End::Client) && is_over(End::Server))
        });
        wakers
    }

    fn deliver_knocks(&mut self, wakers: &mut Vec<Waker>) {
        let now = self.now;
        let due: Vec<Knock> = {
            let (due, later) = self.knocks.drain(..).partition(|knock| knock.at <= now);
            self.knocks = later;
            due
        };
        for mut knock in due {
            let Some(connection) = self.connections.get_mut(&knock.connection) else { continue };
            let from = connection.ends[0].ip();
            if self.cut.contains_key(&(from, knock.to.ip()))
                || self.cut.contains_key(&(knock.to.ip(), from))
                || self.dark.contains_key(&knock.to.ip())
            {
                // The first segment is sent again after a second (RFC 6298 §2.1).
                knock.at = now + Duration::from_secs(1);
                self.faults_felt += 1;
                self.knocks.push(knock);
                continue;
            }
            let mut answer = knock.answer.lock();
            answer.outcome = Some(match self.listeners.get_mut(&knock.to) {
                Some(backlog) => {
                    connection.gone[End::Server.at()] = false;
                    backlog.waiting.push_back(knock.connection);
                    wakers.extend(backlog.waker.take());
                    Ok(())
                }
                None => Err(io::ErrorKind::ConnectionRefused.into()),
            });
            wakers.extend(answer.waker.take());
        }
    }
}

/// A link that lets nothing through makes everything late by a retransmission after it heals.
fn hold_back(sent: &mut Direction, now: Duration, felt: &mut u64) {
    if sent.in_flight.front().is_some_and(|(at, _)| *at <= now) {
        *felt += 1;
        let late = now + RETRANSMIT;
        for (at, _) in &mut sent.in_flight {
            *at = (*at).max(late);
        }
    }
}

impl Connection {
    /// Delivers what an end has sent.
    fn deliver(&mut self, end: End, now: Duration, wakers: &mut Vec<Waker>) {
        let to = end.other();
        let sent = &mut self.sent[end.at()];
        while sent.in_flight.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, segment)) = sent.in_flight.pop_front() else { break };
            if self.gone[to.at()] {
                // The host knows no such connection any more.
                self.breaking[end.at()].get_or_insert(now);
                continue;
            }
            match segment {
                Segment::Data(bytes) => sent.ready.push_back(bytes),
                Segment::End => sent.is_ended = true,
            }
            wakers.extend(sent.reader.take());
        }
        if self.breaking[to.at()].is_some_and(|at| at <= now) && !self.broken[to.at()] {
            self.broken[to.at()] = true;
            for direction in &mut self.sent {
                wakers.extend(direction.reader.take());
                wakers.extend(direction.writer.take());
            }
        }
    }
}
