//! The system's randomness for libraries, from the seed.
//!
//! The seeds of hash maps and of `select!` come from the C library's `getrandom`, which this
//! program defines itself. A thread without a seed gets the system's.

use std::cell::RefCell;

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

thread_local! {
    static DICE: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// Makes the randomness of this thread that of a seed.
pub(crate) fn seed_thread(seed: u64) {
    DICE.with(|dice| *dice.borrow_mut() = Some(StdRng::seed_from_u64(seed)));
}

/// Takes the place of the C library's function in this program.
///
/// # Safety
/// As of the C library's: `buffer` has room for `length` bytes.
#[expect(unsafe_code, reason = "a symbol of the C library can be replaced in no other way")]
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(
    buffer: *mut libc::c_void,
    length: libc::size_t,
    flags: libc::c_uint,
) -> libc::ssize_t {
    let from_seed = DICE.try_with(|dice| {
        let mut dice = dice.try_borrow_mut().ok()?;
        let dice = dice.as_mut()?;
        // SAFETY: the caller promises the room.
        let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
        dice.fill_bytes(bytes);
        libc::ssize_t::try_from(length).ok()
    });
    match from_seed {
        Ok(Some(length)) => length,
        // SAFETY: the same call, by its number.
        Ok(None) | Err(_) => unsafe {
            libc::syscall(libc::SYS_getrandom, buffer, length, flags) as libc::ssize_t
        },
    }
}
