//! What management-api tells web-server of callbacks.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{CallbackUrl, Schemes};
use crate::event::FieldError;

/// Whether there are callbacks, where they may go, and what verifies them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct CallbackRules {
    /// Whether purchases may ask for one.
    pub enabled: bool,
    /// Whether they may go over plain http.
    pub allow_http: bool,
    /// The public keys of all that sign by `v1a`, newest first.
    pub keys: Vec<WebhookKey>,
}

/// A public Ed25519 key of callbacks, as a JSON Web Key (RFC 8037) with one member more (RFC 7517, 4 allows them).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct WebhookKey {
    /// Always `OKP`.
    pub kty: String,
    /// Always `Ed25519`.
    pub crv: String,
    /// Always `EdDSA`.
    pub alg: String,
    /// Always `sig`.
    #[serde(rename = "use")]
    pub purpose: String,
    /// The key's name: its thumbprint (RFC 7638).
    pub kid: String,
    /// The key itself, base64url.
    pub x: String,
    /// The key as libraries of Standard Webhooks take it: `whpk_` and base64.
    pub webhook_public_key: String,
}

impl CallbackRules {
    /// Reads what a buyer has sent as `callback_url`.
    ///
    /// # Errors
    /// What is wrong with it, for the answer's list of fields.
    pub fn parse(&self, text: &str) -> Result<CallbackUrl, FieldError> {
        let refused = |message: String| FieldError::new("callback_url", message);
        if !self.enabled {
            // Better no purchase than one whose buyer waits for a call that never comes.
            return Err(refused("is refused: callbacks are not switched on here".to_owned()));
        }
        let schemes = if self.allow_http { Schemes::HttpToo } else { Schemes::HttpsOnly };
        CallbackUrl::parse(text, schemes).map_err(|error| refused(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(rules: &CallbackRules, text: &str) -> Option<String> {
        rules.parse(text).err().map(|error| error.to_string())
    }

    #[test]
    fn what_may_be_asked_for_is_what_the_rules_say() {
        let off = CallbackRules::default();
        let on = CallbackRules { enabled: true, ..off.clone() };
        let http_too = CallbackRules { allow_http: true, ..on.clone() };
        let (plain, encrypted) = ("http://shop.example/paid", "https://shop.example/paid");
        assert!(complaint(&off, encrypted).unwrap().contains("not switched on"));
        assert_eq!(complaint(&on, plain).as_deref(), Some("callback_url must begin with https://"));
        for (rules, good) in [(&on, encrypted), (&http_too, encrypted), (&http_too, plain)] {
            assert_eq!(complaint(rules, good), None, "{good}");
        }
    }
}
