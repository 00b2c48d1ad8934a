//! Who asks, and what names the request in answers, logs and records: its request id and its W3C trace context.

use std::fmt;
use std::net::SocketAddr;

use http::{Extensions, HeaderMap, HeaderValue};
use rand::RngExt;

/// The longest request id taken from a caller.
const REQUEST_ID_LENGTH_MAX: usize = 64;

/// Who asks, as its connection tells before anything is read of what it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The other end of the connection: a proxy, where one stands between. Nothing for a request that came over none.
    pub address: Option<SocketAddr>,
}

impl Caller {
    /// Its address, for logs.
    pub(super) fn text(self) -> Option<String> {
        self.address.map(|address| address.to_string())
    }
}

/// The origin and the names of one request.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// Who asks.
    pub caller: Caller,
    /// The caller's `X-Request-Id` if it is well formed, else a new one.
    pub request_id: HeaderValue,
    /// The trace that the request belongs to.
    pub trace: Traceparent,
}

impl RequestContext {
    /// Takes the caller that the connection has told, reads the names that it gave and makes up the others.
    #[must_use]
    pub fn new(extensions: &Extensions, headers: &HeaderMap) -> Self {
        let caller = extensions.get().copied().unwrap_or_default();
        let parent = headers.get("traceparent").and_then(|value| Traceparent::parse(value.to_str().ok()?));
        let trace = parent.map_or_else(Traceparent::random, Traceparent::child);
        let given = headers.get("x-request-id").filter(|value| is_request_id(value.as_bytes()));
        let request_id = given.cloned().unwrap_or_else(|| {
            // A caller's trace has many requests; one that began here has this request only, and may lend it its name.
            parent.map_or(trace, |_| Traceparent::random()).trace_id_header()
        });
        Self { caller, request_id, trace }
    }

    /// That of a question of our own, which serves no request.
    #[must_use]
    pub fn own() -> Self {
        Self::new(&Extensions::new(), &HeaderMap::new())
    }

    /// That of a request which the middleware has seen, or else a new one.
    #[must_use]
    pub fn of(extensions: &Extensions, headers: &HeaderMap) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_else(|| Self::new(extensions, headers))
    }

    /// The request id as text.
    #[must_use]
    pub fn request_id(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }
}

fn is_request_id(text: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    (1..=REQUEST_ID_LENGTH_MAX).contains(&text.len()) && text.iter().all(allowed)
}

/// The W3C trace context of one span (<https://www.w3.org/TR/trace-context/>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traceparent {
    trace_id: u128,
    span_id: u64,
    sampled: bool,
}

impl Traceparent {
    /// A new trace.
    #[must_use]
    pub fn random() -> Self {
        let mut random = rand::rng();
        Self { trace_id: random.random::<u128>() | 1, span_id: random.random::<u64>() | 1, sampled: false }
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span_id: rand::rng().random::<u64>() | 1, ..self }
    }

    /// Parses `version-traceid-spanid-flags`; nothing when it is malformed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let [version, trace_id, span_id, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        // Versions to come may add parts; version ff is forbidden, and 00 has exactly four.
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        hex(version, 2)?;
        let trace_id = hex(trace_id, 32).filter(|id| *id != 0)?;
        let span_id = u64::try_from(hex(span_id, 16)?).ok().filter(|id| *id != 0)?;
        Some(Self { trace_id, span_id, sampled: hex(flags, 2)? & 1 == 1 })
    }

    /// The trace's id: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> String {
        String::from_utf8_lossy(&hex_digits::<32>(self.trace_id)).into_owned()
    }

    fn trace_id_header(&self) -> HeaderValue {
        HeaderValue::from_bytes(&hex_digits::<32>(self.trace_id)).unwrap_or(HeaderValue::from_static("unknown"))
    }
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() == digits && lower { u128::from_str_radix(text, 16).ok() } else { None }
}

/// The last `N` hexadecimal digits of a number; faster than `{:x}`, and every request has three of them.
fn hex_digits<const N: usize>(mut number: u128) -> [u8; N] {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        *digit = b"0123456789abcdef"[usize::try_from(number & 15).unwrap_or(0)];
        number >>= 4;
    }
    text
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..35].copy_from_slice(&hex_digits::<32>(self.trace_id));
        text[36..52].copy_from_slice(&hex_digits::<16>(self.span_id.into()));
        text[53..55].copy_from_slice(&hex_digits::<2>(self.sampled.into()));
        f.write_str(str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_traceparent_survives_and_a_bad_one_is_replaced() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(Traceparent::parse(text).unwrap().to_string(), text);
        for bad in
            ["", "00", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", &text.to_uppercase(), &text[1..]]
        {
            assert_eq!(Traceparent::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_a_plain_request_id_is_taken_over() {
        let context = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", HeaderValue::from_str(id).unwrap());
            RequestContext::new(&Extensions::new(), &headers).request_id().to_owned()
        };
        assert_eq!(context("Order-1_a.b"), "Order-1_a.b");
        for bad in ["", "a b", "<script>", &"x".repeat(65)] {
            assert_eq!(context(bad).len(), 32, "{bad}");
        }
    }
}
