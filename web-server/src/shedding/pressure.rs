//! How late the process gets to what is due: the one sign of too little CPU that shows whoever takes it, and that costs nothing.

use std::time::Duration;

/// Later than so, on average, reads yield to purchases.
const READS_YIELD: Duration = Duration::from_millis(10);
/// Later than so, batches yield as well.
const BATCHES_YIELD: Duration = Duration::from_millis(25);
/// How much of the mean one more measurement is.
const WEIGHT: f64 = 0.05;

/// The recent mean of how late the process was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pressure {
    seconds: f64,
}

impl Pressure {
    /// Works in how late one more thing was done. To be called about every 20 ms.
    pub fn add(&mut self, late: Duration) {
        self.seconds += WEIGHT * (late.as_secs_f64() - self.seconds);
    }

    /// The mean.
    #[must_use]
    pub fn delay(self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// As a multiple of what reads accept.
    #[must_use]
    pub fn on_reads(self) -> f64 {
        self.seconds / READS_YIELD.as_secs_f64()
    }

    /// As a multiple of what batches accept.
    #[must_use]
    pub fn on_batches(self) -> f64 {
        self.seconds / BATCHES_YIELD.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hiccup_is_no_pressure_and_being_late_again_and_again_is_on_reads_first() {
        let mut pressure = Pressure::default();
        pressure.add(Duration::from_millis(150));
        assert!(pressure.on_reads() < 1.0);
        for _ in 0..100 {
            pressure.add(Duration::from_millis(15));
        }
        assert!(pressure.on_reads() > 1.0 && pressure.on_batches() < 1.0, "{pressure:?}");
        for _ in 0..100 {
            pressure.add(Duration::ZERO);
        }
        assert!(pressure.delay() < Duration::from_millis(1));
    }
}
