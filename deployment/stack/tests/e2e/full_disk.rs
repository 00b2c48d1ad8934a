//! The embedded pipeline's disk runs full: purchases are refused, none is lost, and it goes on when there is room again.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use shared::testing::{DEADLINE, eventually};
use stack::load::{LoadPlan, Pace};
use stack::process::{Lifetime, Process, is_root};
use stack::service::Program;
use stack::{Load, RunFolder, http};

use crate::durability::check;
use crate::pipeline::{doors_of, plan};

/// Room for the database, its log, and some thousands of purchases.
const DISK: &str = "size=16m";

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_purchases_and_room_brings_them_back() {
    let folder = RunFolder::new("full-disk").expect("a folder");
    let data = folder.subfolder("data").expect("a folder");
    let (plan, management) = plan(&data);
    let log = folder.path().join("embedded.log");
    // The small disk is seen by this process only, and is gone with it.
    let mut command = Command::new("unshare");
    command.args(if is_root() { ["--mount"].as_slice() } else { &["--mount", "--map-root-user"] });
    command.args(["sh", "-c", "mount -t tmpfs -o \"$1\" tmpfs \"$DATA_DIR\" && exec \"$0\""]);
    command.arg(Program::Embedded.executable().expect("the binary is built")).arg(DISK).envs(&plan.settings);
    let mut process = Process::spawn("embedded", command, &log, Lifetime::WithParent).expect("unshare can be started");
    let address = plan.address.to_string();
    if !wait_ready(&mut process, &address).await {
        let said = fs::read_to_string(&log).unwrap_or_default();
        assert!(said.contains("unshare") || said.contains("mount"), "{said}");
        eprintln!("NOT TESTED: this machine lets us mount no small disk: {said}");
        return;
    }
    let disk = PathBuf::from(format!("/proc/{}/root{}", process.id().pid, data.display()));

    let load = Load::start(LoadPlan { pace: Pace::PerSecond(150.0), ..LoadPlan::new(vec![address.clone()], 200) });
    let progress = load.progress().clone();
    eventually("purchases are recorded", async || (progress.acknowledged() > 100).then_some(())).await;
    fill(&disk);
    eventually("purchases are refused", async || (buy(&address).await == Some(503)).then_some(())).await;
    let (before, sent) = (progress.acknowledged(), progress.sent());
    eventually("a hundred more are sent", async || (progress.sent() > sent + 100).then_some(())).await;
    assert_eq!(progress.acknowledged(), before, "nothing is acknowledged while nothing can be recorded");
    let live = http::get(&address, "/livez", Duration::from_secs(2)).await.expect("it answers");
    assert_eq!(live.status, 200);
    assert_eq!(http::get(&address, "/health", Duration::from_secs(2)).await.expect("it answers").status, 503);
    assert_eq!(http::get(&address, "/readyz", Duration::from_secs(2)).await.expect("it answers").status, 200, "reads");

    fs::remove_file(disk.join("filler")).expect("the filler can be removed");
    eventually("purchases are recorded again", async || (buy(&address).await == Some(201)).then_some(())).await;
    let report = load.stop().await;
    let statuses: Vec<u16> = report.statuses.keys().copied().collect();
    assert!(
        statuses.iter().all(|status| [201, 503, 504].contains(status)),
        "{:?} {:?}",
        report.statuses,
        report.failures
    );
    let doors = doors_of(&address, management, &log, folder.path());
    check(&doors, &report.ledger).await;
}

async fn wait_ready(process: &mut Process, address: &str) -> bool {
    eventually("it is ready or has ended", async || {
        if process.check_alive().is_err() {
            return Some(false);
        }
        let answer = http::get(address, "/readyz", Duration::from_secs(2)).await;
        answer.is_ok_and(|answer| answer.status.is_success()).then_some(true)
    })
    .await
}

/// Takes every byte that is left.
fn fill(disk: &Path) {
    let mut filler = File::create(disk.join("filler")).expect("a filler");
    let block = [7; 4096];
    while filler.write_all(&block).is_ok() {}
    while filler.write_all(&block[..1]).is_ok() {}
}

/// The status of one purchase beside the load.
async fn buy(address: &str) -> Option<u16> {
    let plan = LoadPlan {
        purchases_max: Some(1),
        attempt_deadline: DEADLINE,
        purchases: stack::load::Purchases::Same { body: r#"{"username":"p","userid":"probe","price":1}"#.to_owned() },
        ..LoadPlan::new(vec![address.to_owned()], 1)
    };
    Load::run(plan).await.statuses.keys().next().copied()
}
