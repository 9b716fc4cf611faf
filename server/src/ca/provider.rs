//! Where intermediates and cross certificates come from: our own keys, what an operator gave, or
//! Vault. The only place that tells providers apart when something is made.

use rcgen::KeyPair;
use serde::{Deserialize, Serialize};
use weft_core::ca::{CaRoot, CaTerms, CrossCertificate, RootSource, VaultAccess};
use weft_core::identity::SpiffeId;
use weft_core::time::Timestamp;
use weft_proto::envelope;
use weft_runtime::clock;
use weft_runtime::store::{Store, StoreError, Table};
use weft_runtime::task::TaskTree;

use super::builtin::{CaError, Intermediate, intermediate_params, open_key};
use super::certificate::{Authority, generate};
use super::cross::cross_sign;
use super::seal::{Purpose, SealKey};
use super::vault::{Vault, VaultError};

const TABLE: &str = "intermediate";
const KEY: &[u8] = b"self";

/// What providers work with. Clones share it.
#[derive(Clone)]
pub(super) struct Workshop {
    pub(super) id: SpiffeId,
    pub(super) seal: SealKey,
    pub(super) tasks: TaskTree,
    /// Where an intermediate is kept that cannot be made anew without others.
    pub(super) shelf: Option<Shelf>,
}

/// Where a server keeps the intermediate that Vault signed, so that it starts while Vault is away.
#[derive(Clone)]
pub(crate) struct Shelf {
    store: Store,
    table: Table,
}

/// A kept intermediate.
#[derive(Serialize, Deserialize)]
struct Kept {
    root: String,
    chain_pem: String,
    sealed_key: Vec<u8>,
}

impl Shelf {
    pub(crate) fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self { store: store.clone(), table: store.table(TABLE)? })
    }

    fn read(&self) -> Option<Kept> {
        envelope::decode(&self.table.get(KEY).ok()??).ok()
    }

    fn write(&self, kept: &Kept) -> Result<(), StoreError> {
        self.table.put(KEY, &envelope::encode(kept))?;
        self.store.sync()
    }
}

impl Workshop {
    /// Makes an intermediate under a root, or takes up the one there is.
    pub(super) async fn intermediate(
        &self,
        root: &CaRoot,
        terms: CaTerms,
    ) -> Result<Intermediate, CaError> {
        match &root.source {
            RootSource::BuiltIn | RootSource::Given => {
                self.apart(root, move |root, this| {
                    Intermediate::make(root, &this.id, &terms, &this.seal, clock::wall())
                })
                .await
            }
            RootSource::Intermediate { chain_pem } => {
                let chain_pem = chain_pem.clone();
                self.apart(root, move |root, this| {
                    taken_up(chain_pem, open_key(root, &this.seal)?, root)
                })
                .await
            }
            RootSource::Vault(access) => self.signed_by_vault(root, access, terms).await,
        }
    }

    /// Returns the intermediate that Vault signed before, if it still serves.
    pub(super) async fn kept(&self, root: &CaRoot) -> Option<Intermediate> {
        let kept = self.apart(root, move |root, this| {
            let Some(kept) = this.shelf.as_ref().and_then(Shelf::read) else { return Ok(None) };
            if kept.root != root.fingerprint {
                return Ok(None);
            }
            let key = this.seal.open(Purpose::IntermediateKey, &kept.sealed_key)?;
            let key = String::from_utf8(key).map_err(|_| CaError::RootKey)?;
            let key = KeyPair::from_pem(&key).map_err(|_| CaError::RootKey)?;
            taken_up(kept.chain_pem, key, root).map(Some)
        });
        let now = clock::wall();
        kept.await.ok()?.filter(|it| it.valid_after <= now && now < it.valid_before)
    }

    /// Has an old root certify the key of a new one.
    pub(super) async fn cross(
        &self,
        new: &CaRoot,
        old: &CaRoot,
    ) -> Result<CrossCertificate, CaError> {
        if let RootSource::Vault(access) = &old.source {
            let vault = self.log_in(access, old).await?;
            let certificate_pem = vault.sign_self_issued(&new.certificate_pem).await?;
            return Ok(CrossCertificate { by: old.fingerprint.clone(), certificate_pem });
        }
        let new = new.clone();
        self.apart(old, move |old, this| {
            cross_sign(&new, old, open_key(old, &this.seal)?, clock::wall())
        })
        .await
    }

    /// Logs in at Vault with a root's sealed secret.
    pub(super) async fn log_in(
        &self,
        access: &VaultAccess,
        root: &CaRoot,
    ) -> Result<Vault, CaError> {
        let secret = match access.auth.needs_secret() {
            true => {
                let secret = self.seal.open(Purpose::VaultSecret, &root.sealed_key)?;
                Some(String::from_utf8(secret).map_err(|_| VaultError::Secret)?)
            }
            false => None,
        };
        Ok(Vault::log_in(access, secret, &self.tasks).await?)
    }

    async fn signed_by_vault(
        &self,
        root: &CaRoot,
        access: &VaultAccess,
        terms: CaTerms,
    ) -> Result<Intermediate, CaError> {
        let (key, csr) = self
            .apart(root, move |root, this| {
                let key = generate(root.key_kind)?;
                // Vault decides on the dates and the serial.
                let mut params = intermediate_params(&this.id, Timestamp(0), Timestamp(0))?;
                params.serial_number = None;
                params.use_authority_key_identifier_extension = false;
                let csr = params.serialize_request(&key)?.pem()?;
                Ok((key, csr))
            })
            .await?;
        let vault = self.log_in(access, root).await?;
        let lifetime = terms.intermediate.min(root.valid_before.since(clock::wall()));
        let signed = vault.sign_intermediate(&csr, lifetime).await?;
        self.apart(root, move |root, this| {
            let key_pem = key.serialize_pem();
            let made = taken_up(signed.chain_pem.clone(), key, root)?;
            if let Some(shelf) = &this.shelf {
                let kept = Kept {
                    root: root.fingerprint.clone(),
                    chain_pem: signed.chain_pem,
                    sealed_key: this.seal.seal(Purpose::IntermediateKey, key_pem.as_bytes()),
                };
                if let Err(error) = shelf.write(&kept) {
                    tracing::warn!(%error, "the intermediate could not be kept; a start needs Vault");
                }
            }
            Ok(made)
        })
        .await
    }

    /// Works with keys on a blocking thread.
    async fn apart<T: Send + 'static>(
        &self,
        root: &CaRoot,
        work: impl FnOnce(&CaRoot, &Self) -> Result<T, CaError> + Send + 'static,
    ) -> Result<T, CaError> {
        let (root, this) = (root.clone(), self.clone());
        match self.tasks.blocking(move || work(&root, &this)).await {
            Ok(outcome) => outcome,
            Err(failure) => Err(CaError::Interrupted(failure.message)),
        }
    }
}

/// Takes up an intermediate by its chain; the first certificate must be that of the key.
fn taken_up(chain_pem: String, key: KeyPair, root: &CaRoot) -> Result<Intermediate, CaError> {
    let unfit = |reason: String| CaError::Unfit { name: root.name.clone(), reason };
    let authority = Authority::read(&chain_pem)
        .map_err(|reason| unfit(format!("its intermediate {reason}")))?;
    if authority.public_key != rcgen::PublicKeyData::der_bytes(&key) {
        return Err(unfit("the key is not that of the intermediate".to_owned()));
    }
    let dates = (authority.valid_after, authority.valid_before.min(root.valid_before));
    Intermediate::take_up(chain_pem, key, root, dates)
}
