//! web-server: accepts purchases and serves reads.

use std::process::ExitCode;

use shared::shutdown::Shutdown;
use web_server::app::RunError;
use web_server::{Config, app, command_line};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let config = match command_line::read_config() {
        Ok(config) => config,
        Err(code) => return code,
    };
    config.log.start();
    match serve(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "web-server ends with an error");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config) -> Result<(), RunError> {
    let shutdown = Shutdown::new();
    tokio::spawn(shutdown.on_signals(config.drain_delay)?);
    let listener = app::listen(config.listen_address).await?;
    app::run(config, listener, shutdown).await
}
