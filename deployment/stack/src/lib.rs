//! Real Apache Kafka and PostgreSQL on this machine, without Docker and without root, and the two services on top of them.
//!
//! Three users: the `stack` program (`make stack-up`), the fault tests, and the benchmark, a crate of its own.

pub mod accounts;
pub mod error;
pub mod folder;
pub mod http;
pub mod install;
pub mod kafka;
pub mod ledger;
pub mod load;
pub mod local;
pub mod metrics;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod service;
pub mod stand_ins;

pub use error::{Result, StackError};
pub use folder::RunFolder;
pub use kafka::KafkaCluster;
pub use ledger::Ledger;
pub use load::{Load, LoadPlan};
pub use postgres::Postgres;
pub use service::Service;
