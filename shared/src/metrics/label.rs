//! Labels whose values are all known.

use super::{Counter, Registry};

/// A label whose values are all known.
pub trait Label: Copy + PartialEq + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// Every value.
    const ALL: &'static [Self];
    /// The value as text.
    fn text(self) -> &'static str;
}

/// A counter for each value of a label, all there from the start, and found without looking at any text.
#[derive(Clone)]
pub struct CounterBy<L>(Vec<(L, Counter)>);

impl<L: Label> CounterBy<L> {
    /// Registers them, all at 0.
    #[must_use]
    pub fn register(registry: &Registry, name: &'static str, help: &'static str) -> Self {
        let counter = |label: &L| (*label, registry.counter(name, help, &[(L::NAME, label.text())]));
        Self(L::ALL.iter().map(counter).collect())
    }

    /// The counter of one value.
    ///
    /// # Panics
    /// When `L::ALL` lacks the value.
    pub fn of(&self, label: L) -> &Counter {
        let found = self.0.iter().find(|(other, _)| *other == label);
        &found.unwrap_or_else(|| panic!("{} is missing in ALL", label.text())).1
    }
}
