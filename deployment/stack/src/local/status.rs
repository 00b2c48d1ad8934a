//! One table: every process, whether it is ready and if not, why; then how far recording is behind.

use std::{collections::BTreeMap, fmt::Write as _, path::Path, time::Duration};

use super::state::{self, Entry, Kind, State};
use crate::{
    error::Result,
    http, kafka, metrics,
    postgres::{Postgres, PostgresPlan},
    process::Lifetime,
};

const CHECK_DEADLINE: Duration = Duration::from_secs(2);
const LAG: &str = "kafka_consumer_lag";

/// The table as text, and whether everything is ready.
///
/// # Errors
/// When the stack's state cannot be read.
pub async fn status(folder: &Path) -> Result<(String, bool)> {
    let state = state::load(folder)?;
    if state.processes.is_empty() {
        return Ok(("nothing runs; `stack up` starts the stack\n".to_owned(), false));
    }
    let mut table = format!("{:<18} {:>8} {:>6}  STATUS\n", "NAME", "PID", "PORT");
    let mut all_ready = true;
    for entry in &state.processes {
        let reason = not_ready_because(folder, entry).await;
        all_ready &= reason.is_none();
        let status = reason.map_or_else(|| "ready".to_owned(), |reason| format!("not ready: {reason}"));
        let _ = writeln!(table, "{:<18} {:>8} {:>6}  {status}", entry.name, entry.id.pid, entry.port);
    }
    let _ = writeln!(table, "\n{}", lag_line(&state).await);
    Ok((table, all_ready))
}

async fn not_ready_because(folder: &Path, entry: &Entry) -> Option<String> {
    if !entry.id.is_alive() {
        return Some(format!("it has ended; its log is {}", entry.log.display()));
    }
    match entry.kind {
        Kind::Kafka => kafka::view(entry.port).await.err().map(|error| error.to_string()),
        Kind::Postgres => postgres_error(folder, entry.port).await,
        Kind::ManagementApi | Kind::WebServer => service_error(entry.port).await,
    }
}

async fn postgres_error(folder: &Path, port: u16) -> Option<String> {
    let plan = PostgresPlan { port, extra_settings: Vec::new(), lifetime: Lifetime::Detached };
    let connect = async { Postgres::prepare(&folder.join("postgres"), plan).await?.client().await };
    connect.await.err().map(|error| error.to_string())
}

async fn service_error(port: u16) -> Option<String> {
    match http::get(&format!("127.0.0.1:{port}"), "/readyz", CHECK_DEADLINE).await {
        Ok(answer) if answer.status.is_success() => None,
        Ok(answer) => Some(failed_checks(&answer.body).unwrap_or_else(|| format!("{} {}", answer.status, answer.body))),
        Err(error) => Some(error.to_string()),
    }
}

/// The names and details of the checks that are not `ok`, from the body of `/readyz`.
fn failed_checks(body: &str) -> Option<String> {
    let health: serde_json::Value = serde_json::from_str(body).ok()?;
    let mut failed = Vec::new();
    for (name, check) in health["checks"].as_object()? {
        let status = check["status"].as_str().unwrap_or_default();
        if status != "ok" {
            failed.push(format!("{name}: {}", check["detail"].as_str().unwrap_or(status)));
        }
    }
    (!failed.is_empty()).then(|| failed.join("; "))
}

/// Each partition's lag. A partition belongs to one replica and the others say 0; while it goes from one to the other
/// both may show it, so the largest counts.
async fn lag_line(state: &State) -> String {
    let mut lag_by_partition = BTreeMap::<u32, f64>::new();
    let mut silent = Vec::new();
    for entry in state.processes.iter().filter(|entry| entry.kind == Kind::ManagementApi) {
        let answer = http::get(&format!("127.0.0.1:{}", entry.port), "/metrics", CHECK_DEADLINE).await;
        let page = answer.map(|answer| answer.body).unwrap_or_default();
        let samples = metrics::samples(&page).filter(|sample| sample.name == LAG);
        let read: Vec<_> = samples.filter_map(|it| Some((it.label("partition")?.parse().ok()?, it.value))).collect();
        if read.is_empty() {
            silent.push(entry.name.as_str());
        }
        for (partition, records) in read {
            let lag = lag_by_partition.entry(partition).or_default();
            *lag = records.max(*lag);
        }
    }
    let mut line = String::from("lag (records not recorded yet): ");
    if lag_by_partition.is_empty() {
        line.push_str("unknown");
    } else {
        let _ = write!(line, "{} in all; by partition", lag_by_partition.values().sum::<f64>());
        for (partition, records) in &lag_by_partition {
            let _ = write!(line, " {partition}:{records}");
        }
    }
    if !silent.is_empty() {
        let _ = write!(line, " (no {LAG} from {})", silent.join(", "));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::failed_checks;

    #[test]
    fn only_failed_checks_are_named() {
        let body = r#"{"status":"unhealthy","checks":{"kafka":{"status":"ok","detail":""},
            "database":{"status":"failed","detail":"connection refused"}}}"#;
        assert_eq!(failed_checks(body).as_deref(), Some("database: connection refused"));
        assert_eq!(failed_checks("not json"), None);
    }
}
