//! The allocator, which gives back what is not used any more.
#![expect(unsafe_code, reason = "the allocator's options have no safe wrapper")]

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of `mimalloc.h`.
const PURGE_DELAY: c_int = 15;
/// Batches are as large as ever only while there is a backlog, and the next one comes in milliseconds.
const PURGE_DELAY_MS: c_long = 1;

unsafe extern "C" {
    fn mi_option_set_default(option: c_int, value: c_long);
}

/// Freed memory goes back to the system at once, unless `MIMALLOC_PURGE_DELAY` says otherwise. By itself mimalloc waits for a
/// second, in which a backlog's batches come to twice what they need at any time: 97 MiB instead of 56 while 600,000
/// purchases are recorded, for 0.4 us of 3.2 a record.
pub fn give_back_at_once() {
    // SAFETY: the allocator is linked in by the line above, and takes options at any time.
    unsafe { mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" {
        fn mi_option_get(option: c_int) -> c_long;
    }

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: as above.
        let default = unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!(default, 1000, "another version of mimalloc: look the option's number up");
        give_back_at_once();
        // SAFETY: as above.
        assert_eq!(unsafe { mi_option_get(PURGE_DELAY) }, PURGE_DELAY_MS);
    }
}
