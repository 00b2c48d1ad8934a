//! What every database must do, run on SQLite always and on PostgreSQL when `TEST_DATABASE_URL` names one
//! (`postgres://USER:PASSWORD@HOST:PORT/DATABASE`, a user who may create databases: each case has its own).

mod databases;
pub mod fixtures;
mod proxy;

mod accounts;
mod api_keys;
mod availability;
mod callbacks;
mod commits;
mod dead_letters;
mod fencing;
mod fitness;
mod metering;
mod reading;
mod recording;
mod replicas;
mod sessions;
mod sign_ins;
mod skipping;
mod snapshots;
