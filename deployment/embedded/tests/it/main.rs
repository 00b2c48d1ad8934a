//! What holds for the repository as a whole.

mod accounts;
mod alive;
mod api_keys;
mod callbacks;
mod crowd;
mod descriptions;
mod events;
mod harness;
mod invariants;
mod key_rotation;
mod metrics_table;
mod settings_table;
