//! Counts and times of HTTP requests.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode};

use super::{Counter, Gauge, Histogram, Registry};

/// Bounds of request times, in seconds: fine below 10 ms, where the targets lie.
const HTTP_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
/// Method labels; any other method is `other`.
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"];

/// A route's method, its path template, and the status of its success.
pub type RouteSeries = (&'static str, &'static str, u16);

/// Counts and times of HTTP requests.
pub struct HttpMetrics {
    registry: Registry,
    prefix: String,
    in_flight: Gauge,
    /// Bytes that callers make the service hold.
    pub memory: Gauge,
    /// How many those may be.
    pub memory_max: Gauge,
    /// Connections open now.
    pub connections: Gauge,
    /// Handles by label set, so that a request hashes a few bytes and not three strings three times.
    series: RwLock<HashMap<SeriesKey, Series>>,
    paths: HashMap<&'static str, usize>,
}

/// Method and path by number, and the status.
type SeriesKey = (usize, usize, u16);

struct Series {
    requests: Counter,
    durations: Histogram,
}

impl HttpMetrics {
    /// The name of the histogram of times under a prefix, and its bounds, for [`Registry::new`].
    #[must_use]
    pub fn buckets(prefix: &str) -> (String, &'static [f64]) {
        (format!("{prefix}http_request_duration_seconds"), &HTTP_BUCKETS)
    }

    /// Registers the metrics, with every route's success at 0. `prefix` stands before the names `http_request_*`.
    #[must_use]
    pub fn register(registry: &Registry, prefix: &str, routes: &[RouteSeries]) -> Self {
        let memory = "Bytes that callers make the service hold: connections, bodies, answers.";
        let memory_max = "How many bytes callers may make the service hold.";
        let mut paths = HashMap::from([("unmatched", 0)]);
        for (_, path, _) in routes {
            let next = paths.len();
            paths.entry(*path).or_insert(next);
        }
        let metrics = Self {
            prefix: prefix.to_owned(),
            in_flight: registry.gauge("http_requests_in_flight", "Requests being answered now.", &[]),
            memory: registry.gauge("http_memory_bytes", memory, &[]),
            memory_max: registry.gauge("http_memory_max_bytes", memory_max, &[]),
            connections: registry.gauge("http_connections", "Connections open now.", &[]),
            series: RwLock::default(),
            paths,
            registry: registry.clone(),
        };
        for (method, path, status) in routes {
            metrics.with_series(method, path, *status, |_| ());
        }
        metrics
    }

    /// Counts a request in flight until the guard is dropped.
    #[must_use]
    pub fn enter(&self) -> InFlight<'_> {
        self.in_flight.increment(1.0);
        InFlight(&self.in_flight)
    }

    /// Counts and times one answered request. A path that is no route's counts as `unmatched`.
    pub fn observe(&self, method: &Method, path: &str, status: StatusCode, duration: Duration) {
        self.with_series(method.as_str(), path, status.as_u16(), |series| {
            series.requests.increment(1);
            series.durations.record(duration.as_secs_f64());
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
        let labels = [("method", method), ("path", path), ("status", status.as_str())];
        let name = |name: &str| format!("{}{name}", self.prefix);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let created = "When the series began, in Unix seconds.";
        self.registry.gauge(name("http_request_created"), created, &labels).set(now.as_secs_f64());
        let times = "Time from a request's head to its answer.";
        Series {
            requests: self.registry.counter(name("http_request_total"), "HTTP requests answered.", &labels),
            durations: self.registry.histogram(Self::buckets(&self.prefix).0, times, &labels),
        }
    }
}

/// One request in flight.
pub struct InFlight<'a>(&'a Gauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_there_at_zero_and_labels_come_from_closed_sets() {
        let (name, bounds) = HttpMetrics::buckets("flask_");
        let registry = Registry::new(&[(&name, bounds)]);
        let metrics = HttpMetrics::register(&registry, "flask_", &[("POST", "/buy", 202)]);
        metrics.observe(&Method::from_bytes(b"BREW").unwrap(), "/nowhere", StatusCode::NOT_FOUND, Duration::ZERO);
        let text = registry.render();
        assert!(text.contains(r#"flask_http_request_total{method="POST",path="/buy",status="202"} 0"#), "{text}");
        assert!(text.contains(r#"flask_http_request_total{method="other",path="unmatched",status="404"} 1"#), "{text}");
        assert!(text.contains("\nhttp_requests_in_flight 0"), "{text}");
        assert!(text.contains("\nbuild_info{"), "{text}");
    }
}
