//! Tests on real Kafka and PostgreSQL: `cargo test -p stack --features real-stack --release -- --test-threads=1`.

#[path = "../e2e/cases/mod.rs"]
mod cases;
mod deployment;
#[path = "../e2e/doors.rs"]
mod doors;
#[cfg(feature = "tls")]
mod encrypted;
mod faults;
mod harness;
mod infra;
mod local;
mod pipeline;
mod settings;
