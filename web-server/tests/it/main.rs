//! web-server through its front door: the real app on port 0, the in-process broker, a fake management-api.

mod harness;

mod access;
mod accounts;
#[cfg(debug_assertions)]
mod alive;
mod api_keys;
mod balancing;
mod batch;
mod buy;
mod callbacks;
mod calls;
mod command_line;
mod connections;
mod crowds;
mod events;
mod faults;
mod guarantee;
mod hang_ups;
mod limits;
mod oidc;
mod openapi;
mod operations;
mod page;
mod rate_limit_callers;
mod rate_limit_fleet;
mod rate_limit_logins;
mod rate_limit_processes;
mod rate_limit_traffic;
mod rate_limits;
mod read_cache;
mod reads;
mod rollout;
mod scale_out;
mod shares;
mod shedding;
mod shedding_traffic;
mod tls;
mod waiting;
