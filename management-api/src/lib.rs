//! The management-api: records every purchase exactly once and serves it back. In reading order:

pub mod command;
pub mod commits;
pub mod config;

pub mod app;
pub mod routes;
pub mod state;

pub mod accounts;
pub mod callbacks;
pub mod dead_letters;
pub mod ingest;
pub mod partitions;
pub mod store;
pub mod waiters;

pub mod letter;

pub mod metrics;
pub mod planted;
