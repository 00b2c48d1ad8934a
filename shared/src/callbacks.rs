//! Where buyers are called back.

use serde::{Deserialize, Serialize};

/// Where a buyer is called back once the purchase is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallbackUrl(Box<str>);

impl CallbackUrl {
    /// Reads one as a buyer sends it.
    ///
    /// # Errors
    /// What it has to be instead.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.starts_with("http") { Ok(Self(text.into())) } else { Err("must be an https URL") }
    }

    /// Takes back what was stored: it was parsed when it came.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The URL as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Host and port, the default port left out.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.split('/').nth(2).unwrap_or_default()
    }
}
