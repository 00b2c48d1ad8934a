//! What an error of SQLite means for the connection that it came from and for the batch: one table for all of them.

/// What went wrong, and with it what is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Another process writes: the same again, later.
    Busy,
    /// Some row can never be stored.
    Rejected,
    /// The file was moved away, or may not be written.
    ReadOnly,
    /// The disk is full.
    Full,
    /// The disk does not do its work.
    Io,
    /// The file is damaged, or no database.
    Damaged,
    /// The file cannot be opened.
    CannotOpen,
    /// Anything else, also the pool's own errors.
    Other,
}

/// SQLite's result codes proper.
const TABLE: &[(i32, Fault)] = &[
    (5, Fault::Busy),
    (6, Fault::Busy),
    (8, Fault::ReadOnly),
    (10, Fault::Io),
    (11, Fault::Damaged),
    (13, Fault::Full),
    (14, Fault::CannotOpen),
    // Too big, a constraint, a mismatch of types.
    (18, Fault::Rejected),
    (19, Fault::Rejected),
    (20, Fault::Rejected),
    (26, Fault::Damaged),
];

impl Fault {
    pub(super) fn of(error: &sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
        code.map_or(Self::Other, Self::by)
    }

    /// The result code proper is the low byte of the extended one.
    fn by(code: i32) -> Self {
        TABLE.iter().find(|(other, _)| *other == code & 0xff).map_or(Self::Other, |(_, fault)| *fault)
    }

    /// Whether a connection may never be rid of it: what it has opened is no longer what stands under the name.
    pub(super) fn stays_with_connection(self) -> bool {
        matches!(self, Self::ReadOnly | Self::Io | Self::Damaged | Self::CannotOpen)
    }

    /// What everybody may know of it, if it is the file's fault.
    pub(super) fn unfit(self) -> Option<&'static str> {
        match self {
            Self::ReadOnly => Some("the database's file cannot be written"),
            Self::Full => Some("the disk of the database is full"),
            Self::Io => Some("the disk of the database does not do its work"),
            Self::Damaged => Some("the database's file is damaged, or no database"),
            Self::CannotOpen => Some("the database's file cannot be opened"),
            Self::Busy | Self::Rejected | Self::Other => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_codes_mean_what_their_code_means() {
        let faults = [
            (5, Fault::Busy),
            (517, Fault::Busy),
            (8, Fault::ReadOnly),
            (1032, Fault::ReadOnly),
            (266, Fault::Io),
            (11, Fault::Damaged),
            (13, Fault::Full),
            (2067, Fault::Rejected),
            (26, Fault::Damaged),
            (1, Fault::Other),
        ];
        for (code, fault) in faults {
            assert_eq!(Fault::by(code), fault, "{code}");
        }
        assert_eq!(Fault::of(&sqlx::Error::PoolTimedOut), Fault::Other);
    }
}
