//! Users who have bought here in the last moments.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So long at least a buyer is remembered, and twice as long at most.
pub const MEMORY: Duration = Duration::from_secs(30);
/// Room for a generation, in words of 64 bits: 512 KiB.
const WORDS: usize = 64 * 1024;

/// A set that forgets nobody too early and has a fixed size: now and then somebody who has not bought is taken for a buyer.
pub struct RecentBuyers {
    hasher: RandomState,
    generations: Mutex<Generations>,
}

struct Generations {
    since: Instant,
    now: Vec<u64>,
    before: Vec<u64>,
}

impl Default for RecentBuyers {
    fn default() -> Self {
        // A page that nobody has written is no memory yet.
        let generations = Generations { since: Instant::now(), now: vec![0; WORDS], before: vec![0; WORDS] };
        Self { hasher: RandomState::new(), generations: Mutex::new(generations) }
    }
}

impl RecentBuyers {
    /// Remembers a buyer.
    pub fn add(&self, userid: &str, now: Instant) {
        let (word, bit) = self.place(userid);
        self.at(now).now[word] |= bit;
    }

    /// Whether this user may have bought lately.
    pub fn contains(&self, userid: &str, now: Instant) -> bool {
        let (word, bit) = self.place(userid);
        let generations = self.at(now);
        (generations.now[word] | generations.before[word]) & bit != 0
    }

    fn place(&self, userid: &str) -> (usize, u64) {
        let hash = self.hasher.hash_one(userid);
        let word = usize::try_from(hash >> 6).unwrap_or(usize::MAX) % WORDS;
        (word, 1 << (hash % 64))
    }

    /// The generations, grown older as far as time has passed.
    fn at(&self, now: Instant) -> MutexGuard<'_, Generations> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.saturating_duration_since(generations.since);
        if age >= MEMORY {
            let last = std::mem::replace(&mut generations.now, vec![0; WORDS]);
            generations.before = if age < 2 * MEMORY { last } else { vec![0; WORDS] };
            generations.since = now;
        }
        generations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buyer_is_remembered_for_thirty_seconds_at_least_and_for_sixty_at_most() {
        let (buyers, start) = (RecentBuyers::default(), Instant::now());
        for (bought, remembered, forgotten) in [(0, 30, 61), (100, 130, 161), (229, 259, 290)] {
            let at = |second| start + Duration::from_secs(second);
            buyers.add("ann", at(bought));
            assert!(buyers.contains("ann", at(bought)) && buyers.contains("ann", at(remembered)));
            assert!(!buyers.contains("ann", at(forgotten)));
        }
    }

    #[test]
    fn few_others_are_taken_for_buyers() {
        let (buyers, now) = (RecentBuyers::default(), Instant::now());
        (0..40_000).for_each(|user| buyers.add(&format!("u{user}"), now));
        let wrong = (0..10_000).filter(|user| buyers.contains(&format!("other{user}"), now)).count();
        assert!(wrong < 300, "{wrong} of 10,000");
    }
}
