use std::time::Duration;

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// 2xx.
    Delivered,
    /// 410: it wants no more.
    Gone,
    /// Any other answer.
    Refused {
        /// Its status.
        status: u16,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// No answer in time.
    Timeout,
    /// No connection.
    Unreachable(&'static str),
    /// Its address is one that is not connected to.
    Forbidden,
}

impl AttemptOutcome {
    /// When it wants to be asked again.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl AttemptOutcome {
    pub fn kind(&self) -> crate::metrics::AttemptLabel {
        use crate::metrics::AttemptLabel as L;
        match self { Self::Delivered => L::Delivered, Self::Gone => L::Gone, Self::Refused{..} => L::Refused, Self::Timeout => L::Timeout, Self::Unreachable(_) => L::Unreachable, Self::Forbidden => L::Forbidden }
    }
    /// Whether the host itself has failed: others of its callbacks would, too.
    pub fn is_host_at_fault(&self) -> bool {
        match self { Self::Refused{status,..} => *status >= 500 || *status == 429, Self::Timeout | Self::Unreachable(_) => true, _ => false }
    }
    /// Whether it counts against the host that nothing is delivered to it.
    pub fn is_failure_of_host(&self) -> bool {
        matches!(self, Self::Refused{..} | Self::Timeout | Self::Unreachable(_))
    }
}
impl std::fmt::Display for AttemptOutcome { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, "{self:?}") } }
