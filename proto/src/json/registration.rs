//! The bodies of `PUT /v1/catalog/register` and `/v1/catalog/deregister`: records of hosts that
//! have no agent, written straight to the catalog.
//!
//! **Source**: Consul: api-docs/catalog#register-entity, #deregister-entity.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use weft_core::catalog::{
    CatalogDeregistration, CatalogRegistration, CheckStatus, Connect, HealthCheck,
    HealthCheckDefinition, Locality, Node, ProxyConfig, Service, ServiceKind, ServicePort,
    TaggedAddress, Weights,
};
use weft_core::index::Index;
use weft_core::limits;
use weft_core::name::{Datacenter, NodeName};

use super::{Fault, Options, Unknown, from_value, is_empty, is_key, parse};

/// The body of `PUT /v1/catalog/register`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CatalogRegister {
    /// The node's datacenter; empty means the one that is asked.
    pub datacenter: String,
    /// The node's UUID.
    #[serde(rename = "ID")]
    pub id: String,
    /// The node's name.
    pub node: String,
    /// The node's address: an IP address or a DNS name.
    pub address: String,
    /// Further addresses of the node.
    pub tagged_addresses: BTreeMap<String, String>,
    /// The node's free key-value pairs.
    pub node_meta: BTreeMap<String, String>,
    /// An instance on the node.
    pub service: Option<ServiceBody>,
    /// A check on the node.
    pub check: Option<CheckBody>,
    /// Further checks on the node.
    pub checks: Vec<CheckBody>,
    /// Whether the node, where there is one of that name, stays as it is.
    pub skip_node_update: bool,
}

/// The `Service` of a [`CatalogRegister`].
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceBody {
    /// What the instance is for.
    pub kind: ServiceKind,
    /// The instance; empty means the service's name.
    #[serde(rename = "ID")]
    pub id: String,
    /// The service.
    pub service: String,
    /// Labels.
    pub tags: Vec<String>,
    /// Where it listens; empty means the node's address.
    pub address: String,
    /// Further addresses by tag.
    pub tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// Free key-value pairs.
    pub meta: BTreeMap<String, String>,
    /// The port it listens on.
    pub port: u16,
    /// Further ports by name.
    pub ports: Vec<ServicePort>,
    /// Where it runs.
    pub locality: Option<Locality>,
    /// Its share among instances of equal standing.
    pub weights: Weights,
    /// Kept and shown.
    pub enable_tag_override: bool,
    /// What the sidecar stands for.
    pub proxy: ProxyConfig,
    /// How the instance takes part in the mesh.
    pub connect: Connect,
}

/// A check of a [`CatalogRegister`]; nobody runs it, whoever registered it reports its status.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CheckBody {
    /// The node once more; empty, or as above.
    pub node: String,
    /// Unique on its node; empty means the name.
    #[serde(rename = "CheckID", alias = "ID")]
    pub check_id: String,
    /// A name for people; empty means the id.
    pub name: String,
    /// A remark for people.
    pub notes: String,
    /// How it stands; empty means critical.
    pub status: String,
    /// What was found.
    pub output: String,
    /// The instance it speaks of; empty for a check of the node.
    #[serde(rename = "ServiceID")]
    pub service_id: String,
    /// What kind of check it is.
    #[serde(rename = "Type")]
    pub kind: String,
    /// How it is to be run, for whoever runs it.
    pub definition: HealthCheckDefinition,
}

/// The body of `PUT /v1/catalog/deregister`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CatalogDeregister {
    /// The node's datacenter; empty means the one that is asked.
    pub datacenter: String,
    /// The node's name.
    pub node: String,
    /// The instance to remove, with its checks.
    #[serde(rename = "ServiceID")]
    pub service_id: String,
    /// The check to remove.
    #[serde(rename = "CheckID")]
    pub check_id: String,
}

/// Faults of this kind that are reported at once; nobody reads more.
const FAULTS_MAX: usize = 32;

/// Decodes the body of `PUT /v1/catalog/register`.
///
/// # Errors
/// Every fault, by field. Fields that are not known are passed over; namespaces, partitions and
/// peers are refused by name.
pub fn decode_register(body: &[u8]) -> Result<CatalogRegister, Vec<Fault>> {
    let value = parse(body).map_err(|fault| vec![fault])?;
    let mut faults = elsewhere("", Some(&value));
    for (key, inner) in value.as_object().into_iter().flatten() {
        match inner {
            Value::Array(checks) if is_key(key, "Checks") => {
                for (at, check) in checks.iter().enumerate() {
                    faults.extend(elsewhere(&format!("{key}[{at}]."), Some(check)));
                }
            }
            inner if is_key(key, "Check") || is_key(key, "Service") => {
                faults.extend(elsewhere(&format!("{key}."), Some(inner)));
            }
            _ => {}
        }
    }
    finish(from_value(&value, &Options::new(Unknown::Ignore)), faults)
}

/// Decodes the body of `PUT /v1/catalog/deregister`.
///
/// # Errors
/// As [`decode_register`].
pub fn decode_deregister(body: &[u8]) -> Result<CatalogDeregister, Vec<Fault>> {
    let value = parse(body).map_err(|fault| vec![fault])?;
    let faults = elsewhere("", Some(&value));
    finish(from_value(&value, &Options::new(Unknown::Ignore)), faults)
}

impl CatalogRegister {
    /// Makes the registration; `present` is the node as it is, if it is to stay so.
    ///
    /// # Errors
    /// Every fault, by field.
    pub fn registration(
        self,
        own: &Datacenter,
        present: Option<Node>,
    ) -> Result<CatalogRegistration, Vec<Fault>> {
        let mut faults = datacenter(&self.datacenter, own);
        let name = parsed::<NodeName>("Node", &self.node, &mut faults);
        if present.is_none() {
            address("Address", &self.address, &mut faults);
        }
        let service = self.service.and_then(|body| service(body, &mut faults));
        if self.checks.len() > limits::CHECKS_PER_REGISTRATION_MAX {
            let most = limits::CHECKS_PER_REGISTRATION_MAX;
            faults.push(Fault::new("Checks", format!("are more than the {most} allowed")));
            return Err(faults);
        }
        let checks = self.checks.into_iter().enumerate();
        let checks = checks.map(|(at, check)| (format!("Checks[{at}]"), check));
        let checks: Vec<Option<HealthCheck>> = (self.check.map(|it| ("Check".to_owned(), it)))
            .into_iter()
            .chain(checks)
            .map(|(field, body)| check(&field, body, name.as_ref()?, &mut faults))
            .collect();
        match (name, faults.is_empty()) {
            (Some(name), true) => Ok(CatalogRegistration {
                node: present.unwrap_or_else(|| Node {
                    id: self.id,
                    name,
                    address: self.address,
                    datacenter: own.clone(),
                    tagged_addresses: self.tagged_addresses,
                    meta: self.node_meta,
                    create_index: Index::default(),
                    modify_index: Index::default(),
                }),
                services: service.into_iter().collect(),
                checks: checks.into_iter().flatten().collect(),
            }),
            (_, _) => Err(faults),
        }
    }
}

impl CatalogDeregister {
    /// Makes the deregistration: of the instance, else of the check, else of the whole node.
    ///
    /// # Errors
    /// Every fault, by field.
    pub fn deregistration(self, own: &Datacenter) -> Result<CatalogDeregistration, Vec<Fault>> {
        let mut faults = datacenter(&self.datacenter, own);
        let node = parsed("Node", &self.node, &mut faults);
        let given = |text: &str| !text.is_empty();
        let services = given(&self.service_id)
            .then(|| parsed("ServiceID", &self.service_id, &mut faults))
            .flatten();
        let checks = (given(&self.check_id) && !given(&self.service_id))
            .then(|| parsed("CheckID", &self.check_id, &mut faults))
            .flatten();
        match (node, faults.is_empty()) {
            (Some(node), true) => Ok(CatalogDeregistration {
                node,
                services: services.into_iter().collect(),
                checks: checks.into_iter().collect(),
            }),
            (_, _) => Err(faults),
        }
    }
}

fn service(body: ServiceBody, faults: &mut Vec<Fault>) -> Option<Service> {
    let name = parsed("Service.Service", &body.service, faults);
    let id = if body.id.is_empty() { &body.service } else { &body.id };
    // Without either, the name is what is missing.
    let id = (!id.is_empty()).then(|| parsed("Service.ID", id, faults)).flatten();
    if !body.address.is_empty() {
        address("Service.Address", &body.address, faults);
    }
    if body.kind == ServiceKind::ConnectProxy {
        if body.proxy.destination_service_name.is_none() {
            faults.push(Fault::new("Service.Proxy.DestinationServiceName", "is missing"));
        }
        if body.port == 0 {
            faults.push(Fault::new("Service.Port", "is missing"));
        }
    }
    Some(Service {
        kind: body.kind,
        id: id?,
        name: name?,
        tags: body.tags,
        address: body.address,
        tagged_addresses: body.tagged_addresses,
        meta: body.meta,
        port: body.port,
        ports: body.ports,
        locality: body.locality,
        weights: body.weights,
        enable_tag_override: body.enable_tag_override,
        proxy: body.proxy,
        connect: body.connect,
        create_index: Index::default(),
        modify_index: Index::default(),
    })
}

fn check(
    field: &str,
    body: CheckBody,
    node: &NodeName,
    faults: &mut Vec<Fault>,
) -> Option<HealthCheck> {
    if !body.node.is_empty() && !body.node.eq_ignore_ascii_case(node.as_str()) {
        let reason = format!("is {:?}, but the registration is of {node}", body.node);
        faults.push(Fault::new(format!("{field}.Node"), reason));
    }
    let id = if body.check_id.is_empty() { &body.name } else { &body.check_id };
    let id = parsed(&format!("{field}.CheckID"), id, faults);
    let service_id = (!body.service_id.is_empty())
        .then(|| parsed(&format!("{field}.ServiceID"), &body.service_id, faults))
        .flatten();
    let status = match body.status.as_str() {
        "" => Some(CheckStatus::default()),
        word => parsed(&format!("{field}.Status"), word, faults),
    };
    if !body.definition.is_bounded() {
        let reason = format!("has texts of more than {} bytes", limits::OPAQUE_TEXT_BYTES_MAX);
        faults.push(Fault::new(format!("{field}.Definition"), reason));
    }
    Some(HealthCheck {
        node: node.clone(),
        name: if body.name.is_empty() { body.check_id } else { body.name },
        id: id?,
        status: status?,
        notes: body.notes,
        output: body.output,
        service_id,
        service_name: None,
        service_tags: Vec::new(),
        kind: body.kind,
        interval: String::new(),
        timeout: String::new(),
        definition: (!body.definition.is_empty()).then(|| Box::new(body.definition)),
        create_index: Index::default(),
        modify_index: Index::default(),
    })
}

/// Reads a word; says of an empty one that it is missing.
fn parsed<T: FromStr<Err: std::fmt::Display>>(
    field: &str,
    text: &str,
    faults: &mut Vec<Fault>,
) -> Option<T> {
    let fault = match text.parse() {
        Ok(value) => return Some(value),
        Err(_) if text.is_empty() => "is missing".to_owned(),
        Err(error) => error.to_string(),
    };
    faults.push(Fault::new(field, fault));
    None
}

/// Whoever asks for it decides what an address means; here it only has to be one word.
fn address(field: &str, text: &str, faults: &mut Vec<Fault>) {
    let is_odd = |c: char| c.is_whitespace() || c.is_control();
    let reason = match text.len() {
        0 => "is missing".to_owned(),
        length if length > limits::HOST_NAME_BYTES_MAX => {
            format!("has {length} bytes, more than the {} allowed", limits::HOST_NAME_BYTES_MAX)
        }
        _ if text.contains(is_odd) => "must be an IP address or a DNS name".to_owned(),
        _ => return,
    };
    faults.push(Fault::new(field, reason));
}

fn datacenter(said: &str, own: &Datacenter) -> Vec<Fault> {
    if said.is_empty() || said == own.as_str() {
        return Vec::new();
    }
    vec![Fault::new("Datacenter", format!("is {said:?}, but there is no way to it from {own}"))]
}

/// Finds what would put a record elsewhere than in the one namespace of this datacenter.
fn elsewhere(prefix: &str, value: Option<&Value>) -> Vec<Fault> {
    let fields = value.and_then(Value::as_object).into_iter().flatten();
    let is_elsewhere = |key: &str, value: &Value| {
        let tenancy = is_key(key, "Namespace") || is_key(key, "Partition");
        let default = matches!(value.as_str(), Some("default"));
        !is_empty(value) && (is_key(key, "PeerName") || tenancy && !default)
    };
    fields
        .filter(|(key, value)| is_elsewhere(key, value))
        .map(|(key, _)| Fault::new(format!("{prefix}{key}"), "is not supported yet; remove it"))
        .collect()
}

fn finish<T>(decoded: Result<T, Vec<Fault>>, mut faults: Vec<Fault>) -> Result<T, Vec<Fault>> {
    faults.truncate(FAULTS_MAX);
    match decoded {
        Ok(record) if faults.is_empty() => Ok(record),
        Ok(_) => Err(faults),
        Err(more) => {
            faults.extend(more);
            Err(faults)
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_core::time::Span;

    use super::*;

    fn register(body: &str) -> Result<CatalogRegistration, String> {
        let own = "dc1".parse().expect("a datacenter");
        decode_register(body.as_bytes())
            .and_then(|body| body.registration(&own, None))
            .map_err(|faults| Fault::line(&faults))
    }

    #[test]
    fn a_host_is_registered_as_clients_write_it() {
        let registration = register(
            r#"{"Datacenter":"dc1","ID":"40e4a748","Node":"foobar","Address":"192.168.10.10",
            "TaggedAddresses":{"lan":"192.168.10.10"},"NodeMeta":{"somekey":"somevalue"},
            "Service":{"ID":"redis1","Service":"redis","Tags":["primary"],"Address":"127.0.0.1",
            "Port":8000,"Namespace":"default","Weights":null},
            "Check":{"Node":"foobar","CheckID":"service:redis1","Name":"Redis","Notes":"Script",
            "Status":"passing","ServiceID":"redis1","Definition":{"TCP":"localhost:8888",
            "Interval":"5s"},"Namespace":""},
            "checks":[{"name":"up"}],"SkipNodeUpdate":false,"Whatever":1}"#,
        )
        .expect("a registration");
        assert_eq!(registration.node.name.as_str(), "foobar");
        assert_eq!(registration.node.meta["somekey"], "somevalue");
        assert_eq!(registration.services[0].port, 8000);
        assert_eq!(registration.services[0].weights, Weights::default());
        let [redis, up] = &registration.checks[..] else { panic!("two checks") };
        let definition = redis.definition.as_ref().expect("whoever runs it is told how");
        assert_eq!(
            (definition.tcp.as_str(), definition.interval),
            ("localhost:8888", Span::seconds(5))
        );
        assert_eq!(up.definition, None);
        assert_eq!(redis.service_id.as_ref().map(|id| id.as_str()), Some("redis1"));
        assert_eq!(redis.status, CheckStatus::Passing);
        assert_eq!(
            (up.id.as_str(), up.name.as_str(), up.status),
            ("up", "up", CheckStatus::Critical)
        );

        let bare =
            register(r#"{"Node":"n","Address":"db.example.com","Service":{"Service":"db"}}"#);
        assert_eq!(bare.expect("a registration").services[0].id.as_str(), "db");
    }

    #[test]
    fn all_that_is_wrong_is_told_by_field() {
        for (body, told) in [
            ("{}", "Node: is missing; Address: is missing"),
            (
                r#"{"Datacenter":"dc9","Node":"n","Address":"a b"}"#,
                "Datacenter: is \"dc9\", but there is no way to it from dc1; \
                 Address: must be an IP address or a DNS name",
            ),
            (
                r#"{"Node":"n","Address":"a","Service":{"ID":"x"},"Checks":[{"Node":"m"}]}"#,
                "Service.Service: is missing; Checks[0].Node: is \"m\", but the registration is \
                 of n; Checks[0].CheckID: is missing",
            ),
            (
                r#"{"Node":"n","Address":"a","Service":{"Service":"p","Kind":"connect-proxy"},
                "Check":{"CheckID":"c","Status":"fine"}}"#,
                "Service.Proxy.DestinationServiceName: is missing; Service.Port: is missing; \
                 Check.Status: \"fine\" is not a status; write passing, warning or critical",
            ),
            (
                r#"{"Node":"n","Address":"a","Namespace":"team","Service":{"Service":"a",
                "PeerName":"p"}}"#,
                "Namespace: is not supported yet; remove it; Service.PeerName: is not supported \
                 yet; remove it",
            ),
        ] {
            assert_eq!(register(body), Err(told.to_owned()), "{body}");
        }
    }

    #[test]
    fn a_deregistration_is_of_the_smallest_thing_named() {
        let own = "dc1".parse().expect("a datacenter");
        let deregister = |body: &str| {
            decode_deregister(body.as_bytes())
                .and_then(|body| body.deregistration(&own))
                .map_err(|faults| Fault::line(&faults))
        };
        let counts = |body: &str| {
            let what = deregister(body).expect(body);
            (what.services.len(), what.checks.len())
        };
        assert_eq!(counts(r#"{"Node":"n"}"#), (0, 0));
        assert_eq!(counts(r#"{"node":"n","check_id":"c"}"#), (0, 1));
        assert_eq!(counts(r#"{"Node":"n","CheckID":"c","ServiceID":"s"}"#), (1, 0));
        assert_eq!(deregister(r#"{"ServiceID":"s"}"#), Err("Node: is missing".to_owned()));
        let elsewhere = deregister(r#"{"Node":"n","Datacenter":"dc2"}"#);
        assert!(elsewhere.expect_err("another datacenter").starts_with("Datacenter: "));
    }
}
