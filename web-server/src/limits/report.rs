//! What replicas tell each other.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::table::Quota;
use super::{CallerKey, RouteClass};

/// The most callers of one report: those that ask for most.
pub const CALLERS_MAX: usize = 512;
/// The most bytes of one: so many callers take less.
pub const BYTES_MAX: usize = 64 * 1024;

/// What callers ask of one replica, of those callers that come anywhere near their limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Whose it is; a new one with every start.
    pub instance: Uuid,
    /// Later ones have larger numbers.
    pub sequence: u64,
    /// What is asked for; callers that are not named ask for little.
    pub demands: Vec<Told>,
}

/// What one caller asks for in one class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// Who.
    pub caller: CallerKey,
    /// For what.
    pub class: RouteClass,
    /// Requests a window, refused or not.
    pub per_window: f32,
    /// How many were let in, in all; it may begin anew.
    pub admitted: u32,
}

impl Report {
    /// Reads a report.
    ///
    /// # Errors
    /// When it is none, or has more in it than a replica would tell.
    pub fn parse(json: &[u8]) -> Result<Self, &'static str> {
        if json.len() > BYTES_MAX {
            return Err("the report is too large");
        }
        let report: Self = serde_json::from_slice(json).map_err(|_| "this is no report")?;
        if report.demands.len() > CALLERS_MAX {
            return Err("the report has too many callers");
        }
        let is_of_class = |told: &Told| told.caller.is_signing_in() == told.class.is_signing_in();
        if report.demands.iter().all(is_of_class) {
            Ok(report)
        } else {
            Err("a caller of the report has no such class")
        }
    }

    /// As it is sent.
    #[must_use]
    pub fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Told {
    /// Of whom, and for what.
    #[must_use]
    pub fn quota(&self) -> Quota {
        (self.caller, self.class)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn report(callers: usize) -> Report {
        let caller = CallerKey::of_address(std::net::Ipv6Addr::from_bits(u128::MAX).into()).signing_in();
        let told = Told { caller, class: RouteClass::Refresh, per_window: 1_234.5, admitted: u32::MAX };
        Report { instance: Uuid::from_u128(u128::MAX), sequence: u64::MAX, demands: vec![told; callers] }
    }

    #[test]
    fn the_longest_report_fits_and_arrives_as_it_was_sent() {
        let longest = report(CALLERS_MAX);
        assert_eq!(Report::parse(&longest.json()), Ok(longest));
        assert!(Report::parse(&report(CALLERS_MAX + 1).json()).is_err());
        let mut mixed = report(1);
        mixed.demands[0].class = RouteClass::Buy;
        assert!(Report::parse(&mixed.json()).is_err(), "nobody buys as it signs in");
        let padded = [report(1).json(), vec![b' '; BYTES_MAX]].concat();
        assert!(Report::parse(&padded).is_err());
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Report::parse(&bytes);
        }

        #[test]
        fn a_demand_that_is_no_number_is_no_report(word in "NaN|Infinity|-Infinity|null|\"1\"|1e999|\\{\\}") {
            let json = String::from_utf8(report(1).json()).unwrap();
            prop_assert!(Report::parse(json.replace("1234.5", &word).as_bytes()).is_err(), "{}", json);
        }
    }
}
