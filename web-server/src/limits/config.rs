//! The settings of rate limits.

use std::fmt;

use shared::config::{Secret, Settings};

use super::{Rates, TrustedProxies};

/// How often callers may come, and how replicas find each other.
#[derive(Clone, Debug)]
pub struct LimitsConfig {
    /// What one caller may do, at all replicas together.
    pub rates: Rates,
    /// About how many callers are known at most.
    pub callers_max: usize,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: TrustedProxies,
    /// Where the other replicas are; each name's every address is one.
    pub peers: Vec<PeerName>,
    /// What replicas show each other.
    pub peer_token: Option<Secret<String>>,
}

/// Where other replicas are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerName {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl LimitsConfig {
    /// Reads the settings; mistakes are kept in `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        let per_second = settings.number(
            "RATE_LIMIT_PER_SECOND",
            0,
            0..=1_000_000,
            "requests a second of one caller, buying and reading each, at all replicas together; 0 for no limit",
        );
        let login_per_minute = settings.number(
            "RATE_LIMIT_LOGIN_PER_MINUTE",
            10,
            0..=100_000,
            "logins a minute, from one address and to one account each, at all replicas together; 0 for no limit",
        );
        let callers_max = settings.size(
            "RATE_LIMIT_CALLERS_MAX",
            1_000_000,
            1_000..=100_000_000,
            "callers that are told apart, about; 96 bytes each at most",
        );
        let (peers, peer_token) = read_peers(settings);
        let trusted_proxies = read_trusted_proxies(settings);
        let [per_second, login_per_minute] =
            [per_second, login_per_minute].map(|rate| u32::try_from(rate).unwrap_or(0));
        let rates = Rates { per_second, login_per_minute };
        Self { rates, callers_max, trusted_proxies, peers, peer_token }
    }
}

fn read_peers(settings: &mut Settings) -> (Vec<PeerName>, Option<Secret<String>>) {
    let help = "host:port of the other web-servers, comma-separated; each name's every address is one, and this one's own may be among them";
    let text = settings.optional("RATE_LIMIT_PEERS", help);
    let mut peers = Vec::new();
    for name in text.as_deref().map(|text| text.split(',')).into_iter().flatten() {
        match PeerName::parse(name.trim()) {
            Some(peer) => peers.push(peer),
            None => settings.mistake("RATE_LIMIT_PEERS", "must be a list of host:port"),
        }
    }
    let token =
        settings.secret("RATE_LIMIT_PEER_TOKEN", "bearer token among web-servers that share rate limits (secret)");
    if token.as_ref().is_some_and(|token| !token.expose().bytes().all(|byte| byte.is_ascii_graphic())) {
        settings.mistake("RATE_LIMIT_PEER_TOKEN", "must be visible ASCII characters, without spaces");
    }
    if text.is_some() && token.is_none() {
        settings.mistake("RATE_LIMIT_PEER_TOKEN", "must be set where RATE_LIMIT_PEERS is");
    }
    (peers, token)
}

fn read_trusted_proxies(settings: &mut Settings) -> TrustedProxies {
    let help = "addresses and networks of the proxies whose X-Forwarded-For is believed, comma-separated";
    let Some(text) = settings.optional("TRUSTED_PROXIES", help) else { return TrustedProxies::default() };
    TrustedProxies::parse(&text).unwrap_or_else(|message| {
        settings.mistake("TRUSTED_PROXIES", message);
        TrustedProxies::default()
    })
}

impl PeerName {
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.strip_prefix('[').map_or(Some(host), |host| host.strip_suffix(']'))?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let is_name = !host.is_empty() && !host.contains(['/', '@', '[', ']', ' ']);
        is_name.then(|| Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(pairs: &[(&str, &str)]) -> Vec<String> {
        let mut settings = Settings::from_pairs(pairs.iter().copied());
        LimitsConfig::read(&mut settings);
        settings.finish().map_or_else(|mistakes| mistakes.0, |()| Vec::new())
    }

    #[test]
    fn peers_need_a_token_and_a_port() {
        let token = ("RATE_LIMIT_PEER_TOKEN", "hush");
        assert_eq!(mistakes(&[("RATE_LIMIT_PEERS", "web:9090, [::1]:9090,127.0.0.2:1"), token]), [""; 0]);
        assert_eq!(mistakes(&[token, ("RATE_LIMIT_PEERS", " ")]), [""; 0]);
        assert_eq!(mistakes(&[("RATE_LIMIT_PEERS", "web:1")]).len(), 1);
        for bad in ["web", "web:", ":1", "web:x", "web:0", "http://web:1", "web:1,,other:1", "[::1:1", "web:99999"] {
            assert_eq!(mistakes(&[("RATE_LIMIT_PEERS", bad), token]).len(), 1, "{bad}");
        }
        assert_eq!(mistakes(&[("RATE_LIMIT_PEER_TOKEN", "two words"), ("TRUSTED_PROXIES", "proxy")]).len(), 2);
    }
}
