//! The settings of callbacks.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shared::callbacks::CallbackRules;
use shared::config::Settings;
use shared::http::SYSTEM_AUTHORITIES;

use super::{AddressRules, SigningKeys};

/// How callbacks are sent.
#[derive(Clone, Debug)]
pub struct SendingConfig {
    /// What signs them.
    pub keys: Arc<SigningKeys>,
    /// Whether they may go over plain http.
    pub allow_http: bool,
    /// Where they may go.
    pub addresses: AddressRules,
    /// Who may say that a server is a receiver's (PEM).
    pub authorities: PathBuf,
    /// How long one attempt may take, from the look-up of the name to the answer.
    pub timeout: Duration,
}

impl SendingConfig {
    /// Reads the settings; mistakes are noted in `settings`. Without keys there are no callbacks.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let help = "keys of callbacks, newest first: whsec_BASE64 (v1) and whsk_BASE64 (v1a), two of each at most; unset: no callbacks (secret)";
        let keys =
            settings.secret("CALLBACK_SIGNING_SECRET", help).and_then(|text| match SigningKeys::parse(text.expose()) {
                Ok(keys) => Some(Arc::new(keys)),
                Err(error) => {
                    settings.mistake("CALLBACK_SIGNING_SECRET", &error.to_string());
                    None
                }
            });
        let allow_http = settings.parsed("CALLBACK_ALLOW_HTTP", "false", "whether callbacks may go over plain http");
        let allow_private = settings.parsed(
            "CALLBACK_ALLOW_PRIVATE",
            "false",
            "whether callbacks may go to private addresses and to this machine; metadata of clouds stays shut",
        );
        let authorities = settings.file(
            "CALLBACK_CA_FILE",
            "authorities (PEM) that are believed about receivers; unset: /etc/ssl/certs/ca-certificates.crt",
        );
        let timeout = settings.millis(
            "CALLBACK_TIMEOUT_MS",
            15_000,
            1_000..=60_000,
            "how long one attempt of a callback may take, ms",
        );
        Some(Self {
            keys: keys?,
            allow_http,
            addresses: AddressRules { allow_private },
            authorities: authorities.unwrap_or_else(|| SYSTEM_AUTHORITIES.into()),
            timeout,
        })
    }

    /// What web-server is told of these settings.
    #[must_use]
    pub fn rules(&self) -> CallbackRules {
        CallbackRules { enabled: true, allow_http: self.allow_http, keys: self.keys.public_keys() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callbacks::sending::new_secret;

    fn read(pairs: &[(&str, &str)]) -> (Option<SendingConfig>, Vec<String>) {
        let mut settings = Settings::from_pairs(pairs.iter().copied());
        let config = SendingConfig::read(&mut settings);
        (config, settings.finish().err().map(|mistakes| mistakes.0).unwrap_or_default())
    }

    #[test]
    fn without_keys_there_are_no_callbacks() {
        let (config, mistakes) = read(&[("CALLBACK_ALLOW_HTTP", "true")]);
        assert!(config.is_none() && mistakes.is_empty());
    }

    #[test]
    fn a_new_secret_is_all_that_is_needed() {
        let secret = new_secret();
        let (config, mistakes) = read(&[("CALLBACK_SIGNING_SECRET", secret.expose())]);
        let config = config.unwrap();
        assert!(mistakes.is_empty() && !config.allow_http && !config.addresses.allow_private);
        assert_eq!((config.rules().keys.len(), config.timeout), (1, Duration::from_secs(15)));
        let shown = format!("{config:?}");
        assert!(secret.expose().split(' ').all(|key| !shown.contains(key)), "{shown}");
    }

    #[test]
    fn every_mistake_is_told() {
        let (_, mistakes) = read(&[
            ("CALLBACK_SIGNING_SECRET", "changeme"),
            ("CALLBACK_ALLOW_HTTP", "maybe"),
            ("CALLBACK_ALLOW_PRIVATE", "perhaps"),
            ("CALLBACK_CA_FILE", "/nowhere.pem"),
            ("CALLBACK_TIMEOUT_MS", "999"),
        ]);
        assert_eq!(mistakes.len(), 5, "{mistakes:?}");
        assert!(!mistakes.concat().contains("changeme"));
    }
}
