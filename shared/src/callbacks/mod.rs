//! Callbacks: where they may go, and what receivers verify them with.

mod callback_url;
mod outbox;
mod rules;

pub use self::callback_url::{CALLBACK_URL_BYTES_MAX, CallbackUrl, InvalidCallbackUrl, Schemes};
pub use self::outbox::{DeadCallback, DeadCallbackPage, FailingHost, FailingHosts, HostBody, ResendAnswer, ResendBody};
pub use self::rules::{CallbackRules, WebhookKey};
