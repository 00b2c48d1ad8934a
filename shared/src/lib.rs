//! What both services of the purchase pipeline must agree on, in reading order.

pub mod accounts;
pub mod api_keys;
pub mod callbacks;
pub mod commits;
pub mod event;
pub mod price;
pub mod recording;

pub mod config;
pub mod kafka;

pub mod backoff;
pub mod health;
pub mod http;
pub mod metrics;
pub mod shutdown;
pub mod supervise;
pub mod telemetry;

pub mod testing;
