//! This server's pen: its intermediate, its own certificate and the TLS configurations made of
//! them, renewed in time and after every change of roots.
//!
//! Signing needs no consensus: every server has an intermediate of its own and serials are
//! random.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{AcquireError, Semaphore};
use weft_core::ca::rotation::CaChange;
use weft_core::ca::{
    CaRoot, CaTerms, RootSource, SerialNumber, TrustBundle, VaultAuth, is_renewal_due,
};
use weft_core::identity::SpiffeId;
use weft_core::state::State;
use weft_core::time::Timestamp;
use weft_runtime::clock;
use weft_runtime::task::TaskTree;
use weft_runtime::telemetry::metrics::Registry;
use weft_runtime::tls::{
    self, ClientAuth, ClientTlsCell, Identity, PeerCheck, ServerTlsCell, TlsError, Trust,
};

use super::builtin::{CaError, Intermediate, Signed};
use super::change::{ChangeError, ChangeRequest};
use super::counts::Counts;
use super::provider::{Shelf, Workshop};
use super::seal::SealKey;

/// Signatures made at once: a signature takes some 50 µs of a core, so more threads would only
/// crowd out other work.
const SIGNING_AT_ONCE: usize = 8;

/// States why this server has no pen, or no certificate.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The certificate was not made.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The work was cut short.
    #[error("signing was interrupted: {0}")]
    Interrupted(String),
    /// The TLS library refuses our own certificate.
    #[error("this server's own certificate cannot be used")]
    Tls(#[from] TlsError),
}

/// The pen. Clones share it.
#[derive(Clone)]
pub(crate) struct Signer {
    shared: Arc<Shared>,
}

struct Shared {
    workshop: Workshop,
    intermediate: ArcSwap<Intermediate>,
    /// From when until when this server's own certificate is valid.
    own: ArcSwap<(Timestamp, Timestamp)>,
    server_tls: ServerTlsCell,
    client_tls: ClientTlsCell,
    /// Signatures at once; when full, further requests wait.
    places: Semaphore,
    counts: Counts,
}

impl Signer {
    /// Makes an intermediate under the root, or takes up the one that is kept, and this server's
    /// certificate under that.
    pub(crate) async fn make(
        id: &SpiffeId,
        seal: &SealKey,
        (root, bundle): (&CaRoot, &TrustBundle),
        shelf: Option<Shelf>,
        (terms, tasks): (CaTerms, &TaskTree),
    ) -> Result<Self, SignerError> {
        let workshop = Workshop { id: id.clone(), seal: seal.clone(), tasks: tasks.clone(), shelf };
        let intermediate = match workshop.kept(root).await {
            Some(kept) => kept,
            None => workshop.intermediate(root, terms).await?,
        };
        let (server, client, own) = own_configs(&intermediate, id, (bundle, terms), clock::wall())?;
        let counts = Counts::default();
        counts.ends(intermediate.valid_before, root.valid_before);
        let shared = Shared {
            workshop,
            intermediate: ArcSwap::from_pointee(intermediate),
            own: ArcSwap::from_pointee(own),
            server_tls: ServerTlsCell::new(server),
            client_tls: ClientTlsCell::new(client),
            places: Semaphore::new(SIGNING_AT_ONCE),
            counts,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Returns who this server is.
    pub(crate) fn id(&self) -> &SpiffeId {
        &self.shared.workshop.id
    }

    /// Returns the fingerprint of the root under which is signed.
    #[cfg(test)]
    pub(super) fn root(&self) -> String {
        self.shared.intermediate.load().root.clone()
    }

    pub(crate) fn seal_key(&self) -> &SealKey {
        &self.shared.workshop.seal
    }

    pub(crate) fn server_tls(&self) -> ServerTlsCell {
        self.shared.server_tls.clone()
    }

    pub(crate) fn client_tls(&self) -> ClientTlsCell {
        self.shared.client_tls.clone()
    }

    /// Signs a request on a blocking thread.
    pub(crate) async fn sign(
        &self,
        csr_der: Vec<u8>,
        id: SpiffeId,
        lifetime: Duration,
    ) -> Result<Signed, SignerError> {
        let closed = |error: AcquireError| SignerError::Interrupted(error.to_string());
        let _place = self.shared.places.acquire().await.map_err(closed)?;
        let intermediate = self.shared.intermediate.load_full();
        let now = clock::wall();
        let work = move || intermediate.sign(&csr_der, &id, lifetime, now);
        let outcome = match self.shared.workshop.tasks.blocking(work).await {
            Ok(signed) => signed.map_err(SignerError::from),
            Err(failure) => Err(SignerError::Interrupted(failure.message)),
        };
        self.shared.counts.signed(outcome.is_ok());
        outcome
    }

    /// Decides on a change of the CA, with everything that it needs; nothing is in force yet.
    pub(crate) async fn change(
        &self,
        state: &State,
        request: ChangeRequest,
        terms: CaTerms,
    ) -> Result<CaChange, ChangeError> {
        // Large, and held by requests.
        Box::pin(self.shared.workshop.change(state, request, terms)).await
    }

    /// Lengthens the life of the token with which servers log in at Vault. Returns after how long
    /// to do so again; `None` when there is nothing to lengthen.
    pub(crate) async fn renew_vault(&self, root: &CaRoot) -> Result<Option<Duration>, SignerError> {
        let RootSource::Vault(access) = &root.source else { return Ok(None) };
        if access.auth != VaultAuth::Token {
            return Ok(None);
        }
        let vault = self.shared.workshop.log_in(access, root).await?;
        Ok(vault.renew_self().await.map_err(CaError::from)?)
    }

    /// Signs the list of revoked certificates, as PEM, on a blocking thread.
    pub(crate) async fn crl(
        &self,
        revoked: Vec<(SerialNumber, Timestamp)>,
        number: u64,
    ) -> Result<String, SignerError> {
        let closed = |error: AcquireError| SignerError::Interrupted(error.to_string());
        let _place = self.shared.places.acquire().await.map_err(closed)?;
        let intermediate = self.shared.intermediate.load_full();
        let now = clock::wall();
        let work =
            self.shared.workshop.tasks.blocking(move || intermediate.crl(&revoked, number, now));
        match work.await {
            Ok(signed) => Ok(signed?),
            Err(failure) => Err(SignerError::Interrupted(failure.message)),
        }
    }

    /// Makes what is old anew: the intermediate past half of its life or under another root,
    /// and with it, or past half of its own life, this server's certificate.
    pub(crate) async fn refresh(
        &self,
        root: Arc<CaRoot>,
        bundle: TrustBundle,
        terms: CaTerms,
    ) -> Result<(), SignerError> {
        let current = self.shared.intermediate.load_full();
        let is_due = current.root != root.fingerprint || self.is_intermediate_due(&root, terms);
        let intermediate = if is_due {
            let made = self.shared.workshop.intermediate(&root, terms).await;
            self.shared.counts.made_intermediate(made.is_ok());
            made?
        } else {
            current.under(&root)
        };
        let shared = self.shared.clone();
        let work = self.shared.workshop.tasks.blocking(move || {
            let (id, now) = (&shared.workshop.id, clock::wall());
            let (server, client, own) = own_configs(&intermediate, id, (&bundle, terms), now)?;
            shared.counts.ends(intermediate.valid_before, root.valid_before);
            shared.intermediate.store(Arc::new(intermediate));
            shared.server_tls.store(server);
            shared.client_tls.store(client);
            shared.own.store(Arc::new(own));
            Ok(())
        });
        match work.await {
            Ok(outcome) => outcome,
            Err(failure) => Err(SignerError::Interrupted(failure.message)),
        }
    }

    /// Whether something is to be made anew although the root is the same.
    pub(crate) fn is_due(&self, root: &CaRoot, terms: CaTerms, now: Timestamp) -> bool {
        let own = **self.shared.own.load();
        is_renewal_due(own, terms.member(), now) || self.is_intermediate_due(root, terms)
    }

    fn is_intermediate_due(&self, root: &CaRoot, terms: CaTerms) -> bool {
        let intermediate = self.shared.intermediate.load();
        let dates = (intermediate.valid_after, intermediate.valid_before);
        let wanted = match &root.source {
            RootSource::BuiltIn | RootSource::Given => terms.intermediate,
            // Another one cannot be made here.
            RootSource::Intermediate { .. } => return false,
            // Vault has its own mind about lifetimes.
            RootSource::Vault(_) => Duration::MAX / 2,
        };
        is_renewal_due(dates, wanted, clock::wall())
    }

    /// Enters what is counted, and how long certificates still live.
    pub(crate) fn register(&self, registry: &Registry) {
        self.shared.counts.register(registry);
    }
}

type Configs =
    (Arc<tls::rustls::ServerConfig>, Arc<tls::rustls::ClientConfig>, (Timestamp, Timestamp));

fn own_configs(
    intermediate: &Intermediate,
    id: &SpiffeId,
    (bundle, terms): (&TrustBundle, CaTerms),
    now: Timestamp,
) -> Result<Configs, SignerError> {
    let leaf = intermediate.make_leaf(id, terms.member(), now)?;
    let trust = Trust::from_bundle(bundle)?;
    let identity = Identity::from_leaf(&leaf)?;
    // A host that joins pins the root by its fingerprint and must see it.
    let shown = identity.presenting_roots(&trust);
    let server = tls::server_config(&shown, &trust, ClientAuth::Optional, &["h2", "http/1.1"])?;
    let client = tls::client_config(&identity, &trust, PeerCheck::AnyServer, &["h2"])?;
    Ok((Arc::new(server), Arc::new(client), (leaf.valid_after, leaf.valid_before)))
}
