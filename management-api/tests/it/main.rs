//! The service through its front door, on the in-process broker; and the contract of its database.

mod accounts;
#[cfg(debug_assertions)]
mod alive;
mod callbacks;
mod codecs;
mod dead_letters;
mod doors;
mod harness;
mod log_trouble;
mod memory_store;
mod operator;
mod raw_batch;
mod record_path;
mod shares;
mod store_contract;
mod strange_records;
