//! Roots that take over, are trusted for a while, and go.

use std::time::Duration;

use super::*;
use crate::ca::{CrossCertificate, KeyKind, RootSource};
use crate::state::Command;

fn root(fingerprint: &str) -> CaRoot {
    CaRoot {
        fingerprint: fingerprint.to_owned(),
        name: fingerprint.to_owned(),
        certificate_pem: fingerprint.to_owned(),
        sealed_key: vec![1],
        valid_after: Timestamp(0),
        valid_before: Timestamp(u64::MAX),
        active: true,
        source: RootSource::BuiltIn,
        key_kind: KeyKind::EcP256,
        cross_signed: Vec::new(),
        rotated_out_at: None,
        trusted_until: None,
        create_index: Index(0),
        modify_index: Index(0),
    }
}

fn signed_by(by: &str) -> CrossCertificate {
    CrossCertificate { by: by.to_owned(), certificate_pem: format!("by {by}") }
}

/// A state of which the clock goes on by a second with each command.
struct Story {
    state: State,
    at: u64,
}

impl Story {
    fn new() -> Self {
        let mut story = Self { state: State::default(), at: 0 };
        story.apply(Command::SetCaRoot(root("a")));
        story
    }

    fn apply(&mut self, command: Command) -> Answer {
        self.at += 1;
        self.state.apply(Index(self.at), Timestamp(self.at * 1000), command).0
    }

    fn replace(&mut self, fingerprint: &str, by: &[&str]) -> Answer {
        let cross_signed = by.iter().map(|by| signed_by(by)).collect();
        let root = CaRoot { cross_signed, ..root(fingerprint) };
        self.apply(Command::ChangeCa(CaChange {
            seen: self.state.ca_index(),
            settings: CaSettings::default(),
            root: Some(root),
            overlap: Span(Duration::from_secs(10)),
        }))
    }

    fn shown(&self) -> Vec<(String, bool, Option<u64>, usize)> {
        let (_, roots) = self.state.roots();
        let line = |root: &Arc<CaRoot>| {
            let until = root.trusted_until.map(Timestamp::unix_seconds);
            (root.fingerprint.clone(), root.active, until, root.cross_signed.len())
        };
        roots.iter().map(line).collect()
    }
}

#[test]
fn the_root_before_is_trusted_for_a_while_and_then_removed() {
    let mut story = Story::new();
    assert_eq!(story.replace("b", &["a"]), Answer::Done { changed: true });
    let both = [("b".to_owned(), true, None, 1), ("a".to_owned(), false, Some(12), 0)];
    assert_eq!(story.shown(), both);
    let (_, roots) = story.state.roots();
    assert_eq!(roots[1].rotated_out_at, Some(Timestamp(2000)));
    story.at = 10;
    assert_eq!(story.apply(Command::PruneCaRoots), Answer::Done { changed: false });
    assert_eq!(story.shown(), both, "its time is not over");
    let before = story.state.ca_index();
    assert_eq!(story.apply(Command::PruneCaRoots), Answer::Done { changed: true });
    // What the root before signed is of no use any more.
    assert_eq!(story.shown(), [("b".to_owned(), true, None, 0)]);
    assert!(story.state.ca_index() > before);
    // It went in due course: connections that were made under it go on.
    assert_eq!(*story.state.roots_retired, ["a"]);
    story.at = 1000;
    assert_eq!(story.apply(Command::PruneCaRoots), Answer::Done { changed: false });
}

#[test]
fn a_change_decided_on_an_older_state_changes_nothing() {
    let mut story = Story::new();
    let seen = story.state.ca_index();
    let change = |fingerprint: &str| CaChange {
        seen,
        settings: CaSettings { leaf_lifetime: Some(Span::seconds(60)), ..CaSettings::default() },
        root: Some(root(fingerprint)),
        overlap: Span::seconds(10),
    };
    assert_eq!(story.apply(Command::ChangeCa(change("b"))), Answer::Done { changed: true });
    assert_eq!(story.apply(Command::ChangeCa(change("c"))), Answer::CasMismatch);
    assert_eq!(story.shown().len(), 2);
}

#[test]
fn who_signs_under_a_root_may_change_and_a_root_may_come_back() {
    let mut story = Story::new();
    story.replace("b", &["a"]);
    let source = RootSource::Intermediate { chain_pem: "x".to_owned() };
    let change = CaChange {
        seen: story.state.ca_index(),
        settings: CaSettings::default(),
        root: Some(CaRoot { source: source.clone(), sealed_key: vec![2], ..root("b") }),
        overlap: Span::seconds(10),
    };
    story.apply(Command::ChangeCa(change));
    let (_, roots) = story.state.roots();
    assert_eq!((&roots[0].source, &roots[0].sealed_key), (&source, &vec![2]));
    assert_eq!(roots[0].cross_signed, [signed_by("a")], "who trusts only a goes on");
    story.replace("a", &[]);
    let shown = story.shown();
    assert_eq!((shown[0].0.as_str(), shown[0].1, shown[0].2), ("a", true, None));
    assert_eq!((shown[1].0.as_str(), shown[1].1), ("b", false));
}

#[test]
fn roots_are_bounded() {
    let mut story = Story::new();
    for number in 1..limits::CA_ROOTS_MAX {
        assert_eq!(story.replace(&format!("r{number}"), &[]), Answer::Done { changed: true });
    }
    let refused = story.replace("one more", &[]);
    assert!(matches!(refused, Answer::Refused(Refusal::Limit { .. })), "{refused:?}");
    assert_eq!(story.shown().len(), limits::CA_ROOTS_MAX);
    story.at += 100;
    story.apply(Command::PruneCaRoots);
    assert_eq!(story.shown().len(), 1);
}
