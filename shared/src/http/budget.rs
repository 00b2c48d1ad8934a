//! One budget, in bytes, for everything that callers can make a service hold: connections, heads, bodies, answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::Problem;
use crate::metrics::{Counter, Gauge, HttpMetrics, value};

/// Content of so few bytes is part of what a connection in use is counted with, so that small requests cost no counting.
pub(super) const SMALL_BYTES: usize = 4 * 1024;
/// When a caller for whom there was no room may come again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// The bytes that callers hold, and how many they may. Clones share one count.
///
/// Connections and content (bodies and answers) may each take three quarters: whatever one of them does, some stays for the
/// other, so that callers who fill it with answers that they do not read leave room for the small requests of others. A
/// sixteenth is a reserve for refusing and for health, when all the rest is taken.
#[derive(Clone)]
pub struct ByteBudget(Arc<Budget>);

struct Budget {
    max: usize,
    connections: AtomicUsize,
    content: AtomicUsize,
    reserve: AtomicUsize,
    shown: Gauge,
    refusals: Counter,
}

/// What bytes are held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A connection and the buffers of its heads.
    Connection,
    /// A body or an answer.
    Content,
    /// Refusing, or answering health and metrics, when there is no other room.
    Reserve,
}

/// Room for some bytes, given back on drop: it lives as long as they do.
#[must_use]
pub struct BytePermit {
    budget: ByteBudget,
    purpose: Purpose,
    bytes: usize,
}

impl ByteBudget {
    /// At most `max_bytes`, shown in `metrics`; `refusals` counts the requests for which there was no room.
    #[must_use]
    pub fn new(max_bytes: usize, metrics: &HttpMetrics, refusals: Counter) -> Self {
        metrics.memory_max.set(value(max_bytes));
        Self::with(max_bytes, metrics.memory.clone(), refusals)
    }

    /// As `new`, shown nowhere.
    #[must_use]
    pub fn unseen(max_bytes: usize) -> Self {
        Self::with(max_bytes, Gauge::noop(), Counter::noop())
    }

    fn with(max: usize, shown: Gauge, refusals: Counter) -> Self {
        let [connections, content, reserve] = [(); 3].map(|()| AtomicUsize::new(0));
        Self(Arc::new(Budget { max, connections, content, reserve, shown, refusals }))
    }

    /// Room for `bytes` of a body or an answer, if there is any.
    pub fn take(&self, bytes: usize) -> Option<BytePermit> {
        self.take_for(Purpose::Content, bytes)
    }

    /// Whether `bytes` of content would find room now.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        self.0.fits(Purpose::Content, bytes)
    }

    /// Counts a request for which there is no room, and makes its answer: 503.
    pub fn refuse(&self) -> Problem {
        self.0.refusals.increment(1);
        Problem::unavailable("too much is held for callers now: try again", RETRY_AFTER_SECONDS)
    }

    pub(super) fn take_for(&self, purpose: Purpose, bytes: usize) -> Option<BytePermit> {
        let mut permit = BytePermit { budget: self.clone(), purpose, bytes: 0 };
        permit.grow(bytes).then_some(permit)
    }
}

impl Budget {
    fn held(&self, purpose: Purpose) -> &AtomicUsize {
        match purpose {
            Purpose::Connection => &self.connections,
            Purpose::Content => &self.content,
            Purpose::Reserve => &self.reserve,
        }
    }

    fn fits(&self, purpose: Purpose, more: usize) -> bool {
        let now = |purpose| self.held(purpose).load(Ordering::Relaxed);
        let reserve = self.max / 16;
        if purpose == Purpose::Reserve {
            return now(purpose).saturating_add(more) <= reserve;
        }
        let all = now(Purpose::Connection).saturating_add(now(Purpose::Content));
        now(purpose).saturating_add(more) <= self.max / 4 * 3 && all.saturating_add(more) <= self.max - reserve
    }
}

impl BytePermit {
    /// Makes room for `bytes` more; says no, and keeps what it has, when there is none.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let budget = &self.budget.0;
        // Counted first and looked at after, so that two who come at once never have more than there is.
        let held = budget.held(self.purpose);
        held.fetch_add(bytes, Ordering::Relaxed);
        if !budget.fits(self.purpose, 0) {
            held.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        budget.shown.increment(value(bytes));
        self.bytes += bytes;
        true
    }

    /// Gives back all but `bytes` of the room.
    pub fn shrink(&mut self, bytes: usize) {
        let budget = &self.budget.0;
        let more = self.bytes.saturating_sub(bytes);
        budget.held(self.purpose).fetch_sub(more, Ordering::Relaxed);
        budget.shown.decrement(value(more));
        self.bytes -= more;
    }

    /// Ties this to `bytes`: the room is given back when the last part of them is gone.
    #[must_use]
    pub fn hold(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held { bytes, _permit: self })
    }
}

impl Drop for BytePermit {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

struct Held {
    bytes: Bytes,
    _permit: BytePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Registry;

    fn budget(max: usize) -> (ByteBudget, Registry) {
        let registry = Registry::new(&[]);
        (ByteBudget::new(max, &HttpMetrics::register(&registry, "", &[]), Counter::noop()), registry)
    }

    fn shows(registry: &Registry, line: &str) -> bool {
        registry.render().lines().any(|shown| shown == line)
    }

    #[test]
    fn room_is_given_back_with_the_last_part_of_the_bytes() {
        let (budget, registry) = budget(1600);
        let bytes = budget.take(1200).unwrap().hold(Bytes::from(vec![7; 1200]));
        let part = bytes.slice(10..20);
        drop(bytes);
        assert!(shows(&registry, "http_memory_bytes 1200") && shows(&registry, "http_memory_max_bytes 1600"));
        assert!(budget.take(1).is_none());
        drop(part);
        assert!(shows(&registry, "http_memory_bytes 0"));
        assert!(budget.take(1200).is_some());
    }

    #[test]
    fn each_purpose_leaves_room_for_the_others() {
        let (budget, registry) = budget(1600);
        let mut content = budget.take(1200).unwrap();
        assert!(!content.grow(1));
        let connections = budget.take_for(Purpose::Connection, 300).unwrap();
        assert!(budget.take_for(Purpose::Connection, 1).is_none(), "there is no more than there is");
        assert!(budget.take_for(Purpose::Reserve, 101).is_none());
        let reserve = budget.take_for(Purpose::Reserve, 100).unwrap();
        assert!(shows(&registry, "http_memory_bytes 1600"));
        drop(content);
        assert!(budget.take_for(Purpose::Connection, 901).is_none());
        drop((connections, reserve));
        assert!(shows(&registry, "http_memory_bytes 0"));
    }
}
