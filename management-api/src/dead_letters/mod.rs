//! Records that can never be stored: kept in a topic of their own, or in the database where that does not take them; listed,
//! and sent back when mended.

mod limits;
mod list;
mod producer;
mod publish;
mod redrive;

pub use self::limits::compare_limits;
pub use self::list::{DATABASE_PARTITION, DeadLetterError, list};
pub use self::producer::{dead_letter_producer, redrive_producer};
pub use self::publish::DeadLetters;
pub use self::redrive::{Selection, redrive};
