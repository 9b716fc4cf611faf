//! Handshakes in memory: who is accepted, who is refused, and for which reason.

use std::io;
use std::sync::Arc;

use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use weft_core::ca::Revoked;
use weft_core::identity::SpiffeId;
use weft_core::time::Timestamp;

use super::test_authority::{TestAuthority, leaf_params};
use super::*;

const DOMAIN: &str = "a1.mesh";
const WEB: &str = "ns/default/dc/dc1/svc/web";
const API: &str = "ns/default/dc/dc1/svc/api";
const SERVER: &str = "agent/server/dc/dc1/id/s1";
const AGENT: &str = "agent/client/dc/dc1/id/n1";

/// What both ends of a handshake saw.
#[derive(Debug)]
pub(super) struct Met {
    client: SpiffeId,
    server: SpiffeId,
    kind: HandshakeKind,
    group: rustls::NamedGroup,
}

/// Shakes hands and passes one byte each way, so that both ends have judged.
pub(super) async fn meet(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> io::Result<Met> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let name = peer_name("127.0.0.1:20000".parse().expect("an address"));
    let connector = TlsConnector::from(client.clone());
    let acceptor = TlsAcceptor::from(server.clone());
    let calling = async {
        let mut stream = connector.connect(name, near).await?;
        stream.write_all(b"x").await?;
        stream.read_u8().await?;
        let session = stream.get_ref().1;
        let server = peer_identity(session.peer_certificates().unwrap_or(&[]));
        let group = session.negotiated_key_exchange_group().expect("a group").name();
        Ok((server.expect("verified"), session.handshake_kind().expect("done"), group))
    };
    let answering = async {
        let mut stream = acceptor.accept(far).await?;
        stream.read_u8().await?;
        stream.write_all(b"y").await?;
        stream.shutdown().await?;
        let session = stream.get_ref().1;
        let client = peer_identity(session.peer_certificates().unwrap_or(&[]));
        client.map_err(io::Error::other)
    };
    let (called, answered): (io::Result<_>, io::Result<_>) = tokio::join!(calling, answering);
    // The end that refused says why; the other only sees an alert.
    match (called, answered) {
        (Ok((server, kind, group)), Ok(client)) => Ok(Met { client, server, kind, group }),
        (Err(a), Err(b)) => Err(io::Error::other(format!("{a} / {b}"))),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
    }
}

fn client(identity: &Identity, trust: &Trust, check: PeerCheck) -> Arc<ClientConfig> {
    Arc::new(client_config(identity, trust, check, &["h2"]).expect("a client"))
}

fn server(identity: &Identity, trust: &Trust) -> Arc<ServerConfig> {
    Arc::new(server_config(identity, trust, ClientAuth::Required, &["h2"]).expect("a server"))
}

#[tokio::test]
async fn members_know_each_other_and_prefer_hybrid_key_exchange() {
    let authority = TestAuthority::new(DOMAIN);
    let (web, api, trust) = (authority.identity(WEB), authority.identity(API), authority.trust());
    let exactly = PeerCheck::Exactly(api.spiffe_id().clone());
    let met = meet(&client(&web, &trust, exactly), &server(&api, &trust)).await.expect("accepted");
    assert_eq!((&met.client, &met.server), (web.spiffe_id(), api.spiffe_id()));
    assert_eq!(met.group, rustls::NamedGroup::X25519MLKEM768);
}

/// **Source**: CVE-2021-32574: the service that answers must be the one that was called.
#[tokio::test]
async fn another_identity_than_the_expected_is_refused() {
    let authority = TestAuthority::new(DOMAIN);
    let (web, trust) = (authority.identity(WEB), authority.trust());
    let agent = authority.identity(AGENT);
    let id = |path: &str| SpiffeId::parse(&authority.uri(path)).expect("an ID");
    for (check, is_accepted) in [
        (PeerCheck::AnyMember, true),
        (PeerCheck::AnyServer, false),
        (PeerCheck::Exactly(id(AGENT)), true),
        (PeerCheck::Exactly(id(API)), false),
        (PeerCheck::OneOf(vec![id(API), id(AGENT)]), true),
        (PeerCheck::OneOf(vec![]), false),
    ] {
        let met = meet(&client(&web, &trust, check.clone()), &server(&agent, &trust)).await;
        assert_eq!(met.is_ok(), is_accepted, "{check:?}: {met:?}");
    }
}

#[tokio::test]
async fn a_member_of_another_mesh_is_refused_even_under_the_same_root() {
    let authority = TestAuthority::new(DOMAIN);
    let (web, trust) = (authority.identity(WEB), authority.trust());
    let stranger = TestAuthority::new(DOMAIN).identity(API);
    let foreign = authority.leaf(leaf_params(&[&format!("spiffe://b2.mesh/{API}")]));
    let foreign = Identity::from_pem(&foreign.chain_pem, &foreign.key_pem).expect("well-formed");
    for other in [stranger, foreign] {
        meet(&client(&web, &trust, PeerCheck::AnyMember), &server(&other, &trust))
            .await
            .expect_err("as a server");
        meet(&client(&other, &trust, PeerCheck::AnyMember), &server(&web, &trust))
            .await
            .expect_err("as a client");
    }
}

#[tokio::test]
async fn a_caller_without_a_certificate_passes_only_where_it_is_optional() {
    let authority = TestAuthority::new(DOMAIN);
    let trust = authority.trust();
    let identity = authority.identity(SERVER).presenting_roots(&trust);
    let pin = fingerprint(&trust.certificates()[0]);
    let joining = Arc::new(client_config_pinned(&pin, &["h2"]).expect("a client"));
    meet(&joining, &server(&identity, &trust)).await.expect_err("required");
    let optional = server_config(&identity, &trust, ClientAuth::Optional, &["h2"]);
    // The handshake is done; only this harness then misses the caller's identity.
    let error = meet(&joining, &Arc::new(optional.expect("a server"))).await.expect_err("no ID");
    assert_eq!(error.to_string(), PeerIdentityError::Absent.to_string());
}

#[tokio::test]
async fn a_joining_host_accepts_only_a_server_under_the_pinned_root() {
    let authority = TestAuthority::new(DOMAIN);
    let trust = authority.trust();
    let other_trust = TestAuthority::new(DOMAIN).trust();
    let pin = fingerprint(&trust.certificates()[0]);
    let joining = Arc::new(client_config_pinned(&pin, &["h2"]).expect("a client"));
    let presenting = |path: &str| authority.identity(path).presenting_roots(&trust);
    for (identity, reason) in [
        (presenting(AGENT), "but a server was expected"),
        (presenting(WEB), "but a server was expected"),
        (authority.identity(SERVER), "does not present the root"),
        // A chain of another authority with our root merely put beside it.
        (TestAuthority::new(DOMAIN).identity(SERVER).presenting_roots(&trust), "BadSignature"),
        (authority.identity(SERVER).presenting_roots(&other_trust), "does not present the root"),
    ] {
        let config = server_config(&identity, &trust, ClientAuth::Optional, &["h2"]);
        let error = meet(&joining, &Arc::new(config.expect("a server"))).await;
        let error = format!("{:?}", error.expect_err("refused"));
        assert!(error.contains(reason), "{error}");
    }
    for bad in ["", "xyz", &"g".repeat(64)] {
        assert!(matches!(client_config_pinned(bad, &[]), Err(TlsError::Fingerprint { .. })));
    }
}

#[tokio::test]
async fn expired_and_future_certificates_are_refused() {
    let authority = TestAuthority::new(DOMAIN);
    let (api, trust) = (authority.identity(API), authority.trust());
    for (from, to) in [((2020, 1, 1), (2021, 1, 1)), ((2090, 1, 1), (2091, 1, 1))] {
        let mut params = leaf_params(&[&authority.uri(WEB)]);
        params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        params.not_after = rcgen::date_time_ymd(to.0, to.1, to.2);
        let leaf = authority.leaf(params);
        let bad = Identity::from_pem(&leaf.chain_pem, &leaf.key_pem).expect("well-formed");
        meet(&client(&bad, &trust, PeerCheck::AnyMember), &server(&api, &trust))
            .await
            .expect_err("as a client");
        meet(&client(&api, &trust, PeerCheck::AnyMember), &server(&bad, &trust))
            .await
            .expect_err("as a server");
    }
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let authority = TestAuthority::new(DOMAIN);
    let a = authority.leaf(leaf_params(&[&authority.uri(WEB)]));
    let b = authority.leaf(leaf_params(&[&authority.uri(WEB)]));
    assert!(matches!(Identity::from_pem(&a.chain_pem, &b.key_pem), Err(TlsError::Key(_))));
    assert!(matches!(Identity::from_pem(&a.chain_pem, "x"), Err(TlsError::Pem { .. })));
    assert!(matches!(Identity::from_pem("", &a.key_pem), Err(TlsError::NoCertificate { .. })));
}

/// **Source**: SPIRE's slip of resumption without a check against the current bundle;
/// CVE-2022-21654.
#[tokio::test]
async fn sessions_resume_only_within_one_configuration() {
    let authority = TestAuthority::new(DOMAIN);
    let (web, api, trust) = (authority.identity(WEB), authority.identity(API), authority.trust());
    let resuming = || {
        let options = ServerOptions {
            client_auth: ClientAuth::Required,
            alpn: &["h2"],
            resumption: Resumption::Tickets,
            spoken: &Spoken::default(),
        };
        Arc::new(server_config_with(&api, &trust, &options).expect("a server"))
    };
    let caller = client(&web, &trust, PeerCheck::AnyMember);
    let server = resuming();
    let kind = async |server: &Arc<ServerConfig>| {
        let met = meet(&caller, server).await.expect("accepted");
        assert_eq!((&met.client, &met.server), (web.spiffe_id(), api.spiffe_id()));
        met.kind
    };
    assert_eq!(kind(&server).await, HandshakeKind::Full);
    assert_eq!(kind(&server).await, HandshakeKind::Resumed);
    assert_eq!(kind(&resuming()).await, HandshakeKind::Full);
    let off = self::server(&api, &trust);
    assert_eq!(kind(&off).await, HandshakeKind::Full);
    assert_eq!(kind(&off).await, HandshakeKind::Full);
}

/// What is revoked is refused by both ends, also by who has met it before and could resume.
#[tokio::test]
async fn who_is_revoked_is_refused_and_resumes_nothing() {
    let authority = TestAuthority::new(DOMAIN);
    let (web, api) = (authority.identity(WEB), authority.identity(API));
    let serial = peer_certificate(web.chain()).expect("a certificate").serial;
    let (all, later) = (None, Some(Timestamp(u64::MAX)));
    let of_web = |issued_before| Revoked::Identity { id: web.spiffe_id().clone(), issued_before };
    let elsewhere =
        Revoked::Identity { id: api.spiffe_id().clone(), issued_before: Some(Timestamp(1)) };
    let spoken = Spoken::default();
    let options = ServerOptions {
        client_auth: ClientAuth::Required,
        alpn: &["h2"],
        resumption: Resumption::Tickets,
        spoken: &spoken,
    };
    let resuming =
        |trust: &Trust| Arc::new(server_config_with(&api, trust, &options).expect("a server"));
    for (revoked, is_accepted) in [
        (Revoked::Certificate(serial), false),
        (of_web(all), false),
        (of_web(later), false),
        (of_web(Some(Timestamp(1))), true),
        (elsewhere, true),
    ] {
        let before = authority.trust();
        let caller = client(&web, &before, PeerCheck::AnyMember);
        let met_before = resuming(&before);
        meet(&caller, &met_before).await.expect("not revoked yet");
        let met = meet(&caller, &met_before).await.expect("not revoked yet");
        assert_eq!(met.kind, HandshakeKind::Resumed);
        // The change of the bundle replaces the configuration, and with it the tickets' keys.
        let after = authority.trust_without(vec![revoked.clone()]);
        let met = meet(&caller, &resuming(&after)).await;
        assert_eq!(met.as_ref().is_ok(), is_accepted, "{revoked:?}: {met:?}");
        assert!(met.is_ok_and(|met| met.kind == HandshakeKind::Full) == is_accepted);
        let other = client(&api, &after, PeerCheck::AnyMember);
        let met = meet(&other, &server(&web, &before)).await;
        assert_eq!(met.is_ok(), is_accepted, "{revoked:?} as a server");
        let checked = after.check(&web, crate::clock::wall());
        assert_eq!(checked.is_ok(), is_accepted);
    }
}

#[test]
fn pem_survives_a_round_trip_and_damage_is_named() {
    let authority = TestAuthority::new(DOMAIN);
    let leaf = authority.leaf(leaf_params(&[&authority.uri(WEB)]));
    let chain = certificates_from_pem("a chain", &leaf.chain_pem).expect("PEM");
    assert_eq!(chain.len(), 2);
    let again = certificates_from_pem("a chain", &certificates_to_pem(&chain)).expect("PEM");
    assert_eq!(chain, again);
    let damaged = leaf.chain_pem.replacen("END CERTIFICATE", "END", 1);
    assert!(matches!(certificates_from_pem("a chain", &damaged), Err(TlsError::Pem { .. })));
}

#[tokio::test]
async fn a_client_without_a_certificate_sees_the_server_and_is_refused() {
    let authority = TestAuthority::new(DOMAIN);
    let (api, trust) = (authority.identity(API), authority.trust());
    let anonymous = client_config_anonymous(&trust, PeerCheck::AnyMember, &["h2"]);
    let anonymous = Arc::new(anonymous.expect("a client"));
    let error = meet(&anonymous, &server(&api, &trust)).await.expect_err("refused");
    assert!(error.to_string().contains("peer sent no certificates"), "{error}");
    let elsewhere = TestAuthority::new(DOMAIN).trust();
    let stranger = client_config_anonymous(&elsewhere, PeerCheck::AnyMember, &["h2"]);
    let error = meet(&Arc::new(stranger.expect("a client")), &server(&api, &trust)).await;
    let error = error.expect_err("the root is another");
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
}

#[test]
fn an_identity_is_checked_before_use_as_others_will_check_it() {
    let (ours, theirs) = (TestAuthority::new("t.mesh"), TestAuthority::new("t.mesh"));
    let other_domain = TestAuthority::new("u.mesh");
    let identity = ours.identity("ns/default/dc/dc1/svc/web");
    let now = crate::clock::wall();
    assert!(ours.trust().check(&identity, now).is_ok());
    let ended = identity.valid_before().saturating_add(std::time::Duration::from_secs(1));
    for (trust, moment) in
        [(ours.trust(), ended), (theirs.trust(), now), (other_domain.trust(), now)]
    {
        assert!(matches!(trust.check(&identity, moment), Err(TlsError::Chain(_))));
    }
}
