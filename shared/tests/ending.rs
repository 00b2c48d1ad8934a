//! A process ends within its limits, whatever hangs in it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use shared::shutdown::Shutdown;

/// What the process says when it listens to signals.
const READY: &str = "listening to signals";
/// How long the end may take at most, with all that the machine has to do besides.
const AT_ONCE: Duration = Duration::from_secs(5);

#[test]
#[ignore = "runs for ever: the others start it in a process of its own"]
fn a_process_that_hangs() {
    Shutdown::new().on_signals(Duration::from_millis(100), Duration::from_millis(500)).unwrap();
    hang();
}

#[test]
#[ignore = "runs for ever: the others start it in a process of its own"]
fn a_process_that_hangs_and_has_failed() {
    let shutdown = Shutdown::new();
    shutdown.on_signals(Duration::from_mins(1), Duration::from_mins(1)).unwrap();
    shutdown.fail("some task");
    hang();
}

#[test]
#[ignore = "runs for ever: the others start it in a process of its own"]
fn a_process_that_hears_no_signal() {
    let shutdown = Shutdown::new();
    shutdown.on_signals(Duration::from_mins(1), Duration::from_mins(1)).unwrap();
    shutdown.faults().kill("signals");
    hang();
}

#[test]
fn a_process_whose_signals_nobody_hears_any_more_ends_with_an_error() {
    let began = Instant::now();
    let mut process = start("a_process_that_hears_no_signal");
    assert_eq!(process.wait().unwrap().code(), Some(1));
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

#[test]
fn sigterm_ends_a_process_whose_every_task_hangs() {
    let mut process = start("a_process_that_hangs");
    let began = Instant::now();
    let sent = Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(process.wait().unwrap().code(), Some(1));
    assert!((Duration::from_millis(600)..AT_ONCE).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[test]
fn a_second_signal_ends_the_delay() {
    let mut process = start("a_process_that_hangs");
    for _ in 0..2 {
        Command::new("kill").args(["-INT", &process.id().to_string()]).status().unwrap();
    }
    assert_eq!(process.wait().unwrap().code(), Some(1));
}

#[test]
fn a_process_that_has_failed_ends_soon_whatever_its_limits() {
    let began = Instant::now();
    let mut process = start("a_process_that_hangs_and_has_failed");
    assert_eq!(process.wait().unwrap().code(), Some(1));
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

/// A runtime whose only worker never comes back.
fn hang() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        eprintln!("{READY}");
        loop {
            thread::sleep(Duration::from_secs(1));
        }
    });
}

/// Starts this very program with one of its tests, and waits until that listens.
fn start(test: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", test, "--nocapture"]);
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = process.stderr.take().unwrap();
    let begins = BufReader::new(&mut stderr).lines().any(|line| line.unwrap().contains(READY));
    assert!(begins, "the process does not begin");
    // It may have more to say.
    process.stderr = Some(stderr);
    process
}
