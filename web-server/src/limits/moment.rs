//! Time as the limiter keeps it: small, because every caller has some.

use std::time::Duration;

/// Milliseconds on a circle of 49 days. Two moments are told apart if less than 24 days lie between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment(u32);

impl Moment {
    /// So long after the beginning.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "time goes round a circle")]
    pub fn at(since_beginning: Duration) -> Self {
        Self(since_beginning.as_millis() as u32)
    }

    /// A second later.
    #[must_use]
    pub fn next_second(self) -> Self {
        Self(self.0.wrapping_add(1000))
    }

    /// A second earlier.
    #[must_use]
    pub fn second_before(self) -> Self {
        Self(self.0.wrapping_sub(1000))
    }

    /// Seconds since `earlier`; less than nothing if that is later.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "exact for hours, and then a millisecond does not matter")]
    pub fn seconds_since(self, earlier: Self) -> f32 {
        self.0.wrapping_sub(earlier.0).cast_signed() as f32 / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_past_the_end_of_the_circle() {
        let last = Moment::at(Duration::from_millis(u64::from(u32::MAX) - 499));
        let next = Moment::at(Duration::from_millis(u64::from(u32::MAX) + 501));
        assert!((next.seconds_since(last) - 1.0).abs() < 1e-6);
        assert!((last.seconds_since(next) + 1.0).abs() < 1e-6);
        assert_eq!((last.next_second(), next.second_before()), (next, last));
    }
}
