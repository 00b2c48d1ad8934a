//! Measures the services on a real stack of its own, and writes one table.
//!
//! Every figure comes from this run; only the targets are written down in the code.

mod backlog;
mod bare;
pub mod baseline_server;
mod buy;
mod callbacks;
mod client;
mod delay;
mod distance;
mod embedded;
mod events;
mod faults;
mod front_door;
mod hedging;
mod machine;
mod memory;
mod poison;
mod reads;
mod record;
mod report;
mod row;
mod scale_out;
mod scaling;
mod shedding;
mod snapshot;
mod spread;
mod startup;
mod thin_line;
mod world;
mod wrk;

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::time::Instant;

use self::report::Report;
use self::row::Row;
use self::world::World;
use stack::Result;

/// What to measure, and how long.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Only these parts, comma-separated; nothing is saved then, unless --out says where
    #[arg(long, value_delimiter = ',')]
    only: Vec<Section>,
    /// A short trial with small numbers: shows that everything runs, its figures mean little; not saved either
    #[arg(long)]
    quick: bool,
    /// Where results.md and results.json go [default: deployment/benchmark, for a whole run]
    #[arg(long)]
    out: Option<PathBuf>,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Section {
    /// /buy, closed loop, beside a handler without Kafka
    Buy,
    /// /buy, open loop at 5,000 a second
    OpenLoop,
    /// /buy with a token, and with a rate, beside neither
    FrontDoor,
    /// /buy with a broker that is far away
    Distance,
    /// web-server's memory over millions of requests
    Memory,
    /// a backlog into PostgreSQL, beside a bare client
    Record,
    /// backlogs of strange records, beside good ones
    Poison,
    /// from accepted to recorded
    Delay,
    /// first page and totals of small and large users
    Reads,
    /// reads over replicas that are slow or dead
    Hedging,
    /// more than can be served
    Shedding,
    /// live events: their delay, what streams cost, what the log costs
    Events,
    /// callbacks: their rate beside a snapshot, and beside a host that hangs
    Callbacks,
    /// from exec to live and to ready
    Startup,
    /// everything in one process
    Embedded,
    /// cost against work
    Scaling,
    /// a backlog of one user, drained by 1, 2 and 5 consumers
    ScaleOut,
    /// batches while somebody keeps a snapshot open
    Snapshot,
    /// how soon work goes on when a consumer or a broker is killed
    Faults,
}

/// How much of everything; `--quick` makes it small.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    quick: bool,
}

impl Size {
    /// How often a measurement is repeated.
    fn repeats(self, whole: usize) -> usize {
        if self.quick { 1 } else { whole }
    }

    /// How long a load runs.
    fn time(self, whole_seconds: u64) -> Duration {
        Duration::from_secs(if self.quick { 2 } else { whole_seconds })
    }

    /// How many records, rows or requests.
    fn count(self, whole: u64) -> u64 {
        if self.quick { whole / 50 } else { whole }
    }
}

/// Measures, prints the table, and saves it when the run was a whole one. False when a part could not be measured.
///
/// # Errors
/// When the stack cannot be started or the results cannot be saved.
pub async fn run(options: &Options) -> Result<bool> {
    // Fails before anything is started.
    wrk::program()?;
    let sections: Vec<Section> =
        Section::value_variants().iter().copied().filter(|section| options.wants(*section)).collect();
    let begun = Instant::now();
    let mut report = Report::begin(options.quick);
    let mut world = World::begin(Size { quick: options.quick }).await?;
    for section in sections {
        let started = Instant::now();
        eprintln!("bench: {section:?} …");
        match measure(section, &mut world).await {
            Ok(rows) => report.add(rows),
            Err(error) => report.fail(section, &error),
        }
        eprintln!("bench: {section:?} took {:.0} s", started.elapsed().as_secs_f64());
    }
    report.end(begun.elapsed());
    report.print();
    if let Some(folder) = options.out_folder() {
        report.save(&folder)?;
        eprintln!("bench: saved in {}", folder.display());
    }
    Ok(report.is_complete())
}

impl Options {
    fn wants(&self, section: Section) -> bool {
        self.only.is_empty() || self.only.contains(&section)
    }

    fn out_folder(&self) -> Option<PathBuf> {
        let whole = self.only.is_empty() && !self.quick;
        let own = || PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        self.out.clone().or_else(|| whole.then(own))
    }
}

async fn measure(section: Section, world: &mut World) -> Result<Vec<Row>> {
    match section {
        Section::Buy => buy::closed_loop(world).await,
        Section::OpenLoop => buy::open_loop(world).await,
        Section::FrontDoor => front_door::measure(world).await,
        Section::Distance => distance::measure(world).await,
        Section::Memory => memory::measure(world).await,
        Section::Record => record::measure(world).await,
        Section::Poison => poison::measure(world).await,
        Section::Delay => delay::measure(world).await,
        Section::Reads => reads::measure(world).await,
        Section::Hedging => hedging::measure(world).await,
        Section::Shedding => shedding::measure(world).await,
        Section::Events => events::measure(world).await,
        Section::Callbacks => callbacks::measure(world).await,
        Section::Startup => startup::measure(world).await,
        Section::Embedded => embedded::measure(world).await,
        Section::Scaling => scaling::measure(world).await,
        Section::ScaleOut => scale_out::measure(world).await,
        Section::Snapshot => snapshot::measure(world).await,
        Section::Faults => faults::measure(world).await,
    }
}
