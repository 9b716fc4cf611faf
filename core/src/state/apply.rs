//! One command in, one answer and the changes out.

use std::collections::BTreeSet;

use super::{Answer, Change, ClusterRecord, Command, NodeKey, Refusal, State};
use crate::ca::Redemption;
use crate::catalog::{CatalogDeregistration, CatalogRegistration};
use crate::index::Index;
use crate::time::Timestamp;

impl State {
    /// Carries out one command.
    ///
    /// A refused command changes nothing but [`State::index`]. The changes come without
    /// doubles, in their own order. The same command at the same index on the same state gives
    /// the same result on every machine.
    ///
    /// # Panics
    /// In debug builds when `index` falls.
    pub fn apply(
        &mut self,
        index: Index,
        now: Timestamp,
        command: Command,
    ) -> (Answer, Vec<Change>) {
        debug_assert!(index >= self.index, "the log is applied in order");
        self.kv.forget(now);
        let mut changes = BTreeSet::new();
        let command = match command {
            // The most frequent write refuses before it changes anything: no copy to go back to.
            Command::Kv(command) => {
                let result = self.kv_write(index, now, command, &mut changes);
                self.index = index;
                return (result.unwrap_or_else(Answer::Refused), changes.into_iter().collect());
            }
            other => other,
        };
        let before = self.clone();
        let result = self.carry_out(index, now, command, &mut changes);
        let answer = match result {
            Ok(answer) => answer,
            Err(refusal) => {
                *self = before;
                changes.clear();
                Answer::Refused(refusal)
            }
        };
        self.index = index;
        (answer, changes.into_iter().collect())
    }

    fn carry_out(
        &mut self,
        index: Index,
        now: Timestamp,
        command: Command,
        changes: &mut BTreeSet<Change>,
    ) -> Result<Answer, Refusal> {
        match command {
            Command::Acl(command) => self.apply_acl(index, now, command, changes)?,
            Command::ActivateCaRoot { fingerprint: it } => {
                self.activate_root((index, now), &it, changes)?
            }
            Command::ChangeCa(change) => return self.change_ca(index, now, change, changes),
            Command::Coordinate(coordinate) => {
                return self.set_coordinate(index, coordinate, changes);
            }
            Command::CreateJoinToken(token) => return self.create_join_token(index, now, token),
            Command::DeleteEntry { key, cas } => {
                return self.delete_entry(index, &key, cas, changes);
            }
            Command::DeleteIntention { destination, source } => {
                self.delete_intention(index, &destination, &source, changes)?;
            }
            Command::Deregister(what) => self.remove_records(index, now, &what, changes),
            Command::DeregisterExternal(what) => {
                if !(what.services.is_empty() && what.checks.is_empty()) {
                    self.check_external(&what.node)?;
                }
                self.remove_records(index, now, &what, changes);
            }
            Command::Event(event) => return self.fire(index, event, changes),
            Command::InitCluster(cluster) => self.init_cluster(cluster, changes)?,
            Command::Intention(command) => {
                self.apply_intention(index, command, changes)?;
            }
            Command::Kv(command) => return self.kv_write(index, now, command, changes),
            Command::Query(command) => self.apply_query(index, command, changes)?,
            Command::Rollout(it) => return self.apply_rollout((index, now), it, changes),
            Command::Operator(command) => return self.operate(index, command, changes),
            Command::RedeemJoinToken { secret_sha256, role, node, request_sha256 } => {
                let use_ = Redemption { node, request_sha256, at: now };
                return self.redeem_join_token(index, &secret_sha256, role, use_);
            }
            Command::RevokeJoinToken { id } => return self.revoke_join_token(index, &id),
            Command::Register(what) => {
                let node = NodeKey::from(&what.node.name);
                self.register(index, what, changes)?;
                self.settle_sessions(index, now, &node, changes);
            }
            Command::RegisterExternal(what) => {
                self.write_external(index, now, what, changes)?;
            }
            Command::Restore(step) => return self.restore(step),
            Command::SetLiveness(it) => return self.set_liveness(index, now, &it, changes),
            Command::Session(command) => {
                return self.session_write(index, now, command, changes);
            }
            Command::SetCaSettings(it) => self.set_ca_settings(index, it, changes),
            Command::PruneCaRoots => self.prune_roots(index, now, changes),
            Command::SetCaRoot(root) => self.set_root(index, now, root, changes),
            Command::Txn(ops) => return self.txn(index, now, ops, changes),
            Command::UpsertEntry { entry, cas } => {
                return self.upsert_entry(index, entry, cas, changes);
            }
            Command::UpsertIntention { destination, source } => {
                self.upsert_intention(index, destination, source, changes)?;
            }
        }
        Ok(Answer::Done { changed: !changes.is_empty() })
    }

    /// Removes records of the catalog, and what goes with them.
    pub(super) fn remove_records(
        &mut self,
        index: Index,
        now: Timestamp,
        what: &CatalogDeregistration,
        changes: &mut BTreeSet<Change>,
    ) {
        self.deregister(index, what, changes);
        self.settle_sessions(index, now, &NodeKey::from(&what.node), changes);
    }

    /// Writes records of a host without an agent, and ends what they end.
    pub(super) fn write_external(
        &mut self,
        index: Index,
        now: Timestamp,
        what: CatalogRegistration,
        changes: &mut BTreeSet<Change>,
    ) -> Result<(), Refusal> {
        let node = NodeKey::from(&what.node.name);
        self.register_external(index, what, changes)?;
        self.settle_sessions(index, now, &node, changes);
        Ok(())
    }

    fn init_cluster(
        &mut self,
        cluster: ClusterRecord,
        changes: &mut BTreeSet<Change>,
    ) -> Result<(), Refusal> {
        match &self.cluster {
            Some(present) if *present == cluster => Ok(()),
            Some(present) => Err(Refusal::ClusterExists { id: present.id.clone() }),
            None => {
                self.cluster = Some(cluster);
                changes.insert(Change::Cluster);
                Ok(())
            }
        }
    }
}
