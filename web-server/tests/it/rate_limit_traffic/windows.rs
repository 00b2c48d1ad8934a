//! What was let in, ten seconds at a time, against the limit, and against what was asked for within it.

use super::pattern::{END_MS, Pattern};

/// How finely windows are moved.
pub const SLOT_MS: u64 = 100;
const SLOTS: usize = (END_MS / SLOT_MS) as usize;
/// Slots of a window.
const WINDOW: usize = 100;
/// How long a fault may be felt.
const SETTLED_MS: u64 = 3_000;

/// How far off the worst window was, as parts of its limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Errors {
    /// More than the limit.
    pub over: f64,
    /// Less than was asked for within it, a tenth of a second at a time.
    pub under: f64,
}

impl Errors {
    pub fn include(&mut self, other: Self) {
        self.over = self.over.max(other.over);
        self.under = self.under.max(other.under);
    }
}

/// What was let in, slot by slot.
pub struct Windows {
    limit: f64,
    pub admitted: [u32; SLOTS],
    pub asked: [u32; SLOTS],
    shaken: [bool; SLOTS],
}

impl Windows {
    pub fn new(pattern: &Pattern) -> Self {
        let mut shaken = [false; SLOTS];
        for (slot, shaken) in shaken.iter_mut().enumerate() {
            let ms = slot as u64 * SLOT_MS;
            *shaken = pattern.aways.iter().any(|away| {
                let after = |fault: u64| (fault..fault + SETTLED_MS).contains(&ms);
                let is_cut = pattern.fault == Some(super::Fault::IsCutOff) && (away.from_ms..away.to_ms).contains(&ms);
                after(away.from_ms) || after(away.to_ms) || is_cut
            });
        }
        Self { limit: f64::from(pattern.limit) * 10.0, admitted: [0; SLOTS], asked: [0; SLOTS], shaken }
    }

    /// The worst errors of windows without a fault, and of those with one.
    pub fn errors(&self) -> (Errors, Errors) {
        let (mut calm, mut shaken) = (Errors::default(), Errors::default());
        for start in 0..=SLOTS - WINDOW {
            let window = start..start + WINDOW;
            let admitted = f64::from(self.admitted[window.clone()].iter().sum::<u32>());
            let asked_within = |asked: &u32| f64::from(*asked).min(self.limit / 100.0);
            let expected: f64 = self.asked[window.clone()].iter().map(asked_within).sum();
            let errors = Errors {
                over: (admitted - self.limit).max(0.0) / self.limit,
                under: (expected - admitted).max(0.0) / self.limit,
            };
            let is_shaken = self.shaken[window].iter().any(|shaken| *shaken);
            if is_shaken { shaken.include(errors) } else { calm.include(errors) }
        }
        (calm, shaken)
    }
}
