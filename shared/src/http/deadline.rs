//! How long the caller of a service waits for its answer, told by one service to the other.

use std::time::Duration;

use http::HeaderMap;

/// The header of a request that says in how many milliseconds nobody waits for its answer any more.
pub const TIMEOUT_MS: &str = "x-timeout-ms";

/// How long the caller waits, if it says.
#[must_use]
pub fn time_left(headers: &HeaderMap) -> Option<Duration> {
    headers.get(TIMEOUT_MS)?.to_str().ok()?.parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_whole_number_of_milliseconds() {
        for (text, expected) in
            [("0", Some(0)), ("250", Some(250)), ("-1", None), ("1.5", None), ("", None), ("1s", None)]
        {
            let headers = HeaderMap::from_iter([(TIMEOUT_MS.parse().unwrap(), text.parse().unwrap())]);
            assert_eq!(time_left(&headers), expected.map(Duration::from_millis), "{text}");
        }
        assert_eq!(time_left(&HeaderMap::new()), None);
    }
}
