//! Requests that ask for more than the policy gives, or are no requests: of each only the key is
//! used, or it is refused.
//!
//! **Source**: CVE-2022-40716; Spec: X.509-SVID §2 to §5.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData, SanType,
};
use weft_core::identity::SpiffeId;
use weft_runtime::clock;
use weft_runtime::tls::{certificates_from_pem, peer_identity};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::tests::intermediate;

const HOUR: Duration = Duration::from_secs(3600);
const WEB: &str = "spiffe://a.mesh/ns/default/dc/dc1/svc/web";

struct Request {
    what: String,
    der: Vec<u8>,
    /// The key that a certificate for it may have.
    key: Vec<u8>,
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")
}

fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().expect("ASCII"))
}

/// What each changes in a request for `web`.
fn changes() -> Vec<(String, CertificateParams)> {
    let mut found = Vec::new();
    let mut add = |what: &str, change: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![uri(WEB)];
        change(&mut params);
        found.push((what.to_owned(), params));
    };
    add("no URI", &|p| p.subject_alt_names.clear());
    let other = "spiffe://a.mesh/ns/default/dc/dc1/svc/admin";
    for (what, uris) in [
        ("another service", vec![other.to_owned()]),
        ("two URIs, ours first", vec![WEB.to_owned(), other.to_owned()]),
        ("two URIs, ours last", vec![other.to_owned(), WEB.to_owned()]),
        ("a hundred URIs", (0..100).map(|n| format!("{other}-{n}")).collect()),
        ("a server", vec!["spiffe://a.mesh/agent/server/dc/dc1/id/s1".to_owned()]),
        ("the trust domain itself", vec!["spiffe://a.mesh".to_owned()]),
        ("another trust domain", vec!["spiffe://b.mesh/ns/default/dc/dc1/svc/web".to_owned()]),
        ("another datacenter", vec!["spiffe://a.mesh/ns/default/dc/dc2/svc/web".to_owned()]),
        ("a NUL", vec![format!("{other}\0")]),
        ("a percent escape", vec!["spiffe://a.mesh/ns/default/dc/dc1/svc/%61dmin".to_owned()]),
        ("another case", vec!["spiffe://A.mesh/ns/default/dc/dc1/svc/WEB".to_owned()]),
        ("a trailing slash", vec![format!("{WEB}/")]),
        ("dots", vec!["spiffe://a.mesh/ns/default/dc/dc1/svc/web/../admin".to_owned()]),
        ("3 kB of path", vec![format!("{WEB}{}", "a".repeat(3000))]),
    ] {
        add(what, &|p| p.subject_alt_names = uris.iter().map(|text| uri(text)).collect());
    }
    let name = |text: &str| text.try_into().expect("ASCII");
    add("a DNS name", &|p| p.subject_alt_names.push(SanType::DnsName(name("admin.a.mesh"))));
    add("any DNS name", &|p| p.subject_alt_names.push(SanType::DnsName(name("*"))));
    add("an email address", &|p| {
        p.subject_alt_names.push(SanType::Rfc822Name(name("root@a.mesh")));
    });
    add("an IP address", &|p| {
        p.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
    });
    add("another kind of name", &|p| {
        p.subject_alt_names.push(SanType::OtherName((vec![1, 2, 3], "admin".into())));
    });
    add("an authority", &|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    add("may sign certificates", &|p| {
        p.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    });
    add("for code", &|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]);
    add("an unknown critical extension", &|p| {
        let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 9, 9], vec![5, 0]);
        unknown.set_criticality(true);
        p.custom_extensions.push(unknown);
    });
    add("basic constraints of an authority by hand", &|p| {
        let content = vec![0x30, 3, 1, 1, 0xff];
        p.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 19], content));
    });
    add("a subject of somebody else", &|p| {
        p.distinguished_name = DistinguishedName::new();
        p.distinguished_name.push(DnType::CommonName, "admin");
        p.distinguished_name.push(DnType::OrganizationName, "Weft intermediate of s1");
    });
    add("a serial and dates", &|p| {
        p.serial_number = Some(vec![1].into());
        p.not_after = rcgen::date_time_ymd(9999, 1, 1);
    });
    found
}

fn requests() -> Vec<Request> {
    let mut requests = Vec::new();
    let mut of_key = |what: String, params: &CertificateParams, key: &KeyPair| {
        // What the library cannot even write down is no request.
        if let Ok(request) = params.serialize_request(key) {
            let key = key.der_bytes().to_vec();
            requests.push(Request { what, der: request.der().to_vec(), key });
        }
    };
    for (what, params) in changes() {
        of_key(what, &params, &key());
    }
    let plain = CertificateParams::default();
    for (what, kind) in [("P-384", &PKCS_ECDSA_P384_SHA384), ("Ed25519", &PKCS_ED25519)] {
        let key = KeyPair::generate_for(kind).expect("a key");
        of_key(format!("a key of kind {what}"), &plain, &key);
    }
    let (ours, theirs) = (key(), key());
    let good = plain.serialize_request(&ours).expect("a request").der().to_vec();
    let certificate = plain.self_signed(&ours).expect("a certificate").der().to_vec();
    let mut bytes = |what: &str, der: Vec<u8>| {
        requests.push(Request { what: what.to_owned(), der, key: ours.der_bytes().to_vec() });
    };
    let place =
        |part: &[u8]| good.windows(part.len()).position(|bytes| bytes == part).expect("its key");
    let mut forged = good.clone();
    let at = place(ours.der_bytes());
    forged[at..at + theirs.der_bytes().len()].copy_from_slice(theirs.der_bytes());
    bytes("somebody else's key under our signature", forged);
    let mut turned = good.clone();
    *turned.last_mut().expect("bytes") ^= 1;
    bytes("a bit of the signature turned", turned);
    bytes("cut short", good[..good.len() - 1].to_vec());
    bytes("bytes behind it", [&good[..], &[5, 0]].concat());
    bytes("a certificate", certificate);
    bytes("nothing", Vec::new());
    bytes("a megabyte of zeros", vec![0; 1 << 20]);
    bytes("a length without end", vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff]);
    requests
}

/// Says what of a certificate is not by policy.
fn excess(pem: &str, key: &[u8]) -> Option<&'static str> {
    let chain = certificates_from_pem("a chain", pem).expect("a chain");
    let (_, leaf) = X509Certificate::from_der(&chain[0]).expect("a certificate");
    let names = leaf.subject_alternative_name().expect("well-formed").expect("names");
    let usage = leaf.key_usage().expect("well-formed").expect("a usage").value;
    let extended = leaf.extended_key_usage().expect("well-formed").expect("one").value;
    let id = SpiffeId::parse(WEB).expect("an id");
    let span = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
    let known = ["2.5.29.14", "2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.35", "2.5.29.37"];
    let is_known = |oid: String| known.contains(&oid.as_str());
    let subject = leaf.subject().to_string();
    let checks = [
        (matches!(names.value.general_names[..], [GeneralName::URI(WEB)]), "names"),
        (peer_identity(&chain).is_ok_and(|found| found == id), "identity"),
        (!leaf.is_ca() && !usage.key_cert_sign() && !usage.crl_sign(), "an authority"),
        (extended.server_auth && extended.client_auth && !extended.code_signing, "usage"),
        (leaf.extensions().iter().all(|it| is_known(it.oid.to_id_string())), "extensions"),
        (subject == "CN=web", "subject"),
        (span <= 3660 && leaf.raw_serial().len() == 16, "dates or serial"),
        (*leaf.public_key().subject_public_key.data == *key, "key"),
    ];
    checks.iter().find(|(holds, _)| !holds).map(|(_, what)| *what)
}

#[test]
fn whatever_a_request_says_only_its_key_is_used() {
    let now = clock::wall();
    let intermediate = intermediate(now);
    let web = SpiffeId::parse(WEB).expect("an id");
    let (mut refused, mut by_policy, mut excesses) = (0, 0, Vec::new());
    let requests = requests();
    for Request { what, der, key } in &requests {
        match intermediate.sign(der, &web, HOUR, now) {
            Err(_) => refused += 1,
            Ok(signed) => match excess(&signed.chain_pem, key) {
                None => by_policy += 1,
                Some(excess) => excesses.push(format!("{what}: {excess}")),
            },
        }
    }
    let count = requests.len();
    println!("request mutants: {refused} refused, {by_policy} signed by policy, of {count}");
    assert!(excesses.is_empty(), "{excesses:#?}");
    assert!(count >= 35 && refused >= 8 && by_policy >= 15, "{count}");
}
