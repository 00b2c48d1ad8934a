//! The command line: serve, or look after dead letters.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use prometheus::Registry;
use shared::config::{EXIT_BAD_SETTINGS, Settings, settings_table};
use shared::shutdown::Shutdown;
use tokio::net::TcpListener;

use crate::app::{Service, dead_letter_producer};
use crate::config::Config;
use crate::dead_letters::{self, Selection};

/// What to do, with the settings to do it.
pub enum Command {
    /// Record and serve.
    Serve(Box<Config>),
    /// Print the dead letters.
    ListDeadLetters(Box<Config>),
    /// Send dead letters back.
    Redrive(Box<Config>, Selection),
}

/// Records every purchase exactly once and serves it back.
#[derive(Parser)]
#[command(version)]
struct CommandLine {
    #[command(subcommand)]
    topic: Option<Topic>,
}

#[derive(Subcommand)]
enum Topic {
    /// Records that can never be stored.
    DeadLetters {
        #[command(subcommand)]
        action: Action,
    },
}

#[derive(Subcommand)]
enum Action {
    /// Print every dead letter as one JSON object a line.
    List,
    /// Send dead letters back to the topic they came from.
    Redrive(RedriveArguments),
}

#[derive(Args)]
#[group(id = "which", required = true, multiple = true)]
struct RedriveArguments {
    /// Send all of them.
    #[arg(long, conflicts_with_all = ["partition", "offset", "value"])]
    all: bool,
    /// Partition in the dead-letter topic.
    #[arg(long, requires = "offset")]
    partition: Option<i32>,
    /// Offset in the dead-letter topic.
    #[arg(long, requires = "partition")]
    offset: Option<i64>,
    /// A file with the mended value.
    #[arg(long, requires = "partition")]
    value: Option<PathBuf>,
}

/// Reads command line and settings; ends the process when either is wrong or only help is asked for.
#[must_use]
pub fn parse() -> Command {
    let matches = CommandLine::command().after_help(settings_table(Config::read)).get_matches();
    let line = <CommandLine as clap::FromArgMatches>::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let mut settings = Settings::from_environment();
    let config = Box::new(Config::read(&mut settings));
    settings.finish_or_exit();
    config.log.start();
    match line.topic {
        None => Command::Serve(config),
        Some(Topic::DeadLetters { action: Action::List }) => Command::ListDeadLetters(config),
        Some(Topic::DeadLetters { action: Action::Redrive(arguments) }) => {
            Command::Redrive(config, arguments.selection())
        }
    }
}

impl RedriveArguments {
    fn selection(self) -> Selection {
        let (Some(partition), Some(offset)) = (self.partition, self.offset) else { return Selection::All };
        let value = self.value.map(|path| {
            std::fs::read(&path).unwrap_or_else(|error| {
                eprintln!("--value: cannot read {}: {error}", path.display());
                std::process::exit(i32::from(EXIT_BAD_SETTINGS));
            })
        });
        Selection::One { partition, offset, value }
    }
}

/// Records and serves until SIGTERM or SIGINT. 0 when everything ended in good order.
#[must_use]
pub fn serve(config: Config) -> ExitCode {
    run(async {
        let address = config.http.listen_address;
        let shutdown = Shutdown::new();
        let signals = shutdown.on_signals(config.http.drain_delay).map_err(|error| error.to_string())?;
        let service = Service::build(config).map_err(|error| error.to_string())?;
        let listener =
            TcpListener::bind(address).await.map_err(|error| format!("cannot listen on {address}: {error}"))?;
        tokio::spawn(signals);
        tracing::info!(%address, "listening");
        Ok(service.run(listener, shutdown).await)
    })
}

/// Prints the dead letters.
#[must_use]
pub fn list_dead_letters(config: &Config) -> ExitCode {
    run(async {
        dead_letters::list(&config.kafka, std::io::stdout().lock()).map(|()| true).map_err(|error| error.to_string())
    })
}

/// Sends dead letters back and says how many.
#[must_use]
pub fn redrive(config: &Config, selection: Selection) -> ExitCode {
    run(async {
        let producer = dead_letter_producer(config, &Registry::new()).map_err(|error| error.to_string())?;
        let sent =
            dead_letters::redrive(&config.kafka, &producer, selection).await.map_err(|error| error.to_string())?;
        eprintln!("{sent} sent back to {}", config.kafka.topic);
        Ok(true)
    })
}

fn run(work: impl Future<Output = Result<bool, String>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(work) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
