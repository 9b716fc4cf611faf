//! Leases, told as stories: servers report, time passes, the leader judges.

use std::time::{Duration, Instant};

use super::*;

const SERVER: u64 = 1;
const OTHER: u64 = 2;

/// The moment at which a test's time begins; which one does not matter.
#[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
fn beginning() -> Instant {
    Instant::now()
}

fn node(name: &str) -> NodeName {
    name.parse().expect("a name")
}

/// A leader with two servers that report twice a second as long as they live.
struct Story {
    start: Instant,
    now: Duration,
    leases: Leases,
    servers: Vec<(u64, Attendance)>,
}

impl Story {
    fn of(hosts: &[(&str, bool)]) -> Self {
        let start = beginning();
        let times = LeaseTimes::new(Duration::from_secs(10), Duration::from_secs(100));
        let mut leases = Leases::new(times, start);
        leases.handle_hosts(hosts.iter().map(|(name, critical)| (node(name), *critical)), start);
        let servers = [SERVER, OTHER].map(|id| (id, Attendance::new(id * 7)));
        Self { start, now: Duration::ZERO, leases, servers: servers.into() }
    }

    fn server(&mut self, id: u64) -> &mut Attendance {
        let found = self.servers.iter_mut().find(|(server, _)| *server == id);
        &mut found.expect("a server that lives").1
    }

    /// Lets half seconds pass until a moment; returns what was judged, and when.
    fn until(&mut self, seconds: u64) -> Vec<(u64, LeaseVerdict)> {
        let mut judged = Vec::new();
        while self.now < Duration::from_secs(seconds) {
            self.now += Duration::from_millis(500);
            let now = self.start + self.now;
            for (id, server) in &mut self.servers {
                let heard = self.leases.handle_report(*id, server.report(), now);
                server.handle_heard(heard);
            }
            self.leases.handle_timeout(now);
            while let Some(verdict) = self.leases.poll_output() {
                self.leases.handle_written(&verdict, now);
                judged.push((self.now.as_millis().div_ceil(1000) as u64, verdict));
            }
        }
        judged
    }
}

#[test]
fn a_host_without_a_stream_is_lost_after_the_grace_and_back_with_its_next_stream() {
    let mut story = Story::of(&[("a", false), ("b", false)]);
    story.server(SERVER).handle_open(&node("a"));
    story.server(OTHER).handle_open(&node("b"));
    assert_eq!(story.until(20), [], "both live");
    story.server(SERVER).handle_close(&node("a"));
    assert_eq!(story.until(30), [(25, LeaseVerdict::Lost(node("a")))]);
    story.server(OTHER).handle_open(&node("a"));
    assert_eq!(story.until(40), [(31, LeaseVerdict::Returned(node("a")))]);
    assert_eq!(story.leases.counts(), (2, 0));
}

#[test]
fn a_stream_that_is_opened_elsewhere_within_the_grace_leaves_no_trace() {
    let mut story = Story::of(&[("a", false)]);
    story.server(SERVER).handle_open(&node("a"));
    story.until(5);
    story.server(SERVER).handle_close(&node("a"));
    story.until(8);
    story.server(OTHER).handle_open(&node("a"));
    assert_eq!(story.until(60), []);
    // Two streams at once, of which one ends.
    story.server(SERVER).handle_open(&node("a"));
    story.until(61);
    story.server(OTHER).handle_close(&node("a"));
    assert_eq!(story.until(90), []);
}

#[test]
fn hosts_of_a_server_that_falls_silent_have_a_whole_lease_to_find_another() {
    let mut story = Story::of(&[("a", false), ("b", false)]);
    for name in ["a", "b"] {
        story.server(SERVER).handle_open(&node(name));
    }
    story.until(5);
    story.servers.retain(|(id, _)| *id != SERVER);
    story.until(9);
    story.server(OTHER).handle_open(&node("b"));
    assert_eq!(story.until(40), [(15, LeaseVerdict::Lost(node("a")))]);
}

#[test]
fn a_new_leader_gives_everybody_a_whole_lease_and_sees_who_came_back_before_it() {
    let mut story = Story::of(&[("a", false), ("b", true), ("c", true)]);
    story.server(SERVER).handle_open(&node("b"));
    let judged = story.until(12);
    let expected = [(1, LeaseVerdict::Returned(node("b"))), (10, LeaseVerdict::Lost(node("a")))];
    assert_eq!(judged, expected);
}

#[test]
fn a_host_that_stays_away_leaves_the_catalog_in_the_end() {
    let mut story = Story::of(&[("a", true)]);
    assert_eq!(story.until(99), []);
    assert_eq!(story.until(200), [(100, LeaseVerdict::Reap(node("a")))]);
}

#[test]
fn a_leader_that_stood_still_blames_nobody() {
    let mut story = Story::of(&[("a", false)]);
    story.server(SERVER).handle_open(&node("a"));
    story.until(5);
    let later = story.start + Duration::from_secs(65);
    story.leases.handle_timeout(later);
    assert_eq!(story.leases.poll_output(), None);
    story.now = Duration::from_secs(65);
    assert_eq!(story.until(70), []);
    story.server(SERVER).handle_close(&node("a"));
    assert_eq!(story.until(80), [(75, LeaseVerdict::Lost(node("a")))]);
}

/// One report that arrives, and its answer.
fn tell(server: &mut Attendance, leases: &mut Leases, now: Instant) {
    let heard = leases.handle_report(SERVER, server.report(), now);
    server.handle_heard(heard);
}

#[test]
fn a_report_that_may_be_lost_is_told_again_and_a_gap_is_filled_with_everybody() {
    let now = beginning();
    let mut leases = Leases::new(LeaseTimes::default(), now);
    leases.handle_hosts([(node("a"), false), (node("b"), false)], now);
    let mut server = Attendance::new(3);
    server.handle_open(&node("a"));
    assert_eq!(leases.handle_report(SERVER, server.report(), now), Heard::Noted);
    // The answer is lost.
    server.handle_unheard();
    server.handle_open(&node("b"));
    server.handle_close(&node("a"));
    let again = server.report();
    assert_eq!((again.base, again.present.len()), (0, 1), "no leader is known to know anything");
    server.handle_heard(leases.handle_report(SERVER, again, now));
    assert_eq!(leases.counts(), (1, 1));
    server.handle_open(&node("a"));
    let lost = server.report();
    assert_eq!((lost.present.clone(), lost.gone.len()), (vec![node("a")], 0));
    server.handle_unheard();
    tell(&mut server, &mut leases, now);
    assert_eq!(leases.counts(), (2, 0));
    // The leader knows more than the server knows that it knows.
    server.handle_close(&node("b"));
    leases.handle_report(SERVER, server.report(), now);
    server.handle_unheard();
    let unknown = leases.handle_report(SERVER, server.report(), now);
    assert_eq!(unknown, Heard::Unknown);
    server.handle_heard(unknown);
    tell(&mut server, &mut leases, now);
    assert_eq!(leases.counts(), (1, 1));
}

#[test]
fn a_verdict_that_was_not_written_is_given_again() {
    let mut story = Story::of(&[("a", false)]);
    let at = |seconds: u64| story.start + Duration::from_secs(seconds);
    let mut now = at(0);
    for second in 1..=10 {
        now = at(second);
        story.leases.handle_timeout(now);
    }
    let lost = LeaseVerdict::Lost(node("a"));
    assert_eq!(story.leases.poll_output(), Some(lost.clone()));
    story.leases.handle_not_written(&lost, now);
    story.leases.handle_timeout(at(11));
    assert_eq!(story.leases.poll_output(), Some(lost));
    assert_eq!(story.leases.poll_output(), None);
}

#[test]
fn hosts_that_leave_the_catalog_are_forgotten_and_lists_are_taken_again() {
    let mut story = Story::of(&[("a", false), ("b", false)]);
    let now = story.start;
    story.leases.handle_hosts([(node("b"), false)], now);
    assert_eq!(story.until(30), [(10, LeaseVerdict::Lost(node("b")))]);
    // Somebody wrote that it is well, though it has no stream.
    let now = story.start + story.now;
    story.leases.handle_hosts([(node("b"), false)], now);
    assert_eq!(story.until(60), [(40, LeaseVerdict::Lost(node("b")))]);
}

#[test]
fn a_death_is_seen_within_the_lease_whatever_its_length() {
    for seconds in [1, 3, 10, 60, 600, 6000] {
        let times = LeaseTimes::new(Duration::from_secs(seconds), LeaseTimes::REAP_DEFAULT);
        let worst = times.ping() * 2 + times.report() + times.grace();
        assert!(worst <= times.whole(), "{worst:?} of {:?}", times.whole());
        assert!(times.silence() < times.whole());
    }
}
