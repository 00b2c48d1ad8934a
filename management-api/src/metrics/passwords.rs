//! Metrics of passwords.

use shared::metrics::{CounterBy, Label, Registry};

/// What became of a password that was to be hashed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Hashed,
    Refused,
}

impl Label for Outcome {
    const NAME: &'static str = "outcome";
    const ALL: &'static [Self] = &[Self::Hashed, Self::Refused];

    fn text(self) -> &'static str {
        match self {
            Self::Hashed => "hashed",
            Self::Refused => "refused",
        }
    }
}

/// How many passwords are hashed, and how many are not.
#[derive(Clone)]
pub struct PasswordMetrics(CounterBy<Outcome>);

impl PasswordMetrics {
    /// Registers them, all at 0.
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let help = "Passwords to be hashed; refused: too many were at once.";
        Self(CounterBy::register(registry, "password_hashes_total", help))
    }

    /// A password was hashed.
    pub fn hashed(&self) {
        self.0.of(Outcome::Hashed).increment(1);
    }

    /// There was no turn for one.
    pub fn refused(&self) {
        self.0.of(Outcome::Refused).increment(1);
    }
}
