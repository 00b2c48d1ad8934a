//! What holds for the repository as a whole.

mod alive;
mod crowd;
mod descriptions;
mod harness;
mod invariants;
mod settings_table;
