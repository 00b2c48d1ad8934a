//! Faults under load. Each test keeps a ledger of what its clients were told, and compares it with the SQL table.

mod brokers;
mod callbacks;
mod frozen;
mod kafka_away;
mod killed;
mod listeners;
mod new_topics;
mod postgres_away;
mod postgres_unfit;
mod producer;
mod rebalances;
mod rolling;
mod strange_logs;
