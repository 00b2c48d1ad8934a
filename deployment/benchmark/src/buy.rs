//! `POST /buy` under load.

use std::{process::Command, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    Section,
    row::{Row, Target, Unit},
    spread::{float, mebibytes, micros_each, millis},
    world::World,
    wrk::{self, WrkPlan, WrkReport},
};
use stack::{
    Load, LoadPlan, Result, Service, StackError,
    error::Doing,
    http,
    load::{Pace, Purchases},
    ports::free_port,
    process::{Lifetime, Process},
};

/// Rounds of A and B, their order turned in every other one.
const ROUNDS: usize = 5;
const SECONDS: u64 = 8;
/// Connections are opened and code is warm before a measurement begins.
pub const WARM_UP: Duration = Duration::from_secs(2);

const OPEN_LOOP_PER_SECOND: f64 = 5_000.0;
/// The second open loop: so many connections, at this part of what they reach in a closed one.
const MANY_CONNECTIONS: usize = 512;
const PART_OF_PEAK: f64 = 0.6;
const OPEN_LOOP_SECONDS: u64 = 20;
const OPEN_LOOP_REPEATS: usize = 3;
/// Connections of the open loop: so many answers may be outstanding before a slow server delays the sender.
pub const OPEN_LOOP_CONNECTIONS: usize = 128;

/// The handler without Kafka, in a process of its own.
struct BaselineServer {
    address: String,
    process: Process,
}

/// One round at one server.
pub struct Round {
    load: WrkReport,
    cpu: Duration,
    broker_cpu: Duration,
    rss_bytes: u64,
}

/// The rounds of one server.
#[derive(Default)]
struct Rounds(Vec<Round>);

/// web-server beside the handler without Kafka, in turns.
pub async fn closed_loop(world: &mut World) -> Result<Vec<Row>> {
    let web = world.web_server("bench-buy", None).await?;
    let baseline = BaselineServer::start(world).await?;
    let mut rows = Vec::new();
    for connections in [1, 64] {
        let (mut ours, mut theirs) = (Rounds::default(), Rounds::default());
        for number in 0..world.size.repeats(ROUNDS) {
            if number % 2 == 0 {
                theirs.0.push(baseline.round(world, connections).await?);
                ours.0.push(web_round(world, &web, connections).await?);
            } else {
                ours.0.push(web_round(world, &web, connections).await?);
                theirs.0.push(baseline.round(world, connections).await?);
            }
        }
        rows.extend(compare(connections, &ours, &theirs));
    }
    Ok(rows)
}

fn compare(connections: usize, ours: &Rounds, theirs: &Rounds) -> Vec<Row> {
    const NAME: &str = "handler without Kafka";
    let own = |what: &str, unit, value: fn(&Round) -> f64| {
        let what = format!("/buy, closed loop, {connections} connections: {what}");
        Row::new(Section::Buy, what, unit, &ours.0.iter().map(value).collect::<Vec<_>>())
    };
    let row = |what: &str, unit, value: fn(&Round) -> f64| {
        own(what, unit, value).beside(NAME, &theirs.0.iter().map(value).collect::<Vec<_>>())
    };
    let mut rows = vec![
        row("requests", Unit::PerSecond, Round::per_second),
        row("CPU of web-server a request", Unit::Micros, Round::cpu_micros),
        row("p50", Unit::Millis, |round| round.load.p50 / 1e3),
        row("p99", Unit::Millis, |round| round.load.p99 / 1e3),
        row("p99.9", Unit::Millis, |round| round.load.p999 / 1e3),
        own("CPU of Kafka a purchase", Unit::Micros, |round| micros_each(round.broker_cpu, round.load.requests)),
        row("RSS of web-server", Unit::Mebibytes, |round| mebibytes(round.rss_bytes)).target(Target::AtMost(40.0)),
    ];
    // One caller alone asks how long a purchase takes; many, how much a machine can do.
    let targets: &[(usize, Target)] = if connections == 1 {
        &[(2, Target::AtMost(0.6))]
    } else {
        &[
            (0, Target::RatioAtLeast(0.47)),
            (1, Target::RatioAtMost(1.7)),
            (3, Target::AtMost(6.0)),
            (5, Target::AtMost(5.0)),
        ]
    };
    for (row, target) in targets {
        rows[*row] = rows[*row].clone().target(*target);
    }
    rows
}

/// One round at a web-server.
pub async fn web_round(world: &World, web: &Service, connections: usize) -> Result<Round> {
    let plan = WrkPlan::new(web.address(), connections, WARM_UP);
    round(world, web, plan).await
}

/// One round at a web-server by a plan, whose time is that of the warm-up.
pub async fn round(world: &World, web: &Service, mut plan: WrkPlan) -> Result<Round> {
    wrk::run(world.folder(), &plan).await?.all_good()?;
    plan.time = world.size.time(SECONDS);
    let (cpu, broker_cpu) = (web.cpu_time(), world.kafka.cpu_time());
    let load = wrk::run(world.folder(), &plan).await?.all_good()?;
    Ok(Round {
        load,
        cpu: web.cpu_time().saturating_sub(cpu),
        broker_cpu: world.kafka.cpu_time().saturating_sub(broker_cpu),
        rss_bytes: web.rss_bytes(),
    })
}

impl Round {
    /// Requests a second.
    pub fn per_second(&self) -> f64 {
        self.load.per_second()
    }

    /// CPU of web-server a request, in microseconds.
    pub fn cpu_micros(&self) -> f64 {
        micros_each(self.cpu, self.load.requests)
    }
}

impl BaselineServer {
    async fn start(world: &World) -> Result<Self> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let mut command = Command::new(std::env::current_exe().doing("finding this program's own file")?);
        command.args(["baseline-server", "--listen", &address]);
        let log = world.folder().join("baseline-server.log");
        let process = Process::spawn("baseline-server", command, &log, Lifetime::WithParent)?;
        let end = Instant::now() + Duration::from_secs(10);
        // Any answer will do: it has no other path.
        while http::get(&address, "/livez", Duration::from_secs(1)).await.is_err() {
            if Instant::now() >= end {
                return Err(process.failure("does not answer"));
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(Self { address, process })
    }

    async fn round(&self, world: &World, connections: usize) -> Result<Round> {
        let mut plan = WrkPlan::new(self.address.clone(), connections, WARM_UP);
        wrk::run(world.folder(), &plan).await?.all_good()?;
        plan.time = world.size.time(SECONDS);
        let cpu = self.process.id().cpu_time();
        let load = wrk::run(world.folder(), &plan).await?.all_good()?;
        let cpu = self.process.id().cpu_time().saturating_sub(cpu);
        Ok(Round { load, cpu, broker_cpu: Duration::ZERO, rss_bytes: self.process.id().rss_bytes() })
    }
}

/// A fixed rate, whatever the server does; latencies count from the moment a purchase was due.
pub async fn open_loop(world: &mut World) -> Result<Vec<Row>> {
    let web = world.web_server("bench-open-loop", None).await?;
    let plan = open_loop_plan(&web, OPEN_LOOP_PER_SECOND, world.size.time(OPEN_LOOP_SECONDS));
    let mut rows = open_loop_rows(world, "5,000 purchases/s", plan, [10.0, 30.0]).await;
    let peak = web_round(world, &web, MANY_CONNECTIONS).await?.load.per_second();
    let plan = open_loop_plan(&web, PART_OF_PEAK * peak, world.size.time(OPEN_LOOP_SECONDS));
    let plan = LoadPlan { connections: MANY_CONNECTIONS, ..plan };
    rows.extend(open_loop_rows(world, "512 connections at 60 % of their peak", plan, [10.0, 50.0]).await);
    Ok(rows)
}

/// `at_most`: what p99 and p99.9 may be, in milliseconds.
async fn open_loop_rows(world: &World, name: &str, plan: LoadPlan, at_most: [f64; 2]) -> Vec<Row> {
    let (mut p50, mut p99, mut p999, mut errors) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..world.size.repeats(OPEN_LOOP_REPEATS) {
        let mut report = Load::run(plan.clone()).await;
        p50.push(millis(report.latencies.quantile(500)));
        p99.push(millis(report.latencies.quantile(990)));
        p999.push(millis(report.latencies.quantile(999)));
        errors.push(float(report.given_up));
    }
    let row = |what: &str, unit, values: &[f64]| {
        Row::new(Section::OpenLoop, format!("/buy, open loop, {name}: {what}"), unit, values)
    };
    vec![
        row("p50", Unit::Millis, &p50),
        row("p99", Unit::Millis, &p99).target(Target::AtMost(at_most[0])),
        row("p99.9", Unit::Millis, &p999).target(Target::AtMost(at_most[1])),
        row("errors", Unit::Count, &errors).target(Target::AtMost(0.0)),
    ]
}

/// The same purchase at a rate for a time.
pub fn open_loop_plan(web: &Service, per_second: f64, time: Duration) -> LoadPlan {
    LoadPlan {
        pace: Pace::PerSecond(per_second),
        purchases: Purchases::of_the_guide(),
        time_max: Some(time),
        ..LoadPlan::new(vec![web.address()], OPEN_LOOP_CONNECTIONS)
    }
}

/// Refuses a load with errors where its figures would mean nothing.
pub fn all_acknowledged(report: &stack::load::LoadReport) -> Result<()> {
    if report.given_up == 0 {
        return Ok(());
    }
    let (statuses, failures) = (&report.statuses, &report.failures);
    Err(StackError::Refused(format!("{} purchases not acknowledged: {statuses:?} {failures:?}", report.given_up)))
}
