//! `stack up`, `stack down`, `stack status`, accounts for a trial and stand-ins for replicas: real Kafka, PostgreSQL and both services on this machine.

use std::{
    io::{self, Write as _},
    iter,
    path::{Path, PathBuf},
    pin::pin,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use clap::{Args, Parser, Subcommand};
use stack::{
    Postgres, Result, RunFolder,
    accounts::{Populated, Population, populate},
    error::Doing,
    local::{self, Options},
    stand_ins::{Pace, StandIn},
};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

/// Real Apache Kafka and PostgreSQL on this machine, without Docker, and both services on top of them.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where data, logs and state are kept [default: .stack in the workspace]
    #[arg(long, env = "STACK_DIR", global = true)]
    directory: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start what does not run yet, in the background, and return when all of it is ready
    Up {
        #[command(flatten)]
        options: Options,
        /// Stay, and stop everything on Ctrl-C
        #[arg(long)]
        foreground: bool,
    },
    /// Stop what `up` started
    Down {
        /// Remove data and logs too
        #[arg(long)]
        delete_data: bool,
    },
    /// Show every process, its port and readiness, and how far recording is behind
    Status,
    /// Stand-ins for replicas of management-api, and how often each is asked, every second
    StandIns {
        #[command(flatten)]
        cast: Cast,
    },
    /// Make accounts for a trial; those that are there already stay
    Accounts {
        #[command(flatten)]
        population: Population,
    },
    /// Run a command with `TEST_DATABASE_URL` naming a PostgreSQL of its own, and end as it ends
    WithPostgres {
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

/// How many stand-ins of each kind.
#[derive(Debug, Args)]
struct Cast {
    /// The first one's port; the others have the next ones
    #[arg(long, default_value_t = 18_081)]
    port: u16,
    /// Answer in 2 to 5 ms
    #[arg(long, default_value_t = 1)]
    well: u16,
    /// The same, but 300 ms for one call in twenty
    #[arg(long, default_value_t = 1)]
    hiccups: u16,
    /// Answer in a second
    #[arg(long, default_value_t = 0)]
    slow: u16,
    /// Answer 503 at once
    #[arg(long, default_value_t = 1)]
    failing: u16,
    /// Never answer
    #[arg(long, default_value_t = 0)]
    silent: u16,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = Builder::new_current_thread().enable_all().build().doing("starting the runtime");
    let result = runtime.and_then(|runtime| runtime.block_on(run(arguments)));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("stack: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does it; false when it could be done and the answer is no.
async fn run(arguments: Arguments) -> Result<bool> {
    let folder = arguments.directory.unwrap_or_else(local::default_folder);
    match arguments.action {
        Action::Up { options, foreground } => {
            if foreground {
                return up_in_foreground(&folder, &options).await;
            }
            local::up(&folder, &options).await?;
            show(&local::status(&folder).await?.0);
            Ok(true)
        }
        Action::Down { delete_data } => local::down(&folder, delete_data).await.map(|()| true),
        Action::Status => {
            let (table, all_ready) = local::status(&folder).await?;
            show(&table);
            Ok(all_ready)
        }
        Action::StandIns { cast } => stand_in(&cast).await,
        Action::Accounts { population } => make_accounts(&population).await,
        Action::WithPostgres { command } => with_postgres(&command).await,
    }
}

/// Stops what it started however it ends, also when the stack does not come up.
async fn up_in_foreground(folder: &Path, options: &Options) -> Result<bool> {
    let up = async {
        local::up(folder, options).await?;
        show(&local::status(folder).await?.0);
        eprintln!("Ctrl-C stops the stack");
        std::future::pending().await
    };
    let result = tokio::select! {
        result = up => result,
        () = wait_for_the_end_signal() => Ok(true),
    };
    local::down(folder, false).await?;
    result
}

/// For tests of one part that need a database and nothing else.
async fn with_postgres(command: &[String]) -> Result<bool> {
    let Some((program, arguments)) = command.split_first() else { return Ok(false) };
    let folder = RunFolder::new("with-postgres")?;
    let postgres = Postgres::start(&folder.subfolder("postgres")?).await?;
    let mut command = Command::new(program);
    command.args(arguments).env("TEST_DATABASE_URL", postgres.database_url());
    Ok(command.status().doing(format!("running {program}"))?.success())
}

async fn make_accounts(population: &Population) -> Result<bool> {
    let began = Instant::now();
    let Populated { made, found } = populate(population).await?;
    let seconds = began.elapsed().as_secs_f64();
    show(&format!("{made} accounts made in {seconds:.1} s, {found} were there: buyer-1@example.com and so on\n"));
    Ok(true)
}

async fn stand_in(cast: &Cast) -> Result<bool> {
    let kinds = [
        (cast.well, Pace::Well),
        (cast.hiccups, Pace::Hiccups),
        (cast.slow, Pace::Slow),
        (cast.failing, Pace::Failing),
        (cast.silent, Pace::Silent),
    ];
    let paces = kinds.into_iter().flat_map(|(count, pace)| iter::repeat_n(pace, count.into()));
    let mut stand_ins = Vec::new();
    for (port, pace) in (cast.port..).zip(paces) {
        stand_ins.push((pace, StandIn::start(port, pace).await?));
    }
    let urls: Vec<_> = stand_ins.iter().map(|(_, stand_in)| format!("http://{}", stand_in.address)).collect();
    show(&format!("CUSTOMER_MGMT_API_URL={}\n", urls.join(",")));
    let mut end = pin!(wait_for_the_end_signal());
    let mut before = vec![0; stand_ins.len()];
    loop {
        tokio::select! {
            () = &mut end => return Ok(true),
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        for (before, (pace, stand_in)) in before.iter_mut().zip(&stand_ins) {
            let asked = stand_in.asked();
            show(&format!("{pace:?} {:>6}/s   ", asked - *before));
            *before = asked;
        }
        show("\n");
    }
}

fn show(text: &str) {
    // A reader that went away (`stack status | head -1`) is no error.
    let _ = io::stdout().write_all(text.as_bytes());
}

async fn wait_for_the_end_signal() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}
