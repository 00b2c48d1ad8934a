//! More than can be served, open loop: what is served all the same, how soon all is well again, and what buyers notice of a crowd
//! of readers. What is behind web-server has a capacity of its own, a line to the broker and a stand-in for management-api, because the
//! cores of this machine are shared with those who ask.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{runtime::Builder, time::Instant};

use crate::{
    Section,
    client::Client,
    row::{Row, Target, Unit},
    spread::{float, millis},
    thin_line::ThinLine,
    world::World,
};
use stack::{
    Load, LoadPlan, Result, Service,
    error::{Doing, StackError},
    ledger::Attempt,
    load::{Latencies, LoadReport, Pace},
    stand_ins::{self, StandIn},
};

const ROUNDS: usize = 3;
const SECONDS: u64 = 10;
/// More than are ever in flight: an open loop whose connections are all taken waits as a closed one does.
const CONNECTIONS: usize = 1_000;
const READERS: usize = 256;
/// Until the limit is found, and what was let in before is served.
const SETTLE: Duration = Duration::from_secs(3);
const READY: Duration = Duration::from_mins(1);
const READ: &str = "/purchases?limit=10";

/// Rows of this section.
pub async fn measure(world: &mut World) -> Result<Vec<Row>> {
    let line = ThinLine::start(world).await?;
    let (mut peaks, mut overloads, mut refusing, mut back) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut alone, mut beside, mut bought) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..world.size.repeats(ROUNDS) {
        let stand_in = StandIn::start(0, stand_ins::Pace::Busy).await?;
        let web = web_server(world, &line, &stand_in).await?;
        let capacity = buy(&web, Pace::ClosedLoop, world.size.time(SECONDS)).await.per_second();
        let mut peak = capacity;
        for share in [0.9, 1.1] {
            peak = goodput(&web, share * capacity, world.size.time(SECONDS)).await.max(peak);
        }
        buy(&web, Pace::PerSecond(3.0 * capacity), SETTLE).await;
        peaks.push(peak);
        let overload = buy(&web, Pace::PerSecond(3.0 * capacity), world.size.time(SECONDS)).await;
        overloads.push(overload.per_second());
        refusing.push(p99_of_refusals(&overload));
        back.push(last_refusal(&buy(&web, Pace::PerSecond(0.8 * capacity), world.size.time(SECONDS)).await));

        let half = Pace::PerSecond(0.5 * capacity);
        alone.push(p99(&mut buy(&web, half, world.size.time(SECONDS)).await));
        let readers = Readers::start(&web, 5.0 * read_capacity(&web).await?);
        tokio::time::sleep(SETTLE).await;
        let mut report = buy(&web, half, world.size.time(SECONDS)).await;
        readers.stop()?;
        beside.push(p99(&mut report));
        let all = u64::try_from(report.latencies.count()).unwrap_or(u64::MAX);
        bought.push(100.0 * float(all) / float(all + report.given_up).max(1.0));
    }
    let row = |what: &str, unit, values: &[f64]| Row::new(Section::Shedding, what, unit, values);
    Ok(vec![
        row("/buy, open loop at 3 times the capacity: accepted", Unit::PerSecond, &overloads)
            .beside("the peak", &peaks)
            .target(Target::RatioAtLeast(0.9)),
        row("/buy, open loop at 3 times the capacity: to be refused, p99", Unit::Millis, &refusing)
            .target(Target::AtMost(5.0)),
        row("from there to 80 % of the capacity: until the last refusal", Unit::Millis, &back)
            .target(Target::AtMost(2_000.0)),
        row("/buy at half of its capacity, reads at 5 times theirs: accepted, %", Unit::Count, &bought)
            .target(Target::AtLeast(99.0)),
        row("/buy at half of its capacity, reads at 5 times theirs: p99", Unit::Millis, &beside)
            .beside("without reads", &alone)
            .target(Target::RatioAtMost(2.0)),
    ])
}

async fn web_server(world: &World, line: &ThinLine, management: &StandIn) -> Result<Service> {
    let plan = world
        .web_server_plan("bench-shedding", None)?
        .with("KAFKA_BOOTSTRAP_SERVERS", &line.bootstrap_servers)
        .with("CUSTOMER_MGMT_API_URL", format!("http://{}", management.address));
    let mut service = Service::start(world.folder(), plan)?;
    service.wait_ready(READY).await?;
    Ok(service)
}

async fn buy(web: &Service, pace: Pace, time: Duration) -> LoadReport {
    let connections = if pace == Pace::ClosedLoop { READERS } else { CONNECTIONS };
    Load::run(LoadPlan { pace, time_max: Some(time), ..LoadPlan::new(vec![web.address()], connections) }).await
}

/// Purchases accepted a second.
async fn goodput(web: &Service, per_second: f64, time: Duration) -> f64 {
    buy(web, Pace::PerSecond(per_second), time).await.per_second()
}

fn p99(report: &mut LoadReport) -> f64 {
    millis(report.latencies.quantile(990))
}

/// When the last purchase that was not accepted was sent, in milliseconds from the load's start on.
fn last_refusal(report: &LoadReport) -> f64 {
    refused(report).map(|attempt| millis(attempt.begun)).fold(0.0, f64::max)
}

fn p99_of_refusals(report: &LoadReport) -> f64 {
    let mut times = Latencies::default();
    refused(report).for_each(|attempt| times.add(attempt.took));
    millis(times.quantile(990))
}

fn refused(report: &LoadReport) -> impl Iterator<Item = &Attempt> {
    let attempts = report.ledger.entries().iter().flat_map(|entry| &entry.attempts);
    attempts.filter(|attempt| !attempt.outcome.is_acknowledged())
}

/// How many reads are served a second, asked for by a few callers.
async fn read_capacity(web: &Service) -> Result<f64> {
    const CALLERS: usize = 32;
    const TIME: Duration = Duration::from_secs(2);
    let (begun, served) = (Instant::now(), AtomicU64::new(0));
    let caller = async || {
        let mut client = Client::open(&web.address()).await?;
        while begun.elapsed() < TIME {
            client.get(READ).await?;
            served.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    for done in join_all((0..CALLERS).map(|_| caller())).await {
        done?;
    }
    Ok(float(served.into_inner()) / begun.elapsed().as_secs_f64())
}

/// Readers who ask at a rate, whatever they are answered. On a thread of their own, so that buyers' times are not theirs.
struct Readers {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Result<()>>,
}

impl Readers {
    fn start(web: &Service, per_second: f64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, address) = (Arc::clone(&stop), web.address());
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().doing("starting a runtime")?;
            let pause = Duration::from_secs_f64(float(READERS as u64) / per_second);
            let readers = (0..READERS).map(|number| read_on(&address, pause, number, &stopped));
            runtime.block_on(join_all(readers)).into_iter().collect()
        });
        Self { stop, thread }
    }

    fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Err(StackError::Refused("the readers' thread has panicked".to_owned())))
    }
}

async fn read_on(address: &str, pause: Duration, number: usize, stopped: &AtomicBool) -> Result<()> {
    let mut client = Client::open(address).await?;
    let mut due = Instant::now() + pause.mul_f64(float(number as u64) / float(READERS as u64));
    while !stopped.load(Ordering::Relaxed) {
        tokio::time::sleep_until(due).await;
        due += pause;
        client.ask(READ).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_who_have_failed_or_panicked_fail_the_measurement() {
        let stop = |end: fn() -> Result<()>| Readers { stop: Arc::default(), thread: thread::spawn(end) }.stop();
        assert!(stop(|| Ok(())).is_ok());
        assert!(stop(|| Err(StackError::Refused("no answer".to_owned()))).is_err());
        assert!(stop(|| panic!("on purpose")).is_err());
    }
}
