//! One line of the table: what was measured, beside what, and whether it is enough.

use std::fmt;

use serde::Serialize;

use crate::{
    Section,
    spread::{Spread, float},
};

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Something a second.
    PerSecond,
    /// Microseconds.
    Micros,
    /// Milliseconds.
    Millis,
    /// MiB.
    Mebibytes,
    /// A plain number.
    Count,
}

/// What has to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The median, at most.
    AtMost(f64),
    /// The median, at least.
    AtLeast(f64),
    /// The median's ratio to the baseline's, at most.
    RatioAtMost(f64),
    /// The median's ratio to the baseline's, at least.
    RatioAtLeast(f64),
}

/// What stands beside a measurement, from the same run.
#[derive(Debug, Clone, Serialize)]
pub struct Baseline {
    /// What it is.
    pub name: String,
    /// What was measured of it.
    pub measured: Spread,
    /// The median of the ratios of each round, ours to the baseline's.
    pub ratio: f64,
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Which part of the benchmark.
    pub section: Section,
    /// What was measured.
    pub what: String,
    /// In what.
    pub unit: Unit,
    /// What came out.
    pub measured: Spread,
    /// What it is compared with.
    pub baseline: Option<Baseline>,
    /// What has to be reached; none where a figure only explains others.
    pub targets: Vec<Target>,
    /// Whether all targets are.
    pub reached: Option<bool>,
    /// What a reader must know.
    pub note: Option<String>,
    #[serde(skip)]
    values: Vec<f64>,
}

impl Row {
    /// A measurement, repeated.
    pub fn new(section: Section, what: impl Into<String>, unit: Unit, values: &[f64]) -> Self {
        Self {
            section,
            what: what.into(),
            unit,
            measured: Spread::of(values),
            baseline: None,
            targets: Vec::new(),
            reached: None,
            note: None,
            values: values.to_vec(),
        }
    }

    /// The baseline, measured in the same rounds.
    #[must_use]
    pub fn beside(mut self, name: impl Into<String>, values: &[f64]) -> Self {
        // Round by round: what else the machine does in a minute weighs on both sides of a pair.
        let ratios: Vec<f64> = self.values.iter().zip(values).map(|(ours, theirs)| ours / theirs).collect();
        self.baseline =
            Some(Baseline { name: name.into(), measured: Spread::of(values), ratio: Spread::of(&ratios).median });
        self
    }

    /// What has to be reached. The baseline must be there before a ratio is asked for.
    #[must_use]
    pub fn target(mut self, target: Target) -> Self {
        let ratio = self.baseline.as_ref().map(|baseline| baseline.ratio);
        let reached = match target {
            Target::AtMost(limit) => self.measured.median <= limit,
            Target::AtLeast(limit) => self.measured.median >= limit,
            Target::RatioAtMost(limit) => ratio.is_some_and(|ratio| ratio <= limit),
            Target::RatioAtLeast(limit) => ratio.is_some_and(|ratio| ratio >= limit),
        };
        // Nothing measured reaches nothing.
        let reached = reached && self.measured.repeats > 0;
        self.reached = Some(self.reached.unwrap_or(true) && reached);
        self.targets.push(target);
        self
    }

    /// What a reader must know to understand the figure.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// The cells of the table: what, target, measured, baseline, ratio, reached.
    pub fn cells(&self) -> [String; 6] {
        let targets: Vec<String> = self.targets.iter().map(|target| target.text(self.unit)).collect();
        let (baseline, ratio) = match &self.baseline {
            Some(Baseline { name, measured, ratio }) => {
                (format!("{name}: {}", self.unit.spread(*measured)), format!("{ratio:.2}"))
            }
            None => (String::new(), String::new()),
        };
        let reached = self.reached.map_or("", |reached| if reached { "yes" } else { "**no**" });
        let note = self.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
        [
            format!("{}{note}", self.what),
            targets.join(", "),
            self.unit.spread(self.measured),
            baseline,
            ratio,
            reached.to_owned(),
        ]
    }
}

impl Target {
    fn text(self, unit: Unit) -> String {
        match self {
            Self::AtMost(limit) => format!("≤ {}", unit.number(limit)),
            Self::AtLeast(limit) => format!("≥ {}", unit.number(limit)),
            Self::RatioAtMost(limit) => format!("≤ {limit} × baseline"),
            Self::RatioAtLeast(limit) => format!("≥ {limit} × baseline"),
        }
    }
}

impl Unit {
    /// Median, and the ends when there is more than one measurement.
    fn spread(self, spread: Spread) -> String {
        let Spread { median, min, max, repeats } = spread;
        match repeats {
            0 => "–".to_owned(),
            1 => self.number(median),
            _ => format!("{} ({}–{})", self.number(median), Digits(min), Digits(max)),
        }
    }

    fn number(self, value: f64) -> String {
        let digits = Digits(value);
        match self {
            Self::PerSecond => format!("{digits}/s"),
            Self::Micros => format!("{digits} µs"),
            Self::Millis => format!("{digits} ms"),
            Self::Mebibytes => format!("{digits} MiB"),
            Self::Count => digits.to_string(),
        }
    }
}

/// A count for people: `1,000,000`.
pub fn grouped(count: u64) -> String {
    Digits(float(count)).to_string()
}

/// A number with three digits that count, and thousands set apart.
struct Digits(f64);

impl fmt::Display for Digits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value) = *self;
        match value.abs() {
            0.0 => formatter.write_str("0"),
            size if size < 10.0 => write!(formatter, "{value:.2}"),
            size if size < 100.0 => write!(formatter, "{value:.1}"),
            _ => {
                let text = format!("{value:.0}");
                for (index, digit) in text.char_indices() {
                    let rest = text.len() - index;
                    if index > 0 && rest.is_multiple_of(3) && !text[..index].ends_with('-') {
                        formatter.write_str(",")?;
                    }
                    write!(formatter, "{digit}")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let row = Row::new(Section::Buy, "x", Unit::Micros, &[20.0, 40.0, 90.0]).beside("bare", &[10.0, 20.0, 30.0]);
        assert_eq!(row.cells()[4], "2.00");
        assert_eq!(row.clone().target(Target::RatioAtMost(2.2)).reached, Some(true));
        let both = row.target(Target::RatioAtMost(2.2)).target(Target::AtMost(39.0));
        assert_eq!(both.reached, Some(false));
        assert_eq!(both.cells()[1], "≤ 2.2 × baseline, ≤ 39.0 µs");
    }

    #[test]
    fn numbers_show_what_counts() {
        let shown = [0.0, 1.234, 45.67, 999.4, 1234.0, 1_234_567.0, -123.0].map(|value| Digits(value).to_string());
        assert_eq!(shown, ["0", "1.23", "45.7", "999", "1,234", "1,234,567", "-123"]);
    }
}
