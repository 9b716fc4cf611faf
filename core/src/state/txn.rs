//! Transactions: several operations that all happen at one index, or none.
//!
//! **Source**: Consul: api-docs/txn.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::kv::Written;
use super::{Answer, Change, NodeKey, Refusal, State};
use crate::catalog::{CatalogDeregistration, CatalogRegistration, HealthCheck, Node, Service};
use crate::index::Index;
use crate::kv::{KvCommand, KvEntry, KvKey};
use crate::limits;
use crate::name::{CheckId, InstanceId, NodeName};
use crate::session::SessionId;
use crate::time::Timestamp;

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnOp {
    /// Looks at or changes a check; the record's indexes are those of compare-and-set verbs.
    Check(TxnVerb, HealthCheck),
    /// Looks at the key/value store.
    KvLook(KvLook),
    /// Changes the key/value store.
    KvWrite(KvCommand),
    /// Looks at or changes a node.
    Node(TxnVerb, Node),
    /// Looks at or changes an instance on a node.
    Service(TxnVerb, NodeName, Service),
    /// Ends a session.
    SessionDelete(SessionId),
}

/// What is done with a record of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnVerb {
    /// Writes it if it has the index given; 0 for no record.
    Cas,
    /// Removes it.
    Delete,
    /// Removes it if it has the index given.
    DeleteCas,
    /// Tells it.
    Get,
    /// Writes it.
    Set,
}

/// What is asked of the key/value store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvLook {
    /// The entry must have this index; it is told.
    CheckIndex(KvKey, Index),
    /// There must be no entry.
    CheckNotExists(KvKey),
    /// The entry must be locked by this session; it is told.
    CheckSession(KvKey, SessionId),
    /// The entry is told, and must be there.
    Get(KvKey),
    /// The entry is told, if it is there, else one without a value.
    GetOrEmpty(KvKey),
    /// Every entry whose key starts so is told.
    GetTree(KvKey),
}

/// What an operation tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnResult {
    /// A check.
    Check(Arc<HealthCheck>),
    /// An entry.
    Kv {
        /// The entry.
        entry: Arc<KvEntry>,
        /// Whether its value is told; not of what was just written.
        with_value: bool,
    },
    /// A node.
    Node(Arc<Node>),
    /// An instance.
    Service(Arc<Service>),
}

/// Why an operation, and with it the whole transaction, was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnError {
    /// The operation, from 0.
    pub op_index: usize,
    /// Why.
    pub what: String,
}

impl TxnOp {
    /// Whether it changes nothing.
    pub fn only_reads(&self) -> bool {
        match self {
            Self::KvLook(_)
            | Self::Check(TxnVerb::Get, _)
            | Self::Node(TxnVerb::Get, _)
            | Self::Service(TxnVerb::Get, _, _) => true,
            Self::Check(..)
            | Self::KvWrite(_)
            | Self::Node(..)
            | Self::Service(..)
            | Self::SessionDelete(_) => false,
        }
    }
}

/// One run of a transaction.
struct Run<'a> {
    index: Index,
    now: Timestamp,
    changes: &'a mut BTreeSet<Change>,
    results: Vec<TxnResult>,
}

impl State {
    /// Carries out a transaction that only looks, on this state.
    ///
    /// # Errors
    /// What did not hold, at least one.
    pub fn look(&self, ops: Vec<TxnOp>) -> Result<Vec<TxnResult>, Vec<TxnError>> {
        debug_assert!(ops.iter().all(TxnOp::only_reads), "whoever changes something writes");
        let mut changes = BTreeSet::new();
        self.clone().run(self.index, Timestamp::default(), ops, &mut changes)
    }

    pub(super) fn txn(
        &mut self,
        index: Index,
        now: Timestamp,
        ops: Vec<TxnOp>,
        changes: &mut BTreeSet<Change>,
    ) -> Result<Answer, Refusal> {
        if ops.len() > limits::TXN_OPS_CEILING {
            let (field, length) = ("transaction".to_owned(), ops.len());
            return Err(Refusal::Limit { field, length, limit: limits::TXN_OPS_CEILING });
        }
        let before = self.clone();
        match self.run(index, now, ops, changes) {
            Ok(results) => Ok(Answer::Txn(results)),
            Err(errors) => {
                *self = before;
                changes.clear();
                Ok(Answer::TxnFailed(errors))
            }
        }
    }

    fn run(
        &mut self,
        index: Index,
        now: Timestamp,
        ops: Vec<TxnOp>,
        changes: &mut BTreeSet<Change>,
    ) -> Result<Vec<TxnResult>, Vec<TxnError>> {
        let mut run = Run { index, now, changes, results: Vec::new() };
        let mut errors = Vec::new();
        for (op_index, op) in ops.into_iter().enumerate() {
            // The further ones run too, so that all that is wrong is told at once.
            if let Err(what) = self.step(&mut run, op) {
                errors.push(TxnError { op_index, what });
            }
        }
        if errors.is_empty() { Ok(run.results) } else { Err(errors) }
    }

    fn step(&mut self, run: &mut Run<'_>, op: TxnOp) -> Result<(), String> {
        match op {
            TxnOp::Check(verb, check) => self.check_step(run, verb, check),
            TxnOp::KvLook(look) => self.kv_look(run, look),
            TxnOp::KvWrite(command) => self.kv_step(run, command),
            TxnOp::Node(verb, node) => self.node_step(run, verb, node),
            TxnOp::Service(verb, node, service) => self.service_step(run, verb, &node, service),
            TxnOp::SessionDelete(id) => {
                self.end_session(run.index, run.now, id, run.changes);
                Ok(())
            }
        }
    }

    fn kv_step(&mut self, run: &mut Run<'_>, command: KvCommand) -> Result<(), String> {
        let (index, now) = (run.index, run.now);
        match command {
            KvCommand::Delete { key, cas } => {
                match self.kv_delete(index, now, key.clone(), cas, run.changes) {
                    Answer::CasMismatch => {
                        Err(format!("failed to delete key {key:?}, index is stale"))
                    }
                    _ => Ok(()),
                }
            }
            KvCommand::DeleteTree { prefix } => {
                self.kv_delete_tree(index, now, prefix, run.changes);
                Ok(())
            }
            KvCommand::Set { key, value, flags, condition } => {
                let written = self.kv_set(index, now, (key, value, flags), &condition, run.changes);
                match written.map_err(|refusal| refusal.to_string())? {
                    Written::Declined(what) => Err(what),
                    Written::New(entry) | Written::Same(entry) => {
                        run.results.push(TxnResult::Kv { entry, with_value: false });
                        Ok(())
                    }
                }
            }
        }
    }

    fn kv_look(&self, run: &mut Run<'_>, look: KvLook) -> Result<(), String> {
        let find = |key: &KvKey| self.kv().get(key.as_str()).1.cloned();
        let found = |key: &KvKey| find(key).ok_or_else(|| format!("key {key:?} doesn't exist"));
        let mut answer = |entry, with_value| run.results.push(TxnResult::Kv { entry, with_value });
        // Who checks is not told what is there.
        match look {
            KvLook::CheckIndex(key, index) => {
                let entry = found(&key)?;
                let current = entry.modify_index;
                if current != index {
                    return Err(format!(
                        "failed index check for key {key:?}, current modify index {current} != \
                         {index}"
                    ));
                }
                answer(entry, false);
            }
            KvLook::CheckNotExists(key) => {
                if find(&key).is_some() {
                    return Err(format!("key {key:?} exists"));
                }
            }
            KvLook::CheckSession(key, session) => {
                let entry = found(&key)?;
                if entry.session != Some(session) {
                    let current = entry.session.map(|it| it.to_string()).unwrap_or_default();
                    return Err(format!(
                        "failed session check for key {key:?}, current session {current:?} != \
                         \"{session}\""
                    ));
                }
                answer(entry, false);
            }
            KvLook::Get(key) => answer(found(&key)?, true),
            KvLook::GetOrEmpty(key) => {
                let empty = || KvEntry {
                    key: key.clone(),
                    value: bytes::Bytes::new(),
                    flags: 0,
                    session: None,
                    lock_index: 0,
                    create_index: Index::default(),
                    modify_index: Index::default(),
                };
                answer(find(&key).unwrap_or_else(|| Arc::new(empty())), true);
            }
            KvLook::GetTree(prefix) => {
                self.kv().list(prefix.as_str()).1.into_iter().for_each(|it| answer(it, true));
            }
        }
        Ok(())
    }

    fn node_step(&mut self, run: &mut Run<'_>, verb: TxnVerb, node: Node) -> Result<(), String> {
        let key = NodeKey::from(&node.name);
        let name = node.name.clone();
        let find = |state: &Self| state.nodes.get(&key).map(|row| row.node.clone());
        let present = find(self);
        let modified = present.as_ref().map(|it| it.modify_index);
        decide(verb, modified, node.modify_index, || format!("node {:?}", name.as_str()))?;
        match verb {
            TxnVerb::Get => {}
            TxnVerb::Cas | TxnVerb::Set => {
                let registration =
                    CatalogRegistration { node, services: Vec::new(), checks: Vec::new() };
                self.write_catalog(run, registration)?;
            }
            TxnVerb::Delete | TxnVerb::DeleteCas => {
                self.delete_catalog(run, name, None, None)?;
                return Ok(());
            }
        }
        run.results.extend(find(self).map(TxnResult::Node));
        Ok(())
    }

    fn service_step(
        &mut self,
        run: &mut Run<'_>,
        verb: TxnVerb,
        node: &NodeName,
        service: Service,
    ) -> Result<(), String> {
        let key = NodeKey::from(node);
        let id = service.id.clone();
        let find = |state: &Self| state.nodes.get(&key)?.services.get(&id).cloned();
        let modified = find(self).map(|it| it.modify_index);
        decide(verb, modified, service.modify_index, || {
            format!("service {:?} on node {:?}", id.as_str(), node.as_str())
        })?;
        match verb {
            TxnVerb::Get => {}
            TxnVerb::Cas | TxnVerb::Set => {
                let node = self.kept_node(&key)?;
                let registration =
                    CatalogRegistration { node, services: vec![service], checks: Vec::new() };
                self.write_catalog(run, registration)?;
            }
            TxnVerb::Delete | TxnVerb::DeleteCas => {
                self.delete_catalog(run, node.clone(), Some(id), None)?;
                return Ok(());
            }
        }
        run.results.extend(find(self).map(TxnResult::Service));
        Ok(())
    }

    fn check_step(
        &mut self,
        run: &mut Run<'_>,
        verb: TxnVerb,
        check: HealthCheck,
    ) -> Result<(), String> {
        let key = NodeKey::from(&check.node);
        let (node, id) = (check.node.clone(), check.id.clone());
        let find = |state: &Self| state.nodes.get(&key)?.checks.get(&id).cloned();
        let modified = find(self).map(|it| it.modify_index);
        decide(verb, modified, check.modify_index, || {
            format!("check {:?} on node {:?}", id.as_str(), node.as_str())
        })?;
        match verb {
            TxnVerb::Get => {}
            TxnVerb::Cas | TxnVerb::Set => {
                let node = self.kept_node(&key)?;
                let registration =
                    CatalogRegistration { node, services: Vec::new(), checks: vec![check] };
                self.write_catalog(run, registration)?;
            }
            TxnVerb::Delete | TxnVerb::DeleteCas => {
                self.delete_catalog(run, node, None, Some(id))?;
                return Ok(());
            }
        }
        run.results.extend(find(self).map(TxnResult::Check));
        Ok(())
    }

    fn kept_node(&self, key: &NodeKey) -> Result<Node, String> {
        let row = self.nodes.get(key).ok_or_else(|| Refusal::SessionNodeMissing.to_string())?;
        Ok(Node::clone(&row.node))
    }

    /// Writes records of a host without an agent, as `/v1/catalog/register` does.
    fn write_catalog(
        &mut self,
        run: &mut Run<'_>,
        registration: CatalogRegistration,
    ) -> Result<(), String> {
        let written = self.write_external(run.index, run.now, registration, run.changes);
        written.map_err(|refusal| refusal.to_string())
    }

    /// Removes records as `/v1/catalog/deregister` does.
    fn delete_catalog(
        &mut self,
        run: &mut Run<'_>,
        node: NodeName,
        service: Option<InstanceId>,
        check: Option<CheckId>,
    ) -> Result<(), String> {
        if service.is_some() || check.is_some() {
            self.check_external(&node).map_err(|refusal| refusal.to_string())?;
        }
        let (services, checks) = (service.into_iter().collect(), check.into_iter().collect());
        let what = CatalogDeregistration { node, services, checks };
        self.remove_records(run.index, run.now, &what, run.changes);
        Ok(())
    }
}

/// Whether a verb may go on, given the index of the record that is there and the one asked for.
fn decide(
    verb: TxnVerb,
    present: Option<Index>,
    asked: Index,
    what: impl FnOnce() -> String,
) -> Result<(), String> {
    match verb {
        TxnVerb::Cas if present.unwrap_or_default() != asked => {
            Err(format!("failed to set {}, index is stale", what()))
        }
        // As of keys: to remove what is not there succeeds.
        TxnVerb::DeleteCas if present.is_some_and(|present| present != asked) => {
            Err(format!("failed to delete {}, index is stale", what()))
        }
        TxnVerb::Get if present.is_none() => Err(format!("{} doesn't exist", what())),
        TxnVerb::Cas | TxnVerb::Delete | TxnVerb::DeleteCas | TxnVerb::Get | TxnVerb::Set => Ok(()),
    }
}
