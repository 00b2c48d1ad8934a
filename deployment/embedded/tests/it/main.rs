//! What holds for the repository as a whole.

mod crowd;
mod invariants;
mod settings_table;
