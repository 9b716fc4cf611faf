//! Certificates that are refused for the time alone: then a clock is wrong, more often than the
//! certificate.

use std::error::Error;
use std::io;

use rustls::{CertificateError, Error as TlsLibraryError};
use rustls_pki_types::UnixTime;
use weft_core::time::Timestamp;

/// Returns, in words, for which time the peer's certificate is, if this is why an error came about: its
/// causes are looked through.
pub fn refused_for_time(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let library = error.downcast_ref::<TlsLibraryError>();
        if let Some(words) = library.and_then(words) {
            return Some(words);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

fn words(error: &TlsLibraryError) -> Option<String> {
    let TlsLibraryError::InvalidCertificate(error) = error else { return None };
    let shown = |time: &UnixTime| Timestamp(time.as_secs().saturating_mul(1_000)).rfc3339();
    match error {
        CertificateError::NotValidYetContext { not_before, .. } => {
            Some(format!("the server's certificate is good only from {} on", shown(not_before)))
        }
        CertificateError::ExpiredContext { not_after, .. } => {
            Some(format!("the server's certificate was good only until {}", shown(not_after)))
        }
        CertificateError::NotValidYet => {
            Some("the server's certificate is not good yet".to_owned())
        }
        CertificateError::Expired => Some("the server's certificate is over".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_time_is_found_below_what_wraps_it() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let early = CertificateError::NotValidYetContext { time: at(10), not_before: at(86_400) };
        let error = io::Error::other(TlsLibraryError::InvalidCertificate(early));
        let error = io::Error::other(error);
        let words = refused_for_time(&error).expect("it is the time");
        assert_eq!(words, "the server's certificate is good only from 1970-01-02T00:00:00.000Z on");
        let other = TlsLibraryError::InvalidCertificate(CertificateError::UnknownIssuer);
        assert_eq!(refused_for_time(&io::Error::other(other)), None);
    }
}
