//! Discovery chains of the stored entries.

use super::{Refusal, State};
use crate::chain::{
    ChainError, ChainOverrides, CompiledChain, EntryLookup, check_write, compile_with,
};
use crate::config_entry::{ConfigEntry, EntryKey};
use crate::name::ServiceName;

impl EntryLookup for State {
    fn entry(&self, key: &EntryKey) -> Option<&ConfigEntry> {
        self.entries.get(key).map(|entry| &**entry)
    }
}

impl State {
    /// Compiles the chain of a service, which may have no entries and no instances.
    ///
    /// # Errors
    /// In words, why there is none: the cluster has no identity yet. (Entries that make no chain
    /// are refused when they are written.)
    pub fn compile_chain(&self, service: &ServiceName) -> Result<CompiledChain, String> {
        self.compile_chain_with(service, ChainOverrides::default())
    }

    /// Compiles the chain of a service for one caller.
    ///
    /// # Errors
    /// As [`State::compile_chain`]; here also what the overrides make impossible.
    pub fn compile_chain_with(
        &self,
        service: &ServiceName,
        overrides: ChainOverrides,
    ) -> Result<CompiledChain, String> {
        let cluster = self.cluster.as_ref().ok_or("the cluster has no identity yet")?;
        let place = (&cluster.datacenter, &cluster.trust_domain);
        compile_with(service, place, self, overrides).map_err(|errors| in_one_line(&errors))
    }

    /// Refuses a write after which a chain that the entry takes part in would not compile.
    pub(super) fn check_chains(&self, key: &EntryKey) -> Result<(), Refusal> {
        let entries = self.entries.values().map(|entry| &**entry);
        check_write(key, entries, self).map_err(|errors| Refusal::BrokenChain {
            service: errors.first().map(|error| error.service.to_string()).unwrap_or_default(),
            reason: in_one_line(&errors),
        })
    }
}

fn in_one_line(errors: &[ChainError]) -> String {
    let told: Vec<String> =
        errors.iter().map(|error| format!("{}: {}", error.place, error.reason)).collect();
    told.join("; ")
}
