//! The settings of accounts.

use shared::config::{Secret, Settings, TokenConfig};

use super::{Clock, Email, FirstAdmin, Password, SigningKeys};

/// What can be set about accounts.
#[derive(Clone, Debug)]
pub struct AccountsConfig {
    /// What signs access tokens; without it there are no accounts.
    pub keys: Option<SigningKeys>,
    /// Who signs them, and for whom.
    pub tokens: TokenConfig,
    /// How many passwords are hashed at once.
    pub hashes_max: usize,
    /// Who administers.
    pub first_admin: Option<FirstAdmin>,
    /// The time (not a setting: tests have their own).
    pub clock: Clock,
}

impl AccountsConfig {
    /// Reads the settings; mistakes are noted in `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        let help = "Ed25519 keys of access tokens, PKCS#8 PEM; the first signs, all count; unset: no accounts (secret)";
        let keys = settings.secret("JWT_SIGNING_KEY", help).and_then(|pem| match SigningKeys::parse(pem.expose()) {
            Ok(keys) => Some(keys),
            Err(mistake) => {
                settings.mistake("JWT_SIGNING_KEY", mistake);
                None
            }
        });
        Self {
            keys,
            tokens: TokenConfig::read(settings),
            hashes_max: settings.size(
                "PASSWORD_HASHES_MAX",
                2,
                1..=64,
                "passwords hashed at once, 19 MiB each; more are refused",
            ),
            first_admin: read_first_admin(settings),
            clock: Clock::default(),
        }
    }
}

fn read_first_admin(settings: &mut Settings) -> Option<FirstAdmin> {
    let email = settings.optional("ADMIN_EMAIL", "e-mail of the first administrator, who is made at the start");
    let password =
        settings.secret("ADMIN_PASSWORD", "the first administrator's password, 8 to 128 characters (secret)");
    let (email, password) = match (email, password) {
        (None, None) => return None,
        (Some(email), Some(password)) => (email, password),
        (None, Some(_)) => {
            settings.mistake("ADMIN_EMAIL", "must be set with ADMIN_PASSWORD");
            return None;
        }
        (Some(_), None) => {
            settings.mistake("ADMIN_PASSWORD", "must be set with ADMIN_EMAIL");
            return None;
        }
    };
    let email = Email::parse(email.trim()).map_err(|message| settings.mistake("ADMIN_EMAIL", message));
    let password = new_password(&password).map_err(|message| settings.mistake("ADMIN_PASSWORD", message));
    Some(FirstAdmin { email: email.ok()?, password: password.ok()? })
}

fn new_password(text: &Secret<String>) -> Result<Password, &'static str> {
    Password::parse(text.expose())
}
