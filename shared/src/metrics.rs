//! Metrics that both services export, in the names of the autoscaling guide.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, header};
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// Bounds of request times, in seconds: fine below 10 ms, where the targets lie.
const HTTP_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
/// Method labels; any other method is `other`.
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"];

/// A route's method, its path template, and the status of its success.
pub type RouteSeries = (&'static str, &'static str, u16);

/// A service's registry, with `build_info` and `process_*` in it.
///
/// # Panics
/// Never: the names are constants that a test has registered before.
#[must_use]
pub fn new_registry() -> Registry {
    let registry = Registry::new();
    let build = IntGaugeVec::new(Opts::new("build_info", "The running version; always 1."), &["version"]);
    let build = build.expect("a constant name");
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    registry.register(Box::new(build)).expect("registered once");
    registry.register(Box::new(ProcessCollector::for_self())).expect("registered once");
    registry
}

/// The answer of `/metrics`: Prometheus text format 0.0.4.
#[must_use]
pub fn render(registry: &Registry) -> Response {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Counts and times of HTTP requests.
pub struct HttpMetrics {
    requests: IntCounterVec,
    durations: HistogramVec,
    created: GaugeVec,
    in_flight: IntGauge,
    /// Bytes that callers make the service hold.
    pub memory: IntGauge,
    /// How many those may be.
    pub memory_max: IntGauge,
    /// Connections open now.
    pub connections: IntGauge,
    /// Handles by label set, so that a request hashes a few bytes and not three strings three times.
    series: RwLock<HashMap<SeriesKey, Series>>,
    paths: HashMap<&'static str, usize>,
}

/// Method and path by number, and the status.
type SeriesKey = (usize, usize, u16);

struct Series {
    requests: IntCounter,
    durations: Histogram,
}

impl HttpMetrics {
    /// Registers the metrics, with every route's success at 0. `prefix` stands before the names `http_request_*`.
    ///
    /// # Errors
    /// When a name is taken or the prefix makes no valid name.
    pub fn register(registry: &Registry, prefix: &str, routes: &[RouteSeries]) -> prometheus::Result<Self> {
        let labels = &["method", "path", "status"];
        let name = |name: &str| format!("{prefix}{name}");
        let requests = IntCounterVec::new(Opts::new(name("http_request_total"), "HTTP requests answered."), labels)?;
        let durations = HistogramVec::new(
            HistogramOpts::new(name("http_request_duration_seconds"), "Time from a request's head to its answer.")
                .buckets(HTTP_BUCKETS.to_vec()),
            labels,
        )?;
        let created =
            GaugeVec::new(Opts::new(name("http_request_created"), "When the series began, in Unix seconds."), labels)?;
        let in_flight = IntGauge::new("http_requests_in_flight", "Requests being answered now.")?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(durations.clone()))?;
        registry.register(Box::new(created.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone())).map(|()| gauge)
        };
        let memory =
            gauge("http_memory_bytes", "Bytes that callers make the service hold: connections, bodies, answers.")?;
        let memory_max = gauge("http_memory_max_bytes", "How many bytes callers may make the service hold.")?;
        let connections = gauge("http_connections", "Connections open now.")?;
        let mut paths = HashMap::from([("unmatched", 0)]);
        for (_, path, _) in routes {
            let next = paths.len();
            paths.entry(*path).or_insert(next);
        }
        let series = RwLock::default();
        let metrics = Self { requests, durations, created, in_flight, memory, memory_max, connections, series, paths };
        for (method, path, status) in routes {
            metrics.with_series(method, path, *status, |_| ());
        }
        Ok(metrics)
    }

    /// Counts a request in flight until the guard is dropped.
    #[must_use]
    pub fn enter(&self) -> InFlight<'_> {
        self.in_flight.inc();
        InFlight(&self.in_flight)
    }

    /// Counts and times one answered request. A path that is no route's counts as `unmatched`.
    pub fn observe(&self, method: &Method, path: &str, status: StatusCode, duration: Duration) {
        self.with_series(method.as_str(), path, status.as_u16(), |series| {
            series.requests.inc();
            series.durations.observe(duration.as_secs_f64());
        });
    }

    fn with_series(&self, method: &str, path: &str, status: u16, change: impl FnOnce(&Series)) {
        let method_number = METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len());
        let method = METHODS.get(method_number).copied().unwrap_or("other");
        let (path, path_number) =
            self.paths.get_key_value(path).map_or(("unmatched", 0), |(path, number)| (*path, *number));
        let key = (method_number, path_number, status);
        if let Some(series) = self.series.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return change(series);
        }
        let mut all = self.series.write().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(key).or_insert_with(|| self.new_series(method, path, status)));
    }

    fn new_series(&self, method: &str, path: &str, status: u16) -> Series {
        let status = status.to_string();
        let labels = [method, path, status.as_str()];
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.created.with_label_values(&labels).set(now.as_secs_f64());
        Series {
            requests: self.requests.with_label_values(&labels),
            durations: self.durations.with_label_values(&labels),
        }
    }
}

/// One request in flight.
pub struct InFlight<'a>(&'a IntGauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_there_at_zero_and_labels_come_from_closed_sets() {
        let registry = new_registry();
        let metrics = HttpMetrics::register(&registry, "flask_", &[("POST", "/buy", 202)]).unwrap();
        metrics.observe(&Method::from_bytes(b"BREW").unwrap(), "/nowhere", StatusCode::NOT_FOUND, Duration::ZERO);
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(text.contains(r#"flask_http_request_total{method="POST",path="/buy",status="202"} 0"#), "{text}");
        assert!(text.contains(r#"flask_http_request_total{method="other",path="unmatched",status="404"} 1"#), "{text}");
        assert!(text.contains("\nhttp_requests_in_flight 0"), "{text}");
        assert!(text.contains("\nbuild_info{"), "{text}");
    }
}
