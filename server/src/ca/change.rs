//! A change of the CA as an operator asks for it: which root there is to be, its keys, and the
//! proof that everybody accepts what is signed under it. What comes out is one command.

use std::sync::Arc;

use rcgen::{KeyPair, PublicKeyData};
use tracing::{info, warn};
use weft_core::ca::rotation::{self, CaChange, Step, Wanted};
use weft_core::ca::{CaRoot, CaSettings, CaTerms, KeyKind, RootSource, TrustBundle, VaultAccess};
use weft_core::index::Index;
use weft_core::name::TrustDomain;
use weft_core::state::State;
use weft_core::time::Span;
use weft_runtime::clock;
use weft_runtime::telemetry::chain;
use weft_runtime::tls::{Identity, Trust};

use super::builtin::{CaError, make_root_of};
use super::certificate::Authority;
use super::provider::Workshop;
use super::seal::Purpose;
use super::vault::Vault;

/// What an operator wants.
#[derive(Debug)]
pub(crate) struct ChangeRequest {
    pub(crate) settings: CaSettings,
    pub(crate) provider: WantedProvider,
    /// Replace the root also when nothing else asks for it.
    pub(crate) renew: bool,
    /// Go on when the root before cannot certify the new one.
    pub(crate) force: bool,
}

/// Who is to sign.
#[derive(Debug)]
pub(crate) enum WantedProvider {
    /// We, with a key of this kind.
    BuiltIn(Option<KeyKind>),
    /// We, with what the operator gives.
    Given(Given),
    /// Vault.
    Vault {
        access: VaultAccess,
        /// The token, secret id or JWT; `None` leaves the present one.
        secret: Option<String>,
        /// The kind of our keys below it, and of its own when it has to make one.
        key_kind: Option<KeyKind>,
    },
}

/// A root of an operator's, with its key or with an intermediate and that one's key.
pub(crate) struct Given {
    pub(crate) root_pem: String,
    pub(crate) key_pem: String,
    pub(crate) chain_pem: Option<String>,
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Given").finish_non_exhaustive()
    }
}

/// States why the CA is not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// Keys or certificates could not be made.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The new root cannot be certified by the old one.
    #[error(
        "the root in force cannot certify the new one: {reason}; members that do not know the new \
         root yet would refuse connections for a moment. To go on all the same, set \
         ForceWithoutCrossSigning"
    )]
    CrossSigning {
        /// Why not.
        reason: String,
    },
    /// What was given cannot be used.
    #[error("{field}: {reason}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no root yet.
    #[error("the cluster has no root yet; try again in a moment")]
    NotReady,
}

impl ChangeError {
    /// Returns the error with its causes.
    pub(crate) fn words(&self) -> String {
        chain(self)
    }
}

fn field(field: &'static str, reason: impl Into<String>) -> ChangeError {
    ChangeError::Field { field, reason: reason.into() }
}

impl Workshop {
    /// Decides on a change and makes what it needs. Nothing is in force before the command is
    /// applied.
    pub(super) async fn change(
        &self,
        state: &State,
        request: ChangeRequest,
        terms: CaTerms,
    ) -> Result<CaChange, ChangeError> {
        let (_, roots) = state.roots();
        let active = roots.first().filter(|root| root.active).ok_or(ChangeError::NotReady)?;
        let ChangeRequest { settings, provider, renew, force } = request;
        let (step, root) = self.wanted(active, provider, renew, terms).await?;
        let root = match (step, root) {
            (Step::Keep, _) | (_, None) => None,
            (Step::Update, Some(root)) => {
                self.prove(&root, &[], terms).await?;
                Some(root)
            }
            (Step::Replace, Some(root)) => {
                Some(self.cross_signed(root, &roots, terms, force).await?)
            }
        };
        let (seen, overlap) = (state.ca_index(), Span(terms.overlap()));
        Ok(CaChange { seen, settings, root, overlap })
    }

    /// Finds out what is to be done, and makes the root if there is to be another.
    async fn wanted(
        &self,
        active: &CaRoot,
        provider: WantedProvider,
        renew: bool,
        terms: CaTerms,
    ) -> Result<(Step, Option<CaRoot>), ChangeError> {
        let (step, root) = match provider {
            WantedProvider::BuiltIn(kind) => {
                match rotation::step(active, Wanted::Made(kind)) {
                    // What others gave or keep, they replace.
                    Step::Keep if !renew => return Ok((Step::Keep, None)),
                    Step::Keep | Step::Replace | Step::Update => {}
                }
                let kind = kind.unwrap_or(match &active.source {
                    RootSource::Vault(_) => KeyKind::default(),
                    RootSource::BuiltIn | RootSource::Given | RootSource::Intermediate { .. } => {
                        active.key_kind
                    }
                });
                (Step::Replace, self.new_root(kind, terms).await?)
            }
            WantedProvider::Given(given) => {
                let root = self.given_root(&given)?;
                let (fingerprint, chain) = (root.fingerprint.as_str(), given.chain_pem.as_deref());
                let wanted = Wanted::Given { fingerprint, chain_pem: chain };
                (rotation::step(active, wanted), root)
            }
            WantedProvider::Vault { access, secret, key_kind } => {
                let root = self.vault_root(active, &access, (secret, key_kind), terms).await?;
                let wanted = Wanted::Vault { fingerprint: &root.fingerprint, access: &access };
                (rotation::step(active, wanted), root)
            }
        };
        if renew && step != Step::Replace {
            return Err(field(
                "Provider",
                "the root is not ours to replace: make another one where it is kept, and write \
                 the configuration with it",
            ));
        }
        Ok((step, Some(root)))
    }

    async fn new_root(&self, kind: KeyKind, terms: CaTerms) -> Result<CaRoot, ChangeError> {
        let (domain, seal) = (self.id.trust_domain.clone(), self.seal.clone());
        let make = move || make_root_of(kind, terms.root, &domain, (&seal, clock::wall()));
        match self.tasks.blocking(make).await {
            Ok(root) => Ok(root?),
            Err(failure) => Err(CaError::Interrupted(failure.message).into()),
        }
    }

    fn given_root(&self, given: &Given) -> Result<CaRoot, ChangeError> {
        if given.root_pem.matches("BEGIN CERTIFICATE").count() != 1 {
            return Err(field("Config.RootCert", "must be one certificate"));
        }
        let root = read("Config.RootCert", &given.root_pem)?;
        if !root.is_self_issued {
            return Err(field("Config.RootCert", "is not a root: another authority issued it"));
        }
        let key = KeyPair::from_pem(&given.key_pem).map_err(|_| {
            field("Config.PrivateKey", "is no key that can be read; write PKCS#8 PEM, EC or RSA")
        })?;
        let (holder, name) = match &given.chain_pem {
            None => (root.clone(), "Config.RootCert"),
            Some(chain) => (read("Config.IntermediateCert", chain)?, "Config.IntermediateCert"),
        };
        if holder.public_key != key.der_bytes() {
            return Err(field("Config.PrivateKey", format!("is not the key of {name}")));
        }
        let (source, purpose) = match &given.chain_pem {
            None => (RootSource::Given, Purpose::RootKey),
            Some(chain) => {
                let chain_pem = with_line_end(chain);
                (RootSource::Intermediate { chain_pem }, Purpose::IntermediateKey)
            }
        };
        let sealed = self.seal.seal(purpose, key.serialize_pem().as_bytes());
        Ok(root_of(root, &given.root_pem, source, sealed))
    }

    async fn vault_root(
        &self,
        active: &CaRoot,
        access: &VaultAccess,
        (secret, key_kind): (Option<String>, Option<KeyKind>),
        terms: CaTerms,
    ) -> Result<CaRoot, ChangeError> {
        let sealed = match (&secret, &active.source) {
            (Some(secret), _) => self.seal.seal(Purpose::VaultSecret, secret.as_bytes()),
            (None, _) if !access.auth.needs_secret() => Vec::new(),
            // A configuration that is written back as it is shown has no secret in it.
            (None, RootSource::Vault(present)) if present.auth == access.auth => {
                active.sealed_key.clone()
            }
            (None, _) => return Err(field("Config.Token", "is missing")),
        };
        let present = CaRoot { sealed_key: sealed.clone(), ..active.clone() };
        let vault: Vault = self.log_in(access, &present).await?;
        let pem = match vault.root().await.map_err(CaError::from)? {
            Some(pem) => pem,
            None => {
                let domain: &TrustDomain = &self.id.trust_domain;
                let (name, uri) = (format!("Weft root of {domain}"), format!("spiffe://{domain}"));
                let name: String = name.chars().take(64).collect();
                let kind = key_kind.unwrap_or_default().parts();
                vault.make_root(&name, &uri, terms.root, kind).await.map_err(CaError::from)?
            }
        };
        let root = read("Config.RootPKIPath: the certificate of the mount", &pem)?;
        let source = RootSource::Vault(access.clone());
        let key_kind = key_kind.unwrap_or_default();
        Ok(CaRoot { key_kind, ..root_of(root, &pem, source, sealed) })
    }

    /// Has every root that is trusted certify the new one, and proves that it works.
    async fn cross_signed(
        &self,
        mut new: CaRoot,
        roots: &[Arc<CaRoot>],
        terms: CaTerms,
        force: bool,
    ) -> Result<CaRoot, ChangeError> {
        let mut provers: Vec<&CaRoot> = Vec::new();
        for old in roots.iter().filter(|old| old.fingerprint != new.fingerprint) {
            let made = match rotation::can_cross_sign(old) {
                Ok(()) => self.cross(&new, old).await.map_err(|error| chain(&error)),
                Err(reason) => Err(reason),
            };
            match made {
                Ok(cross) => {
                    new.cross_signed.push(cross);
                    provers.push(old);
                }
                Err(reason) if old.active && !force => {
                    return Err(ChangeError::CrossSigning { reason });
                }
                Err(reason) => {
                    warn!(root = old.name, %reason, "a root does not certify the new one");
                }
            }
        }
        match self.prove(&new, &provers, terms).await {
            Err(ChangeError::CrossSigning { .. }) if force => self.prove(&new, &[], terms).await?,
            proved => proved?,
        }
        info!(root = new.fingerprint, name = new.name, "a new root is ready");
        Ok(new)
    }

    /// Signs a certificate under a root and has it judged as peers will: by who trusts only that
    /// root, and by who trusts only one of those that certify it.
    async fn prove(
        &self,
        new: &CaRoot,
        old: &[&CaRoot],
        terms: CaTerms,
    ) -> Result<(), ChangeError> {
        // What is made to be judged is not kept.
        let apart = Self { shelf: None, ..self.clone() };
        let intermediate = apart.intermediate(new, terms).await?;
        let now = clock::wall();
        let leaf = intermediate.make_leaf(&self.id, terms.member(), now)?;
        let trusted = |root: &CaRoot| TrustBundle {
            trust_domain: self.id.trust_domain.clone(),
            active_root: root.fingerprint.clone(),
            roots: Vec::new(),
            roots_pem: vec![root.certificate_pem.clone()],
            retired: Vec::new(),
            revoked: Vec::new(),
        };
        let judged = |root: &CaRoot| {
            let trust = Trust::from_bundle(&trusted(root))?;
            trust.check(&Identity::from_leaf(&leaf)?, now)
        };
        judged(new).map_err(|error| {
            let reason = format!("certificates under it are refused: {}", chain(&error));
            CaError::Unfit { name: new.name.clone(), reason }
        })?;
        for root in old {
            judged(root).map_err(|error| {
                let (name, error) = (&root.name, chain(&error));
                let reason = format!("who trusts only {name:?} refuses what is signed: {error}");
                ChangeError::CrossSigning { reason }
            })?;
        }
        Ok(())
    }
}

fn read(name: &'static str, pem: &str) -> Result<Authority, ChangeError> {
    let authority = Authority::read(pem).map_err(|reason| field(name, reason))?;
    if authority.valid_before <= clock::wall() {
        return Err(field(name, format!("ended at {}", authority.valid_before.rfc3339())));
    }
    Ok(authority)
}

fn root_of(root: Authority, pem: &str, source: RootSource, sealed_key: Vec<u8>) -> CaRoot {
    CaRoot {
        fingerprint: root.fingerprint,
        name: root.name,
        certificate_pem: with_line_end(pem),
        sealed_key,
        valid_after: root.valid_after,
        valid_before: root.valid_before,
        active: true,
        source,
        key_kind: root.key_kind,
        cross_signed: Vec::new(),
        rotated_out_at: None,
        trusted_until: None,
        create_index: Index::default(),
        modify_index: Index::default(),
    }
}

/// Certificates are put one after another.
fn with_line_end(pem: &str) -> String {
    format!("{}\n", pem.trim())
}
