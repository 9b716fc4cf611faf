//! One value of a view, with what is sent of it: made once, shared by all who get it.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::OnceCell;
use weft_core::catalog::{Node, ServiceInstance};
use weft_core::index::Index;
use weft_core::watch::{Delta, Keyed};
use weft_proto::envelope;
use weft_runtime::digest::{self, Digest};
use weft_runtime::task::TaskTree;

/// Records whose encoding is work for a blocking thread: a record takes a microsecond or two.
const RECORDS_IN_PLACE_MAX: usize = 256;

/// A value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Instances(Records<ServiceInstance>),
    Nodes(Records<Arc<Node>>),
    /// Why there is none.
    Problem(String),
    /// What is sent whole, as an envelope.
    Whole(Bytes),
}

/// A list of records, by key. Lists of one view share the records that are the same.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Records<T>(Vec<Arc<Record<T>>>);

#[derive(Debug)]
struct Record<T> {
    value: T,
    digest: OnceLock<Digest>,
}

/// A value of a view, and since when it is.
#[derive(Debug)]
pub(crate) struct Version {
    /// Counted within the view.
    number: u64,
    /// The index of the state of which it was made.
    pub(crate) index: Index,
    content: Content,
    digest: OnceLock<Digest>,
    encoded: Mutex<Encoded>,
    /// From older versions that are remembered, by their numbers.
    steps: Mutex<BTreeMap<u64, Step>>,
}

/// The value as it is sent. Let go when nobody has asked for it for a while.
#[derive(Debug, Default)]
struct Encoded {
    cell: Arc<OnceCell<Bytes>>,
    is_used: bool,
}

/// What leads from one version to a later one.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// A difference: envelopes of the records that changed and of the keys of those gone.
    Delta { changed: Bytes, removed: Bytes },
    /// They are the same.
    Nothing,
    /// The value itself costs no more.
    Whole,
}

impl<T: PartialEq> PartialEq for Record<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

// With it, records that are one and the same are found equal without a look inside.
impl<T: Eq> Eq for Record<T> {}

impl<T: Keyed> Keyed for Record<T> {
    type Key = T::Key;
    fn key(&self) -> T::Key {
        self.value.key()
    }
}

impl<T: Keyed + Eq + Serialize> Records<T> {
    /// Makes a list that shares with an earlier one what is the same.
    pub(super) fn after(before: Option<&Self>, values: Vec<T>) -> Self {
        let mut before = before.map_or(&[][..], |before| &before.0).iter().peekable();
        let record = |value: T| {
            let same = loop {
                match before.peek() {
                    Some(old) if old.value == value => break before.next(),
                    Some(old) if old.key() <= value.key() => {
                        before.next();
                    }
                    Some(_) | None => break None,
                }
            };
            let fresh = || Arc::new(Record { value, digest: OnceLock::new() });
            same.cloned().unwrap_or_else(fresh)
        };
        Self(values.into_iter().map(record).collect())
    }

    fn encode(&self) -> Bytes {
        let values: Vec<&T> = self.0.iter().map(|record| &record.value).collect();
        envelope::encode(&values)
    }

    fn digest(&self) -> Digest {
        let make = |record: &Record<T>| digest::of_bytes(&envelope::encode(&record.value));
        let of = |record: &Record<T>| *record.digest.get_or_init(|| make(record));
        digest::of_list(self.0.iter().map(|record| of(record)))
    }

    fn step(&self, before: &Self) -> Step
    where
        T::Key: Serialize,
    {
        let Delta { changed, removed } = Delta::between(&before.0, &self.0);
        match changed.len() + removed.len() {
            0 => Step::Nothing,
            // Of a list of which most changed the rest costs less than telling what.
            count if changed.len() > 1 && 2 * count > self.0.len() => Step::Whole,
            _ => {
                Step::Delta { changed: Self(changed).encode(), removed: envelope::encode(&removed) }
            }
        }
    }
}

impl Content {
    fn records(&self) -> usize {
        match self {
            Self::Instances(records) => records.0.len(),
            Self::Nodes(records) => records.0.len(),
            Self::Problem(_) | Self::Whole(_) => 1,
        }
    }

    /// Whether to make it, or something of it, takes so long that a blocking thread should.
    pub(super) fn is_large(&self) -> bool {
        self.records() > RECORDS_IN_PLACE_MAX
    }

    fn encode(&self) -> Bytes {
        match self {
            Self::Instances(records) => records.encode(),
            Self::Nodes(records) => records.encode(),
            Self::Problem(_) => Bytes::new(),
            Self::Whole(value) => value.clone(),
        }
    }

    fn digest(&self) -> Digest {
        match self {
            Self::Instances(records) => records.digest(),
            Self::Nodes(records) => records.digest(),
            Self::Problem(problem) => digest::of_bytes(problem.as_bytes()),
            Self::Whole(value) => digest::of_bytes(value),
        }
    }

    fn step(&self, before: &Self) -> Step {
        match (self, before) {
            (Self::Instances(now), Self::Instances(before)) => now.step(before),
            (Self::Nodes(now), Self::Nodes(before)) => now.step(before),
            (now, before) if now == before => Step::Nothing,
            (_, _) => Step::Whole,
        }
    }
}

impl Version {
    pub(super) fn new(number: u64, index: Index, content: Content) -> Self {
        let (digest, encoded, steps) = (OnceLock::new(), Mutex::default(), Mutex::default());
        Self { number, index, content, digest, encoded, steps }
    }

    /// Returns what the version is called within its view.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn content(&self) -> &Content {
        &self.content
    }

    /// Returns why there is no value.
    pub(crate) fn problem(&self) -> Option<&str> {
        match &self.content {
            Content::Problem(problem) => Some(problem),
            Content::Instances(_) | Content::Nodes(_) | Content::Whole(_) => None,
        }
    }

    /// Returns the value as an envelope.
    pub(crate) async fn value(self: &Arc<Self>, tasks: &TaskTree) -> Bytes {
        let cell = {
            let mut encoded = self.encoded.lock();
            encoded.is_used = true;
            encoded.cell.clone()
        };
        let version = self.clone();
        let encode = || async move {
            if !version.content.is_large() {
                return version.content.encode();
            }
            let of_thread = version.clone();
            let encoded = tasks.blocking(move || of_thread.content.encode()).await;
            // The process is going down: the reader will not wait for it.
            encoded.unwrap_or_else(|_| version.content.encode())
        };
        cell.get_or_init(encode).await.clone()
    }

    /// Lets the encoded value go unless somebody asked for it since the last call.
    pub(super) fn trim(&self) {
        let mut encoded = self.encoded.lock();
        if !std::mem::take(&mut encoded.is_used) {
            *encoded = Encoded::default();
        }
    }

    /// Whether it is the value with a digest.
    pub(super) fn has_digest(&self, known: &[u8]) -> bool {
        *self.digest.get_or_init(|| self.content.digest()) == known
    }

    /// Returns what leads from an older version to this one.
    pub(crate) fn step_from(&self, before: &Self) -> Step {
        // The lock is held meanwhile, so that of all who need it one makes it.
        let mut steps = self.steps.lock();
        let step = steps.entry(before.number).or_insert_with(|| self.content.step(&before.content));
        step.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(names: &[(&str, &str)]) -> Vec<Arc<Node>> {
        let node = |(name, address): &(&str, &str)| {
            let json = serde_json::json!(
                { "Node": name, "Address": address, "Datacenter": "dc1" }
            );
            Arc::new(serde_json::from_value(json).expect("a node"))
        };
        names.iter().map(node).collect()
    }

    #[test]
    fn a_list_shares_with_the_one_before_what_is_the_same() {
        let old = nodes(&[("a", "1"), ("c", "1"), ("d", "1")]);
        let old = Records::after(None, old);
        let new = nodes(&[("a", "1"), ("b", "1"), ("c", "2"), ("d", "1")]);
        let new = Records::after(Some(&old), new);
        let shared = |at: usize| old.0.iter().any(|record| Arc::ptr_eq(record, &new.0[at]));
        assert_eq!([0, 1, 2, 3].map(shared), [true, false, false, true]);
    }

    #[test]
    fn a_step_is_made_once_and_says_no_more_than_needed() {
        let version = |number: u64, names: &[(&str, &str)]| {
            let content = Content::Nodes(Records::after(None, nodes(names)));
            Version::new(number, Index(number), content)
        };
        let old = version(1, &[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]);
        let new = version(2, &[("a", "2"), ("c", "1"), ("d", "1")]);
        let Step::Delta { changed, removed } = new.step_from(&old) else { panic!("a difference") };
        let changed: Vec<Node> = envelope::decode(&changed).expect("nodes");
        let removed: Vec<String> = envelope::decode(&removed).expect("names");
        assert_eq!((changed[0].address.as_str(), removed), ("2", vec!["b".to_owned()]));
        let most = version(3, &[("a", "2"), ("b", "2"), ("c", "2"), ("d", "1")]);
        assert!(matches!(most.step_from(&old), Step::Whole));
        let same = version(4, &[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]);
        assert!(matches!(same.step_from(&old), Step::Nothing));
        assert_eq!(new.steps.lock().len(), 1);
    }

    #[test]
    fn a_digest_is_that_of_the_records_as_they_are_sent() {
        let list = nodes(&[("a", "1"), ("b", "1")]);
        let known =
            digest::of_list(list.iter().map(|node| digest::of_bytes(&envelope::encode(node))));
        let version = Version::new(1, Index(1), Content::Nodes(Records::after(None, list)));
        assert!(version.has_digest(&known));
        assert!(!version.has_digest(&[]));
    }
}
