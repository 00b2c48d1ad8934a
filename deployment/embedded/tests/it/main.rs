//! What holds for the repository as a whole.

mod invariants;
mod settings_table;
