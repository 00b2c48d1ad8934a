//! Reads Prometheus' text format, as far as our own services write it.

/// One line of a metrics page.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample<'a> {
    /// The series' name, with `_bucket`, `_sum` or `_count` for histograms.
    pub name: &'a str,
    /// What stands between the braces; empty when there are none.
    pub labels: &'a str,
    /// The value.
    pub value: f64,
}

impl<'a> Sample<'a> {
    /// A label's value; none of our labels holds a quote or backslash.
    pub fn label(&self, name: &str) -> Option<&'a str> {
        let mut pairs = self.labels.split(',').filter_map(|pair| pair.split_once('='));
        pairs.find(|(label, _)| *label == name).map(|(_, value)| value.trim_matches('"'))
    }
}

/// All samples of a page; comments and what cannot be read are left out.
pub fn samples(page: &str) -> impl Iterator<Item = Sample<'_>> {
    page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        Some(Sample { name, labels: labels.strip_suffix('}')?, value: value.parse().ok()? })
    })
}

/// The sum of a metric over all its label sets that hold `label_text`, such as `outcome="delivered"`; empty for all.
/// None when there is no such series.
pub fn sum(page: &str, name: &str, label_text: &str) -> Option<f64> {
    let found = samples(page).filter(|sample| sample.name == name && sample.labels.contains(label_text));
    found.map(|sample| sample.value).fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# HELP kafka_consumer_lag records\n# TYPE kafka_consumer_lag gauge
kafka_consumer_lag{partition=\"0\"} 3
kafka_consumer_lag{partition=\"10\"} 4.5
http_requests_in_flight 1e1
";

    #[test]
    fn samples_have_names_labels_and_values() {
        let read: Vec<_> = samples(PAGE).collect();
        assert_eq!(read.len(), 3);
        assert_eq!(read[1].label("partition"), Some("10"));
        assert_eq!(read[2], Sample { name: "http_requests_in_flight", labels: "", value: 10.0 });
    }

    #[test]
    fn sums_are_over_the_chosen_label_sets() {
        assert_eq!(sum(PAGE, "kafka_consumer_lag", ""), Some(7.5));
        assert_eq!(sum(PAGE, "kafka_consumer_lag", "partition=\"0\""), Some(3.0));
        assert_eq!(sum(PAGE, "absent", ""), None);
    }
}
