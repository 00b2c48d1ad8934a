//! Tests on real Kafka and PostgreSQL: `make test-stack`, and those in `encrypted` by `make test-tls`.

#[path = "../e2e/cases/mod.rs"]
mod cases;
mod dead_letters;
mod deployment;
#[path = "../e2e/doors.rs"]
mod doors;
mod encrypted;
mod faults;
mod harness;
mod infra;
mod keda_lag;
mod local;
mod pipeline;
mod scale_out;
mod settings;

// So that the tests are built with the very features of the services, and no dependency is built twice.
use embedded as _;
use management_api as _;
use web_server as _;
