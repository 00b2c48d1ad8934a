//! The management-api: settings, log, build, run.

mod memory;

use std::process::ExitCode;

use management_api::command::{self, Command};

fn main() -> ExitCode {
    memory::give_back_at_once();
    match command::parse() {
        Command::Serve(config) => command::serve(*config),
        Command::ListDeadLetters(config) => command::list_dead_letters(&config),
        Command::Redrive(config, selection) => command::redrive(&config, selection),
        Command::SkipRecords(config, step) => command::skip_records(&config, step),
        Command::ListSkipped(config) => command::list_skipped(&config),
        Command::NewSigningKey => command::new_signing_key(),
        Command::NewCallbackSecret => command::new_callback_secret(),
        Command::Callbacks(config, action) => command::look_after_callbacks(&config, action),
        Command::ApiKeys(config, action) => command::look_after_keys(&config, action),
    }
}
