//! Two ends of a connection in one process, without bytes on any wire; and peers that break rules.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::stream::{WINDOW_BYTES, WINDOW_BYTES_MAX};
use super::*;

#[expect(clippy::disallowed_methods, reason = "a test needs one instant to begin with")]
fn beginning() -> Instant {
    Instant::now()
}

/// Two ends that are honest, and what either has heard.
struct Pair {
    caller: Mux,
    called: Mux,
    now: Instant,
    heard: Vec<String>,
}

impl Pair {
    fn new() -> Self {
        let now = beginning();
        let mut pair = Self {
            caller: Mux::new(Side::Caller, 1, now),
            called: Mux::new(Side::Called, 4, now),
            now,
            heard: Vec::new(),
        };
        pair.talk();
        assert_eq!(pair.take_heard(), ["called: Ready", "caller: Ready"]);
        pair
    }

    /// Carries what either has to say until both are silent.
    fn talk(&mut self) {
        loop {
            let there = std::mem::take(self.caller.output());
            let back = std::mem::take(self.called.output());
            if there.is_empty() && back.is_empty() {
                return;
            }
            hear(&mut self.called, &there, "called", self.now, &mut self.heard);
            hear(&mut self.caller, &back, "caller", self.now, &mut self.heard);
        }
    }

    fn take_heard(&mut self) -> Vec<String> {
        std::mem::take(&mut self.heard)
    }
}

fn hear(to: &mut Mux, mut bytes: &[u8], name: &str, now: Instant, heard: &mut Vec<String>) {
    while let Some(event) = to.handle_bytes(&mut bytes, now).expect("honest frames") {
        heard.push(match event {
            Event::Data { stream, bytes, is_end } => {
                format!(
                    "{name}: {} bytes on {stream}{}",
                    bytes.len(),
                    if is_end { ", end" } else { "" }
                )
            }
            other => format!("{name}: {other:?}"),
        });
    }
}

#[test]
fn a_stream_carries_both_ways_and_ends_in_halves() {
    let mut pair = Pair::new();
    assert_eq!(pair.caller.peer_workers(), Some(4));
    let stream = pair.caller.open(StreamKind::Http1).expect("a stream");
    assert_eq!(pair.caller.send(stream, b"GET"), 3);
    pair.talk();
    assert_eq!(
        pair.take_heard(),
        ["called: Opened { stream: 1, kind: Http1 }", "called: 3 bytes on 1"]
    );
    pair.called.send(stream, b"answer");
    pair.called.end(stream);
    pair.talk();
    assert_eq!(pair.take_heard(), ["caller: 6 bytes on 1", "caller: 0 bytes on 1, end"]);
    assert_eq!(pair.called.send(stream, b"more"), 0, "nothing goes after the end");
    assert_eq!((pair.caller.streams(), pair.called.streams()), (1, 1));
    pair.caller.end(stream);
    pair.talk();
    assert_eq!((pair.caller.streams(), pair.called.streams()), (0, 0));
}

#[test]
fn one_who_does_not_read_stops_only_his_own_stream() {
    let mut pair = Pair::new();
    let slow = pair.caller.open(StreamKind::Bytes).expect("a stream");
    let fast = pair.caller.open(StreamKind::Bytes).expect("a stream");
    let bytes = vec![0; DATA_BYTES_MAX];
    let window = WINDOW_BYTES as usize;
    let mut sent = 0;
    loop {
        match pair.caller.send(slow, &bytes) {
            0 => break,
            count => sent += count,
        }
    }
    assert_eq!(sent, window);
    pair.talk();
    for _ in 0..100 {
        assert_eq!(pair.caller.send(fast, &bytes[..1_000]), 1_000);
        pair.talk();
        pair.called.read(fast, 1_000);
    }
    pair.talk();
    pair.take_heard();
    assert_eq!(pair.caller.may_send(slow), 0);
    pair.called.read(slow, window);
    pair.talk();
    // All of it was in use while it was read: the window grows.
    assert_eq!(pair.take_heard(), ["caller: Writable { stream: 1 }"]);
    let mut sent = 0;
    while pair.caller.may_send(slow) > 0 {
        sent += pair.caller.send(slow, &bytes);
    }
    assert_eq!(sent, 2 * window);
}

#[test]
fn windows_grow_to_a_bound_over_all_streams() {
    let mut pair = Pair::new();
    let bytes = vec![0; DATA_BYTES_MAX];
    let streams: Vec<u32> =
        (0..64).map(|_| pair.caller.open(StreamKind::Bytes).expect("a stream")).collect();
    let mut allowed = 0;
    for _ in 0..12 {
        allowed = 0;
        for stream in &streams {
            let mut sent = 0;
            while pair.caller.may_send(*stream) > 0 {
                sent += pair.caller.send(*stream, &bytes);
            }
            allowed += sent;
            assert!(sent <= WINDOW_BYTES_MAX as usize);
            pair.talk();
            pair.called.read(*stream, sent);
            pair.talk();
        }
    }
    let base = streams.len() * WINDOW_BYTES as usize;
    assert!((base + (7 << 20)..=base + (8 << 20)).contains(&allowed), "{allowed}");
    for stream in &streams {
        pair.caller.reset(*stream, ResetCode::Broken);
    }
    pair.talk();
    let stream = pair.caller.open(StreamKind::Bytes).expect("a stream");
    assert_eq!(pair.caller.may_send(stream), (WINDOW_BYTES as usize).min(DATA_BYTES_MAX));
}

#[test]
fn who_leaves_finishes_what_is_under_way_and_what_crosses_its_farewell() {
    let mut pair = Pair::new();
    let first = pair.caller.open(StreamKind::Http1).expect("a stream");
    pair.talk();
    pair.called.leave();
    // Opened before the caller has heard of it.
    let second = pair.caller.open(StreamKind::Http1).expect("a stream");
    pair.take_heard();
    pair.talk();
    assert_eq!(
        pair.take_heard(),
        [
            "called: Opened { stream: 2, kind: Http1 }",
            "caller: GoAway { last: 2147483647, code: 0 }",
        ]
    );
    assert_eq!(pair.caller.open(StreamKind::Http1), Err(Unopened::Leaving));
    for stream in [first, second] {
        assert_eq!(pair.called.send(stream, b"answer"), 6);
        assert!(!pair.called.is_over());
        pair.called.end(stream);
        pair.caller.end(stream);
        pair.talk();
    }
    assert!(pair.called.is_over() && pair.caller.is_over());
}

#[test]
fn who_closes_says_which_streams_have_not_begun() {
    let mut pair = Pair::new();
    let first = pair.caller.open(StreamKind::Http1).expect("a stream");
    pair.talk();
    pair.take_heard();
    pair.called.leave();
    for side in [&mut pair.called, &mut pair.caller] {
        side.end(first);
    }
    let crossing = pair.caller.open(StreamKind::Http1).expect("a stream");
    pair.called.close();
    pair.talk();
    assert_eq!(crossing, 2);
    assert_eq!(pair.take_heard().pop().expect("a word"), "caller: GoAway { last: 1, code: 0 }");
}

#[test]
fn a_full_connection_takes_no_more() {
    let mut pair = Pair::new();
    while pair.caller.can_open().is_ok() {
        pair.caller.open(StreamKind::Http1).expect("a stream");
    }
    assert_eq!(pair.caller.open(StreamKind::Http1), Err(Unopened::Full));
    assert_eq!(pair.caller.streams(), 256);
    pair.caller.reset(1, ResetCode::Broken);
    assert_eq!(pair.caller.open(StreamKind::Http1), Ok(257));
    pair.talk();
    assert_eq!(pair.called.streams(), 256);
}

#[test]
fn a_silent_peer_is_asked_and_then_given_up() {
    let mut pair = Pair::new();
    let at = pair.caller.poll_timeout();
    assert_eq!(at - pair.now, Duration::from_secs(20));
    assert_eq!(pair.caller.handle_timeout(pair.now), Ok(()));
    assert!(pair.caller.output().is_empty(), "too early");
    assert_eq!(pair.caller.handle_timeout(at), Ok(()));
    pair.now = at;
    pair.talk();
    assert_eq!(pair.caller.poll_timeout() - at, Duration::from_secs(20), "it answered");
    let at = pair.caller.poll_timeout();
    assert_eq!(pair.caller.handle_timeout(at), Ok(()));
    let end = pair.caller.poll_timeout();
    assert_eq!(end - at, Duration::from_secs(10));
    assert_eq!(pair.caller.handle_timeout(end), Err(Violation::Silent));
}

/// Has a called side hear frames; returns how it ends.
fn heard_by_called(bytes: &[u8]) -> Result<(), Violation> {
    let now = beginning();
    let mut called = Mux::new(Side::Called, 1, now);
    let mut input = bytes;
    while called.handle_bytes(&mut input, now)?.is_some() {}
    Ok(())
}

const HELLO: [u8; 16] = [0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0];

fn open(stream: u8) -> [u8; 9] {
    [0, 1, 1, 0, 0, 0, 0, stream, 1]
}

#[test]
fn who_breaks_a_rule_is_told_which() {
    let credit =
        |stream: u8, more: u32| [&[0, 4, 2, 0, 0, 0, 0, stream][..], &more.to_be_bytes()].concat();
    let data = |stream: u8, flags: u8, count: u16| {
        let [a, b] = count.to_be_bytes();
        [&[a, b, 0, flags, 0, 0, 0, stream][..], &vec![0; count.into()]].concat()
    };
    let check = |frames: &[&[u8]], want: Result<(), Violation>| {
        assert_eq!(heard_by_called(&frames.concat()), want, "{frames:?}");
    };
    check(&[&HELLO, &open(1), &data(1, 1, 7)], Ok(()));
    check(&[&open(1)], Err(Violation::Hello));
    check(&[&data(1, 0, 1)], Err(Violation::Hello));
    check(&[&HELLO, &HELLO], Err(Violation::Hello));
    check(&[&HELLO, &open(2)], Err(Violation::StreamNumber { stream: 2 }));
    check(&[&HELLO, &open(1), &open(1)], Err(Violation::StreamNumber { stream: 1 }));
    check(&[&HELLO, &data(1, 0, 1)], Err(Violation::StreamNumber { stream: 1 }));
    check(&[&HELLO, &open(1), &credit(1, 0)], Err(Violation::Credit { stream: 1, more: 0 }));
    let more = i32::MAX as u32;
    check(&[&HELLO, &open(1), &credit(1, more)], Err(Violation::Credit { stream: 1, more }));
    check(
        &[&HELLO, &open(1), &data(1, 1, 1), &data(1, 0, 1)],
        Err(Violation::AfterEnd { stream: 1 }),
    );
    let much = data(1, 0, u16::MAX);
    check(&[&HELLO, &open(1), &much, &much], Err(Violation::OverCredit { stream: 1 }));
}

#[test]
fn streams_that_are_broken_off_unanswered_are_bounded() {
    let now = beginning();
    let mut called = Mux::new(Side::Called, 1, now);
    let mut hear = |mut bytes: &[u8], now| loop {
        match called.handle_bytes(&mut bytes, now) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            Err(violation) => return Err(violation),
        }
    };
    hear(&HELLO, now).expect("a hello");
    let mut break_off = |number: u32, now| {
        let [s, t, u, v] = number.to_be_bytes();
        hear(
            &[[0, 1, 1, 0, s, t, u, v, 1].as_slice(), &[0, 4, 3, 0, s, t, u, v, 0, 0, 0, 1]]
                .concat(),
            now,
        )
    };
    for number in 1..=1_024 {
        break_off(number, now).expect("a burst is borne");
    }
    let later = now + Duration::from_secs(1);
    for number in 1_025..1_025 + 256 {
        break_off(number, later).expect("and so many a second");
    }
    assert_eq!(break_off(1_281, later), Err(Violation::Flood));
}

/// What one end does next.
#[derive(Debug, Clone)]
enum Step {
    Open,
    Send { is_caller: bool, stream: u32, count: usize },
    End { is_caller: bool, stream: u32 },
    Reset { is_caller: bool, stream: u32 },
    Read { is_caller: bool, stream: u32, share: u8 },
    Talk,
}

fn step() -> impl Strategy<Value = Step> {
    let stream = 1u32..6;
    prop_oneof![
        Just(Step::Open),
        (any::<bool>(), stream.clone(), 1usize..70_000)
            .prop_map(|(is_caller, stream, count)| Step::Send { is_caller, stream, count }),
        (any::<bool>(), stream.clone())
            .prop_map(|(is_caller, stream)| Step::End { is_caller, stream }),
        (any::<bool>(), stream.clone())
            .prop_map(|(is_caller, stream)| Step::Reset { is_caller, stream }),
        (any::<bool>(), stream, any::<u8>()).prop_map(|(is_caller, stream, share)| Step::Read {
            is_caller,
            stream,
            share
        }),
        Just(Step::Talk),
    ]
}

proptest! {
    #[test]
    fn honest_ends_never_break_a_rule_and_hold_no_more_than_windows(
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let now = beginning();
        let mut ends = [Mux::new(Side::Called, 1, now), Mux::new(Side::Caller, 1, now)];
        // What came and was not read, by who holds it and stream; it never passes the largest window.
        let mut unread: BTreeMap<(bool, u32), usize> = BTreeMap::new();
        for step in steps.into_iter().chain([Step::Talk]) {
            match step {
                Step::Open => drop(ends[1].open(StreamKind::Bytes)),
                Step::Send { is_caller, stream, count } => {
                    ends[usize::from(is_caller)].send(stream, &vec![7; count]);
                }
                Step::End { is_caller, stream } => ends[usize::from(is_caller)].end(stream),
                Step::Reset { is_caller, stream } => {
                    ends[usize::from(is_caller)].reset(stream, ResetCode::Broken);
                }
                Step::Read { is_caller, stream, share } => {
                    let held = unread.entry((is_caller, stream)).or_default();
                    let count = *held * usize::from(share) / 255;
                    *held -= count;
                    ends[usize::from(is_caller)].read(stream, count);
                }
                Step::Talk => for is_caller in [false, true] {
                    let bytes = std::mem::take(ends[usize::from(!is_caller)].output());
                    let mut input = &bytes[..];
                    while let Some(event) = ends[usize::from(is_caller)]
                        .handle_bytes(&mut input, now)
                        .map_err(|violation| TestCaseError::fail(violation.to_string()))?
                    {
                        if let Event::Data { stream, bytes, .. } = event {
                            let held = unread.entry((is_caller, stream)).or_default();
                            *held += bytes.len();
                            prop_assert!(*held <= WINDOW_BYTES_MAX as usize);
                        }
                    }
                },
            }
        }
    }
}
