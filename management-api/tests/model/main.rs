//! The record protocol as a model, and every one of its behaviours looked at.
//!
//! Two consumers share a partition of three records. Between any two of their steps two faults may happen: a crash,
//! a rebalance, a member frozen for so long that the group gives its partition away while it goes on, a transaction
//! whose answer does not come (it may be executed at once, later or never), a dead letter that its topic refuses, a
//! topic made anew, a log that is cut and grows again. The checker goes through all orders of all steps. What it
//! proves is the protocol; that the code follows it is for the other tests to show. Steps bear the code's names:
//!
//! | step here | in management-api/src |
//! |---|---|
//! | `Assigned`, `Revoked` | `ingest/reader/rebalance.rs`: `assigned`, `revoked` |
//! | `TakeOver` | `ingest/loader.rs`: `load`; `ingest/reader/rebalance.rs`: `take_over` |
//! | `Reload` | `ingest/reader/rebalance.rs`: `reload` |
//! | `Add` | `ingest/reader/mod.rs`: `add` |
//! | `HandOver` | `ingest/reader/handover.rs`: `hand_over` |
//! | `Begin` | `ingest/lane.rs`: `commit`, up to `deduplicate` |
//! | `Publish` | `ingest/lane.rs`: `commit`; `dead_letters`: `publish` |
//! | `Record` | `ingest/lane.rs`: `record`; `store/postgres/record.rs`; `migrations/postgres`: `record_purchases` |
//!
//! That the model can fail is shown, too: each mutant of it, a rule left out, is found.

mod consumer;
mod database;
mod fault;
mod log;
mod mutant;
mod properties;
mod protocol;
mod step;

use stateright::{Checker, HasDiscoveries, Model};

use crate::mutant::Mutant;
use crate::protocol::{Faults, Protocol, Scope};

/// Checks every behaviour of the protocol.
fn holds(scope: Scope) {
    let checked = Protocol::new(scope, None).checker().threads(2).spawn_bfs().join();
    checked.assert_properties();
}

#[test]
fn whatever_fails_each_record_is_recorded_once() {
    holds(Scope::GOOD);
}

#[test]
fn whatever_fails_what_cannot_be_recorded_is_a_dead_letter_and_nothing_else_is() {
    [Scope::POISON, Scope::CONFLICT, Scope::REJECTED].into_iter().for_each(holds);
}

#[test]
fn a_topic_made_anew_is_neither_skipped_nor_mistaken_for_the_old_one() {
    holds(Scope { faults: Faults::MadeAnew, ..Scope::GOOD });
}

#[test]
fn a_log_that_was_cut_and_grew_again_is_read_from_where_the_histories_part() {
    holds(Scope { faults: Faults::Cut, ..Scope::GOOD });
}

#[test]
fn a_protocol_with_a_rule_left_out_is_found_to_fail() {
    for mutant in Mutant::ALL {
        let mutated = Protocol::new(mutant.scope(), Some(mutant)).checker().threads(2);
        let checked = mutated.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        assert!(checked.discoveries().into_keys().any(properties::is_rule), "{mutant:?} is not found");
    }
}
