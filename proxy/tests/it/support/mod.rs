//! A mesh on paper: an authority, leaves, and snapshots for proxies, without server and agent.

#![allow(dead_code, reason = "each test target uses the part that it needs")]

pub(crate) mod cut;
pub(crate) mod origin;
pub(crate) mod pair;
pub(crate) mod road;
pub(crate) mod strict;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use weft_core::ca::{Leaf, TrustBundle};
use weft_core::chain::TargetId;
use weft_core::config_entry::Protocol;
use weft_core::identity::SpiffeId;
use weft_core::name::{Datacenter, InstanceId, ServiceName, TrustDomain};
use weft_core::proxycfg::{Endpoint, ProxySnapshot};
use weft_core::time::Timestamp;
use weft_runtime::clock;

/// An authority of one trust domain.
pub(crate) struct Mesh {
    issuer: Issuer<'static, KeyPair>,
    root_pem: String,
    domain: String,
}

/// One upstream on paper: its chain's nodes beyond the resolvers, and where targets live.
pub(crate) struct Upstream<'a> {
    pub(crate) service: &'a str,
    pub(crate) bind: SocketAddr,
    pub(crate) protocol: Protocol,
    /// The start node, e.g. a splitter or router; `null` starts at the first target.
    pub(crate) start: serde_json::Value,
    /// Target name (also the instance's), the service that must answer there, addresses.
    pub(crate) targets: Vec<(&'a str, &'a str, Vec<SocketAddr>)>,
}

impl<'a> Upstream<'a> {
    /// One without routes, whose only target is the service itself at some addresses.
    pub(crate) fn of(
        service: &'a str,
        (bind, protocol): (SocketAddr, Protocol),
        addresses: Vec<SocketAddr>,
    ) -> Self {
        let targets = vec![(service, service, addresses)];
        Self { service, bind, protocol, start: serde_json::Value::Null, targets }
    }
}

impl Mesh {
    pub(crate) fn new(domain: &str) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root_pem = params.self_signed(&key).expect("a root").pem();
        Self { issuer: Issuer::new(params, key), root_pem, domain: domain.to_owned() }
    }

    pub(crate) fn spiffe_id(&self, service: &str) -> SpiffeId {
        SpiffeId::service(
            TrustDomain::parse(&self.domain).expect("a domain"),
            Datacenter::parse("dc1").expect("a datacenter"),
            ServiceName::parse(service).expect("a service"),
        )
    }

    pub(crate) fn leaf(&self, service: &str) -> Leaf {
        let params = CertificateParams::default();
        self.sign(service, (params, Timestamp(u64::MAX)))
    }

    /// A leaf that ends soon.
    pub(crate) fn leaf_for(&self, service: &str, lifetime: Duration) -> Leaf {
        // Certificates tell whole seconds.
        let now = Timestamp(clock::wall().unix_seconds() * 1000);
        let ends = now.saturating_add(lifetime);
        let mut params = CertificateParams::default();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_after = epoch + Duration::from_millis(ends.0);
        self.sign(service, (params, ends))
    }

    fn sign(
        &self,
        service: &str,
        (mut params, valid_before): (CertificateParams, Timestamp),
    ) -> Leaf {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, service);
        let uri = self.spiffe_id(service).to_string();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("ASCII"))];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Leaf {
            certificate_pem: params.signed_by(&key, &self.issuer).expect("a leaf").pem(),
            private_key_pem: key.serialize_pem(),
            valid_after: Timestamp(0),
            valid_before,
        }
    }

    /// A snapshot of a proxy for `service` that lets everyone in.
    pub(crate) fn snapshot(
        &self,
        service: &str,
        (bind, local_app): (SocketAddr, SocketAddr),
        protocol: Protocol,
        upstreams: &[Upstream<'_>],
    ) -> ProxySnapshot {
        let mut endpoints: BTreeMap<String, Vec<Endpoint>> = BTreeMap::new();
        let mut configs = Vec::new();
        for upstream in upstreams {
            configs.push(self.upstream(upstream, &mut endpoints));
        }
        serde_json::from_value(serde_json::json!({
            "version": 1, "proxy_id": format!("{service}-sidecar-proxy"), "service": service,
            "spiffe_id": self.spiffe_id(service), "leaf": self.leaf(service),
            "trust_bundle": TrustBundle {
                trust_domain: TrustDomain::parse(&self.domain).expect("a domain"),
                active_root: String::new(),
                roots_pem: vec![self.root_pem.clone()],
                roots: Vec::new(),
                revoked: Vec::new(),
                retired: Vec::new(),
            },
            "inbound": {
                "bind": bind, "local_app": local_app, "protocol": protocol,
                "intentions": { "intentions": [], "default_action": "allow" },
                "connections_max": null, "connect_timeout": { "secs": 5, "nanos": 0 },
                "request_timeout": null,
            },
            "upstreams": configs, "endpoints": endpoints,
        }))
        .expect("a snapshot")
    }

    fn upstream(
        &self,
        upstream: &Upstream<'_>,
        endpoints: &mut BTreeMap<String, Vec<Endpoint>>,
    ) -> serde_json::Value {
        let (mut nodes, mut targets) = (serde_json::Map::new(), serde_json::Map::new());
        for (name, service, addresses) in &upstream.targets {
            let timeout = serde_json::json!({ "secs": 5, "nanos": 0 });
            nodes.insert(
                (*name).to_owned(),
                serde_json::json!({
                    "Type": "resolver", "Target": name, "ConnectTimeout": timeout,
                    "RequestTimeout": timeout,
                }),
            );
            targets.insert(
                (*name).to_owned(),
                serde_json::json!({
                    "ID": name, "Service": service, "Datacenter": "dc1", "SNI": name,
                    "SpiffeID": self.spiffe_id(service),
                }),
            );
            let instances = addresses.iter().map(|address| Endpoint {
                tier: 0,
                address: *address,
                weight: 1,
                instance: InstanceId::parse(name).expect("an id"),
            });
            endpoints.insert((*name).to_owned(), instances.collect());
        }
        let mut start = "start".to_owned();
        if upstream.start.is_null() {
            start = upstream.targets[0].0.to_owned();
        } else {
            nodes.insert(start.clone(), upstream.start.clone());
        }
        serde_json::json!({
            "bind": upstream.bind,
            "chain": {
                "ServiceName": upstream.service, "Datacenter": "dc1",
                "Protocol": upstream.protocol, "StartNode": start, "Nodes": nodes,
                "Targets": targets, "Reads": [],
            },
        })
    }
}

/// Returns an id of a target as the snapshot's map has it.
pub(crate) fn target_id(name: &str) -> TargetId {
    serde_json::from_value(name.into()).expect("a target id")
}
