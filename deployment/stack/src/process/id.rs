//! A process named by pid *and* start time, and what /proc says about it.

use std::{fs, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Signal, sys};

/// Names one process for ever: a pid alone is given to another process one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The process's number.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did.
    pub started: u64,
}

/// The fields of /proc/PID/stat that matter here, in clock ticks where they are times.
struct Stat {
    state: char,
    own_ticks: u64,
    reaped_children_ticks: u64,
    started: u64,
}

impl ProcessId {
    /// The process that has this pid now, if there is one.
    pub fn of(pid: u32) -> Option<Self> {
        read_stat(pid).map(|stat| Self { pid, started: stat.started })
    }

    /// This program.
    ///
    /// # Panics
    /// Where /proc is not mounted.
    pub fn own() -> Self {
        Self::of(std::process::id()).expect("/proc shows this program")
    }

    /// Whether the process is there and has not ended; one that ended and was not waited for counts as gone.
    pub fn is_alive(self) -> bool {
        self.stat().is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
    }

    /// Sends a signal, if it is still the same process; false if it is gone.
    pub fn signal(self, signal: Signal) -> bool {
        // The order matters: once the handle is open, the check is about the process that the signal will reach.
        let Ok(handle) = sys::open_pidfd(self.pid) else { return false };
        self.stat().is_some() && sys::signal_pidfd(&handle, signal).is_ok()
    }

    /// CPU time used so far, user and system, in steps of a clock tick (10 ms); zero if the process is gone.
    pub fn cpu_time(self) -> Duration {
        self.stat().map_or(Duration::ZERO, |stat| ticks(stat.own_ticks))
    }

    /// CPU time of the process, of its living children and of those that ended.
    pub fn cpu_time_with_children(self) -> Duration {
        let own = self.stat().map_or(0, |stat| stat.own_ticks + stat.reaped_children_ticks);
        let children = self.children().into_iter().map(Self::cpu_time).sum::<Duration>();
        ticks(own) + children
    }

    /// Memory in use that is not swapped out, in bytes; zero if the process is gone.
    pub fn rss_bytes(self) -> u64 {
        let resident_pages = || {
            let statm = fs::read_to_string(format!("/proc/{}/statm", self.pid)).ok()?;
            statm.split(' ').nth(1)?.parse::<u64>().ok()
        };
        resident_pages().unwrap_or(0) * sys::page_bytes()
    }

    /// The process's children, as far as they still run.
    pub fn children(self) -> Vec<Self> {
        let listed = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).unwrap_or_default();
        listed.split_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(Self::of).collect()
    }

    fn stat(self) -> Option<Stat> {
        // Zero is the start time of a process that ended before it could be read.
        read_stat(self.pid).filter(|stat| stat.started == self.started)
    }
}

/// Whether this program runs as root.
pub fn is_root() -> bool {
    sys::effective_user() == 0
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 1000 / sys::ticks_per_second())
}

/// Reads /proc/PID/stat; proc(5) has the order of its fields.
fn read_stat(pid: u32) -> Option<Stat> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything, spaces and parentheses too.
    let (_, rest) = line.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |field_number: usize| fields.get(field_number - 3)?.parse::<u64>().ok();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        own_ticks: number(14)? + number(15)?,
        reaped_children_ticks: number(16)? + number(17)?,
        started: number(22)?,
    })
}
