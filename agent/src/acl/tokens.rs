//! The agent's own tokens: those of its configuration, and those that operators set while it
//! runs. The latter are kept over restarts where the configuration wants it.
//!
//! **Source**: Consul: api-docs/agent#update-acl-tokens.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use weft_runtime::store::{self, StoreError};

use crate::config::{AclConfig, TokenText};

/// The file in the data directory.
const FILE: &str = "acl-tokens.json";
/// Only the agent's user reads it.
const FILE_MODE: u32 = 0o600;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Slot {
    /// What the agent asks servers for itself.
    Agent,
    /// Services of configuration files. The agent writes its node by its certificate, so nothing
    /// asks for it; it is kept for tools that set it.
    ConfigFileServiceRegistration,
    /// Callers who show no token.
    Default,
    /// With whose rights names are answered over DNS.
    Dns,
    /// What is taken over from another datacenter. Kept for tools that set it.
    Replication,
}

/// States that there is no such slot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Token {0:?} is unknown")]
pub(crate) struct UnknownSlot(String);

impl FromStr for Slot {
    type Err = UnknownSlot;

    /// Reads a slot by its name, or the one that it had in old releases.
    fn from_str(text: &str) -> Result<Self, UnknownSlot> {
        match text {
            "agent" | "acl_agent_token" => Ok(Self::Agent),
            "config_file_service_registration" => Ok(Self::ConfigFileServiceRegistration),
            "default" | "acl_token" => Ok(Self::Default),
            "dns" => Ok(Self::Dns),
            "replication" | "acl_replication_token" => Ok(Self::Replication),
            other => Err(UnknownSlot(other.to_owned())),
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agent => "agent",
            Self::ConfigFileServiceRegistration => "config_file_service_registration",
            Self::Default => "default",
            Self::Dns => "dns",
            Self::Replication => "replication",
        })
    }
}

/// States why the kept tokens are of no use, or a new one was not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokensError {
    /// The file does not hold what it should. Starting without would let the agent do what it
    /// was not meant to do, or less.
    #[error(
        "{} does not hold tokens: {reason}; set them anew with `weft acl set-agent-token` after \
         removing it", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; none of its content.
        reason: String,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The file was not written, and nothing was set.
    #[error("the token was not kept, and so not set")]
    Write(#[source] StoreError),
}

/// The tokens in force. Clones share them.
#[derive(Clone)]
pub(crate) struct Tokens {
    /// Those of the configuration; what is set stands before them.
    configured: Arc<BTreeMap<Slot, TokenText>>,
    set: Arc<RwLock<BTreeMap<Slot, TokenText>>>,
    /// How often one was set.
    changes: Arc<AtomicU64>,
    /// Whose turn it is to write the file.
    turn: Arc<Mutex<()>>,
    /// `None` where they are not kept.
    file: Option<Arc<Path>>,
}

impl Tokens {
    /// Takes those of the configuration, and those that were kept. Blocks its thread.
    ///
    /// # Errors
    /// [`TokensError`] when there is a file and it cannot be used.
    pub(crate) fn open(config: &AclConfig, data_dir: &Path) -> Result<Self, TokensError> {
        let given = [
            (Slot::Default, &config.default_token),
            (Slot::Agent, &config.agent_token),
            (Slot::Dns, &config.dns_token),
        ];
        let configured: BTreeMap<Slot, TokenText> =
            given.into_iter().filter_map(|(slot, token)| Some((slot, token.clone()?))).collect();
        let path = data_dir.join(FILE);
        let file = config.keeps_tokens.then(|| Arc::from(path.as_path()));
        let set = match &file {
            Some(path) => load(path)?,
            None => BTreeMap::new(),
        };
        for slot in set.keys().filter(|slot| configured.contains_key(slot)) {
            warn!(%slot, "a token was set while the agent ran; it counts, not the configured one");
        }
        let set = Arc::new(RwLock::new(set));
        let (changes, turn) = (Arc::default(), Arc::default());
        Ok(Self { configured: configured.into(), set, changes, turn, file })
    }

    /// Returns the token of a slot.
    pub(crate) fn of(&self, slot: Slot) -> Option<TokenText> {
        self.set.read().get(&slot).or_else(|| self.configured.get(&slot)).cloned()
    }

    /// Returns how often a token was set: what was judged before the last time may be otherwise now.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Sets a slot, or with `None` empties it for the configured token to count again; keeps it
    /// first where it is to be kept. Blocks its thread.
    ///
    /// # Errors
    /// [`TokensError::Write`]; nothing is different then.
    pub(crate) fn set(&self, slot: Slot, token: Option<TokenText>) -> Result<(), TokensError> {
        // Held while the file is written, so that file and memory say the same; readers do not
        // wait for it.
        let _turn = self.turn.lock();
        let mut next = self.set.read().clone();
        match token {
            Some(token) => next.insert(slot, token),
            None => next.remove(&slot),
        };
        if let Some(path) = &self.file {
            let texts: BTreeMap<String, &str> =
                next.iter().map(|(slot, token)| (slot.to_string(), token.secret())).collect();
            let text = serde_json::to_vec(&texts).unwrap_or_default();
            store::write_file(path, FILE_MODE, &text).map_err(TokensError::Write)?;
        }
        *self.set.write() = next;
        self.changes.fetch_add(1, Ordering::Release);
        info!(%slot, kept = self.file.is_some(), "a token of this agent was set");
        Ok(())
    }
}

fn load(path: &Path) -> Result<BTreeMap<Slot, TokenText>, TokensError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(TokensError::Read { path: path.to_owned(), source }),
    };
    let damaged = |reason: String| TokensError::Damaged { path: path.to_owned(), reason };
    // A fault of JSON is told by its place alone: its text could be a secret.
    let texts: BTreeMap<String, String> = serde_json::from_slice(&text)
        .map_err(|fault| damaged(format!("line {}, column {}", fault.line(), fault.column())))?;
    texts
        .into_iter()
        .map(|(slot, text)| {
            let slot = slot.parse().map_err(|fault: UnknownSlot| damaged(fault.to_string()))?;
            let token = TokenText::new(&text).filter(TokenText::is_usable);
            Ok((slot, token.ok_or_else(|| damaged(format!("no token for {slot}")))?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::DownPolicy;

    fn config(keeps_tokens: bool) -> AclConfig {
        AclConfig {
            enabled: true,
            down_policy: DownPolicy::ExtendCache,
            default_token: TokenText::new("from the file"),
            agent_token: None,
            dns_token: None,
            keeps_tokens,
        }
    }

    #[test]
    fn what_is_set_is_kept_for_the_owner_alone_and_stands_before_the_configuration() {
        let dir = tempfile::tempdir().expect("a directory");
        let tokens = Tokens::open(&config(true), dir.path()).expect("no file yet");
        assert_eq!(tokens.of(Slot::Default), TokenText::new("from the file"));
        tokens.set(Slot::Default, TokenText::new("set")).expect("kept");
        tokens.set(Slot::Agent, TokenText::new("agent's")).expect("kept");
        let mode = std::fs::metadata(dir.path().join(FILE)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Tokens::open(&config(true), dir.path()).expect("the file is whole");
        assert_eq!(again.of(Slot::Default), TokenText::new("set"));
        assert_eq!(again.of(Slot::Agent), TokenText::new("agent's"));
        again.set(Slot::Default, None).expect("kept");
        assert_eq!(again.of(Slot::Default), TokenText::new("from the file"));
        let plain = Tokens::open(&config(false), dir.path()).expect("no file is looked at");
        assert_eq!(plain.of(Slot::Agent), None);
    }

    #[test]
    fn a_damaged_file_is_told_without_its_content() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE);
        for text in ["{\"default\": \"secret-1\"", "{\"other\": \"secret-1\"}", "{\"agent\": \"\"}"]
        {
            std::fs::write(&path, text).expect("a file");
            let Err(error) = Tokens::open(&config(true), dir.path()) else {
                panic!("{text} was taken")
            };
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn slots_have_their_old_names_too() {
        for (name, slot) in [("acl_token", Slot::Default), ("acl_agent_token", Slot::Agent)] {
            assert_eq!(name.parse(), Ok(slot));
        }
        let error = "agents".parse::<Slot>().expect_err("no such slot");
        assert_eq!(error.to_string(), "Token \"agents\" is unknown");
    }
}
