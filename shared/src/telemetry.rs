//! Logs: lines of text on a terminal, JSON elsewhere.

use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;

use crate::config::Settings;

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

    /// Starts the process's log on standard error. A second call changes nothing.
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
    }
}

impl FromStr for LogFilter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match EnvFilter::try_new(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err("must be error, warn, info, debug, trace, or a list of target=level"),
        }
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
