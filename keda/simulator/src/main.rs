//! `scale-demo`: what the shipped autoscaling does with real consumers in a load step.

use std::process::ExitCode;

use clap::Parser;
use simulator::demo::{self, Options};
use tokio::runtime::Builder;

/// Start real Kafka, PostgreSQL and services, send a load step, and start and stop consumers as KEDA and the HPA would
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(demo::run(&arguments.options)));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("scale-demo: {error}");
            ExitCode::FAILURE
        }
    }
}
