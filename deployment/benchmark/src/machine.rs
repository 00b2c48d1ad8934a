//! What the figures were measured on, and with which versions.

use std::{fs, path::Path, process::Command};

use chrono::Utc;
use serde::Serialize;

use stack::install;

/// A machine and what is installed on it. What cannot be found out is "unknown".
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    date: String,
    cores: usize,
    cpu: String,
    memory_mib: u64,
    kernel: String,
    /// Other programs were running too: the table is only as good as the machine was quiet.
    load_average_at_start: String,
    rustc: String,
    kafka: &'static str,
    postgres: &'static str,
    java: String,
    version: &'static str,
    commit: String,
}

impl Machine {
    /// This one, now.
    pub fn describe() -> Self {
        let memory_kib = value_of("/proc/meminfo", "MemTotal")
            .and_then(|text| text.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()));
        Self {
            date: Utc::now().format("%Y-%m-%d %H:%M UTC").to_string(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            cpu: value_of("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            memory_mib: memory_kib.unwrap_or(0) / 1024,
            kernel: read("/proc/sys/kernel/osrelease"),
            load_average_at_start: load_average(),
            rustc: first_line("rustc", &["--version"]),
            kafka: install::kafka_version(),
            postgres: install::postgres_version(),
            java: first_line("java", &["-version"]),
            version: env!("CARGO_PKG_VERSION"),
            commit: first_line("git", &["describe", "--always", "--dirty"]),
        }
    }

    /// One paragraph of Markdown.
    pub fn text(&self) -> String {
        let Self { date, cores, cpu, memory_mib, kernel, load_average_at_start, .. } = self;
        let Self { rustc, kafka, postgres, java, version, commit, .. } = self;
        format!(
            "{date}. {cores} cores ({cpu}), {memory_mib} MiB, Linux {kernel}; load average at the start \
             {load_average_at_start}. {rustc}, Apache Kafka {kafka} ({java}), PostgreSQL {postgres}, \
             version {version} ({commit}). Everything, load generators included, shares these cores."
        )
    }
}

/// The machine's load averages over 1, 5 and 15 minutes.
pub fn load_average() -> String {
    let text = read("/proc/loadavg");
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn value_of(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn read(file: &str) -> String {
    fs::read_to_string(file).map_or_else(|_| unknown(), |text| text.trim().to_owned())
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().next().map_or_else(unknown, str::to_owned)
}

fn unknown() -> String {
    "unknown".to_owned()
}
