//! The settings of an outside issuer.

use std::net::IpAddr;
use std::path::PathBuf;

use http::Uri;
use http::uri::Scheme;
use shared::config::Settings;
use shared::http::SYSTEM_AUTHORITIES;

/// Whose tokens count besides our own.
#[derive(Clone, Debug)]
pub struct OidcConfig {
    /// The claim `iss`, and where the issuer is.
    pub issuer: String,
    /// The claim `aud`.
    pub audience: String,
    /// Who may say that a server is the issuer's (PEM).
    pub authorities: PathBuf,
}

impl OidcConfig {
    /// Reads the settings; mistakes are noted in `settings`.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let issuer = settings.optional(
            "OIDC_ISSUER",
            "issuer whose access tokens count too: its https URL (http on the machine itself alone), as in its claim iss",
        );
        let audience = settings.optional("OIDC_AUDIENCE", "whom that issuer's access tokens are for (claim aud)");
        let authorities = settings.file(
            "OIDC_CA_FILE",
            "authorities (PEM) that are believed about OIDC_ISSUER; unset: /etc/ssl/certs/ca-certificates.crt",
        );
        let Some(issuer) = issuer else {
            if audience.is_some() {
                settings.mistake("OIDC_ISSUER", "is needed beside OIDC_AUDIENCE");
            }
            return None;
        };
        if parse_url(&issuer).is_none_or(|url| url.query().is_some()) {
            settings.mistake("OIDC_ISSUER", "must be an https URL, without query");
        }
        if audience.is_none() {
            settings.mistake("OIDC_AUDIENCE", "is needed beside OIDC_ISSUER");
        }
        let authorities = authorities.unwrap_or_else(|| SYSTEM_AUTHORITIES.into());
        Some(Self { issuer, audience: audience?, authorities })
    }
}

/// Where something of an issuer's is: nobody must be able to change it on its way here.
pub(super) fn parse_url(text: &str) -> Option<Uri> {
    let url: Uri = text.parse().ok().filter(|_| !text.contains('#'))?;
    let host = url.host().filter(|host| !host.is_empty())?;
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    let is_safe = url.scheme() == Some(&Scheme::HTTPS) || (url.scheme() == Some(&Scheme::HTTP) && is_here);
    let is_plain = url.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    (is_safe && is_plain).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(pairs: &[(&str, &str)]) -> usize {
        let mut settings = Settings::from_pairs(pairs.iter().copied());
        OidcConfig::read(&mut settings);
        settings.finish().map_or_else(|mistakes| mistakes.0.len(), |()| 0)
    }

    #[test]
    fn an_issuer_is_one_that_nobody_can_stand_in_for() {
        let audience = ("OIDC_AUDIENCE", "shop");
        for good in ["https://id.example", "https://id.example:8443/realms/x", "http://127.0.0.1:1", "http://[::1]:1/a"]
        {
            assert_eq!(mistakes(&[("OIDC_ISSUER", good), audience]), 0, "{good}");
        }
        for bad in [
            "http://id.example",
            "id.example",
            "https://",
            "https://id.example?x",
            "https://a@id.example",
            "https://x/#y",
            "ftp://x",
        ] {
            assert_eq!(mistakes(&[("OIDC_ISSUER", bad), audience]), 1, "{bad}");
        }
        assert_eq!(mistakes(&[audience]), 1);
        assert_eq!(mistakes(&[("OIDC_ISSUER", "https://id.example")]), 1);
        assert_eq!(mistakes(&[]), 0);
    }
}
