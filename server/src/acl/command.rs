//! Which rights a write needs. Every command that clients may send is here, so that none is
//! carried out without having been judged.
//!
//! **Source**: Consul: docs/security/acl/acl-rules, and the pages of its API ("ACL Required").

use weft_core::acl::{Denial, Permission, Resource};
use weft_core::catalog::{CatalogDeregistration, CatalogRegistration, HealthCheck};
use weft_core::config_entry::SourceName;
use weft_core::kv::KvCommand;
use weft_core::name::NodeName;
use weft_core::prepared_query::PreparedQuery;
use weft_core::state::{
    AclCommand, Command, IntentionCommand, QueryCommand, RolloutAct, SessionCommand, State,
};

use super::Rights;
use super::entry::{check_entry, write_entry};
use super::txn::check_txn;

/// States why a client may not write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Forbidden {
    /// A right is missing.
    Denied(Denial),
    /// Only servers write this.
    ServersOnly,
}

impl From<Denial> for Forbidden {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

/// Judges a command that comes from a client.
pub(crate) fn check_command(
    rights: &Rights,
    state: &State,
    command: &Command,
) -> Result<(), Forbidden> {
    match command {
        Command::Acl(command) => return check_acl(rights, command),
        Command::Coordinate(coordinate) => {
            rights.require(Permission::write(Resource::Node, coordinate.node.as_str()))?;
        }
        Command::DeleteEntry { key, .. } => rights.require(write_entry(key))?,
        Command::Deregister(what) | Command::DeregisterExternal(what) => {
            check_deregistration(rights, state, what)?;
        }
        Command::DeleteIntention { destination, .. }
        | Command::UpsertIntention { destination, .. } => {
            rights.require(Permission::write(Resource::Intention, destination.as_str()))?;
        }
        Command::Event(event) => {
            rights.require(Permission::write(Resource::Event, &event.name))?;
        }
        Command::Intention(command) => check_intention(rights, state, command)?,
        Command::Kv(command) => check_kv(rights, command)?,
        Command::Query(command) => check_query(rights, state, command)?,
        Command::Operator(_) | Command::RevokeJoinToken { .. } => {
            rights.require(Permission::write(Resource::Operator, ""))?
        }
        Command::Register(what) | Command::RegisterExternal(what) => {
            check_registration(rights, state, what)?;
        }
        Command::Rollout(command) => match command.act {
            RolloutAct::Judge { .. } => return Err(Forbidden::ServersOnly),
            RolloutAct::Signal(_) => {
                rights.require(Permission::write(Resource::Service, command.service.as_str()))?;
            }
        },
        // A snapshot has every token in it.
        Command::Restore(_) => rights.require(Permission::snapshot())?,
        Command::Session(command) => check_session(rights, state, command)?,
        Command::ChangeCa(_) | Command::SetCaSettings(_) => {
            rights.require(Permission::write(Resource::Operator, ""))?
        }
        Command::Txn(ops) => check_txn(rights, state, ops)?,
        Command::UpsertEntry { entry, .. } => check_entry(rights, entry)?,
        Command::ActivateCaRoot { .. }
        | Command::CreateJoinToken(_)
        | Command::InitCluster(_)
        | Command::PruneCaRoots
        | Command::RedeemJoinToken { .. }
        | Command::SetCaRoot(_)
        | Command::SetLiveness(_) => return Err(Forbidden::ServersOnly),
    }
    Ok(())
}

pub(super) fn check_kv(rights: &Rights, command: &KvCommand) -> Result<(), Denial> {
    match command {
        KvCommand::Delete { key, .. } | KvCommand::Set { key, .. } => {
            rights.require(Permission::write(Resource::Key, key.as_str()))
        }
        KvCommand::DeleteTree { prefix } => {
            rights.require(Permission::write_below(Resource::Key, prefix.as_str()))
        }
    }
}

/// A session is its node's.
pub(super) fn check_session(
    rights: &Rights,
    state: &State,
    command: &SessionCommand,
) -> Result<(), Denial> {
    let write =
        |node: &NodeName| rights.require(Permission::write(Resource::Session, node.as_str()));
    match command {
        SessionCommand::Create(session) => write(&session.node),
        // What is not there ends without a right.
        SessionCommand::Destroy(id) => {
            state.sessions().get(*id).map_or(Ok(()), |session| write(&session.node))
        }
    }
}

/// An intention is its destination's; one that is found by its id, that of where it stands.
fn check_intention(
    rights: &Rights,
    state: &State,
    command: &IntentionCommand,
) -> Result<(), Denial> {
    let write =
        |name: &SourceName| rights.require(Permission::write(Resource::Intention, name.as_str()));
    match command {
        IntentionCommand::Create { destination, .. } => write(destination),
        // Where it is, and where it goes.
        IntentionCommand::Update { destination, source } => {
            if let Some((entry, _)) = state.intention(&source.legacy_id) {
                write(&entry.name)?;
            }
            write(destination)
        }
        IntentionCommand::Delete { id } => match state.intention(id) {
            Some((entry, _)) => write(&entry.name),
            None => Ok(()),
        },
    }
}

/// A query is its name's, before and after. One without a name is known to who knows its id.
fn check_query(rights: &Rights, state: &State, command: &QueryCommand) -> Result<(), Denial> {
    let write = |query: &PreparedQuery| match query.is_named() {
        true => rights.require(Permission::write(Resource::Query, &query.name)),
        false => Ok(()),
    };
    let (id, query) = match command {
        QueryCommand::Create(query) => (&query.id, Some(query)),
        QueryCommand::Delete { id } => (id, None),
        QueryCommand::Update(query) => (&query.id, Some(query)),
    };
    state.prepared_query(id).map_or(Ok(()), |present| write(present))?;
    query.map_or(Ok(()), write)
}

fn check_acl(rights: &Rights, command: &AclCommand) -> Result<(), Forbidden> {
    match command {
        // Open to everyone, once: who has the cluster to themselves so far.
        AclCommand::Bootstrap { .. } => Ok(()),
        AclCommand::DeleteAuthMethod { .. }
        | AclCommand::DeleteBindingRule { .. }
        | AclCommand::DeletePolicy { .. }
        | AclCommand::DeleteRole { .. }
        | AclCommand::DeleteToken { .. }
        | AclCommand::WriteAuthMethod { .. }
        | AclCommand::WriteBindingRule { .. }
        | AclCommand::WritePolicy { .. }
        | AclCommand::WriteRole { .. }
        | AclCommand::WriteToken { .. } => {
            Ok(rights.require(Permission::write(Resource::Acl, ""))?)
        }
        AclCommand::InitialManagement { .. } | AclCommand::ReapTokens => {
            Err(Forbidden::ServersOnly)
        }
    }
}

/// The node's record is the node's; an instance is its service's, also the one whose place it
/// takes; a check is that of whom it speaks of.
fn check_registration(
    rights: &Rights,
    state: &State,
    what: &CatalogRegistration,
) -> Result<(), Denial> {
    let node = what.node.name.as_str();
    let write_node = Permission::write(Resource::Node, node);
    let present = state.node(&what.node.name);
    let keeps_node = present.as_ref().is_some_and(|present| {
        let (create_index, modify_index) = (present.node.create_index, present.node.modify_index);
        present.node == weft_core::catalog::Node { create_index, modify_index, ..what.node.clone() }
    });
    if !keeps_node {
        rights.require(write_node)?;
    }
    let there = present.as_ref().map(|present| &present.services[..]).unwrap_or_default();
    for service in &what.services {
        rights.require(Permission::write(Resource::Service, service.name.as_str()))?;
        let replaced = there.iter().find(|it| it.id == service.id && it.name != service.name);
        if let Some(replaced) = replaced {
            rights.require(Permission::write(Resource::Service, replaced.name.as_str()))?;
        }
    }
    for check in &what.checks {
        let Some(id) = &check.service_id else {
            rights.require(write_node)?;
            continue;
        };
        let of = what.services.iter().chain(there).find(|service| service.id == *id);
        match of {
            Some(service) => {
                rights.require(Permission::write(Resource::Service, service.name.as_str()))?;
            }
            // The state refuses it; until then it is the node's.
            None => rights.require(write_node)?,
        }
    }
    Ok(())
}

/// Who may write a node may remove all that is on it; who may write a service, its instances and
/// their checks.
fn check_deregistration(
    rights: &Rights,
    state: &State,
    what: &CatalogDeregistration,
) -> Result<(), Denial> {
    let write_node = Permission::write(Resource::Node, what.node.as_str());
    if rights.may(write_node) {
        return Ok(());
    }
    let denied = || write_node.denied_to(rights.accessor());
    let is_whole_node = what.services.is_empty() && what.checks.is_empty();
    let present = state.node(&what.node).filter(|_| !is_whole_node).ok_or_else(denied)?;
    for id in &what.services {
        let service = present.services.iter().find(|it| it.id == *id).ok_or_else(denied)?;
        rights.require(Permission::write(Resource::Service, service.name.as_str()))?;
    }
    for id in &what.checks {
        let check: &HealthCheck =
            present.checks.iter().find(|it| it.id == *id).ok_or_else(denied)?;
        let of = check.service_id.as_ref().ok_or_else(denied)?;
        let service = present.services.iter().find(|it| it.id == *of).ok_or_else(denied)?;
        rights.require(Permission::write(Resource::Service, service.name.as_str()))?;
    }
    Ok(())
}
