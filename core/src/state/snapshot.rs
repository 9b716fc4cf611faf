//! The state as plain records, for snapshots. Derived maps are not written but made anew.

use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::acl::{AclRecords, AclState};
use super::coordinate::CoordinateSnapshot;
use super::kv::KvSnapshot;
use super::operator::OperatorState;
use super::prepared_query::Queries;
use super::recent::Recent;
use super::restore::Restoring;
use super::session::SessionSnapshot;
use super::{
    ClusterRecord, CoordinateTable, EventTable, IndexRows, KvTable, NodeKey, NodeRow, ServiceKey,
    SessionTable, State, UserEvent,
};
use crate::ca::{CaRoot, CaSettings, JoinTokenRecord};
use crate::catalog::{HealthCheck, Node, Service};
use crate::config_entry::ConfigEntry;
use crate::index::Index;
use crate::prepared_query::PreparedQuery;

/// A [`State`] in the form in which it is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StateSnapshot {
    pub(super) index: Index,
    #[serde(default)]
    pub(super) acl: AclRecords,
    #[serde(default)]
    pub(super) cluster: Option<ClusterRecord>,
    #[serde(default)]
    pub(super) nodes: Vec<NodeRecord>,
    #[serde(default)]
    pub(super) entries: Vec<Arc<ConfigEntry>>,
    #[serde(default)]
    pub(super) roots: Vec<Arc<CaRoot>>,
    #[serde(default)]
    pub(super) roots_retired: Arc<Vec<String>>,
    #[serde(default)]
    pub(super) queries: Vec<Arc<PreparedQuery>>,
    #[serde(default)]
    pub(super) ca_settings: Option<CaSettings>,
    #[serde(default)]
    pub(super) join_tokens: Vec<JoinTokenRecord>,
    #[serde(default)]
    pub(super) coordinates: CoordinateSnapshot,
    #[serde(default)]
    pub(super) events: Vec<Arc<UserEvent>>,
    #[serde(default)]
    pub(super) kv: KvSnapshot,
    #[serde(default)]
    pub(super) sessions: SessionSnapshot,
    #[serde(default)]
    pub(super) operator: OperatorState,
    #[serde(default)]
    pub(super) recent: Recent,
    #[serde(default)]
    pub(super) rows: IndexRows,
    #[serde(default)]
    pub(super) restored_at: Index,
    #[serde(default)]
    pub(super) restoring: Option<Arc<Restoring>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct NodeRecord {
    pub(super) node: Arc<Node>,
    #[serde(default)]
    pub(super) services: Vec<Arc<Service>>,
    #[serde(default)]
    pub(super) checks: Vec<Arc<HealthCheck>>,
}

impl State {
    /// Returns the state as records. Costs a pointer per record.
    pub fn to_snapshot(&self) -> StateSnapshot {
        StateSnapshot {
            index: self.index,
            acl: self.acl.to_records(),
            cluster: self.cluster.clone(),
            nodes: self
                .nodes
                .values()
                .map(|row| NodeRecord {
                    node: row.node.clone(),
                    services: row.services.values().cloned().collect(),
                    checks: row.checks.values().cloned().collect(),
                })
                .collect(),
            entries: self.entries.values().cloned().collect(),
            roots: self.roots.values().cloned().collect(),
            roots_retired: self.roots_retired.clone(),
            queries: self.queries.to_records(),
            ca_settings: self.ca_settings.clone(),
            join_tokens: self.join_tokens.values().cloned().collect(),
            coordinates: self.coordinates.to_snapshot(),
            events: self.events.to_snapshot(),
            kv: self.kv.to_snapshot(),
            sessions: self.sessions.to_snapshot(),
            operator: self.operator.clone(),
            recent: self.recent.clone(),
            rows: self.rows.clone(),
            restored_at: self.restored_at,
            restoring: self.restoring.clone(),
        }
    }

    /// Returns how many records of each kind there are, by kind.
    pub fn record_counts(&self) -> Vec<(&'static str, usize)> {
        let services = self.nodes.values().map(|row| row.services.len()).sum();
        let checks = self.nodes.values().map(|row| row.checks.len()).sum();
        let (_, keys) = self.kv.keys("", "");
        vec![
            ("checks", checks),
            ("config entries", self.entries.len()),
            ("join tokens", self.join_tokens.len()),
            ("keys", keys.len()),
            ("nodes", self.nodes.len()),
            ("roots", self.roots.len()),
            ("service instances", services),
            ("sessions", self.sessions.list().count()),
        ]
    }

    /// Makes a state of records.
    pub fn from_snapshot(snapshot: StateSnapshot) -> Self {
        let StateSnapshot { index, nodes, entries, roots, join_tokens, .. } = snapshot;
        let mut state = Self {
            index,
            acl: AclState::from_records(snapshot.acl),
            coordinates: CoordinateTable::from_snapshot(snapshot.coordinates),
            events: EventTable::from_snapshot(snapshot.events),
            cluster: snapshot.cluster,
            kv: KvTable::from_snapshot(snapshot.kv),
            operator: snapshot.operator,
            ca_settings: snapshot.ca_settings,
            roots_retired: snapshot.roots_retired,
            queries: Queries::from_records(snapshot.queries),
            recent: snapshot.recent,
            restored_at: snapshot.restored_at,
            restoring: snapshot.restoring,
            rows: snapshot.rows,
            sessions: SessionTable::from_snapshot(snapshot.sessions),
            ..Self::default()
        };
        nodes.into_iter().for_each(|node| state.put_node(node));
        state.entries = entries.into_iter().map(|it| (it.key(), it)).collect();
        state.roots = roots.into_iter().map(|it| (it.fingerprint.clone(), it)).collect();
        state.join_tokens = join_tokens
            .into_iter()
            .map(|it| (it.secret_sha256.clone(), it))
            .collect::<OrdMap<_, _>>();
        state
    }

    fn put_node(&mut self, record: NodeRecord) {
        let NodeRecord { node, services, checks } = record;
        let key = NodeKey::from(&node.name);
        for service in &services {
            self.names.add(service);
            let at = (key.clone(), service.id.clone());
            self.instances.entry(ServiceKey::from(&service.name)).or_default().insert(at.clone());
            if let Some(destination) = service.mesh_door_of() {
                self.connect.entry(ServiceKey::from(destination)).or_default().insert(at);
                self.virtual_ips.add(destination, service);
            }
        }
        let row = NodeRow {
            node,
            services: services.into_iter().map(|it| (it.id.clone(), it)).collect(),
            checks: checks.into_iter().map(|it| (it.id.clone(), it)).collect(),
        };
        if !row.node.id.is_empty() {
            self.node_ids.insert(row.node.id.as_str().into(), key.clone());
        }
        self.nodes.insert(key, row);
    }
}
