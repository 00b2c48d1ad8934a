//! The settings of access tokens.

use std::time::Duration;

use shared::config::{Settings, TokenConfig};

use super::oidc::OidcConfig;

/// Which access tokens count, and on whose word.
#[derive(Clone, Debug)]
pub struct TokensConfig {
    /// Who signs them, and for whom.
    pub names: TokenConfig,
    /// How old what is known of revoked ones may get.
    pub age_max: Duration,
    /// Whose count besides ours.
    pub oidc: Option<OidcConfig>,
}

impl TokensConfig {
    /// Reads the settings; mistakes are noted in `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        let config = Self {
            names: TokenConfig::read(settings),
            // So long the last token lives that could have been revoked meanwhile.
            age_max: settings.millis(
                "TOKEN_REVOCATIONS_MAX_AGE_MS",
                900_000,
                5_000..=86_400_000,
                "how old what is known of revoked tokens and API keys may get, ms; then none is taken",
            ),
            oidc: OidcConfig::read(settings),
        };
        if config.oidc.as_ref().is_some_and(|oidc| oidc.issuer == config.names.issuer) {
            // Ours have scopes and accounts here, which nobody else may give.
            settings.mistake("OIDC_ISSUER", "must not be TOKEN_ISSUER: its tokens would look like our own");
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outside_issuer_never_has_our_name() {
        let mistakes = |ours: &str| {
            let outside = [("OIDC_ISSUER", "https://id.example"), ("OIDC_AUDIENCE", "shop")];
            let mut settings = Settings::from_pairs([("TOKEN_ISSUER", ours)].into_iter().chain(outside));
            TokensConfig::read(&mut settings);
            settings.finish().err().map(|mistakes| mistakes.to_string()).unwrap_or_default()
        };
        assert!(mistakes("https://id.example").starts_with("OIDC_ISSUER: must not be TOKEN_ISSUER"));
        for other in ["purchase-system", "https://id.example/", "https://shop.example"] {
            assert_eq!(mistakes(other), "", "{other}");
        }
    }
}
