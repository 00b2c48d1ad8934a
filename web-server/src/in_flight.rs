//! How many requests are handled at once.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A limit that refuses instead of letting wait.
#[derive(Debug)]
pub struct InFlightLimit {
    now: AtomicUsize,
    max: usize,
}

/// One place under the limit, given back on drop.
#[derive(Debug)]
pub struct Slot<'a>(&'a AtomicUsize);

impl InFlightLimit {
    /// At most `max` at once.
    pub fn new(max: usize) -> Self {
        Self { now: AtomicUsize::new(0), max }
    }

    /// Takes a place, if there is one.
    pub fn enter(&self) -> Option<Slot<'_>> {
        // Counted first and looked at after: two atomic additions, and never more than `max` inside.
        let slot = Slot(&self.now);
        (self.now.fetch_add(1, Ordering::Relaxed) < self.max).then_some(slot)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_given_back_is_free_again() {
        let limit = InFlightLimit::new(1);
        let slot = limit.enter();
        assert!(slot.is_some());
        assert!(limit.enter().is_none());
        drop(slot);
        assert!(limit.enter().is_some());
    }
}
