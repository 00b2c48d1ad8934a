//! The command line: everything but `--help` and `--version` is a setting in the environment.

use std::process::ExitCode;

use shared::config::{Settings, settings_table};
use shared::shutdown::Shutdown;
use tokio::runtime::Runtime;

use crate::app::{self, RunError};
use crate::config::Config;

/// Reads command line and settings; ends the process when either is wrong or only help is asked for.
#[must_use]
pub fn parse() -> Config {
    clap::Command::new("web-server")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Accepts purchases over HTTP, publishes them to Kafka, and serves reads from management-api.")
        .after_help(settings_table(Config::read))
        .get_matches();
    let mut settings = Settings::from_environment();
    let config = Config::read(&mut settings);
    settings.finish_or_exit();
    config.log.start();
    config
}

/// Accepts and serves until SIGTERM or SIGINT. 0 when everything ended in good order.
#[must_use]
pub fn serve(config: Config) -> ExitCode {
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "web-server ends with an error");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> Result<(), RunError> {
    let shutdown = Shutdown::new();
    shutdown.on_signals(config.http.drain_delay, config.end_limit())?;
    let runtime = Runtime::new()?;
    let outcome = runtime.block_on(async {
        let listener = app::listen(config.http.listen_address).await?;
        app::run(config, listener, shutdown).await
    });
    // What still blocks a thread, such as a name server that does not answer, holds nothing that is needed.
    runtime.shutdown_background();
    outcome
}
