//! The certificate of a door for callers outside the mesh, as the operator's files have it: read
//! at the start, and again when they change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tracing::{info, warn};

use super::{ServerTlsCell, TlsError, server_config_outside};
use crate::task::{TaskFailure, TaskTree};

/// How often the files of the certificate are looked at: a new one is there hours before the
/// old one ends.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(60);
/// What is spoken at such a door.
const ALPN: [&str; 2] = ["h2", "http/1.1"];

/// Where the PEM files of a door are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate shown, with its chain.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// Authorities, one of which must have signed the certificate of every caller; callers need
    /// none when left out.
    pub ca_file: Option<PathBuf>,
}

/// States why a door cannot be opened with its files.
#[derive(Debug, thiserror::Error)]
pub enum CertificateFileError {
    /// A file cannot be read.
    #[error("https: cannot read {path:?}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The process is shutting down.
    #[error("https: the certificate was not read")]
    Stopped(#[from] TaskFailure),
    /// The files do not make a configuration.
    #[error("https: the certificate of {path:?} cannot be used: {source}")]
    Tls {
        /// The file of the certificate.
        path: PathBuf,
        /// Why.
        source: TlsError,
    },
}

/// What was read, and what came of it.
struct Certificate {
    texts: [Option<String>; 3],
    config: Arc<ServerConfig>,
}

impl CertificateFiles {
    /// Reads the certificate, and keeps what is returned fresh until the tasks are cancelled.
    ///
    /// # Errors
    /// [`CertificateFileError`] with the file.
    pub async fn open(&self, tasks: &TaskTree) -> Result<ServerTlsCell, CertificateFileError> {
        let files = self.clone();
        let first = tasks.blocking(move || files.read()).await??;
        let cell = ServerTlsCell::new(first.config.clone());
        let fresh = keep_fresh(self.clone(), first, cell.clone(), tasks.clone());
        tasks.spawn("api certificate", fresh);
        Ok(cell)
    }

    /// Reads the files. Blocks.
    fn read(&self) -> Result<Certificate, CertificateFileError> {
        let read = |path: &Path| {
            std::fs::read_to_string(path)
                .map_err(|source| CertificateFileError::File { path: path.to_owned(), source })
        };
        let (chain, key) = (read(&self.cert_file)?, read(&self.key_file)?);
        let authorities = self.ca_file.as_deref().map(read).transpose()?;
        let made = server_config_outside(&chain, &key, authorities.as_deref(), &ALPN)
            .map_err(|source| CertificateFileError::Tls { path: self.cert_file.clone(), source })?;
        Ok(Certificate { texts: [Some(chain), Some(key), authorities], config: Arc::new(made) })
    }
}

/// Takes a new certificate into use once it is there.
async fn keep_fresh(
    files: CertificateFiles,
    mut current: Certificate,
    cell: ServerTlsCell,
    tasks: TaskTree,
) {
    loop {
        tokio::select! {
            // A sleep loses nothing when it is dropped.
            () = tokio::time::sleep(CERTIFICATE_CHECK) => {}
            () = tasks.cancelled() => return,
        }
        let of_reading = files.clone();
        match tasks.blocking(move || of_reading.read()).await {
            Ok(Ok(read)) if read.texts == current.texts => {}
            Ok(Ok(read)) => {
                cell.store(read.config.clone());
                current = read;
                info!(path = ?files.cert_file, "a new certificate of the API is in use");
            }
            // The old one serves on; files may be half-written at the moment.
            Ok(Err(error)) => warn!(%error, "the certificate of the API could not be read again"),
            Err(_) => return,
        }
    }
}
