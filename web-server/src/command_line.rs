//! `--help` and `--version`; everything else is a setting in the environment.

use std::process::ExitCode;

use shared::config::{EXIT_BAD_SETTINGS, Settings, SettingsTable};

use crate::config::Config;

/// Reads the configuration, or tells what is wrong with it on standard error.
///
/// # Errors
/// The exit code: 78 for bad settings, 2 for an unknown argument, 0 after `--help` and `--version`.
pub fn read_config() -> Result<Config, ExitCode> {
    let mut settings = Settings::from_environment();
    let config = Config::read(&mut settings);
    let command = clap::Command::new("web-server")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Accepts purchases over HTTP, publishes them to Kafka, and serves reads from management-api.")
        .after_help(SettingsTable(settings.rows()).to_string());
    if let Err(answer) = command.try_get_matches() {
        let _ = answer.print();
        return Err(ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(1)));
    }
    match settings.finish() {
        Ok(()) => Ok(config),
        Err(mistakes) => {
            eprintln!("{mistakes}");
            Err(ExitCode::from(EXIT_BAD_SETTINGS))
        }
    }
}
