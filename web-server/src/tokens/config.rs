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
        Self {
            names: TokenConfig::read(settings),
            // So long the last token lives that could have been revoked meanwhile.
            age_max: settings.millis(
                "TOKEN_REVOCATIONS_MAX_AGE_MS",
                900_000,
                5_000..=86_400_000,
                "how old what is known of revoked tokens and API keys may get, ms; then none is taken",
            ),
            oidc: OidcConfig::read(settings),
        }
    }
}
