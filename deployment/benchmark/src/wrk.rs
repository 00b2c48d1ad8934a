//! `wrk`, the closed-loop load generator: a program that everybody has, and that takes little of the machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde::Deserialize;

use stack::{
    error::{Doing, Result, StackError},
    load::GUIDE_BODY,
    process::{Lifetime, Process},
};

/// What a run prints when it is over: one line of JSON.
const SCRIPT: &str = r#"
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"micros":%d,"p50":%d,"p99":%d,"p999":%d,"bad_status":%d,"broken":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
"#;

/// How long after its time a run may end: the last answers.
const END_PATIENCE: Duration = Duration::from_secs(30);

/// What to send, and how.
#[derive(Clone)]
pub struct WrkPlan {
    /// `HOST:PORT`.
    pub address: String,
    /// The body of every `POST /buy`.
    pub body: String,
    /// The access token of all requests, if they have one.
    pub token: Option<String>,
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// For how long.
    pub time: Duration,
}

/// What a run saw. Latencies are in microseconds.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct WrkReport {
    /// Complete answers.
    pub requests: u64,
    micros: u64,
    /// Median.
    pub p50: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p999: f64,
    /// Answers that are neither 2xx nor 3xx.
    pub bad_status: u64,
    /// Connections refused or cut, and answers that did not come.
    pub broken: u64,
}

impl WrkPlan {
    /// The guide's purchase, by whoever.
    pub fn new(address: String, connections: usize, time: Duration) -> Self {
        Self { address, body: GUIDE_BODY.to_owned(), token: None, connections, time }
    }

    fn script(&self) -> String {
        let token = self.token.iter().map(|token| format!("wrk.headers[\"Authorization\"] = \"Bearer {token}\"\n"));
        format!("{SCRIPT}wrk.body = [[{}]]\n{}", self.body, token.collect::<String>())
    }
}

impl WrkReport {
    /// Answers a second.
    pub fn per_second(&self) -> f64 {
        super::spread::float(self.requests) * 1e6 / super::spread::float(self.micros.max(1))
    }

    /// Refuses a run with anything but good answers: its figures would mean nothing.
    ///
    /// # Errors
    /// When there was one.
    pub fn all_good(self) -> Result<Self> {
        if self.bad_status == 0 && self.broken == 0 && self.requests > 0 {
            return Ok(self);
        }
        Err(StackError::Refused(format!("the load was not answered well: {self:?}")))
    }
}

/// Runs `wrk` to its end.
///
/// # Errors
/// When it is not installed or fails.
pub async fn run(folder: &Path, plan: &WrkPlan) -> Result<WrkReport> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let script = folder.join(format!("wrk-{number}.lua"));
    fs::write(&script, plan.script()).doing("writing wrk's script")?;
    let mut command = Command::new(program()?);
    // It refuses more threads than connections.
    let threads = plan.connections.min(2).to_string();
    command.args(["--threads", &threads, "--timeout", "10s", "--latency"]);
    command.arg(format!("--connections={}", plan.connections)).arg(format!("--duration={}s", plan.time.as_secs()));
    command.arg("--script").arg(&script).arg(format!("http://{}/buy", plan.address));
    let log = folder.join(format!("wrk-{number}.log"));
    let mut process = Process::spawn("wrk", command, &log, Lifetime::WithParent)?;
    let status = process.wait_exit(plan.time + END_PATIENCE).await?;
    let output = fs::read_to_string(&log).doing("reading wrk's output")?;
    let report = output.lines().rev().find_map(|line| serde_json::from_str(line).ok());
    report.ok_or_else(|| process.failure(format!("did not report ({status})")))
}

/// Checks that it is there, before anything is started.
///
/// # Errors
/// When it is not: with the package to install.
pub fn program() -> Result<PathBuf> {
    let found = ["/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"].iter().map(|folder| Path::new(folder).join("wrk"));
    found.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        StackError::MissingTools("wrk, the load generator: `apt-get install wrk` (Debian and Ubuntu)".to_owned())
    })
}
