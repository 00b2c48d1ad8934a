//! Whether a connection in use may go on.

use std::time::Duration;

use super::ServerLimits;
use super::activity::{Activity, Phase};

/// After so long without a request a connection gives its buffers back.
const REST_AFTER: Duration = Duration::from_secs(1);
/// Who reads an answer more slowly than this, in bytes a second, in the long run, is cut off: a caller who reads a byte now
/// and then would hold it for days. Far below any modem; Kestrel has 240.
const READ_RATE_MIN: u64 = 4 * 1024;
/// When the server ends, who reads nothing is not waited for any longer than this.
pub(super) const ANSWER_TIMEOUT_AT_END: Duration = Duration::from_secs(2);

/// What is to become of a connection.
pub(super) enum Verdict {
    GoOn,
    Rest,
    TooSlow,
    CutOff,
}

/// Judges it by what its caller has done, and how long ago.
pub(super) fn verdict(activity: &Activity, limits: &ServerLimits, ending: bool) -> Verdict {
    let answer_timeout = if ending { limits.answer_timeout.min(ANSWER_TIMEOUT_AT_END) } else { limits.answer_timeout };
    let stands_still = activity.blocked_for().is_some_and(|blocked| blocked >= answer_timeout);
    if stands_still || activity.backlog().is_some_and(|(age, written)| is_too_slow(age, written, answer_timeout)) {
        return Verdict::CutOff;
    }
    match activity.phase_age() {
        (Phase::Idle, age) if age >= REST_AFTER.min(limits.keep_alive_timeout) => Verdict::Rest,
        // In the middle of an answer another one would be taken for its content.
        (Phase::Head, age) if age >= limits.header_timeout && activity.blocked_for().is_none() => Verdict::TooSlow,
        (Phase::Head, age) if age >= limits.header_timeout => Verdict::CutOff,
        _ => Verdict::GoOn,
    }
}

/// Whether so many bytes are too few for the time that a caller was behind with reading.
fn is_too_slow(age: Duration, written: u64, answer_timeout: Duration) -> bool {
    age >= answer_timeout + Duration::from_secs(written / READ_RATE_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_who_reads_a_little_now_and_then_is_cut_off_in_the_long_run() {
        let limit = Duration::from_secs(30);
        let too_slow = |seconds, written| is_too_slow(Duration::from_secs(seconds), written, limit);
        assert!(!too_slow(29, 0) && too_slow(30, 0));
        assert!(too_slow(60, 30 * 20), "20 bytes a second");
        assert!(!too_slow(3_600, 3_600 * READ_RATE_MIN), "an hour at the least rate");
    }

    #[test]
    fn a_connection_is_judged_by_what_its_caller_has_read_since_it_fell_behind() {
        let limits = ServerLimits {
            connections: 1,
            header_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(90),
            answer_timeout: Duration::from_secs(30),
            max_age: None,
            drain_timeout: Duration::ZERO,
            half_close: true,
        };
        let after_a_minute = |bytes_a_second, ending| {
            let mut activity = Activity::new(std::time::Instant::now());
            activity.enter(Phase::Answered);
            activity.write_blocked();
            for _ in 0..60 {
                activity.grow_older(Duration::from_secs(1));
                activity.written(bytes_a_second);
                activity.write_blocked();
            }
            verdict(&activity, &limits, ending)
        };
        assert!(matches!(after_a_minute(20, false), Verdict::CutOff));
        assert!(matches!(after_a_minute(4096, false), Verdict::GoOn));
        assert!(matches!(after_a_minute(2000, false), Verdict::CutOff));
        assert!(matches!(after_a_minute(3072, false), Verdict::GoOn), "not yet");
        assert!(matches!(after_a_minute(3072, true), Verdict::CutOff), "at the end there is less patience");
    }
}
