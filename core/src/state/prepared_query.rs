//! Prepared queries: by id, by name, and templates by how names begin.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::{Change, Refusal, State};
use crate::config_entry::SecretText;
use crate::index::Index;
use crate::limits;
use crate::prepared_query::PreparedQuery;
use crate::session::SessionId;

/// A write of a prepared query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum QueryCommand {
    /// Makes a query under an id that is new.
    Create(PreparedQuery),
    /// Removes a query.
    Delete {
        /// Its id.
        id: String,
    },
    /// Replaces a query.
    Update(PreparedQuery),
}

/// The queries that there are.
///
/// **Shape**: names and templates are derived from the queries.
#[derive(Debug, Default, Clone)]
pub(super) struct Queries {
    by_id: OrdMap<String, Arc<PreparedQuery>>,
    by_name: OrdMap<String, String>,
    /// By how names begin; at most one begins with nothing.
    templates: OrdMap<String, String>,
}

impl Queries {
    fn add(&mut self, query: Arc<PreparedQuery>) {
        let id = query.id.clone();
        if query.is_template() {
            self.templates.insert(query.name.clone(), id.clone());
        } else if !query.name.is_empty() {
            self.by_name.insert(query.name.clone(), id.clone());
        }
        self.by_id.insert(id, query);
    }

    fn remove(&mut self, id: &str) -> Option<Arc<PreparedQuery>> {
        let query = self.by_id.remove(id)?;
        let names = if query.is_template() { &mut self.templates } else { &mut self.by_name };
        names.remove(&query.name);
        Some(query)
    }

    /// Returns who has the name of a query already.
    fn holder(&self, query: &PreparedQuery) -> Option<&String> {
        let names = if query.is_template() { &self.templates } else { &self.by_name };
        let holder =
            names.get(&query.name).filter(|_| query.is_template() || !query.name.is_empty());
        // A name must not be another's id either: both are asked for in the same place.
        let id = self.by_id.get_key_value(&query.name).map(|(id, _)| id);
        holder.or(id).filter(|holder| **holder != query.id)
    }

    pub(super) fn to_records(&self) -> Vec<Arc<PreparedQuery>> {
        self.by_id.values().cloned().collect()
    }

    pub(super) fn from_records(records: Vec<Arc<PreparedQuery>>) -> Self {
        let mut queries = Self::default();
        records.into_iter().for_each(|query| queries.add(query));
        queries
    }
}

impl State {
    pub(super) fn apply_query(
        &mut self,
        index: Index,
        command: QueryCommand,
        changes: &mut BTreeSet<Change>,
    ) -> Result<(), Refusal> {
        match command {
            QueryCommand::Create(query) => {
                // The same command once more finds done what it asks for.
                if self.queries.by_id.contains_key(&query.id) {
                    return self.write_query(index, query, changes);
                }
                if self.queries.by_id.len() >= limits::QUERIES_MAX {
                    return Err(Refusal::Limit {
                        field: "prepared queries".to_owned(),
                        length: self.queries.by_id.len() + 1,
                        limit: limits::QUERIES_MAX,
                    });
                }
                self.write_query(index, query, changes)
            }
            QueryCommand::Delete { id } => {
                if self.queries.remove(&id).is_some() {
                    self.queries_changed(index, changes);
                }
                Ok(())
            }
            QueryCommand::Update(query) => match self.queries.by_id.contains_key(&query.id) {
                true => self.write_query(index, query, changes),
                false => Err(Refusal::UnknownQuery { id: query.id }),
            },
        }
    }

    fn write_query(
        &mut self,
        index: Index,
        query: PreparedQuery,
        changes: &mut BTreeSet<Change>,
    ) -> Result<(), Refusal> {
        let mut query = query.normalise().map_err(|faults| {
            let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
            Refusal::InvalidQuery(told.join("; "))
        })?;
        if !query.session.is_empty() {
            let id = query.session.parse::<SessionId>().ok();
            let id = id.filter(|id| self.sessions.get(*id).is_some());
            let id = id.ok_or_else(|| Refusal::InvalidSession(query.session.clone()))?;
            query.session = id.to_string();
        }
        if self.queries.holder(&query).is_some() {
            return Err(Refusal::QueryNameTaken { name: query.name });
        }
        let present = self.queries.by_id.get(&query.id).cloned();
        // Who was shown no token writes back that it was hidden.
        if query.token.reveal() == PreparedQuery::TOKEN_HIDDEN {
            query.token =
                present.as_ref().map_or_else(SecretText::default, |present| present.token.clone());
        }
        (query.create_index, query.modify_index) = (index, index);
        if let Some(present) = present {
            query.create_index = present.create_index;
            query.modify_index = present.modify_index;
            if *present == query {
                return Ok(());
            }
            query.modify_index = index;
            self.queries.remove(&query.id);
        }
        self.queries.add(Arc::new(query));
        self.queries_changed(index, changes);
        Ok(())
    }

    /// Removes the queries that end with a session.
    pub(super) fn end_queries_of_session(
        &mut self,
        index: Index,
        session: &str,
        changes: &mut BTreeSet<Change>,
    ) {
        let ended = self.queries.by_id.values().filter(|query| query.session == session);
        let ended: Vec<String> = ended.map(|query| query.id.clone()).collect();
        for id in &ended {
            self.queries.remove(id);
        }
        if !ended.is_empty() {
            self.queries_changed(index, changes);
        }
    }

    fn queries_changed(&mut self, index: Index, changes: &mut BTreeSet<Change>) {
        self.rows.queries = index;
        changes.insert(Change::Queries);
    }

    /// Returns every query by id, and when any of them last changed.
    pub fn prepared_queries(&self) -> (Index, Vec<Arc<PreparedQuery>>) {
        (self.rows.queries, self.queries.to_records())
    }

    /// Returns a query by its id.
    pub fn prepared_query(&self, id: &str) -> Option<&Arc<PreparedQuery>> {
        self.queries.by_id.get(id)
    }

    /// Returns the query that is asked for: by id, by name, or the template with the longest
    /// beginning in common with the name.
    pub fn find_prepared_query(&self, asked: &str) -> Option<&Arc<PreparedQuery>> {
        let queries = &self.queries;
        let named = || queries.by_id.get(queries.by_name.get(asked)?);
        let templated = || {
            let mut ends: Vec<usize> = asked.char_indices().map(|(at, _)| at).collect();
            ends.push(asked.len());
            let id = ends.iter().rev().find_map(|end| queries.templates.get(&asked[..*end]))?;
            queries.by_id.get(id)
        };
        queries.by_id.get(asked).or_else(named).or_else(templated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Answer, Command, SessionCommand};
    use crate::time::Timestamp;

    fn query(id: &str, name: &str, template: bool, session: &str) -> PreparedQuery {
        let kind = if template { "name_prefix_match" } else { "" };
        serde_json::from_value(serde_json::json!({ "ID": id, "Name": name, "Session": session,
            "Template": { "Type": kind }, "Service": { "Service": "web" } }))
        .expect("a query")
    }

    fn state(queries: &[(&str, &str, bool)]) -> State {
        let mut state = State::default();
        for (at, (id, name, template)) in queries.iter().enumerate() {
            let command = Command::Query(QueryCommand::Create(query(id, name, *template, "")));
            let index = Index(at as u64 + 1);
            let (answer, changes) = state.apply(index, Timestamp(0), command);
            assert_eq!(answer, Answer::Done { changed: true }, "{name}");
            assert_eq!(changes, [Change::Queries]);
        }
        state
    }

    #[test]
    fn a_name_is_found_exactly_then_by_the_longest_beginning() {
        let state =
            state(&[("1", "", true), ("2", "ge", true), ("3", "geo", true), ("4", "geo", false)]);
        let state = State::from_snapshot(state.to_snapshot());
        for (asked, id) in
            [("geo", "4"), ("geo-x", "3"), ("gex", "2"), ("other", "1"), ("", "1"), ("3", "3")]
        {
            assert_eq!(
                state.find_prepared_query(asked).map(|it| it.id.as_str()),
                Some(id),
                "{asked}"
            );
        }
    }

    #[test]
    fn a_session_takes_its_queries_along() {
        let mut state = State::default();
        let id = "0e0c4f9e-6d1c-4c5e-9d3f-0a1b2c3d4e5f";
        let mut apply =
            |index: u64, command: Command| state.apply(Index(index), Timestamp(0), command).0;
        let bound = || Command::Query(QueryCommand::Create(query("1", "", false, id)));
        assert_eq!(apply(1, bound()), Answer::Refused(Refusal::InvalidSession(id.to_owned())));
        let node = serde_json::json!({ "node": { "Node": "n1", "Address": "10.0.0.1",
            "Datacenter": "dc1" } });
        let session = serde_json::json!({ "ID": id, "Node": "n1", "LockDelay": 0,
            "Behavior": "release", "TTL": "", "NodeChecks": [], "ServiceChecks": [] });
        let node = serde_json::from_value(node).expect("a registration");
        let session = serde_json::from_value(session).expect("a session");
        apply(2, Command::Register(node));
        apply(3, Command::Session(SessionCommand::Create(session)));
        assert_eq!(apply(4, bound()), Answer::Done { changed: true });
        let id = id.parse().expect("an id");
        apply(5, Command::Session(SessionCommand::Destroy(id)));
        assert_eq!(state.prepared_queries(), (Index(5), Vec::new()));
        assert!(state.find_prepared_query("1").is_none());
    }
}
