//! `Prefer: wait=SECONDS` (RFC 7240).

use std::time::Duration;

use http::HeaderMap;

use crate::event::FieldError;

/// The longest wait a caller may ask for.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// What `WAITING_BUYERS_MAX` limits, in both services.
pub const WAITING_BUYERS: &str =
    "purchases that buyers wait for at once (Prefer: wait); over it they are answered at once";
/// What `WAITING_READERS_MAX` limits, in both services.
pub const WAITING_READERS: &str =
    "readers who wait for a purchase at once (Prefer: wait); over it they are answered with what is there";

/// How long the caller would like to wait; nothing when it does not say. Other preferences are ignored.
///
/// # Errors
/// When a `wait` is given that is not a whole number from 0 to 30.
pub fn parse_wait(headers: &HeaderMap) -> Result<Option<Duration>, FieldError> {
    let malformed = || FieldError::new("Prefer", "wait must be a whole number of seconds from 0 to 30");
    for line in headers.get_all("prefer") {
        // Bytes that are no text make no preference unreadable but the one that they stand in.
        let line = String::from_utf8_lossy(line.as_bytes());
        for preference in split_unquoted(&line, ',') {
            // Parameters after `;` belong to the preference and change nothing for us.
            let preference = split_unquoted(preference, ';').next().unwrap_or_default();
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            if name.trim().eq_ignore_ascii_case("wait") {
                // RFC 7240: when a preference stands several times, the first one counts.
                return parse_seconds(value.trim()).map(Some).ok_or_else(malformed);
            }
        }
    }
    Ok(None)
}

/// The parts between separators that stand outside of quoted strings.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |character| {
        let closes_or_opens = character == '"' && !escaped;
        escaped = quoted && character == '\\' && !escaped;
        quoted ^= closes_or_opens;
        character == separator && !quoted
    })
}

fn parse_seconds(text: &str) -> Option<Duration> {
    let digits = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let plain = !digits.is_empty() && digits.len() <= 9 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let wait = Duration::from_secs(digits.parse().ok().filter(|_| plain)?);
    (wait <= WAIT_MAX).then_some(wait)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn parse(text: impl AsRef<[u8]>) -> Result<Option<u64>, ()> {
        let mut headers = HeaderMap::new();
        headers.insert("prefer", HeaderValue::from_bytes(text.as_ref()).map_err(|_| ())?);
        parse_wait(&headers).map(|wait| wait.map(|wait| wait.as_secs())).map_err(|_| ())
    }

    #[test]
    fn the_first_wait_counts_and_others_are_ignored() {
        for (text, expected) in [
            ("wait=5", Ok(Some(5))),
            ("respond-async, Wait = 30 ; x=1", Ok(Some(30))),
            ("wait=\"7\"", Ok(Some(7))),
            ("wait=1, wait=2", Ok(Some(1))),
            ("return=minimal", Ok(None)),
            ("foo=\"a, wait=99; b\\\", wait=98\", wait=3", Ok(Some(3))),
            ("waiting=99", Ok(None)),
            ("wait=0", Ok(Some(0))),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        for bad in ["wait", "wait=", "wait=31", "wait=-1", "wait=1.5", "wait=+1", "wait=99999999999999999999"] {
            assert_eq!(parse(bad), Err(()), "{bad}");
        }
        assert_eq!(parse(b"wait=\xff"), Err(()));
        assert_eq!(parse(b"x=\xff, wait=3"), Ok(Some(3)));
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(text in "\\PC{0,60}|wait=\\PC{0,10}") {
            if let Ok(Some(seconds)) = parse(&text) {
                prop_assert!(seconds <= 30);
            }
        }
    }
}
