//! The metrics of one service: handles, which are taken once and kept, and all of them as text.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header;
use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, with_local_recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_process::Collector;

use crate::shutdown::Shutdown;

/// A histogram's name, and the upper bounds of its buckets.
pub type Buckets<'a> = (&'a str, &'a [f64]);

/// How often what histograms were told is sorted into their buckets. Until then each keeps every value: 8 bytes.
const UPKEEP_INTERVAL: Duration = Duration::from_millis(250);
/// Where metrics come from; the exporter does not look at it.
const METADATA: Metadata<'static> = Metadata::new("purchases", Level::INFO, None);

/// The metrics of one service. Not the process's one recorder: several services may share a process. Clones share everything.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    /// The histograms that have bounds.
    histograms: HashSet<String>,
    process: Collector,
}

impl Registry {
    /// With `build_info` and `process_*` in it. The bounds of every histogram are told beforehand, because without any it
    /// would become a summary.
    ///
    /// # Panics
    /// When a histogram has no bounds.
    #[must_use]
    pub fn new(histograms: &[Buckets<'_>]) -> Self {
        let builder = histograms.iter().fold(PrometheusBuilder::new(), |builder, (name, bounds)| {
            let named = builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), bounds);
            named.unwrap_or_else(|_| panic!("{name} has no bounds"))
        });
        let recorder = builder.build_recorder();
        let (handle, process) = (recorder.handle(), Collector::default());
        with_local_recorder(&recorder, || process.describe());
        let histograms = histograms.iter().map(|(name, _)| (*name).to_owned()).collect();
        let registry = Self(Arc::new(Inner { recorder, handle, histograms, process }));
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        registry.gauge("build_info", "The running version; always 1.", &version).set(1.0);
        registry
    }

    /// The counter of this name and labels, at 0 from now on.
    pub fn counter(&self, name: impl Into<String>, help: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        let key = key(name, labels);
        self.0.recorder.describe_counter(key.name().to_owned().into(), None, help.into());
        self.0.recorder.register_counter(&key, &METADATA)
    }

    /// The gauge of this name and labels, at 0 from now on.
    pub fn gauge(&self, name: impl Into<String>, help: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        let key = key(name, labels);
        self.0.recorder.describe_gauge(key.name().to_owned().into(), None, help.into());
        self.0.recorder.register_gauge(&key, &METADATA)
    }

    /// The histogram of this name and labels, without values from now on.
    ///
    /// # Panics
    /// When no bounds were told for it.
    pub fn histogram(&self, name: impl Into<String>, help: &'static str, labels: &[(&'static str, &str)]) -> Histogram {
        let key = key(name, labels);
        assert!(self.0.histograms.contains(key.name()), "{} has no bounds: tell them to Registry::new", key.name());
        self.0.recorder.describe_histogram(key.name().to_owned().into(), None, help.into());
        self.0.recorder.register_histogram(&key, &METADATA)
    }

    /// Everything, as Prometheus text.
    #[must_use]
    pub fn render(&self) -> String {
        with_local_recorder(&self.0.recorder, || self.0.process.collect());
        self.0.handle.render()
    }

    /// The answer of `/metrics`: Prometheus text format 0.0.4.
    #[must_use]
    pub fn answer(&self) -> Response {
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], self.render()).into_response()
    }

    /// Keeps memory flat until the service stops, whether or not anybody scrapes.
    pub async fn keep_up(self, shutdown: Shutdown) {
        while !shutdown.is_stopped() {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            self.0.handle.run_upkeep();
        }
    }
}

fn key(name: impl Into<String>, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<_> = labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
    Key::from_parts(name.into(), labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_shows_itself_at_once_and_two_of_one_name_are_one() {
        let registry = Registry::new(&[("seconds", &[0.1, 1.0])]);
        let (first, again) =
            (registry.counter("things_total", "Things.", &[]), registry.counter("things_total", "Things.", &[]));
        let _ = registry.gauge("level", "A level.", &[("of", "a \"b\"\n")]);
        let seconds = registry.histogram("seconds", "Times.", &[]);
        assert!(registry.render().contains("\nseconds_bucket{le=\"1\"} 0\n"), "{}", registry.render());
        first.increment(2);
        again.increment(1);
        seconds.record(0.5);
        let text = registry.render();
        for line in [
            "# HELP things_total Things.",
            "# TYPE things_total counter",
            "things_total 3",
            r#"level{of="a \"b\"\n"} 0"#,
            "# TYPE seconds histogram",
            r#"seconds_bucket{le="0.1"} 0"#,
            r#"seconds_bucket{le="1"} 1"#,
            r#"seconds_bucket{le="+Inf"} 1"#,
            "seconds_sum 0.5",
            "# TYPE process_cpu_seconds_total counter",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn two_registries_in_one_process_know_nothing_of_each_other() {
        let (one, other) = (Registry::new(&[]), Registry::new(&[]));
        one.counter("of_one_total", "One.", &[]).increment(1);
        assert!(!other.render().contains("of_one_total"));
    }
}
