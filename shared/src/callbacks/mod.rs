//! Callbacks: where they may go, and what receivers verify them with.

mod callback_url;
mod rules;

pub use self::callback_url::{CALLBACK_URL_BYTES_MAX, CallbackUrl, InvalidCallbackUrl, Schemes};
pub use self::rules::{CallbackRules, WebhookKey};
