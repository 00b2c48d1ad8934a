//! The URL that a callback goes to.

use std::fmt;
use std::net::IpAddr;

use http::uri::PathAndQuery;
use serde::{Deserialize, Serialize};
use url::{Host, Position, Url};

/// The most bytes of a callback's URL, as it is sent and as it is kept.
pub const CALLBACK_URL_BYTES_MAX: usize = 2048;

/// Which schemes are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schemes {
    /// https alone.
    HttpsOnly,
    /// http as well.
    HttpToo,
}

/// What is wrong with a URL, in words for who has sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCallbackUrl {
    /// More than [`CALLBACK_URL_BYTES_MAX`].
    #[error("must have at most {CALLBACK_URL_BYTES_MAX} bytes")]
    TooLong,
    /// White space, control characters, or what some take for a slash.
    #[error("must not contain white space, control characters or backslashes")]
    StrangeCharacters,
    /// Plain http where it is not allowed, or something else.
    #[error("must begin with https://")]
    NotHttps,
    /// Neither http nor https.
    #[error("must begin with https:// or http://")]
    NotHttp,
    /// A name or a password before the host.
    #[error("must not contain a user or a password")]
    UserInfo,
    /// What no server is ever told.
    #[error("must not contain a fragment (#)")]
    Fragment,
    /// No host, or none that could be.
    #[error("must have a host that can exist")]
    NoHost,
    /// A host that ends with a dot: the same one by another name.
    #[error("must have a host that does not end with a dot")]
    TrailingDot,
    /// A port that cannot be.
    #[error("must have a port from 1 to 65535, or none")]
    BadPort,
    /// Anything else that cannot be read.
    #[error("must be a URL")]
    Unreadable,
}

/// Where a callback goes, in its one normal form (WHATWG URL): lower-case host, default port left out, IPv4 addresses in their usual
/// notation whatever they came in. Two are equal if these forms are. Which addresses may be connected to is not decided here but
/// where the connection is made, because a name may lead anywhere at any time.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct CallbackUrl(Box<Url>);

impl CallbackUrl {
    /// Reads a URL as a buyer sends it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, schemes: Schemes) -> Result<Self, InvalidCallbackUrl> {
        if text.len() > CALLBACK_URL_BYTES_MAX {
            return Err(InvalidCallbackUrl::TooLong);
        }
        // Browsers drop some of these and make slashes of others: what is left would not be what was read here.
        if text.contains(|letter: char| letter.is_control() || letter.is_whitespace() || letter == '\\') {
            return Err(InvalidCallbackUrl::StrangeCharacters);
        }
        let authority = authority(text, schemes)?;
        if text.contains('#') {
            return Err(InvalidCallbackUrl::Fragment);
        }
        if authority.contains('@') {
            return Err(InvalidCallbackUrl::UserInfo);
        }
        Self::from_url(Url::parse(text).map_err(from_library)?)
    }

    fn from_url(url: Url) -> Result<Self, InvalidCallbackUrl> {
        if url.as_str().len() > CALLBACK_URL_BYTES_MAX {
            return Err(InvalidCallbackUrl::TooLong);
        }
        if url.port() == Some(0) {
            return Err(InvalidCallbackUrl::BadPort);
        }
        if url.host_str().is_some_and(|host| host.ends_with('.')) {
            return Err(InvalidCallbackUrl::TrailingDot);
        }
        if url[Position::BeforePath..].parse::<PathAndQuery>().is_err() {
            return Err(InvalidCallbackUrl::Unreadable);
        }
        Ok(Self(Box::new(url)))
    }

    /// Takes back what was stored: what cannot be read any more, because the rules were others once, is none.
    #[must_use]
    pub fn from_stored(text: &str) -> Option<Self> {
        Self::parse(text, Schemes::HttpToo).ok()
    }

    /// The normal form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Host and port, the default port left out, an IPv6 address in brackets: the header `Host`, and who shares a receiver's fate.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.0[Position::BeforeHost..Position::AfterPort]
    }

    /// Scheme, host and port: who may be told on the same connection.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.0[..Position::AfterPort]
    }

    /// The host alone, an IPv6 address without brackets: what a certificate must be for.
    #[must_use]
    pub fn host_name(&self) -> &str {
        self.0.host_str().unwrap_or_default().trim_matches(['[', ']'])
    }

    /// The address, if the host is one and no name.
    #[must_use]
    pub fn literal_address(&self) -> Option<IpAddr> {
        match self.0.host()? {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
        }
    }

    /// The port, the scheme's own if none is given.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or_default()
    }

    /// Path and query.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.0[Position::BeforePath..]
    }

    /// Whether it is https.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.0.scheme() == "https"
    }
}

/// What stands between the scheme and the path, as it was written. The library would take `https:shop.example` and `https:///shop.example`, too.
fn authority(text: &str, schemes: Schemes) -> Result<&str, InvalidCallbackUrl> {
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    let is_https = scheme.eq_ignore_ascii_case("https");
    match schemes {
        Schemes::HttpsOnly if !is_https => return Err(InvalidCallbackUrl::NotHttps),
        Schemes::HttpToo if !is_https && !scheme.eq_ignore_ascii_case("http") => {
            return Err(InvalidCallbackUrl::NotHttp);
        }
        Schemes::HttpsOnly | Schemes::HttpToo => {}
    }
    match rest.split(['/', '?', '#']).next() {
        Some(authority) if !authority.is_empty() => Ok(authority),
        _ => Err(InvalidCallbackUrl::NoHost),
    }
}

fn from_library(error: url::ParseError) -> InvalidCallbackUrl {
    use url::ParseError::{
        EmptyHost, IdnaError, InvalidDomainCharacter, InvalidIpv4Address, InvalidIpv6Address, InvalidPort,
    };
    match error {
        EmptyHost | IdnaError | InvalidDomainCharacter | InvalidIpv4Address | InvalidIpv6Address => {
            InvalidCallbackUrl::NoHost
        }
        InvalidPort => InvalidCallbackUrl::BadPort,
        _ => InvalidCallbackUrl::Unreadable,
    }
}

/// What stands behind the host may be a secret of who is called.
impl fmt::Debug for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallbackUrl({}/…)", self.origin())
    }
}

impl TryFrom<String> for CallbackUrl {
    type Error = InvalidCallbackUrl;

    /// One that was taken before, whatever the scheme: whether it may still be called is looked at when it is.
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text, Schemes::HttpToo)
    }
}

impl From<CallbackUrl> for String {
    fn from(url: CallbackUrl) -> Self {
        (*url.0).into()
    }
}

#[cfg(test)]
mod tests;
