//! How callbacks are dispatched.

use std::time::Duration;

use shared::callbacks::CallbackRules;
use shared::config::Settings;

use super::schedule::Schedule;
use super::sending::SendingConfig;

/// How much longer than an attempt's limit a claim lasts: so long may a callback wait for its attempt, and so long may it take until
/// what became of it is written down.
const WAIT_MAX: Duration = Duration::from_secs(10);
const SETTLE_MAX: Duration = Duration::from_secs(5);

/// Everything about callbacks that can be set.
#[derive(Clone, Debug)]
pub struct CallbackConfig {
    /// How they are sent; nothing when they are switched off.
    pub sending: Option<SendingConfig>,
    /// How they are dispatched.
    pub dispatch: DispatchConfig,
}

impl CallbackConfig {
    /// Reads the settings; mistakes are noted in `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        let sending = SendingConfig::read(settings);
        let attempt_timeout = sending.as_ref().map(|sending| sending.timeout).unwrap_or_default();
        Self { sending, dispatch: DispatchConfig::read(settings, attempt_timeout) }
    }

    /// What web-server is told of these settings.
    #[must_use]
    pub fn rules(&self) -> CallbackRules {
        self.sending.as_ref().map(SendingConfig::rules).unwrap_or_default()
    }
}

/// How callbacks are dispatched.
#[derive(Clone, Debug)]
pub struct DispatchConfig {
    /// Attempts at once, in all and for one host.
    pub in_flight_max: usize,
    /// The same for one host.
    pub in_flight_per_host_max: usize,
    /// When they are tried again.
    pub schedule: Schedule,
    /// For how long dead ones are kept.
    pub dead_kept: Duration,
    /// How long one attempt may take.
    pub attempt_timeout: Duration,
}

impl DispatchConfig {
    /// Reads the settings; mistakes are noted in `settings`.
    pub fn read(settings: &mut Settings, attempt_timeout: Duration) -> Self {
        let schedule = Schedule::read(settings);
        Self {
            in_flight_max: settings.size(
                "CALLBACKS_IN_FLIGHT_MAX",
                256,
                1..=10_000,
                "attempts to deliver callbacks, at once",
            ),
            in_flight_per_host_max: settings.size(
                "CALLBACKS_IN_FLIGHT_PER_HOST_MAX",
                32,
                1..=1_000,
                "the same for one host; it begins with 2",
            ),
            schedule,
            // What is still tried cannot be old.
            dead_kept: schedule.patience.max(settings.millis(
                "CALLBACK_DEAD_KEPT_MS",
                2_592_000_000,
                1_000..=31_536_000_000,
                "for how long callbacks that were given up are kept to be sent again, ms; not less than they are tried",
            )),
            attempt_timeout,
        }
    }

    /// How long a claim lasts.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.begin_within() + self.attempt_timeout + SETTLE_MAX
    }

    /// How soon after its claim an attempt must begin.
    #[must_use]
    pub fn begin_within(&self) -> Duration {
        WAIT_MAX
    }
}
