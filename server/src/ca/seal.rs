//! Seals private keys with the cluster's seal key, so that the replicated state and its
//! snapshots are worth nothing to a thief of the disk alone.

use std::path::{Path, PathBuf};
use std::{fs, io};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use weft_runtime::entropy;
use weft_runtime::store::{self, StoreError};

/// Bytes of the key (AES-256).
const KEY_BYTES: usize = 32;
/// Bytes of the nonce that stands before each sealed text.
const NONCE_BYTES: usize = 12;
/// What a text is sealed for; bound to it, so that one of another purpose is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The key of a certificate in a config entry.
    EntryKey,
    /// The key of an intermediate that an operator gave.
    IntermediateKey,
    /// The token of a prepared query.
    QueryToken,
    /// The token with which an auth method asks Kubernetes.
    ReviewerToken,
    /// The key of a root of the CA.
    RootKey,
    /// The secret with which servers log in at Vault.
    VaultSecret,
}

impl Purpose {
    fn bytes(self) -> &'static [u8] {
        match self {
            Self::EntryKey => b"weft config entry key v1",
            Self::IntermediateKey => b"weft ca intermediate key v1",
            Self::QueryToken => b"weft prepared query token v1",
            Self::ReviewerToken => b"weft auth method reviewer token v1",
            Self::RootKey => b"weft ca root key v1",
            Self::VaultSecret => b"weft ca vault secret v1",
        }
    }
}

/// States why something cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file is there and does not hold a key.
    #[error(
        "{path:?} does not hold a seal key (64 hex digits); restore it from a backup or from \
         another server"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The key file is missing although the data directory is in use.
    #[error(
        "{path:?} is missing, but this data directory is in use; restore it from a backup or \
         from another server"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The key is not the one with which it was sealed.
    #[error(
        "the seal key does not open the CA's root key: it is of another cluster, or was changed"
    )]
    WrongKey,
    /// The key file cannot be read.
    #[error("cannot read {path:?}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The key file cannot be written.
    #[error(transparent)]
    Unwritable(#[from] StoreError),
}

/// The cluster's seal key.
#[derive(Clone)]
pub(crate) struct SealKey {
    bytes: [u8; KEY_BYTES],
}

impl SealKey {
    /// Makes a new key.
    pub(crate) fn generate() -> Self {
        let mut bytes = [0; KEY_BYTES];
        entropy::fill(&mut bytes);
        Self { bytes }
    }

    /// Takes a key as another server sent it; `None` when it has the wrong length.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self { bytes: bytes.try_into().ok()? })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the key from its file; `None` when there is none.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, SealError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(SealError::Unreadable { path: path.to_owned(), source }),
        };
        let digits = text.trim();
        let mut bytes = [0; KEY_BYTES];
        if digits.len() != 2 * KEY_BYTES || !digits.is_ascii() {
            return Err(SealError::Malformed { path: path.to_owned() });
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16)
                .map_err(|_| SealError::Malformed { path: path.to_owned() })?;
        }
        Ok(Some(Self { bytes }))
    }

    /// Writes the key to its file, readable by its owner alone.
    pub(crate) fn write(&self, path: &Path) -> Result<(), SealError> {
        let mut text: String = self.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        text.push('\n');
        Ok(store::write_file(path, 0o600, text.as_bytes())?)
    }

    /// Seals a text.
    pub(crate) fn seal(&self, purpose: Purpose, text: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        entropy::fill(&mut nonce);
        let mut body = text.to_vec();
        self.cipher()
            .seal_in_place_append_tag(Nonce::from(&nonce), Aad::from(purpose.bytes()), &mut body)
            .expect("a text far below the cipher's bound of 64 GiB is sealed");
        [nonce.as_slice(), &body].concat()
    }

    /// Opens a sealed text.
    pub(crate) fn open(&self, purpose: Purpose, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::WrongKey)?;
        let mut body = body.to_vec();
        let text = self
            .cipher()
            .open_in_place(Nonce::from(nonce), Aad::from(purpose.bytes()), &mut body)
            .map_err(|_| SealError::WrongKey)?;
        Ok(text.to_vec())
    }

    fn cipher(&self) -> LessSafeKey {
        let key = UnboundKey::new(&AES_256_GCM, &self.bytes).expect("the key has 32 bytes");
        LessSafeKey::new(key)
    }
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_opens_what_was_sealed() {
        let key = SealKey::generate();
        let sealed = key.seal(Purpose::RootKey, b"a private key");
        assert_eq!(key.open(Purpose::RootKey, &sealed).expect("the same key"), b"a private key");
        assert!(SealKey::generate().open(Purpose::RootKey, &sealed).is_err());
        assert!(key.open(Purpose::EntryKey, &sealed).is_err(), "sealed for something else");
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(key.open(Purpose::RootKey, &damaged).is_err(), "byte {at}");
        }
        assert!(key.open(Purpose::RootKey, &[]).is_err());
    }

    #[test]
    fn a_key_file_is_read_back_and_a_damaged_one_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("seal.key");
        assert!(SealKey::read(&path).expect("none").is_none());
        let key = SealKey::generate();
        key.write(&path).expect("written");
        assert_eq!(SealKey::read(&path).expect("readable").expect("one").bytes, key.bytes);
        for text in ["", "zz", &"g".repeat(64), &"é".repeat(32)] {
            fs::write(&path, text).expect("written");
            assert!(matches!(SealKey::read(&path), Err(SealError::Malformed { .. })), "{text:?}");
        }
    }
}
