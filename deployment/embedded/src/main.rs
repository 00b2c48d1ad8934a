//! `make run`: the whole pipeline in one process.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use embedded::pipeline::{Pipeline, StartError};
use embedded::settings::{EmbeddedConfig, rows};
use shared::config::{EXIT_BAD_SETTINGS, render_table};
use shared::shutdown::Shutdown;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The whole purchase pipeline in one process, with nothing to install.
#[derive(Parser)]
#[command(version)]
struct CommandLine;

fn main() -> ExitCode {
    CommandLine::command().after_help(render_table(&rows())).get_matches();
    let outcome = tokio::runtime::Runtime::new().map_err(|error| error.to_string()).map(|runtime| {
        let outcome = runtime.block_on(run());
        // What still blocks a thread holds nothing that is needed.
        runtime.shutdown_background();
        outcome
    });
    match outcome {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) => ExitCode::FAILURE,
        Ok(Err(StartError::Settings(mistakes))) => {
            eprintln!("{mistakes}");
            ExitCode::from(EXIT_BAD_SETTINGS)
        }
        Ok(Err(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("cannot start the runtime: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<bool, StartError> {
    let config = EmbeddedConfig::from_environment()?;
    let pipeline = Pipeline::start(&config).await?;
    pipeline.start_log();
    let (web, management, broker) = pipeline.addresses()?;
    eprintln!(
        "purchase pipeline: everything in one process, data in {data}\n\
         \n  buy and read    http://{web}    (API reference: http://{web}/docs)\
         \n  management-api  http://{management}\
         \n  kafka protocol  {broker}    (in-process, forgets when this ends)\n\
         \ntry:\n\
         \n  hey -n 1000 -c 50 -m POST -H \"Content-Type: application/json\" -d '{{\"username\":\"test\",\"userid\":\"loadtest\",\"price\":10}}' http://localhost:{port}/buy\
         \n  curl http://{web}/getAllUserBuys/loadtest?limit=3\n",
        data = config.data_dir.display(),
        port = web.port(),
    );
    let accepting = Shutdown::new();
    pipeline.end_on_signals(&accepting)?;
    Ok(pipeline.run(accepting).await)
}
