//! Cases that hold for every pipeline. Each file goes by one front door.

mod bad_input;
mod batch;
mod buy;
mod exact;
mod operations;
mod other_producers;
mod reads;
