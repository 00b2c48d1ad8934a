//! web-server: settings, log, build, run.

use std::process::ExitCode;

use web_server::command;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    command::serve(command::parse())
}
