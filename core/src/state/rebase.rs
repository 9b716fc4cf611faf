//! Takes over what another cluster saved: its content, not its identity. No record may say that
//! it changed later than the entry that brings it here.

use std::sync::Arc;

use super::{ClusterRecord, IndexRows, StateSnapshot};
use crate::config_entry::ConfigEntry;
use crate::index::Index;

/// A record that knows when it was made and last changed.
macro_rules! earlier {
    ($record:expr, $most:expr) => {{
        let record = Arc::make_mut($record);
        record.create_index = record.create_index.min($most);
        record.modify_index = record.modify_index.min($most);
    }};
}
pub(in crate::state) use earlier;

impl StateSnapshot {
    /// Makes of another cluster's records such of this one, all of `most` or before. What was
    /// removed there is forgotten: nobody here waits for it.
    #[must_use]
    pub fn taken_over(mut self, cluster: ClusterRecord, most: Index) -> Self {
        self.cluster = Some(cluster);
        self.index = self.index.min(most);
        self.restored_at = self.restored_at.min(most);
        self.restoring = None;
        for record in &mut self.nodes {
            earlier!(&mut record.node, most);
            record.services.iter_mut().for_each(|service| earlier!(service, most));
            record.checks.iter_mut().for_each(|check| earlier!(check, most));
        }
        for entry in &mut self.entries {
            let (create, modify) = entry.indexes();
            let moved = ConfigEntry::clone(entry).with_indexes(create.min(most), modify.min(most));
            *entry = Arc::new(moved);
        }
        self.queries.iter_mut().for_each(|query| earlier!(query, most));
        for event in &mut self.events {
            let event = Arc::make_mut(event);
            event.index = event.index.min(most);
        }
        self.acl.bring_before(most);
        self.coordinates.bring_before(most);
        self.kv.bring_before(most);
        self.operator.bring_before(most);
        self.sessions.bring_before(most);
        self.rows.bring_before(most);
        self
    }
}

impl IndexRows {
    fn bring_before(&mut self, most: Index) {
        let Self {
            services,
            service_extinction,
            connect,
            connect_extinction,
            service_list,
            nodes,
            checks,
            entries,
            queries,
            roots,
        } = self;
        for index in
            [service_extinction, connect_extinction, service_list, nodes, checks, queries, roots]
        {
            *index = (*index).min(most);
        }
        for rows in [services, connect] {
            *rows = rows.iter().map(|(key, index)| (key.clone(), (*index).min(most))).collect();
        }
        *entries = entries.iter().map(|(kind, index)| (*kind, (*index).min(most))).collect();
    }
}
