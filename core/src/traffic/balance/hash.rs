//! Hashes that every proxy of the mesh computes alike.

/// A hash of bytes: FNV-1a, stirred at the end as its high bits depend little on the last bytes.
///
/// No secret is in it: who chooses what is hashed can choose the instance, which is what affinity is.
/// **Source**: Fowler, Noll, Vo: FNV-1a, 64 bit; the end is that of MurmurHash3.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fnv(u64);

impl Fnv {
    pub(super) fn new(seed: u64) -> Self {
        Self(0xcbf2_9ce4_8422_2325 ^ stirred(seed))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(super) fn finish(self) -> u64 {
        stirred(self.0)
    }
}

/// Returns the hash of bytes.
pub(crate) fn of(bytes: &[u8], seed: u64) -> u64 {
    let mut hash = Fnv::new(seed);
    hash.write(bytes);
    hash.finish()
}

fn stirred(mut number: u64) -> u64 {
    number = (number ^ (number >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    number = (number ^ (number >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    number ^ (number >> 33)
}
