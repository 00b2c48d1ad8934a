//! Rate limits of real processes, each with an address of its own: `make measure-limits`.

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use shared::metrics::value;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::harness::{Client, eventually};

const LIMIT: f64 = 200.0;
const SECONDS: u64 = 20;
const WINDOW: Duration = Duration::from_secs(10);

/// A running web-server, which ends with this.
struct Process {
    process: Child,
    client: Client,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Process {
    fn signal(&self, name: &str) {
        Command::new("kill").args([name, &self.process.id().to_string()]).status().unwrap();
    }
}

async fn start(replicas: usize) -> Vec<Process> {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let addresses: Vec<_> = (1..=replicas).map(|number| format!("127.0.0.{number}:{free}")).collect();
    let limit = LIMIT.to_string();
    let settings = [
        ("RATE_LIMIT_PER_SECOND", limit.as_str()),
        ("RATE_LIMIT_PEERS", &addresses.join(",")),
        ("RATE_LIMIT_PEER_TOKEN", "among-ourselves"),
        ("TRUSTED_PROXIES", "127.0.0.0/8"),
        ("LOG_LEVEL", "error"),
    ];
    let start = |address: &String| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_web-server"));
        command.env_clear().envs(settings).env("LISTEN_ADDRESS", address).stderr(Stdio::null());
        Process { process: command.spawn().unwrap(), client: Client::new(address.parse().unwrap()) }
    };
    let fleet: Vec<_> = addresses.iter().map(start).collect();
    for process in &fleet {
        let listens = async || tokio::net::TcpStream::connect(process.client.address).await.is_ok();
        eventually("it listens", listens).await;
        let heard =
            async || process.client.metric(r#"rate_limit_peers{state="heard"}"#).await == Some(value(replicas - 1));
        eventually("they hear each other", heard).await;
    }
    fleet
}

/// When something was let in.
type Admissions = Arc<Mutex<Vec<Instant>>>;

/// How often a replica is asked, by its number and the seconds that have passed.
type Rates<'a> = dyn Fn(usize, u64) -> f64 + Sync + 'a;

/// Asks each replica as often as `rates` says.
async fn load(fleet: &[Process], admissions: &Admissions, rates: &Rates<'_>) {
    let began = Instant::now();
    let callers = fleet.iter().enumerate().map(|(replica, process)| async move {
        let mut due = 0.0;
        let mut ticks = interval(Duration::from_millis(5));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut last = began;
        while began.elapsed() < Duration::from_secs(SECONDS) {
            ticks.tick().await;
            due += rates(replica, began.elapsed().as_secs()) * last.elapsed().as_secs_f64();
            last = Instant::now();
            while due >= 1.0 {
                due -= 1.0;
                tokio::spawn(ask(process.client.clone(), Arc::clone(admissions)));
            }
        }
    });
    join_all(callers).await;
    sleep(Duration::from_millis(500)).await;
}

async fn ask(client: Client, admissions: Admissions) {
    // What is no id is answered without anybody else.
    let request = client.request("GET", "/purchases/x").header("x-forwarded-for", "192.0.2.1");
    if request.try_send().await.is_some_and(|answer| answer.status == 404) {
        admissions.lock().unwrap().push(Instant::now());
    }
}

/// The least and the most that was let in of ten seconds' limit, in windows from `from` on.
fn extremes(admissions: &Admissions, began: Instant, from: Duration) -> (f64, f64) {
    let admissions = admissions.lock().unwrap();
    let mut extremes = (f64::INFINITY, 0.0_f64);
    let mut start = from;
    while start + WINDOW <= Duration::from_secs(SECONDS) {
        let window = began + start..began + start + WINDOW;
        let count = admissions.iter().filter(|at| window.contains::<Instant>(at)).count();
        let part = value(count) / (LIMIT * 10.0);
        extremes = (extremes.0.min(part), extremes.1.max(part));
        start += Duration::from_millis(100);
    }
    extremes
}

#[expect(clippy::print_stdout, reason = "the errors are what is measured here")]
fn tell(what: &str, replicas: usize, (least, most): (f64, f64)) -> bool {
    println!("{replicas} replicas, {what}: {least:.3} to {most:.3} of the limit in ten seconds");
    least >= 0.9 && most <= 1.1
}

/// Each replica's part of the traffic.
fn hot(replica: usize, replicas: usize, hot: usize) -> f64 {
    match (replicas, replica == hot % replicas) {
        (1, _) => 1.0,
        (_, true) => 0.9,
        (_, false) => 0.1 / value(replicas - 1),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures for minutes"]
async fn processes_share_the_limit_whoever_is_asked() {
    let mut good = true;
    for replicas in [1, 2, 4, 8] {
        let even = |_, _| 2.0 * LIMIT / value(replicas);
        let ninety_to_ten = |replica, _| 2.0 * LIMIT * hot(replica, replicas, 0);
        let moving = |replica, seconds| 2.0 * LIMIT * hot(replica, replicas, usize::try_from(seconds / 4).unwrap());
        let patterns: [(&str, &Rates<'_>); 3] =
            [("evenly loaded", &even), ("90:10", &ninety_to_ten), ("another one hot every 4 s", &moving)];
        for (what, rates) in patterns {
            let (fleet, admissions, began) = (start(replicas).await, Admissions::default(), Instant::now());
            load(&fleet, &admissions, rates).await;
            good &= tell(what, replicas, extremes(&admissions, began, Duration::ZERO));
        }
    }
    assert!(good);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures for minutes"]
async fn processes_that_go_or_freeze_are_worked_in_within_three_seconds() {
    let mut good = true;
    for replicas in [2, 4] {
        for (what, signal) in [("the hot one frozen", "-STOP"), ("the hot one killed", "-KILL")] {
            let (fleet, admissions, began) = (start(replicas).await, Admissions::default(), Instant::now());
            let rates = |replica, seconds| {
                // Its callers go to the next one.
                let hot_one = usize::from(seconds >= 5);
                2.0 * LIMIT * if seconds >= 5 && replica == 0 { 0.0 } else { hot(replica, replicas, hot_one) }
            };
            let fault = async {
                sleep(Duration::from_secs(5)).await;
                fleet[0].signal(signal);
            };
            tokio::join!(load(&fleet, &admissions, &rates), fault);
            good &= tell(what, replicas, extremes(&admissions, began, Duration::from_secs(8)));
        }
    }
    assert!(good);
}
