//! What access tokens are signed for: one service writes it into them, the other asks for it.

use super::Settings;

/// Who signs access tokens, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenConfig {
    /// The claim `iss`.
    pub issuer: String,
    /// The claim `aud`.
    pub audience: String,
}

impl TokenConfig {
    /// Reads the settings; mistakes are noted in `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        const DEFAULT: &str = "purchase-system";
        Self {
            issuer: settings.text("TOKEN_ISSUER", DEFAULT, "who signs access tokens (claim iss); the same in both"),
            audience: settings.text(
                "TOKEN_AUDIENCE",
                DEFAULT,
                "whom access tokens are for (claim aud); the same in both",
            ),
        }
    }
}
