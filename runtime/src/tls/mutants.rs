//! Certificates that break a rule, alone and two at once, shown by a client and by a server in
//! real handshakes: nobody may be taken in.
//!
//! **Source**: Spec: X.509-SVID §2 to §5, SPIFFE-ID §2; RFC 5280 §4.2; CVE-2022-40716,
//! CVE-2022-21656, CVE-2022-21657, CVE-2025-66220.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName,
    ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls_pki_types::CertificateDer;

use super::test_authority::{TestAuthority, TestLeaf, authority_params, leaf_params};
use super::tests::meet;
use super::*;

const DOMAIN: &str = "a1.mesh";
const WEB: &str = "ns/default/dc/dc1/svc/web";
const API: &str = "ns/default/dc/dc1/svc/api";

/// The name of the certificate that they are mutants of.
const GOOD: &str = "spiffe://a1.mesh/ns/default/dc/dc1/svc/web";

const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];

/// A certificate as it is shown, with the key of who shows it.
struct Mutant {
    what: String,
    chain: Vec<CertificateDer<'static>>,
    key_pem: String,
}

type Change = (&'static str, Box<dyn Fn(&mut CertificateParams)>);

impl Mutant {
    fn new(what: impl Into<String>, leaf: &TestLeaf) -> Self {
        let chain = certificates_from_pem("a mutant", &leaf.chain_pem).expect("PEM");
        Self { what: what.into(), chain, key_pem: leaf.key_pem.clone() }
    }

    /// A resolver that shows the certificate, which [`Identity`] might not take.
    fn resolver(&self) -> Arc<rustls::sign::SingleCertAndKey> {
        let key = super::pem::key_from_pem(&self.key_pem).expect("PEM");
        let key = provider().key_provider.load_private_key(key).expect("a key");
        Arc::new(rustls::sign::CertifiedKey::new(self.chain.clone(), key).into())
    }
}

fn change(what: &'static str, apply: impl Fn(&mut CertificateParams) + 'static) -> Change {
    (what, Box::new(apply))
}

fn uris(what: &'static str, uris: &[&str]) -> Change {
    let names: Vec<SanType> =
        uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("ASCII"))).collect();
    change(what, move |params| params.subject_alt_names = names.clone())
}

/// Alternative names written byte by byte: `(tag, content)`.
fn raw_names(what: &'static str, names: &[(u8, &[u8])], is_critical: bool) -> Change {
    let mut body = Vec::new();
    for (tag, content) in names {
        body.push(*tag);
        length(&mut body, content.len());
        body.extend_from_slice(content);
    }
    let mut der = vec![0x30];
    length(&mut der, body.len());
    der.extend(body);
    extension(what, SUBJECT_ALT_NAME, der, is_critical, |params| params.subject_alt_names.clear())
}

fn length(der: &mut Vec<u8>, length: usize) {
    let low = u8::try_from(length & 0xff).expect("masked");
    match length {
        0..=0x7f => der.push(low),
        0x80..=0xff => der.extend([0x81, low]),
        _ => der.extend([0x82, u8::try_from(length >> 8).expect("below 64 kB"), low]),
    }
}

fn extension(
    what: &'static str,
    oid: &'static [u64],
    content: Vec<u8>,
    is_critical: bool,
    first: impl Fn(&mut CertificateParams) + 'static,
) -> Change {
    change(what, move |params| {
        first(params);
        let mut extension = CustomExtension::from_oid_content(oid, content.clone());
        extension.set_criticality(is_critical);
        params.custom_extensions.push(extension);
    })
}

/// What can be wrong with the name.
fn of_names() -> Vec<Change> {
    let mut names = of_uris();
    names.extend(of_written_names());
    names
}

/// What can be wrong with the URI, or with how many there are.
fn of_uris() -> Vec<Change> {
    let long = format!("{GOOD}{}", "a".repeat(3000));
    let too_long = format!("spiffe://a1.mesh/ns/default/dc/dc1/svc/{}", "a".repeat(2048));
    let long_domain = format!("spiffe://{}/ns/default/dc/dc1/svc/web", "a".repeat(256));
    vec![
        uris("no name", &[]),
        uris("two URIs", &[GOOD, "spiffe://a1.mesh/ns/default/dc/dc1/svc/api"]),
        uris("two URIs, the good one last", &["https://a1.mesh/", GOOD]),
        uris("the same URI twice", &[GOOD, GOOD]),
        uris("five URIs", &[GOOD, GOOD, "spiffe://b", "a:b", "x:y"]),
        uris("a root path", &["spiffe://a1.mesh/"]),
        uris("no path, as a signer has", &["spiffe://a1.mesh"]),
        uris("a trailing slash", &["spiffe://a1.mesh/ns/default/dc/dc1/svc/web/"]),
        uris("an empty segment", &["spiffe://a1.mesh/ns//default/dc/dc1/svc/web"]),
        uris("two slashes before the path", &["spiffe://a1.mesh//ns/default/dc/dc1/svc/web"]),
        uris("a dot segment", &["spiffe://a1.mesh/ns/default/dc/dc1/svc/."]),
        uris("two dots", &["spiffe://a1.mesh/ns/default/dc/dc1/svc/.."]),
        uris("dots on the way", &["spiffe://a1.mesh/ns/default/dc/dc2/../dc1/svc/web"]),
        uris("a percent escape", &["spiffe://a1.mesh/ns/default/dc/dc1/svc/we%62"]),
        uris("an escaped slash", &["spiffe://a1.mesh/ns/default/dc/dc1%2fsvc/web"]),
        uris("upper case in the domain", &["spiffe://A1.mesh/ns/default/dc/dc1/svc/web"]),
        uris("upper case in the scheme", &["SPIFFE://a1.mesh/ns/default/dc/dc1/svc/web"]),
        uris("upper case in the path", &["spiffe://a1.mesh/NS/default/dc/dc1/svc/web"]),
        uris("a dot after the domain", &["spiffe://a1.mesh./ns/default/dc/dc1/svc/web"]),
        uris("a port", &["spiffe://a1.mesh:1/ns/default/dc/dc1/svc/web"]),
        uris("user information", &["spiffe://u@a1.mesh/ns/default/dc/dc1/svc/web"]),
        uris("a query", &["spiffe://a1.mesh/ns/default/dc/dc1/svc/web?x"]),
        uris("a fragment", &["spiffe://a1.mesh/ns/default/dc/dc1/svc/web#x"]),
        uris("a backslash", &["spiffe://a1.mesh/ns/default/dc/dc1/svc\\web"]),
        uris("a space", &["spiffe://a1.mesh/ns/default/dc/dc1/svc/web "]),
        uris("a NUL", &["spiffe://a1.mesh/ns/default/dc/dc1/svc/web\0"]),
        uris("a NUL in the domain", &["spiffe://a1.mesh\0.b/ns/default/dc/dc1/svc/web"]),
        uris("an unknown form", &["spiffe://a1.mesh/web"]),
        uris("another namespace", &["spiffe://a1.mesh/ns/other/dc/dc1/svc/web"]),
        uris("another scheme", &["https://a1.mesh/ns/default/dc/dc1/svc/web"]),
        uris("another trust domain", &["spiffe://b2.mesh/ns/default/dc/dc1/svc/web"]),
        uris("a domain above ours", &["spiffe://mesh/ns/default/dc/dc1/svc/web"]),
        uris("a domain below ours", &["spiffe://x.a1.mesh/ns/default/dc/dc1/svc/web"]),
        uris("3 kB of path", &[&long]),
        uris("an ID of more than 2048 bytes", &[&too_long]),
        uris("a domain of 256 bytes", &[&long_domain]),
    ]
}

/// Names that no library would write.
fn of_written_names() -> Vec<Change> {
    const URI: u8 = 0x86;
    vec![
        raw_names("the ID as a DNS name", &[(0x82, GOOD.as_bytes())], false),
        raw_names("the ID as an email address", &[(0x81, GOOD.as_bytes())], false),
        raw_names("the ID as a registered ID", &[(0x88, GOOD.as_bytes())], false),
        raw_names("an empty URI", &[(URI, b"")], false),
        raw_names(
            "bytes beyond ASCII",
            &[(URI, b"spiffe://a1.mesh/ns/default/dc/dc1/svc/w\xc3\xa9b")],
            false,
        ),
        raw_names(
            "bytes that are no UTF-8",
            &[(URI, b"spiffe://a1.mesh/ns/default/dc/dc1/svc/w\xff")],
            false,
        ),
        raw_names("only an IP address", &[(0x87, &[127, 0, 0, 1])], false),
        raw_names("no names in the list", &[], false),
        extension(
            "a list of names cut short",
            SUBJECT_ALT_NAME,
            vec![0x30, 0x7f, 0x86],
            false,
            |params| {
                params.subject_alt_names.clear();
            },
        ),
        extension(
            "the extension of names twice",
            SUBJECT_ALT_NAME,
            [&[0x30, 0x2c, 0x86, 0x2a][..], GOOD.as_bytes()].concat(),
            false,
            |_| {},
        ),
    ]
}

/// What can be wrong with what the key may be used for, and with when.
fn of_usage() -> Vec<Change> {
    use ExtendedKeyUsagePurpose as Extended;
    let no_usage = |params: &mut CertificateParams| params.key_usages.clear();
    let no_extended = |params: &mut CertificateParams| params.extended_key_usages.clear();
    vec![
        change("an authority", |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        change("an authority for leaves", |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
        change("no key usage", no_usage),
        change("may sign certificates", |p| p.key_usages.push(KeyUsagePurpose::KeyCertSign)),
        change("may sign CRLs", |p| p.key_usages.push(KeyUsagePurpose::CrlSign)),
        change("may not sign", |p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement]),
        extension("key usage not critical", KEY_USAGE, vec![3, 2, 7, 0x80], false, no_usage),
        extension("a key usage without bits", KEY_USAGE, vec![3, 1, 0], true, no_usage),
        extension("a broken key usage", KEY_USAGE, vec![4, 2, 7, 0x80], true, no_usage),
        change("only for servers", |p| p.extended_key_usages = vec![Extended::ServerAuth]),
        change("only for clients", |p| p.extended_key_usages = vec![Extended::ClientAuth]),
        change("only for code", |p| p.extended_key_usages = vec![Extended::CodeSigning]),
        change("for anything", |p| p.extended_key_usages = vec![Extended::Any]),
        extension("an empty extended usage", EXTENDED_KEY_USAGE, vec![0x30, 0], false, no_extended),
        extension(
            "a critical unknown extension",
            &[1, 3, 6, 1, 4, 1, 99999, 1],
            vec![5, 0],
            true,
            |_| {},
        ),
        change("expired", |p| {
            (p.not_before, p.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        }),
        change("of the future", |p| {
            (p.not_before, p.not_after) = (date_time_ymd(2090, 1, 1), date_time_ymd(2091, 1, 1));
        }),
        change("ends before it begins", |p| {
            (p.not_before, p.not_after) = (date_time_ymd(2090, 1, 1), date_time_ymd(2020, 1, 1));
        }),
    ]
}

fn good(authority: &TestAuthority) -> CertificateParams {
    leaf_params(&[&authority.uri(WEB)])
}

/// What can be wrong with the way to the root.
fn of_chains(authority: &TestAuthority) -> Vec<Mutant> {
    let mut mutants = Vec::new();
    let mut add = |what: &str, leaf: &TestLeaf| mutants.push(Mutant::new(what, leaf));
    let foreign = TestAuthority::new(DOMAIN);
    add("signed by another mesh's authority of the same name", &foreign.leaf(good(authority)));
    add("a leaf signed by a leaf", &authority.leaf_below(good(authority), false, good(authority)));
    let mut no_authority = authority_params("pretender");
    no_authority.is_ca = IsCa::ExplicitNoCa;
    add(
        "signed by who is no authority",
        &authority.leaf_below(no_authority, true, good(authority)),
    );
    let mut no_signer = authority_params("no signer");
    no_signer.key_usages = vec![KeyUsagePurpose::CrlSign];
    add(
        "signed by who may only sign CRLs",
        &authority.leaf_below(no_signer, true, good(authority)),
    );
    let mut ended = authority_params("ended");
    (ended.not_before, ended.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    add(
        "signed by an intermediate that has ended",
        &authority.leaf_below(ended, true, good(authority)),
    );
    let mut narrow = authority_params("narrow");
    narrow.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let below = authority.below_narrow(narrow, good(authority));
    add("two intermediates where one is allowed", &below);

    let whole = authority.leaf(good(authority));
    let mut lonely = Mutant::new("without its intermediate", &whole);
    lonely.chain.truncate(1);
    let mut turned = Mutant::new("the intermediate first", &whole);
    turned.chain.reverse();
    let mut swapped = Mutant::new("with the intermediate of another authority", &whole);
    swapped.chain[1] = Mutant::new("", &foreign.leaf(good(authority))).chain[1].clone();
    let mut stolen = Mutant::new("somebody else's certificate with an own key", &whole);
    stolen.key_pem = authority.leaf(good(authority)).key_pem;
    let with_bytes = |what: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut mutant = Mutant::new(what, &whole);
        let mut der = mutant.chain[0].to_vec();
        change(&mut der);
        mutant.chain[0] = der.into();
        mutant
    };
    mutants.extend([
        lonely,
        turned,
        swapped,
        stolen,
        with_bytes("a bit of the signature turned", &|der| {
            let last = der.len() - 1;
            der[last] ^= 1;
        }),
        with_bytes("the name changed after signing", &|der| {
            let at = der.windows(7).position(|bytes| bytes == b"svc/web").expect("its name");
            der[at + 4..at + 7].copy_from_slice(b"api");
        }),
        with_bytes("bytes behind the certificate", &|der| der.extend([5, 0])),
        with_bytes("cut short", &|der| der.truncate(der.len() - 1)),
        with_bytes("no bytes", &Vec::clear),
    ]);
    mutants
}

fn all(authority: &TestAuthority) -> Vec<Mutant> {
    let (names, usage) = (of_names(), of_usage());
    let mut mutants = of_chains(authority);
    let made = |changes: &[&Change]| {
        let mut params = good(authority);
        changes.iter().for_each(|(_, apply)| apply(&mut params));
        let what: Vec<&str> = changes.iter().map(|(what, _)| *what).collect();
        Mutant::new(what.join(" and "), &authority.leaf(params))
    };
    mutants.extend(names.iter().chain(&usage).map(|change| made(&[change])));
    for name in &names {
        mutants.extend(usage.iter().map(|usage| made(&[name, usage])));
    }
    let mut nameless = good(authority);
    nameless.distinguished_name = DistinguishedName::new();
    nameless.subject_alt_names.clear();
    let uri = [&[0x30, 0x2c, 0x86, 0x2a][..], authority.uri(WEB).as_bytes()].concat();
    nameless.custom_extensions = vec![CustomExtension::from_oid_content(SUBJECT_ALT_NAME, uri)];
    let what = "no subject, and a name that may be ignored";
    mutants.push(Mutant::new(what, &authority.leaf(nameless)));
    mutants
}

#[tokio::test]
async fn a_certificate_that_breaks_a_rule_is_refused_by_both_ends() {
    let authority = TestAuthority::new(DOMAIN);
    let (api, trust) = (authority.identity(API), authority.trust());
    let mutants = all(&authority);
    let mut refused = 0;
    let mut taken_in = Vec::new();
    let client = |identity: &Identity| {
        client_config(identity, &trust, PeerCheck::AnyMember, &[]).expect("a client")
    };
    let server = || server_config(&api, &trust, ClientAuth::Required, &[]).expect("a server");
    // The harness takes the certificate that they are mutants of.
    let unchanged = authority.leaf(good(&authority));
    let control = Mutant::new("control", &unchanged);
    let mut as_client = client(&api);
    as_client.client_auth_cert_resolver = control.resolver();
    meet(&Arc::new(as_client), &Arc::new(server())).await.expect("the good one is accepted");
    for mutant in &mutants {
        let mut as_client = client(&api);
        as_client.client_auth_cert_resolver = mutant.resolver();
        let met = meet(&Arc::new(as_client), &Arc::new(server())).await;
        let mut as_server = server();
        as_server.cert_resolver = mutant.resolver();
        let answered = meet(&Arc::new(client(&api)), &Arc::new(as_server)).await;
        for (is_accepted, side) in [(met.is_ok(), "client"), (answered.is_ok(), "server")] {
            match is_accepted {
                true => taken_in.push(format!("{} as a {side}", mutant.what)),
                false => refused += 1,
            }
        }
    }
    println!("certificate mutants: refused {refused} of {}", mutants.len() * 2);
    assert!(mutants.len() > 800, "{}", mutants.len());
    assert!(taken_in.is_empty(), "{taken_in:#?}");
}

/// **Source**: CVE-2021-32574: every mutant of whose certificate it is that is good for another
/// service, on the address of the one called.
#[tokio::test]
async fn a_good_certificate_of_another_service_does_not_answer_for_the_one_called() {
    let authority = TestAuthority::new(DOMAIN);
    let (web, api, trust) = (authority.identity(WEB), authority.identity(API), authority.trust());
    let called = PeerCheck::Exactly(api.spiffe_id().clone());
    let client = Arc::new(client_config(&web, &trust, called, &[]).expect("a client"));
    let others = [
        "ns/default/dc/dc1/svc/web",
        "ns/default/dc/dc1/svc/API",
        "ns/default/dc/dc1/svc/apis",
        "ns/default/dc/dc1/svc/ap",
        "ns/default/dc/dc2/svc/api",
        "agent/client/dc/dc1/id/api",
        "agent/server/dc/dc1/id/api",
    ];
    for path in others {
        let other = authority.identity(path);
        let server = server_config(&other, &trust, ClientAuth::Required, &[]).expect("a server");
        let error = meet(&client, &Arc::new(server)).await.expect_err(path);
        assert!(error.to_string().contains("was expected"), "{path}: {error}");
    }
    println!("certificates of other services: refused {} of {}", others.len(), others.len());
}

/// What breaks a rule of identities is not even taken up by its own holder.
#[test]
fn a_certificate_that_breaks_a_rule_is_no_identity() {
    let authority = TestAuthority::new(DOMAIN);
    // Dates are for who checks the chain.
    let of_chain = ["expired", "of the future", "ends before it begins"];
    // A member of another mesh has an identity, only not one of this.
    let foreign = [
        "a dot after the domain",
        "another trust domain",
        "a domain above ours",
        "a domain below ours",
    ];
    for (what, apply) in of_names().iter().chain(&of_usage()) {
        let mut params = good(&authority);
        apply(&mut params);
        let TestLeaf { chain_pem, key_pem } = authority.leaf(params);
        let read = Identity::from_pem(&chain_pem, &key_pem);
        let is_read = of_chain.contains(what) || foreign.contains(what);
        assert_eq!(read.is_ok(), is_read, "{what}: {read:?}");
    }
}
