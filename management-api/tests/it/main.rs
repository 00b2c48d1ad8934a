//! The service through its front door, on the in-process broker; and the contract of its database.

mod codecs;
mod dead_letters;
mod doors;
mod harness;
mod memory_store;
mod record_path;
mod shares;
mod store_contract;
