//! What happened, in order: the same seed gives the same trace.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Events kept for whoever looks into a failing seed.
const TAIL: usize = 120;

/// One event: when (virtual milliseconds), who, what, and its numbers.
#[derive(Clone, Copy, Hash)]
pub struct Event {
    at_ms: u128,
    process: usize,
    what: &'static str,
    numbers: [i64; 3],
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_ms, process, what, numbers } = self;
        write!(formatter, "{at_ms:>7} ms  process {process:>2}  {what} {numbers:?}")
    }
}

/// All events so far: a hash of all, and the last of them.
#[derive(Default)]
pub struct Trace {
    hasher: DefaultHasher,
    tail: Vec<Event>,
}

impl Trace {
    /// Takes note.
    pub fn note(&mut self, at_ms: u128, process: usize, what: &'static str, numbers: [i64; 3]) {
        let event = Event { at_ms, process, what, numbers };
        event.hash(&mut self.hasher);
        if self.tail.len() >= 2 * TAIL {
            self.tail.drain(..TAIL);
        }
        self.tail.push(event);
    }

    /// Names everything that happened.
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// The last events, a line each.
    pub fn tail(&self) -> String {
        let from = self.tail.len().saturating_sub(TAIL);
        self.tail[from..].iter().map(Event::to_string).collect::<Vec<_>>().join("\n")
    }
}
