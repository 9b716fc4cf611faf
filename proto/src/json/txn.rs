//! The bodies of `/v1/txn`.
//!
//! **Source**: Consul: api-docs/txn.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weft_core::catalog::{CatalogRegistration, HealthCheck, Node, Service};
use weft_core::index::Index;
use weft_core::kv::{KvCommand, KvCondition, KvKey};
use weft_core::name::Datacenter;
use weft_core::session::SessionId;
use weft_core::state::{KvLook, TxnError, TxnOp, TxnResult, TxnVerb};

use super::kv::KvShown;
use super::registration::{CatalogRegister, CheckBody, ServiceBody};
use super::{Fault, Options, Unknown, from_value, parse_within};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct OpBody {
    #[serde(rename = "KV")]
    kv: Option<KvBody>,
    node: Option<NodeOp>,
    service: Option<ServiceOp>,
    check: Option<CheckOp>,
    session: Option<SessionOp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct KvBody {
    verb: String,
    key: String,
    #[serde(deserialize_with = "super::kv::value")]
    value: Bytes,
    flags: u64,
    index: u64,
    session: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NodeOp {
    verb: String,
    node: NodeBody,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NodeBody {
    #[serde(rename = "ID")]
    id: String,
    node: String,
    address: String,
    datacenter: String,
    tagged_addresses: std::collections::BTreeMap<String, String>,
    meta: std::collections::BTreeMap<String, String>,
    modify_index: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ServiceOp {
    verb: String,
    node: String,
    service: Indexed<ServiceBody>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CheckOp {
    verb: String,
    check: Indexed<CheckBody>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SessionOp {
    verb: String,
    session: SessionBody,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SessionBody {
    #[serde(rename = "ID")]
    id: String,
}

/// A body with the index that it was told with; flattening would lose the spelling of fields, so
/// the value is read twice.
#[derive(Debug, Default)]
struct Indexed<T> {
    body: T,
    modify_index: u64,
}

impl<'de, T: serde::de::DeserializeOwned> Deserialize<'de> for Indexed<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Only {
            modify_index: u64,
        }
        let value = serde_json::Value::deserialize(deserializer)?;
        let options = Options::new(Unknown::Ignore);
        let told = |faults: Vec<Fault>| serde::de::Error::custom(Fault::line(&faults));
        let body = from_value(&value, &options).map_err(told)?;
        let Only { modify_index } = from_value(&value, &options).map_err(told)?;
        Ok(Self { body, modify_index })
    }
}

/// Decodes the body of `PUT /v1/txn`, which may have so many bytes.
///
/// # Errors
/// Every fault, by operation and field.
pub fn decode(body: &[u8], bytes_max: usize, own: &Datacenter) -> Result<Vec<TxnOp>, Vec<Fault>> {
    let value = parse_within(bytes_max, body).map_err(|fault| vec![fault])?;
    let bodies: Vec<OpBody> = from_value(&value, &Options::new(Unknown::Ignore))?;
    let mut ops = Vec::with_capacity(bodies.len());
    let mut faults = Vec::new();
    for (at, body) in bodies.into_iter().enumerate() {
        match op(body, own) {
            Ok(op) => ops.push(op),
            Err(reasons) => faults.extend(reasons.into_iter().map(|fault| {
                let path = format!("[{at}].{}", fault.path);
                Fault::new(path.trim_end_matches('.'), fault.reason)
            })),
        }
    }
    if faults.is_empty() { Ok(ops) } else { Err(faults) }
}

fn op(body: OpBody, own: &Datacenter) -> Result<TxnOp, Vec<Fault>> {
    let OpBody { kv, node, service, check, session } = body;
    match (kv, node, service, check, session) {
        (Some(body), None, None, None, None) => kv_op(body).map_err(|fault| vec![fault]),
        (None, Some(body), None, None, None) => node_op(body, own),
        (None, None, Some(body), None, None) => service_op(body, own),
        (None, None, None, Some(body), None) => check_op(body, own),
        (None, None, None, None, Some(body)) => session_op(&body).map_err(|fault| vec![fault]),
        _ => Err(vec![Fault::new("", "must be one of KV, Node, Service, Check or Session")]),
    }
}

fn kv_op(body: KvBody) -> Result<TxnOp, Fault> {
    let KvBody { verb, key, value, flags, index, session } = body;
    let key = KvKey::parse(&key).map_err(|error| Fault::new("KV.Key", error.to_string()))?;
    let is_tree = matches!(verb.as_str(), "delete-tree" | "get-tree");
    if key.as_str().is_empty() && !is_tree {
        return Err(Fault::new("KV.Key", "is missing"));
    }
    let session = || {
        let invalid = |_| Fault::new("KV.Session", format!("invalid session {session:?}"));
        session.parse::<SessionId>().map_err(invalid)
    };
    let set =
        |condition| TxnOp::KvWrite(KvCommand::Set { key: key.clone(), value, flags, condition });
    Ok(match verb.as_str() {
        "set" => set(KvCondition::Always),
        "cas" => set(KvCondition::Cas(Index(index))),
        "lock" => set(KvCondition::Acquire(session()?)),
        "unlock" => set(KvCondition::Release(session()?)),
        "delete" => TxnOp::KvWrite(KvCommand::Delete { key, cas: None }),
        "delete-cas" => TxnOp::KvWrite(KvCommand::Delete { key, cas: Some(Index(index)) }),
        "delete-tree" => TxnOp::KvWrite(KvCommand::DeleteTree { prefix: key }),
        "get" => TxnOp::KvLook(KvLook::Get(key)),
        "get-or-empty" => TxnOp::KvLook(KvLook::GetOrEmpty(key)),
        "get-tree" => TxnOp::KvLook(KvLook::GetTree(key)),
        "check-index" => TxnOp::KvLook(KvLook::CheckIndex(key, Index(index))),
        "check-not-exists" => TxnOp::KvLook(KvLook::CheckNotExists(key)),
        "check-session" => TxnOp::KvLook(KvLook::CheckSession(key, session()?)),
        other => return Err(Fault::new("KV.Verb", format!("unknown KV verb {other:?}"))),
    })
}

fn verb(field: &str, word: &str) -> Result<TxnVerb, Vec<Fault>> {
    Ok(match word {
        "cas" => TxnVerb::Cas,
        "delete" => TxnVerb::Delete,
        "delete-cas" => TxnVerb::DeleteCas,
        "get" => TxnVerb::Get,
        "set" => TxnVerb::Set,
        other => {
            let field = format!("{field}.Verb");
            return Err(vec![Fault::new(field, format!("unknown verb {other:?}"))]);
        }
    })
}

/// An address for records that are found by name alone.
fn or_unspecified(verb: TxnVerb, address: String) -> String {
    match verb {
        TxnVerb::Delete | TxnVerb::DeleteCas | TxnVerb::Get if address.is_empty() => {
            "0.0.0.0".to_owned()
        }
        _ => address,
    }
}

fn node_op(body: NodeOp, own: &Datacenter) -> Result<TxnOp, Vec<Fault>> {
    let verb = verb("Node", &body.verb)?;
    let NodeBody { id, node, address, datacenter, tagged_addresses, meta, modify_index } =
        body.node;
    let register = CatalogRegister {
        datacenter,
        id,
        node,
        address: or_unspecified(verb, address),
        tagged_addresses,
        node_meta: meta,
        ..CatalogRegister::default()
    };
    let mut node = registration(register, own, "Node.Node")?.node;
    node.modify_index = Index(modify_index);
    Ok(TxnOp::Node(verb, node))
}

fn service_op(body: ServiceOp, own: &Datacenter) -> Result<TxnOp, Vec<Fault>> {
    let verb = verb("Service", &body.verb)?;
    let Indexed { body: mut service, modify_index } = body.service;
    if service.service.is_empty() {
        // Found by its id alone; to be written, it needs a name.
        match verb {
            TxnVerb::Cas | TxnVerb::Set => {}
            TxnVerb::Delete | TxnVerb::DeleteCas | TxnVerb::Get => {
                "unnamed".clone_into(&mut service.service);
            }
        }
    }
    let register = CatalogRegister { node: body.node, service: Some(service), ..unspecified() };
    let found = registration(register, own, "Service")?;
    let node = found.node.name;
    let service: Option<Service> = found.services.into_iter().next();
    let mut service = service.ok_or_else(|| vec![Fault::new("Service.Service", "is missing")])?;
    service.modify_index = Index(modify_index);
    Ok(TxnOp::Service(verb, node, service))
}

fn check_op(body: CheckOp, own: &Datacenter) -> Result<TxnOp, Vec<Fault>> {
    let verb = verb("Check", &body.verb)?;
    let Indexed { body: check, modify_index } = body.check;
    let register =
        CatalogRegister { node: check.node.clone(), check: Some(check), ..unspecified() };
    let found = registration(register, own, "Check")?;
    let check: Option<HealthCheck> = found.checks.into_iter().next();
    let mut check = check.ok_or_else(|| vec![Fault::new("Check.Check", "is missing")])?;
    check.modify_index = Index(modify_index);
    Ok(TxnOp::Check(verb, check))
}

/// A node whose record stays as it is.
fn unspecified() -> CatalogRegister {
    CatalogRegister { address: "0.0.0.0".to_owned(), ..CatalogRegister::default() }
}

fn registration(
    register: CatalogRegister,
    own: &Datacenter,
    place: &str,
) -> Result<CatalogRegistration, Vec<Fault>> {
    register.registration(own, None::<Node>).map_err(|faults| {
        let under = |fault: Fault| Fault::new(format!("{place}.{}", fault.path), fault.reason);
        faults.into_iter().map(under).collect()
    })
}

fn session_op(body: &SessionOp) -> Result<TxnOp, Fault> {
    if body.verb != "delete" {
        let reason = format!("unknown session verb {:?}", body.verb);
        return Err(Fault::new("Session.Verb", reason));
    }
    let id = body.session.id.parse::<SessionId>();
    id.map(TxnOp::SessionDelete)
        .map_err(|error| Fault::new("Session.Session.ID", error.to_string()))
}

/// The answer of `PUT /v1/txn`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TxnAnswer<'a> {
    /// What the operations tell; `null` when one failed.
    results: Option<Vec<Shown<'a>>>,
    /// Why they were not carried out; `null` when they were.
    errors: Option<Vec<ErrorShown<'a>>>,
}

#[derive(Debug, Serialize)]
enum Shown<'a> {
    Check(&'a HealthCheck),
    #[serde(rename = "KV")]
    Kv(KvShown<'a>),
    Node(&'a Node),
    Service(&'a Service),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorShown<'a> {
    op_index: usize,
    what: &'a str,
}

impl<'a> TxnAnswer<'a> {
    /// Shows what came of a transaction.
    pub fn new(outcome: &'a Result<Vec<TxnResult>, Vec<TxnError>>) -> Self {
        match outcome {
            Ok(results) => {
                let results = results.iter().map(|result| match result {
                    TxnResult::Check(check) => Shown::Check(check),
                    TxnResult::Kv { entry, with_value } => {
                        Shown::Kv(KvShown { entry, with_value: *with_value })
                    }
                    TxnResult::Node(node) => Shown::Node(node),
                    TxnResult::Service(service) => Shown::Service(service),
                });
                Self { results: Some(results.collect()), errors: None }
            }
            Err(errors) => {
                let errors = errors
                    .iter()
                    .map(|error| ErrorShown { op_index: error.op_index, what: &error.what });
                Self { results: None, errors: Some(errors.collect()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(body: &str) -> Result<Vec<TxnOp>, String> {
        let own = Datacenter::parse("dc1").expect("a datacenter");
        decode(body.as_bytes(), 1 << 20, &own).map_err(|faults| Fault::line(&faults))
    }

    #[test]
    fn every_kind_of_operation_is_read_in_any_spelling() {
        let ops = decoded(
            r#"[{"KV":{"Verb":"set","Key":"a","Value":"dGVzdA==","Flags":7}},
                {"kv":{"verb":"get-tree","key":""}},
                {"Node":{"Verb":"cas","Node":{"Node":"n","Address":"10.0.0.1","ModifyIndex":4}}},
                {"Service":{"Verb":"set","Node":"n","Service":{"ID":"w1","Service":"web","Port":80}}},
                {"Service":{"Verb":"delete-cas","Node":"n","Service":{"ID":"w1","modify_index":9}}},
                {"Check":{"Verb":"get","Check":{"Node":"n","CheckID":"c"}}},
                {"Session":{"Verb":"delete","Session":{"ID":"adf4238a-882b-9ddc-4a9d-5b6758e4159e"}}}]"#,
        )
        .expect("operations");
        let reads: Vec<bool> = ops.iter().map(TxnOp::only_reads).collect();
        assert_eq!(reads, [false, true, false, false, false, true, false]);
        assert!(matches!(&ops[2], TxnOp::Node(TxnVerb::Cas, node) if node.modify_index.0 == 4));
        assert!(matches!(&ops[4], TxnOp::Service(TxnVerb::DeleteCas, _, it)
            if it.modify_index.0 == 9 && it.id.as_str() == "w1"));
    }

    #[test]
    fn faults_name_the_operation_and_the_field() {
        for (body, wanted) in [
            (r#"[{"KV":{"Verb":"put","Key":"a"}}]"#, "[0].KV.Verb: unknown KV verb \"put\""),
            (r#"[{"KV":{"Verb":"set"}}]"#, "[0].KV.Key: is missing"),
            (r#"[{"KV":{"Verb":"lock","Key":"a","Session":"x"}}]"#, "invalid session \"x\""),
            (r#"[{"KV":{"Verb":"set","Key":"a","Value":"!"}}]"#, "is not base64"),
            (r"[{}]", "[0]: must be one of KV"),
            (r#"[{"Node":{"Verb":"set","Node":{"Node":"n"}}}]"#, "[0].Node.Node.Address"),
            (r#"[{"Session":{"Verb":"set"}}]"#, "unknown session verb"),
            (r"{}", "is an object, but must be a list"),
        ] {
            let told = decoded(body).expect_err(body);
            assert!(told.contains(wanted), "{body}: {told}");
        }
    }
}
