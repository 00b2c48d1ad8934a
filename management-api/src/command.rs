//! The command line: serve, or look after dead letters, partitions, callbacks and keys.

mod api_keys;
mod callbacks;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, CommandFactory, Parser, Subcommand};
use shared::config::{EXIT_BAD_SETTINGS, Settings, settings_table};
use shared::shutdown::Shutdown;
use tokio::net::TcpListener;

pub use self::api_keys::KeyAction;
pub use self::callbacks::CallbackAction;
use crate::accounts;
use crate::app::{END_MARGIN, Service};
use crate::callbacks::sending;
use crate::config::Config;
use crate::dead_letters::{self, Selection};
use crate::partitions::{self, Step};
use crate::store::{self, Store};

/// What to do, with the settings to do it.
pub enum Command {
    /// Record and serve.
    Serve(Box<Config>),
    /// Print the dead letters.
    ListDeadLetters(Box<Config>),
    /// Send dead letters back.
    Redrive(Box<Config>, Selection),
    /// Step over what cannot be read.
    SkipRecords(Box<Config>, Step),
    /// Print what was stepped over.
    ListSkipped(Box<Config>),
    /// Print a new key of access tokens.
    NewSigningKey,
    /// Print new keys of callbacks.
    NewCallbackSecret,
    /// Look after callbacks.
    Callbacks(Box<Config>, CallbackAction),
    /// Look after API keys.
    ApiKeys(Box<Config>, KeyAction),
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
    /// Partitions that cannot be read on.
    Partitions {
        #[command(subcommand)]
        action: PartitionAction,
    },
    /// What access tokens are signed with.
    SigningKeys {
        #[command(subcommand)]
        action: SigningKeyAction,
    },
    /// Telling buyers that a purchase is recorded.
    Callbacks {
        #[command(subcommand)]
        action: CallbackAction,
    },
    /// Keys that programs buy and read with.
    ApiKeys {
        #[command(subcommand)]
        action: KeyAction,
    },
}

#[derive(Subcommand)]
enum SigningKeyAction {
    /// Print a new one for `JWT_SIGNING_KEY`, in PEM. Nothing is kept.
    New,
}

#[derive(Subcommand)]
enum PartitionAction {
    /// Step over a batch that cannot be read. Its purchases are lost, unless somebody has them elsewhere.
    Skip(SkipArguments),
    /// Print what was ever stepped over, as one JSON object a line.
    Skipped,
}

#[derive(Args)]
struct SkipArguments {
    /// The partition.
    #[arg(long)]
    partition: i32,
    /// The first offset to skip: the one that the log and `/readyz` name.
    #[arg(long)]
    offset: i64,
    /// The first offset not to skip; without it, the first behind the batch that cannot be read.
    #[arg(long)]
    to: Option<i64>,
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
    /// Send all that were not sent back yet, or have come back.
    #[arg(long, conflicts_with_all = ["partition", "offset", "value"])]
    all: bool,
    /// Its partition in the list.
    #[arg(long, requires = "offset", allow_negative_numbers = true)]
    partition: Option<i32>,
    /// Its offset in the list.
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
    // Who makes a key has no settings yet.
    match line.topic {
        Some(Topic::SigningKeys { action: SigningKeyAction::New }) => return Command::NewSigningKey,
        Some(Topic::Callbacks { action: CallbackAction::NewSecret }) => return Command::NewCallbackSecret,
        _ => {}
    }
    let mut settings = Settings::from_environment();
    let config = Box::new(Config::read(&mut settings));
    settings.finish_or_exit();
    config.log.start();
    match line.topic {
        None | Some(Topic::SigningKeys { .. }) => Command::Serve(config),
        Some(Topic::Callbacks { action }) => Command::Callbacks(config, action),
        Some(Topic::DeadLetters { action: Action::List }) => Command::ListDeadLetters(config),
        Some(Topic::DeadLetters { action: Action::Redrive(arguments) }) => {
            Command::Redrive(config, arguments.selection())
        }
        Some(Topic::ApiKeys { action }) => Command::ApiKeys(config, action),
        Some(Topic::Partitions { action: PartitionAction::Skipped }) => Command::ListSkipped(config),
        Some(Topic::Partitions { action: PartitionAction::Skip(SkipArguments { partition, offset, to }) }) => {
            Command::SkipRecords(config, Step { partition, offset, to })
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
    let shutdown = Shutdown::new();
    let end_limit = config.http.limits.drain_timeout + END_MARGIN;
    if let Err(error) = shutdown.on_signals(config.http.drain_delay, end_limit) {
        eprintln!("cannot listen to signals: {error}");
        return ExitCode::FAILURE;
    }
    run(async {
        let address = config.http.listen_address;
        let service = Service::build(config, &shutdown).map_err(|error| error.to_string())?;
        let listener =
            TcpListener::bind(address).await.map_err(|error| format!("cannot listen on {address}: {error}"))?;
        tracing::info!(%address, "listening");
        Ok(service.run(listener).await)
    })
}

/// Prints the dead letters.
#[must_use]
pub fn list_dead_letters(config: &Config) -> ExitCode {
    with_store(config, async |store| {
        let listed = dead_letters::list(&config.kafka, store.clone(), std::io::stdout()).await;
        // It is printed as it is read.
        listed.map(|()| String::new()).map_err(|error| error.to_string())
    })
}

/// Sends dead letters back and says how many.
#[must_use]
pub fn redrive(config: &Config, selection: Selection) -> ExitCode {
    run(async {
        let producer = dead_letters::redrive_producer(&config.kafka).map_err(|error| error.to_string())?;
        let store = open_store(config).await?;
        let sent = dead_letters::redrive(&config.kafka, store.clone(), &producer, selection).await;
        store.close().await;
        eprintln!("{} sent back to {}", sent.map_err(|error| error.to_string())?, config.kafka.topic);
        Ok(true)
    })
}

/// Steps over what cannot be read, and says what was skipped.
#[must_use]
pub fn skip_records(config: &Config, step: Step) -> ExitCode {
    run(async {
        let store = store::connect(&config.store);
        let skipped = partitions::skip(&config.kafka, &store, step).await.map_err(|error| error.to_string())?;
        print(&format!("{skipped}\n"))
    })
}

/// Prints what was stepped over.
#[must_use]
pub fn list_skipped(config: &Config) -> ExitCode {
    run(async {
        let store = store::connect(&config.store);
        print(&partitions::list_skipped(&store).await.map_err(|error| error.to_string())?)
    })
}

/// Prints a new key of access tokens.
#[must_use]
pub fn new_signing_key() -> ExitCode {
    print_secret(accounts::new_signing_key().expose())
}

/// Prints new keys of callbacks.
#[must_use]
pub fn new_callback_secret() -> ExitCode {
    print_secret(&format!("{}\n", sending::new_secret().expose()))
}

fn print_secret(text: &str) -> ExitCode {
    match print(text) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Looks after callbacks, and prints what comes of it.
#[must_use]
pub fn look_after_callbacks(config: &Config, action: CallbackAction) -> ExitCode {
    with_store(config, async |store| action.run(store).await)
}

/// Looks after API keys, and prints what comes of it.
#[must_use]
pub fn look_after_keys(config: &Config, action: KeyAction) -> ExitCode {
    // What is done here belongs into the audit log as well.
    config.log.start();
    with_store(config, async |store| action.run(store).await)
}

/// Does something with the database, and prints what comes of it.
fn with_store(config: &Config, work: impl AsyncFnOnce(&Arc<dyn Store>) -> Result<String, String>) -> ExitCode {
    run(async {
        let store = open_store(config).await?;
        let done = work(&store).await;
        store.close().await;
        print(&done?)
    })
}

fn print(text: &str) -> Result<bool, String> {
    std::io::stdout().write_all(text.as_bytes()).map(|()| true).map_err(|error| error.to_string())
}

/// The database, with its tables: it keeps dead letters, and remembers which were sent back.
async fn open_store(config: &Config) -> Result<Arc<dyn Store>, String> {
    let store = store::connect(&config.store);
    store.migrate().await.map_err(|error| error.to_string())?;
    Ok(store)
}

fn run(work: impl Future<Output = Result<bool, String>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(work);
    // What still blocks a thread, such as a name server that does not answer, holds nothing that is needed.
    runtime.shutdown_background();
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
