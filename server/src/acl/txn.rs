//! Which rights the operations of a transaction need: each those of its own page.
//!
//! **Source**: Consul: api-docs/txn. Differs: who may not read something that a transaction tells
//! is refused the whole of it, instead of being told the rest.

use weft_core::acl::{Access, Breadth, Denial, Permission, Resource};
use weft_core::name::{InstanceId, NodeName};
use weft_core::state::{KvLook, SessionCommand, State, TxnError, TxnOp, TxnVerb};

use super::Rights;
use super::command::{check_kv, check_session};

/// Judges every operation, up to the first that is denied.
pub(crate) fn check_txn(rights: &Rights, state: &State, ops: &[TxnOp]) -> Result<(), Denial> {
    ops.iter().try_for_each(|op| check(rights, state, op))
}

/// Returns every operation that is denied, as a transaction's answer tells it.
pub(crate) fn denied_ops(rights: &Rights, state: &State, ops: &[TxnOp]) -> Vec<TxnError> {
    let judged = ops.iter().enumerate().map(|(at, op)| (at, check(rights, state, op)));
    let denied = judged.filter_map(|(op_index, judged)| {
        let what = judged.err()?.to_string();
        Some(TxnError { op_index, what })
    });
    denied.collect()
}

fn check(rights: &Rights, state: &State, op: &TxnOp) -> Result<(), Denial> {
    match op {
        TxnOp::Check(verb, check) => {
            let of = check.service_id.clone().or_else(|| {
                let present = state.node(&check.node)?;
                present.checks.iter().find(|it| it.id == check.id)?.service_id.clone()
            });
            match of.and_then(|id| name_of(state, &check.node, &id)) {
                Some(service) => rights.require(asked(*verb, Resource::Service, &service)),
                None => rights.require(asked(*verb, Resource::Node, check.node.as_str())),
            }
        }
        TxnOp::KvLook(look) => check_look(rights, look),
        TxnOp::KvWrite(command) => check_kv(rights, command),
        TxnOp::Node(verb, node) => rights.require(asked(*verb, Resource::Node, node.name.as_str())),
        TxnOp::Service(verb, node, service) => {
            let writes = matches!(verb, TxnVerb::Cas | TxnVerb::Set);
            if writes {
                rights.require(asked(*verb, Resource::Service, service.name.as_str()))?;
            }
            // Also the one whose place it takes.
            match name_of(state, node, &service.id) {
                Some(name) => rights.require(asked(*verb, Resource::Service, &name)),
                None if writes => Ok(()),
                None => rights.require(asked(*verb, Resource::Node, node.as_str())),
            }
        }
        TxnOp::SessionDelete(id) => check_session(rights, state, &SessionCommand::Destroy(*id)),
    }
}

fn asked(verb: TxnVerb, resource: Resource, on: &str) -> Permission<'_> {
    match verb {
        TxnVerb::Get => Permission::read(resource, on),
        TxnVerb::Cas | TxnVerb::Delete | TxnVerb::DeleteCas | TxnVerb::Set => {
            Permission::write(resource, on)
        }
    }
}

fn check_look(rights: &Rights, look: &KvLook) -> Result<(), Denial> {
    match look {
        KvLook::CheckIndex(key, _)
        | KvLook::CheckNotExists(key)
        | KvLook::CheckSession(key, _)
        | KvLook::Get(key)
        | KvLook::GetOrEmpty(key) => rights.require(Permission::read(Resource::Key, key.as_str())),
        KvLook::GetTree(prefix) => {
            rights.require_list_keys(prefix.as_str())?;
            let (resource, access) = (Resource::Key, Access::Read);
            let on = Breadth::Below(prefix.as_str());
            rights.require(Permission { resource, access, on })
        }
    }
}

fn name_of(state: &State, node: &NodeName, id: &InstanceId) -> Option<String> {
    let present = state.node(node)?;
    let service = present.services.iter().find(|it| it.id == *id)?;
    Some(service.name.to_string())
}
