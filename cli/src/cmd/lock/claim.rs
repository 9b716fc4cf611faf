//! A claim to a lock or to a place of a semaphore: a session, and the keys that it writes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use http::Method;
use serde::{Deserialize, Serialize};
use weft_proto::json::kv::KvPair;
use weft_proto::json::session::SessionCreated;
use weft_runtime::clock;

use crate::client::{ApiClient, encode};
use crate::cmd::kv;

/// The session's TTL (Consul: 15 s), and how often it is renewed.
const TTL: &str = "15s";
const RENEW_EVERY: Duration = Duration::from_secs(7);
/// How long one look at the keys waits for a change.
const WAIT: &str = "30s";
/// The pause before the next attempt at a lock that is closed for a while, and after an answer
/// that did not come.
const PAUSE: Duration = Duration::from_secs(1);
/// Marks the keys of locks and of semaphores.
///
/// **Source**: Consul: `api.LockFlagValue`, `api.SemaphoreFlagValue`.
const LOCK_FLAGS: u64 = 0x2ddc_cbc0_58a5_0c18;
const SEMAPHORE_FLAGS: u64 = 0xe0f6_9a2b_aa41_4de0;

/// The claim.
pub(super) struct Claim {
    client: ApiClient,
    session: String,
    prefix: String,
    limit: u32,
}

/// The value of a semaphore's `.lock`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Places {
    limit: u32,
    holders: BTreeMap<String, bool>,
}

/// What a look at the keys says.
struct Seen {
    is_held: bool,
    index: u64,
}

impl Claim {
    pub(super) async fn open(
        client: ApiClient,
        prefix: &str,
        limit: u32,
        name: &str,
        node: Option<&str>,
    ) -> anyhow::Result<Self> {
        let prefix = prefix.trim_matches('/').to_owned();
        if prefix.is_empty() {
            bail!("the prefix of the lock must not be empty");
        }
        let mut body = serde_json::json!({ "Name": name, "TTL": TTL, "Behavior": "release" });
        if let Some(node) = node {
            body["Node"] = node.into();
        }
        let made = client.call(Method::PUT, "/v1/session/create", body.to_string()).await?;
        let made: SessionCreated = made
            .ok()
            .context("no session (ask an agent, or name a registered node with --node)")?
            .json()?;
        Ok(Self { client, session: made.id, prefix, limit })
    }

    /// Takes the lock as soon as it is free; `false` when it was not in time.
    pub(super) async fn acquire(&self, until: Option<Instant>) -> anyhow::Result<bool> {
        let acquire = async {
            if self.limit > 1 {
                let contender = self.contender();
                if !self.write(&contender, SEMAPHORE_FLAGS, "acquire", Vec::new()).await? {
                    bail!("{contender} belongs to another session");
                }
            }
            loop {
                let index = match self.limit {
                    1 => self.try_lock().await?,
                    _ => self.try_place().await?,
                };
                let Some(index) = index else { return Ok(()) };
                if index == 0 {
                    // Free, and yet not to be had: its last session ended a short while ago.
                    tokio::time::sleep(PAUSE).await;
                } else {
                    self.look(index).await?;
                }
            }
        };
        match until {
            None => acquire.await.map(|()| true),
            Some(until) => match tokio::time::timeout_at(until.into(), acquire).await {
                Ok(outcome) => outcome.map(|()| true),
                Err(_) => Ok(false),
            },
        }
    }

    /// Renews the session for as long as that goes well.
    pub(super) async fn keep(&self, retries: u32) -> anyhow::Error {
        let path = format!("/v1/session/renew/{}", self.session);
        let mut failures = 0;
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            match self.client.call(Method::PUT, &path, String::new()).await {
                Ok(answer) => match answer.found() {
                    Ok(Some(_)) => failures = 0,
                    Ok(None) => return anyhow!("the session is gone"),
                    Err(error) if failures >= retries => return error,
                    Err(_) => failures += 1,
                },
                Err(error) if failures >= retries => return error,
                Err(_) => failures += 1,
            }
        }
    }

    /// Waits until the lock is no longer this session's.
    pub(super) async fn lost(&self, retries: u32) -> anyhow::Error {
        let (mut index, mut failures) = (0, 0);
        loop {
            match self.look(index).await {
                Ok(Seen { is_held: false, .. }) => {
                    return anyhow!("it has another holder, or none");
                }
                Ok(seen) => {
                    // An index that falls is begun with anew.
                    index = if seen.index < index { 0 } else { seen.index };
                    failures = 0;
                }
                Err(error) if failures >= retries => return error,
                Err(_) => {
                    failures += 1;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Gives the lock back, if it is held, and ends the session.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        // The end of the session frees the rest; what is given back first needs no delay.
        let released = match self.limit {
            1 => self.write(&self.lock_key(), LOCK_FLAGS, "release", Vec::new()).await.map(drop),
            _ => self.leave_place().await,
        };
        let path = format!("/v1/session/destroy/{}", self.session);
        self.client.call(Method::PUT, &path, String::new()).await?.ok()?;
        released
    }

    fn lock_key(&self) -> String {
        format!("{}/.lock", self.prefix)
    }

    fn contender(&self) -> String {
        format!("{}/{}", self.prefix, self.session)
    }

    async fn write(
        &self,
        key: &str,
        flags: u64,
        verb: &str,
        value: Vec<u8>,
    ) -> anyhow::Result<bool> {
        let path = format!("{}?flags={flags}&{verb}={}", kv::path(key), encode(&self.session));
        self.client.call(Method::PUT, &path, value).await?.ok()?.json()
    }

    /// `None` when the lock is held now; else the index to wait with, 0 for none.
    async fn try_lock(&self) -> anyhow::Result<Option<u64>> {
        if self.write(&self.lock_key(), LOCK_FLAGS, "acquire", Vec::new()).await? {
            return Ok(None);
        }
        let (entries, index) = self.read(&self.lock_key(), "consistent=").await?;
        let entry = entries.first();
        if entry.is_some_and(|entry| entry.flags != LOCK_FLAGS) {
            bail!("{} is no lock: something else is kept there", self.lock_key());
        }
        let is_free = entry.is_none_or(|entry| entry.session.is_empty());
        Ok(Some(if is_free { 0 } else { index }))
    }

    /// As [`Claim::try_lock`], of a place.
    async fn try_place(&self) -> anyhow::Result<Option<u64>> {
        let (entries, index) =
            self.read(&format!("{}/", self.prefix), "recurse=&consistent=").await?;
        let (mut places, cas) = self.places(&entries)?;
        if places.limit != self.limit {
            bail!("the semaphore has a limit of {}, not {}", places.limit, self.limit);
        }
        if places.holders.len() >= self.limit as usize {
            return Ok(Some(index));
        }
        places.holders.insert(self.session.clone(), true);
        match self.write_places(&places, cas).await? {
            true => Ok(None),
            // Somebody else was faster: the next look finds what is there now.
            false => Ok(Some(1)),
        }
    }

    /// Reads who holds a place, without those who are gone, and the index of that.
    fn places(&self, entries: &[KvPair]) -> anyhow::Result<(Places, u64)> {
        let alive: BTreeSet<&str> = entries
            .iter()
            .filter(|entry| !entry.session.is_empty())
            .filter_map(|entry| entry.key.strip_prefix(&format!("{}/", self.prefix)))
            .collect();
        let Some(entry) = entries.iter().find(|entry| entry.key == self.lock_key()) else {
            return Ok((Places { limit: self.limit, holders: BTreeMap::new() }, 0));
        };
        if entry.flags != SEMAPHORE_FLAGS {
            bail!("{} is no semaphore: something else is kept there", self.lock_key());
        }
        let places: Places = serde_json::from_slice(&entry.value)
            .with_context(|| format!("{} does not say who holds a place", self.lock_key()))?;
        let holders = places.holders.into_iter().filter(|(id, _)| alive.contains(id.as_str()));
        Ok((Places { limit: places.limit, holders: holders.collect() }, entry.modify_index))
    }

    async fn write_places(&self, places: &Places, cas: u64) -> anyhow::Result<bool> {
        let path = format!("{}?flags={SEMAPHORE_FLAGS}&cas={cas}", kv::path(&self.lock_key()));
        let value = serde_json::to_vec(places).context("cannot write JSON")?;
        self.client.call(Method::PUT, &path, value).await?.ok()?.json()
    }

    async fn leave_place(&self) -> anyhow::Result<()> {
        let until = clock::instant() + Duration::from_secs(10);
        loop {
            let prefix = format!("{}/", self.prefix);
            let (entries, _) = self.read(&prefix, "recurse=&consistent=").await?;
            let (mut places, cas) = self.places(&entries)?;
            let was_held = places.holders.remove(&self.session).is_some();
            if !was_held || self.write_places(&places, cas).await? {
                break;
            }
            if clock::instant() > until {
                bail!("the place could not be given back; it is free when the session has ended");
            }
        }
        let path = kv::path(&self.contender());
        self.client.call(Method::DELETE, &path, String::new()).await?.ok().map(drop)
    }

    /// Looks at the keys once something has changed there after an index, or half a minute later.
    async fn look(&self, index: u64) -> anyhow::Result<Seen> {
        let wait = format!("consistent=&index={index}&wait={WAIT}");
        if self.limit == 1 {
            let (entries, index) = self.read(&self.lock_key(), &wait).await?;
            let is_held = entries.first().is_some_and(|entry| entry.session == self.session);
            return Ok(Seen { is_held, index });
        }
        let prefix = format!("{}/", self.prefix);
        let (entries, index) = self.read(&prefix, &format!("recurse=&{wait}")).await?;
        let (places, _) = self.places(&entries)?;
        Ok(Seen { is_held: places.holders.contains_key(&self.session), index })
    }

    async fn read(&self, key: &str, query: &str) -> anyhow::Result<(Vec<KvPair>, u64)> {
        let answer = self.client.get(&format!("{}?{query}", kv::path(key))).await?;
        let index = answer.index();
        let entries = answer.found()?.map(|found| found.json()).transpose()?;
        Ok((entries.unwrap_or_default(), index))
    }
}
