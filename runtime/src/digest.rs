//! SHA-256, as the digest by which a watched value is recognised: who has the value can
//! show that without sending it.
//!
//! The binary form of a record may gain fields from release to release; then the digests differ
//! and the value is sent, which costs bytes and nothing else.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use base64::Engine as _;

/// The SHA-256 of a value's binary form.
pub type Digest = [u8; 32];

/// Returns the digest of a value that is sent whole, or of one record of a list.
pub fn of_bytes(encoded: &[u8]) -> Digest {
    whole(digest(&SHA256, encoded))
}

/// Returns the digest of a list by those of its records, so that one record that changes does
/// not cost the encoding of all others.
pub fn of_list(records: impl IntoIterator<Item = Digest>) -> Digest {
    let mut context = Context::new(&SHA256);
    for record in records {
        context.update(&record);
    }
    whole(context.finish())
}

/// Returns what a WebSocket server answers to a key, by which it shows that it is one. It protects
/// nothing.
///
/// **Source**: Spec: RFC 6455 §4.2.2.
pub fn websocket_accept(key: &[u8]) -> String {
    const SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, SUFFIX].concat());
    base64::engine::general_purpose::STANDARD.encode(digest)
}

fn whole(digest: aws_lc_rs::digest::Digest) -> Digest {
    digest.as_ref().try_into().expect("a SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_websocket_server_is_known_by_the_standards_own_example() {
        let accept = websocket_accept(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_list_is_known_by_its_records_and_their_order() {
        let (one, two) = (of_bytes(b"one"), of_bytes(b"two"));
        assert_eq!(of_list([one, two]), of_list([of_bytes(b"one"), of_bytes(b"two")]));
        assert_ne!(of_list([one, two]), of_list([two, one]));
        assert_ne!(of_list([one]), of_list([one, two]));
        assert_ne!(of_list([]), of_list([one]));
    }
}
