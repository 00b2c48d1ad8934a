//! Logs: lines of text on a terminal, JSON elsewhere.

use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;

use crate::config::Settings;

/// The levels, from the fewest lines to the most.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
/// What writes to the log: our crates, and the libraries that have something to say. A module may follow after `::`.
const TARGETS: [&str; 13] = [
    "audit",
    "embedded",
    "management_api",
    "shared",
    "web_server",
    "axum",
    "hyper",
    "hyper_util",
    "librdkafka",
    "rdkafka",
    "sqlx",
    "tokio",
    "tower",
];

/// Settings of the log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    level: LogFilter,
    format: LogFormat,
}

/// A level, or a list of `target=level`.
#[derive(Clone, Debug)]
struct LogFilter(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogFormat {
    Auto,
    Text,
    Json,
}

impl LogConfig {
    /// Reads the settings.
    pub fn read(settings: &mut Settings) -> Self {
        Self {
            level: settings.parsed("LOG_LEVEL", "info", "error, warn, info, debug, trace, or a list of target=level"),
            format: settings.parsed("LOG_FORMAT", "auto", "text, json, or auto: text on a terminal, else json"),
        }
    }

    /// Starts the process's log on standard error, also for panics. A second call changes nothing.
    pub fn start(&self) {
        let builder =
            tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(EnvFilter::new(&self.level.0));
        let terminal = std::io::stderr().is_terminal();
        let json = self.format == LogFormat::Json || (self.format == LogFormat::Auto && !terminal);
        let _ = if json {
            builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
        } else {
            builder.with_ansi(terminal).try_init()
        };
        // A line like all others, for whoever reads the log by machine.
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let error = panic.payload_as_str().unwrap_or("panic");
            tracing::error!(place, error, thread = std::thread::current().name().unwrap_or_default(), "a panic");
        }));
    }
}

impl FromStr for LogFilter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_level = |level: &str| LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level));
        let is_target = |target: &str| TARGETS.contains(&target.split("::").next().unwrap_or(target));
        let is_directive = |part: &str| match part.split_once('=') {
            Some((target, level)) => is_target(target) && is_level(level),
            // A lone word that is no level would be taken for a target, and silence all others.
            None => is_level(part),
        };
        let dense = text.replace(' ', "");
        if dense.split(',').all(is_directive) && EnvFilter::try_new(&dense).is_ok() {
            return Ok(Self(dense));
        }
        Err(
            "must be error, warn, info, debug, trace, or a list of target=level; a target is a module of ours or a library",
        )
    }
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("must be text, json or auto"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_levels_and_known_targets_are_taken() {
        for good in ["info", "WARN", "info,sqlx=warn", "warn, web_server::publisher=trace", "librdkafka=debug"] {
            assert!(good.parse::<LogFilter>().is_ok(), "{good}");
        }
        for bad in ["shouting", "", "=loud=", "web_server=shouting", "webserver=info", "info,", "web_server", "off"] {
            assert!(bad.parse::<LogFilter>().is_err(), "{bad}");
        }
    }
}
