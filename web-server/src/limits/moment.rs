//! Time as the limiter keeps it for a caller: small, because every caller has some, and in windows, because what is limited by the
//! minute is limited as what is limited by the second, only slower.

use std::time::Duration;

/// Thousandths of a window on a circle: milliseconds on one of 49 days, where a window is a second. Two moments are told apart if
/// less than half a circle lies between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment(u32);

impl Moment {
    /// So long after the beginning, a second for a window.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "time goes round a circle")]
    pub fn at(since_beginning: Duration) -> Self {
        Self(since_beginning.as_millis() as u32)
    }

    /// A window later.
    #[must_use]
    pub fn next_window(self) -> Self {
        Self(self.0.wrapping_add(1000))
    }

    /// A window earlier.
    #[must_use]
    pub fn window_before(self) -> Self {
        Self(self.0.wrapping_sub(1000))
    }

    /// Windows since `earlier`; less than nothing if that is later.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "exact for hours, and then a thousandth does not matter")]
    pub fn windows_since(self, earlier: Self) -> f32 {
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
        assert!((next.windows_since(last) - 1.0).abs() < 1e-6);
        assert!((last.windows_since(next) + 1.0).abs() < 1e-6);
        assert_eq!((last.next_window(), next.window_before()), (next, last));
    }
}
