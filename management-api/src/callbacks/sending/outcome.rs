//! What becomes of one attempt.

use std::fmt;
use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use crate::metrics::AttemptLabel;

/// The longest time that a receiver can ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);

/// What became of one attempt. What is shown of it never has anything of the receiver's but its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// A 2xx: the receiver has it.
    Delivered,
    /// 410: the receiver wants no more of it, ever.
    Gone,
    /// Any other answer; a redirection is one, too.
    Refused {
        /// The answer's status.
        status: u16,
        /// When the receiver wants to be asked again, counted from the answer.
        retry_after: Option<Duration>,
    },
    /// No answer in time.
    Timeout,
    /// No answer at all.
    Unreachable(Unreachable),
    /// Nothing was sent: the URL leads where no callback may go.
    Forbidden,
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// The name has no address, or nobody tells.
    Name,
    /// Too many names are being looked up: nothing is known of this one.
    Busy,
    /// No address takes a connection.
    Connection,
    /// What connects to TLS cannot be made: the file of authorities is of no use.
    Authorities,
    /// The certificate is not believed: of another name, out of date, or by nobody who is known.
    Certificate,
    /// TLS fails in another way.
    Tls,
    /// The connection ended without an answer.
    NoAnswer,
    /// The answer is no HTTP, or its head is too large.
    BadAnswer,
}

impl AttemptOutcome {
    /// The outcome of an answer.
    pub(super) fn of_answer(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Self {
        match status {
            status if status.is_success() => Self::Delivered,
            StatusCode::GONE => Self::Gone,
            status => Self::Refused { status: status.as_u16(), retry_after: retry_after(headers, now) },
        }
    }

    /// The outcome's name, for metrics.
    #[must_use]
    pub fn label(self) -> AttemptLabel {
        match self {
            Self::Delivered => AttemptLabel::Delivered,
            Self::Gone => AttemptLabel::Gone,
            Self::Refused { .. } => AttemptLabel::Refused,
            Self::Timeout => AttemptLabel::Timeout,
            Self::Unreachable(_) => AttemptLabel::Unreachable,
            Self::Forbidden => AttemptLabel::Forbidden,
        }
    }

    /// When the receiver wants to be asked again, if it says so.
    #[must_use]
    pub fn retry_after(self) -> Option<Duration> {
        if let Self::Refused { retry_after, .. } = self { retry_after } else { None }
    }

    /// Whether the receiver has said something.
    #[must_use]
    pub fn is_answer(self) -> bool {
        matches!(self, Self::Delivered | Self::Gone | Self::Refused { .. })
    }

    /// Whether it is the host that fails, and not one callback: others would fare no better now.
    #[must_use]
    pub fn is_host_at_fault(self) -> bool {
        match self {
            Self::Refused { status, .. } => status >= 500 || status == 429,
            Self::Timeout => true,
            Self::Unreachable(reason) => reason != Unreachable::Busy,
            Self::Delivered | Self::Gone | Self::Forbidden => false,
        }
    }

    /// Whether the host has had it and could have taken it: what counts until it is switched off.
    #[must_use]
    pub fn counts_against_host(self) -> bool {
        self.is_host_at_fault() || matches!(self, Self::Refused { .. })
    }
}

impl fmt::Display for AttemptOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered => f.write_str("delivered"),
            Self::Gone => f.write_str("the receiver answered 410: it wants no more of it"),
            Self::Refused { status, retry_after: None } => write!(f, "the receiver answered {status}"),
            Self::Refused { status, retry_after: Some(pause) } => {
                write!(f, "the receiver answered {status}, to be asked again in {} s", pause.as_secs())
            }
            Self::Timeout => f.write_str("no answer in time"),
            Self::Unreachable(reason) => reason.fmt(f),
            Self::Forbidden => f.write_str("the URL leads where no callback may go"),
        }
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "the receiver's name has no address",
            Self::Busy => "too many names are being looked up",
            Self::Connection => "the receiver takes no connection",
            Self::Authorities => "the file of authorities (CALLBACK_CA_FILE) cannot be used",
            Self::Certificate => "the receiver's certificate is not believed",
            Self::Tls => "the receiver's TLS fails",
            Self::NoAnswer => "the connection ended without an answer",
            Self::BadAnswer => "the answer is no HTTP, or its head is too large",
        })
    }
}

/// When to come again (RFC 9110, 10.2.3): seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a long time all the same.
        text.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
    } else {
        httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default()
    };
    Some(pause.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_says_when_to_come_again_in_seconds_or_by_a_date() {
        let now = httpdate::parse_http_date("Fri, 30 Jan 2026 10:00:00 GMT").unwrap();
        for (text, seconds) in [
            ("120", Some(120)),
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("86401", Some(86_400)),
            ("99999999999999999999999", Some(86_400)),
            ("Fri, 30 Jan 2026 10:02:00 GMT", Some(120)),
            ("Friday, 30-Jan-26 10:00:30 GMT", Some(30)),
            ("Fri, 30 Jan 2026 09:00:00 GMT", Some(0)),
            ("Fri, 30 Jan 2099 10:00:00 GMT", Some(86_400)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            let outcome = AttemptOutcome::of_answer(StatusCode::SERVICE_UNAVAILABLE, &headers, now);
            let retry_after = seconds.map(Duration::from_secs);
            assert_eq!(outcome, AttemptOutcome::Refused { status: 503, retry_after }, "{text:?}");
        }
    }
}
