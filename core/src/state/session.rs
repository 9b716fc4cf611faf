//! Sessions: made on a node that is there, ended with it, with a check, or when asked.
//!
//! When the time of one is over the leader says so; here no clock runs.
//!
//! **Source**: Consul: docs/dynamic-app-config/sessions.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};

use super::rebase::earlier;
use super::{Answer, Change, NodeKey, NodeRow, Refusal, State};
use crate::catalog::{CheckStatus, SERF_HEALTH};
use crate::index::Index;
use crate::limits;
use crate::name::{CheckId, NodeName};
use crate::session::{Session, SessionId};
use crate::time::Timestamp;

/// One write of the sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionCommand {
    /// Makes a session; its indexes are ignored.
    Create(Session),
    /// Ends one, if it is there.
    Destroy(SessionId),
}

/// All sessions.
#[derive(Debug, Default, Clone)]
pub struct SessionTable {
    by_id: OrdMap<SessionId, Arc<Session>>,
    by_node: OrdMap<NodeKey, OrdSet<SessionId>>,
    /// Those that end unless they are renewed, in the order in which they were made.
    with_ttl: OrdSet<(Index, SessionId)>,
    /// When a session was last made or ended.
    index: Index,
}

/// A [`SessionTable`] as records.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct SessionSnapshot {
    #[serde(default)]
    sessions: Vec<Arc<Session>>,
    #[serde(default)]
    index: Index,
}

impl SessionSnapshot {
    /// Makes no record later than `most`.
    pub(super) fn bring_before(&mut self, most: Index) {
        self.sessions.iter_mut().for_each(|session| earlier!(session, most));
        self.index = self.index.min(most);
    }
}

impl SessionTable {
    /// Returns a session.
    pub fn get(&self, id: SessionId) -> Option<&Arc<Session>> {
        self.by_id.get(&id)
    }

    /// Returns all sessions, by id.
    pub fn list(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.by_id.values()
    }

    /// Returns the sessions of a node, by id; names are compared without regard to case.
    pub fn of_node(&self, node: &NodeName) -> impl Iterator<Item = &Arc<Session>> {
        let ids = self.by_node.get(&NodeKey::from(node));
        ids.into_iter().flatten().filter_map(|id| self.by_id.get(id))
    }

    /// Returns the sessions that end unless they are renewed and were made after an index, in
    /// the order in which they were made.
    pub fn with_ttl_since(&self, index: Index) -> impl Iterator<Item = &Arc<Session>> {
        let after = (Index(index.0 + 1), SessionId::SMALLEST);
        let range = self.with_ttl.range((Bound::Included(after), Bound::Unbounded));
        range.filter_map(|(_, id)| self.by_id.get(id))
    }

    /// Returns when a session was last made or ended.
    pub fn index(&self) -> Index {
        self.index
    }

    pub(super) fn to_snapshot(&self) -> SessionSnapshot {
        SessionSnapshot { sessions: self.by_id.values().cloned().collect(), index: self.index }
    }

    pub(super) fn from_snapshot(snapshot: SessionSnapshot) -> Self {
        let mut table = Self { index: snapshot.index, ..Self::default() };
        for session in snapshot.sessions {
            table.put(session);
        }
        table
    }

    fn put(&mut self, session: Arc<Session>) {
        let key = NodeKey::from(&session.node);
        self.by_node.entry(key).or_default().insert(session.id);
        if session.ttl.is_some() {
            self.with_ttl.insert((session.create_index, session.id));
        }
        self.by_id.insert(session.id, session);
    }

    fn take(&mut self, id: SessionId) -> Option<Arc<Session>> {
        let session = self.by_id.remove(&id)?;
        self.with_ttl.remove(&(session.create_index, id));
        let key = NodeKey::from(&session.node);
        if let Some(ids) = self.by_node.get_mut(&key) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_node.remove(&key);
            }
        }
        Some(session)
    }
}

impl State {
    /// Returns the sessions.
    pub fn sessions(&self) -> &SessionTable {
        &self.sessions
    }

    pub(super) fn session_write(
        &mut self,
        index: Index,
        now: Timestamp,
        command: SessionCommand,
        changes: &mut BTreeSet<Change>,
    ) -> Result<Answer, Refusal> {
        match command {
            SessionCommand::Create(session) => self.create_session(index, session, changes)?,
            SessionCommand::Destroy(id) => self.end_session(index, now, id, changes),
        }
        Ok(Answer::Done { changed: !changes.is_empty() })
    }

    fn create_session(
        &mut self,
        index: Index,
        mut session: Session,
        changes: &mut BTreeSet<Change>,
    ) -> Result<(), Refusal> {
        // A write that is tried again finds done what it asks for: ids are drawn.
        if self.sessions.get(session.id).is_some() {
            return Ok(());
        }
        let checks = session.checks().count();
        if checks > limits::SESSION_CHECKS_MAX {
            return Err(Refusal::Limit {
                field: "NodeChecks".to_owned(),
                length: checks,
                limit: limits::SESSION_CHECKS_MAX,
            });
        }
        let row = self.nodes.get(&NodeKey::from(&session.node));
        let row = row.ok_or(Refusal::SessionNodeMissing)?;
        for check in session.checks() {
            match standing(row, check) {
                Some(CheckStatus::Critical) => {
                    return Err(Refusal::SessionCheckCritical(check.clone()));
                }
                Some(CheckStatus::Passing | CheckStatus::Warning) => {}
                None => return Err(Refusal::SessionCheckMissing(check.clone())),
            }
        }
        session.node = row.node.name.clone();
        (session.create_index, session.modify_index) = (index, index);
        changes.insert(Change::Session { id: session.id, node: session.node.clone() });
        self.sessions.put(Arc::new(session));
        self.sessions.index = index;
        Ok(())
    }

    pub(super) fn end_session(
        &mut self,
        index: Index,
        now: Timestamp,
        id: SessionId,
        changes: &mut BTreeSet<Change>,
    ) {
        let Some(session) = self.sessions.take(id) else { return };
        self.sessions.index = index;
        self.kv_end_session(index, now, &session, changes);
        self.end_queries_of_session(index, &id.to_string(), changes);
        changes.insert(Change::Session { id, node: session.node.clone() });
    }

    /// Ends the sessions of a node that its catalog records no longer carry, and forgets where it
    /// was when it is gone.
    pub(super) fn settle_sessions(
        &mut self,
        index: Index,
        now: Timestamp,
        node: &NodeKey,
        changes: &mut BTreeSet<Change>,
    ) {
        self.settle_coordinate(index, node, changes);
        let Some(ids) = self.sessions.by_node.get(node).cloned() else { return };
        for id in ids {
            let carried = self.nodes.get(node).is_some_and(|row| {
                let session = self.sessions.get(id);
                session.is_some_and(|session| {
                    session.checks().all(|check| {
                        standing(row, check).is_some_and(|it| it != CheckStatus::Critical)
                    })
                })
            });
            if !carried {
                self.end_session(index, now, id, changes);
            }
        }
    }
}

/// How a check stands for a session: the node's own liveness is implied while it is registered.
fn standing(row: &NodeRow, check: &CheckId) -> Option<CheckStatus> {
    match row.checks.get(check) {
        Some(check) => Some(check.status),
        None => (check.as_str() == SERF_HEALTH).then_some(CheckStatus::Passing),
    }
}
