//! A configured URL of management-api.

use http::HeaderValue;
use http::uri::{Scheme, Uri};

/// A configured URL of management-api.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaUrl {
    /// A name or an address.
    pub(super) host: String,
    pub(super) port: u16,
    /// As the caller of that name would send it, for virtual hosts.
    pub(super) authority: HeaderValue,
    /// What stands before each path, without a slash at its end.
    pub(super) base: String,
}

impl ReplicaUrl {
    /// Parses `http://host[:port][/base]`.
    ///
    /// # Errors
    /// What is wrong with it, for the operator.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const SHAPE: &str = "must be a list of http://host[:port][/path]";
        let uri: Uri = text.parse().map_err(|_| SHAPE)?;
        if uri.scheme() == Some(&Scheme::HTTPS) {
            return Err("https is not supported: put a proxy beside the service, or use http");
        }
        let authority = uri.authority().filter(|_| uri.scheme() == Some(&Scheme::HTTP)).ok_or(SHAPE)?;
        let bad_port = authority.as_str() != authority.host() && authority.port_u16().is_none();
        if bad_port || authority.as_str().contains('@') || authority.host().is_empty() || uri.query().is_some() {
            return Err(SHAPE);
        }
        Ok(Self {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(80),
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| SHAPE)?,
            base: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_plain_http_with_a_host() {
        let url = ReplicaUrl::parse("http://[::1]:8081/api/").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.base.as_str()), ("::1", 8081, "/api"));
        assert_eq!(ReplicaUrl::parse("http://management").unwrap().port, 80);
        for bad in
            ["", "management:8081", "ftp://x", "http://", "http://u:p@h", "http://h/?q", "https://h", "http://h:x"]
        {
            assert!(ReplicaUrl::parse(bad).is_err(), "{bad}");
        }
    }
}
