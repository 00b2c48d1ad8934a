//! What a connection is doing, and since when: written by its socket and its requests, read by its task and the accept loop.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing of a request has come yet.
    Idle,
    /// A request has come, and waits for room.
    Waiting,
    /// The head of a request has begun.
    Head,
    /// A request is being answered.
    Serving,
    /// The answer is on its way into the socket.
    Answered,
    /// It is over; what the caller still sends is thrown away.
    Lingering,
}

/// What a connection is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) enum Order {
    /// Nothing.
    None,
    /// Make room for another, unless a request is being answered.
    MakeRoom,
    /// End after the request that is being answered.
    End,
    /// End now.
    CutOff,
}

/// One connection's state. Times are milliseconds since the server's start.
#[derive(Debug)]
pub(super) struct Activity {
    start: Instant,
    /// Phase in the lowest three bits, above them the time since when.
    phase: AtomicU64,
    /// Since when a write finds no room in the socket; 0 when none is waiting.
    blocked: AtomicU64,
    /// Since when the caller is behind with reading, and not up to date since; 0 when it is.
    behind: AtomicU64,
    /// Bytes that it has taken since then.
    taken: AtomicU64,
    /// Whether the caller has closed its sending side.
    caller_closed: AtomicBool,
    /// Whether the answer goes on for as long as its caller is there.
    endless: AtomicBool,
    order: AtomicU8,
    told: Notify,
}

impl Activity {
    pub(super) fn new(start: Instant) -> Self {
        let activity = Self {
            start,
            phase: AtomicU64::new(0),
            blocked: AtomicU64::new(0),
            behind: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            caller_closed: AtomicBool::new(false),
            endless: AtomicBool::new(false),
            order: AtomicU8::new(Order::None as u8),
            told: Notify::new(),
        };
        activity.enter(Phase::Idle);
        activity
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store((self.now() << 3) | phase as u64, Ordering::Relaxed);
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase_since().0
    }

    /// The phase and its age.
    pub(super) fn phase_age(&self) -> (Phase, Duration) {
        let (phase, since) = self.phase_since();
        (phase, self.age(since))
    }

    /// Since when no request is being answered, if none is.
    pub(super) fn unused_since(&self) -> Option<u64> {
        match self.phase_since() {
            (Phase::Waiting | Phase::Serving | Phase::Answered, _) => None,
            (Phase::Idle | Phase::Head | Phase::Lingering, since) => Some(since),
        }
    }

    fn phase_since(&self) -> (Phase, u64) {
        let phase = self.phase.load(Ordering::Relaxed);
        let name = match phase & 7 {
            0 => Phase::Idle,
            1 => Phase::Waiting,
            2 => Phase::Head,
            3 => Phase::Serving,
            4 => Phase::Answered,
            _ => Phase::Lingering,
        };
        (name, phase >> 3)
    }

    /// Bytes have come from the caller.
    pub(super) fn received(&self) {
        if matches!(self.phase(), Phase::Idle | Phase::Waiting | Phase::Answered) {
            self.enter(Phase::Head);
        }
    }

    /// The caller has closed its sending side.
    pub(super) fn caller_closed(&self) {
        self.caller_closed.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_caller_closed(&self) -> bool {
        self.caller_closed.load(Ordering::Relaxed)
    }

    /// An answer begins, which goes on for as long as its caller is there, or does not.
    pub(super) fn begin_answer(&self, is_endless: bool) {
        self.endless.store(is_endless, Ordering::Relaxed);
    }

    pub(super) fn is_answer_endless(&self) -> bool {
        self.endless.load(Ordering::Relaxed)
    }

    /// All that was to be written is in the socket.
    pub(super) fn flushed(&self) {
        self.behind.store(0, Ordering::Relaxed);
        if self.phase() == Phase::Answered {
            self.enter(Phase::Idle);
        }
    }

    /// A write has found no room in the socket.
    pub(super) fn write_blocked(&self) {
        if self.blocked.load(Ordering::Relaxed) != 0 {
            return;
        }
        let now = self.now().max(1);
        self.blocked.store(now, Ordering::Relaxed);
        if self.behind.load(Ordering::Relaxed) == 0 {
            self.behind.store(now, Ordering::Relaxed);
            self.taken.store(0, Ordering::Relaxed);
        }
    }

    /// A write has found room for so many bytes.
    pub(super) fn written(&self, bytes: usize) {
        if self.behind.load(Ordering::Relaxed) != 0 {
            self.blocked.store(0, Ordering::Relaxed);
            self.taken.fetch_add(u64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// How long the caller has been behind with reading, and the bytes that it has taken meanwhile, if it is.
    pub(super) fn backlog(&self) -> Option<(Duration, u64)> {
        let since = self.behind.load(Ordering::Relaxed);
        (since != 0).then(|| (self.age(since), self.taken.load(Ordering::Relaxed)))
    }

    /// How long the caller has read nothing of what is ready for it, if anything is.
    pub(super) fn blocked_for(&self) -> Option<Duration> {
        let since = self.blocked.load(Ordering::Relaxed);
        (since != 0).then(|| self.age(since))
    }

    /// Tells the connection's task something; nothing that weighs less than what it was told before.
    pub(super) fn tell(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::Relaxed);
        self.told.notify_one();
    }

    /// Takes an order to make room back: a request has come first.
    pub(super) fn stay(&self) {
        let (from, to) = (Order::MakeRoom as u8, Order::None as u8);
        let _ = self.order.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Waits until the connection is told something.
    pub(super) async fn told(&self) {
        self.told.notified().await;
    }

    pub(super) fn order(&self) -> Order {
        match self.order.load(Ordering::Relaxed) {
            0 => Order::None,
            1 => Order::MakeRoom,
            2 => Order::End,
            _ => Order::CutOff,
        }
    }

    pub(super) fn age(&self, since: u64) -> Duration {
        Duration::from_millis(self.now().saturating_sub(since))
    }

    /// As if all that has been were so much longer ago.
    #[cfg(test)]
    pub(super) fn grow_older(&mut self, by: Duration) {
        self.start -= by;
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
