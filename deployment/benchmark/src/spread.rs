//! Several measurements of the same thing.

use std::time::Duration;

use serde::Serialize;

/// The middle and the ends of repeated measurements.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// How many there were.
    pub repeats: usize,
}

impl Spread {
    /// The spread of `values`; all zero when there are none.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
        let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
        Self {
            median: f64::midpoint(at(low), at(high)),
            min: at(0),
            max: at(sorted.len().saturating_sub(1)),
            repeats: sorted.len(),
        }
    }
}

/// A count as a float, for rates; exact below 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts of requests, rows and bytes are far below 2^53")]
pub fn float(count: u64) -> f64 {
    count as f64
}

/// `part` a unit of `count`, in microseconds.
pub fn micros_each(part: Duration, count: u64) -> f64 {
    part.as_secs_f64() * 1e6 / float(count.max(1))
}

/// A duration in milliseconds.
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Bytes in MiB.
pub fn mebibytes(bytes: u64) -> f64 {
    float(bytes) / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_or_between_the_two_there() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0, repeats: 3 });
        assert!((Spread::of(&[4.0, 1.0]).median - 2.5).abs() < 1e-9);
        assert_eq!(Spread::of(&[]).repeats, 0);
    }
}
