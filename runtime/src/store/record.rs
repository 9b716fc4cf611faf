//! A record as it lies in the store: a checksum over key and value, then the value.

use super::{StoreError, VALUE_BYTES_MAX};

/// Bytes of the checksum (CRC-32, little-endian).
const CHECKSUM_BYTES: usize = 4;

/// Puts a checksum before a value.
pub(super) fn seal(key: &[u8], value: &[u8]) -> Result<Vec<u8>, StoreError> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(StoreError::ValueTooLarge { bytes: value.len() });
    }
    let mut sealed = Vec::with_capacity(CHECKSUM_BYTES + value.len());
    sealed.extend_from_slice(&checksum(key, value).to_le_bytes());
    sealed.extend_from_slice(value);
    Ok(sealed)
}

/// Returns the value, `None` when the checksum is not that of key and value.
pub(super) fn open<'a>(key: &[u8], sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, value) = sealed.split_first_chunk::<CHECKSUM_BYTES>()?;
    (u32::from_le_bytes(*sum) == checksum(key, value)).then_some(value)
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_changed_byte_is_noticed() {
        let sealed = seal(b"key", b"value").expect("small");
        assert_eq!(open(b"key", &sealed), Some(&b"value"[..]));
        assert_eq!(open(b"kez", &sealed), None);
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert_eq!(open(b"key", &damaged), None, "byte {at}");
        }
        assert_eq!(open(b"key", &sealed[..3]), None);
    }
}
