//! web-server: accepts purchases into Kafka and serves reads from management-api. Modules in reading order.

pub mod command;
pub mod config;

pub mod app;
pub mod routes;
pub mod state;

pub mod access;
pub mod api_keys;
pub mod tokens;

pub mod callbacks;
pub mod events;
pub mod limits;
pub mod management_client;
pub mod publisher;
pub mod read_cache;
pub mod shedding;
pub mod status;

pub mod cors;
pub mod metrics;

pub use self::app::run;
pub use self::config::Config;
