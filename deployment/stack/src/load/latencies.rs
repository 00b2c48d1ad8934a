//! Latencies, every one of them: quantiles are exact, at four bytes a request.

use std::time::Duration;

/// Latencies in microseconds.
#[derive(Debug, Clone, Default)]
pub struct Latencies {
    micros: Vec<u32>,
    sorted: bool,
}

impl Latencies {
    /// Adds one; more than 71 minutes count as 71 minutes.
    pub fn add(&mut self, latency: Duration) {
        self.micros.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
        self.sorted = false;
    }

    /// Adds all of another set.
    pub fn merge(&mut self, other: &Self) {
        self.micros.extend_from_slice(&other.micros);
        self.sorted = false;
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.micros.len()
    }

    /// The smallest latency that at least `per_mille` thousandths do not exceed (500 is the median, 999 is p99.9); zero
    /// when there are none.
    pub fn quantile(&mut self, per_mille: u32) -> Duration {
        if !self.sorted {
            self.micros.sort_unstable();
            self.sorted = true;
        }
        let rank = (self.micros.len() * per_mille as usize).div_ceil(1000).max(1);
        let micros = self.micros.get(rank - 1).copied().unwrap_or(0);
        Duration::from_micros(micros.into())
    }

    /// The largest.
    pub fn max(&mut self) -> Duration {
        self.quantile(1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(500), Duration::ZERO);
        for millis in (1..=1000).rev() {
            latencies.add(Duration::from_millis(millis));
        }
        assert_eq!(latencies.quantile(500), Duration::from_millis(500));
        assert_eq!(latencies.quantile(999), Duration::from_millis(999));
        assert_eq!(latencies.max(), Duration::from_secs(1));
    }
}
