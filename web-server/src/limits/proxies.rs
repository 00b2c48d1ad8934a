//! Whose word is taken for where a request comes from.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::HeaderMap;

/// The proxies in front of the service. What they say of who called them is believed; nobody else's word is.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<Network>);

/// The addresses of a network; IPv4 ones are written as IPv6.
#[derive(Clone, Copy, Debug)]
struct Network {
    address: u128,
    mask: u128,
}

impl TrustedProxies {
    /// Parses addresses and networks (`10.0.0.0/8`), comma-separated.
    ///
    /// # Errors
    /// What is wrong, for the operator.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let networks = text.split(',').map(|part| part.trim().parse());
        networks.collect::<Result<_, _>>().map(Self)
    }

    /// Whose request it is: the other end of the connection, or, if that is a trusted proxy, the one that has called it, and so
    /// on. `X-Forwarded-For` is read from its right end, where our own proxies write; to the left of the first address that is
    /// no trusted proxy, or is none at all, anybody can have written anything.
    #[must_use]
    pub fn caller(&self, connection: IpAddr, headers: &HeaderMap) -> IpAddr {
        let values = headers.get_all("x-forwarded-for").iter().rev();
        let mut entries = values.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
        let mut caller = connection;
        while self.trusts(caller) {
            let Some(before) = entries.next().and_then(parse_entry) else { break };
            caller = before;
        }
        caller
    }

    /// Whether the trusted proxy at the other end of the connection says that it was called by HTTPS (`X-Forwarded-Proto`, of which
    /// the last word is its own).
    #[must_use]
    pub fn was_called_by_https(&self, connection: IpAddr, headers: &HeaderMap) -> bool {
        let value = headers.get_all("x-forwarded-proto").iter().next_back().and_then(|value| value.to_str().ok());
        let last = value.and_then(|value| value.rsplit(',').next()).map(str::trim);
        self.trusts(connection) && last.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
    }

    fn trusts(&self, address: IpAddr) -> bool {
        let bits = bits(address);
        self.0.iter().any(|network| bits & network.mask == network.address)
    }
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SHAPE: &str = "must be a list of addresses and networks, such as 10.0.0.0/8";
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| SHAPE)?;
        let width: u32 = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(width), |prefix| prefix.parse().map_err(|_| SHAPE))?;
        let free = width.checked_sub(prefix).ok_or(SHAPE)?;
        let mask = u128::MAX.checked_shl(free).unwrap_or(0);
        Ok(Self { address: bits(address) & mask, mask })
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// An address; some proxies write the port too.
fn parse_entry(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(trusted: &str, connection: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        let proxies = TrustedProxies::parse(trusted).unwrap();
        proxies.caller(connection.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn nobody_s_word_is_taken_but_a_trusted_proxy_s() {
        assert_eq!(TrustedProxies::default().caller([9, 9, 9, 9].into(), &HeaderMap::new()).to_string(), "9.9.9.9");
        for (trusted, connection, forwarded, expected) in [
            ("10.0.0.0/8", "9.9.9.9", &["1.1.1.1"][..], "9.9.9.9"),
            ("10.0.0.0/8", "10.1.2.3", &["1.1.1.1"], "1.1.1.1"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", &["1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", "10.0.0.2", &["1.1.1.1"], "10.0.0.2"),
            ("10.0.0.0/8,2001:db8::/32", "2001:db8::7", &["6.6.6.6, 1.1.1.1 ,10.0.0.9"], "1.1.1.1"),
            ("10.0.0.0/8", "10.0.0.1", &["6.6.6.6", "1.1.1.1"], "1.1.1.1"),
            ("10.0.0.0/8", "10.0.0.1", &["1.1.1.1:4711,[2001:db8::1]:80"], "2001:db8::1"),
            ("0.0.0.0/0", "10.0.0.1", &["1.1.1.1, 2.2.2.2"], "1.1.1.1"),
        ] {
            assert_eq!(caller(trusted, connection, forwarded), expected, "{trusted} {connection} {forwarded:?}");
        }
    }

    #[test]
    fn what_is_no_address_ends_the_walk() {
        for forwarded in ["1.1.1.1, unknown", "1.1.1.1,", "1.1.1.1, 10.0.0.2, _hidden", "", "1.1.1.1, 300.1.1.1"] {
            assert!(caller("10.0.0.0/8", "10.0.0.1", &[forwarded]).starts_with("10.0.0."), "{forwarded}");
        }
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", http::HeaderValue::from_bytes(b"1.1.1.1, \xff").unwrap());
        let proxies = TrustedProxies::parse("10.0.0.1").unwrap();
        assert_eq!(proxies.caller([10, 0, 0, 1].into(), &headers).to_string(), "10.0.0.1");
    }

    #[test]
    fn only_a_trusted_proxy_says_that_it_was_called_by_https() {
        let proxies = TrustedProxies::parse("10.0.0.0/8").unwrap();
        for (connection, values, expected) in [
            ("10.0.0.1", &["https"][..], true),
            ("10.0.0.1", &["http, HTTPS"], true),
            ("10.0.0.1", &["http", "https"], true),
            ("10.0.0.1", &["https, http"], false),
            ("10.0.0.1", &[], false),
            ("9.9.9.9", &["https"], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-forwarded-proto", value.parse().unwrap());
            }
            let said = proxies.was_called_by_https(connection.parse().unwrap(), &headers);
            assert_eq!(said, expected, "{connection} {headers:?}");
        }
    }

    #[test]
    fn what_is_no_network_is_told() {
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0", "proxy", "10.0.0.0/8,,::1", "10.0.0.0/-1"] {
            assert!(TrustedProxies::parse(bad).is_err(), "{bad}");
        }
    }
}
