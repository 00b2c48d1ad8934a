//! `make bench`: how fast the services are, beside baselines in the same run.

use std::{net::SocketAddr, process::ExitCode};

use benchmark::{Options, baseline_server};
use clap::{Parser, Subcommand};
use stack::{Result, error::Doing};
use tokio::runtime::{Builder, Runtime};

/// As in the services: the baseline server is measured beside web-server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measure everything on a stack of its own, print one table and save it (takes about half an hour)
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The handler without Kafka that web-server is measured against
    #[command(hide = true)]
    BaselineServer {
        /// Where to listen
        #[arg(long)]
        listen: SocketAddr,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = runtime(arguments.action.as_ref()).and_then(|runtime| runtime.block_on(run(arguments)));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("benchmark: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The baseline server gets the runtime that web-server has; for all else one thread is enough, and leaves the cores alone.
fn runtime(action: Option<&Action>) -> Result<Runtime> {
    let mut builder = if action.is_some() { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    builder.enable_all().build().doing("starting the runtime")
}

/// Does it; false when a part could not be measured.
async fn run(arguments: Arguments) -> Result<bool> {
    match arguments.action {
        None => benchmark::run(&arguments.options).await,
        Some(Action::BaselineServer { listen }) => {
            baseline_server::serve(listen).await.doing(format!("serving at {listen}")).map(|()| true)
        }
    }
}
