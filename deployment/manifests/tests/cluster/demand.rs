//! What scales web-server is demand: an overload adds replicas, also as far as it is shed, and a caller over its rate adds none.

use manifests::queries::{ADAPTERS, adapter_rules, scaler_queries};
use serde_json::{Value, json};
use stack::RunFolder;

use crate::promtool::promtool;

/// What hpa-http.yaml and the ScaledObject want a pod to have of requests a second, and hpa-in-flight.yaml of requests in flight
/// (autoscalers.rs holds the files to it).
const PER_SECOND: u32 = 100;
const IN_FLIGHT: u32 = 16;
/// What each of two pods answers well, a second: as much as they are meant to.
const SERVED: u32 = 75;

/// Two pods at their usual load, and so many requests a second more at each, answered with a status for a reason.
fn series(more: u32, status: u32, reason: &str) -> Vec<Value> {
    let mut series = Vec::new();
    let mut add = |name: String, labels: String, start: u32, step: u32| {
        series.push(json!({"series": format!("{name}{{{labels}}}"), "values": format!("{start}+{step}x40")}));
    };
    for pod in ["web-a", "web-b"] {
        let pod = format!(r#"namespace="purchase-system",job="customer-web-server",pod="{pod}""#);
        for prefix in ["", "flask_"] {
            for (status, per_second) in [(202, SERVED), (status, more)] {
                let labels = format!(r#"{pod},method="POST",path="/buy",status="{status}""#);
                add(format!("{prefix}http_request_total"), labels, 0, 15 * per_second);
            }
        }
        add("http_requests_refused_total".to_owned(), format!(r#"{pod},reason="{reason}""#), 0, 15 * more);
        add("http_requests_in_flight".to_owned(), pod, 12, 0);
    }
    series
}

/// Has Prometheus work out how many replicas every shipped query asks for: by requests, and by requests in flight.
fn assert_wanted(more: u32, status: u32, reason: &str, by_requests: u32, by_in_flight: u32) {
    let mut wanted = Vec::new();
    let mut ask = |query: &str, target: u32, replicas: u32| {
        let expression = format!("ceil(sum({query}) / {target})");
        let samples = json!([{"labels": "{}", "value": replicas}]);
        wanted.push(json!({"expr": expression, "eval_time": "8m", "exp_samples": samples}));
    };
    for query in scaler_queries().iter().filter(|query| query.source.contains("customer-web-server")) {
        ask(&query.text, PER_SECOND, by_requests);
    }
    for rule in ADAPTERS.iter().flat_map(|adapter| adapter_rules(adapter)) {
        match rule.metric.as_str() {
            "http_request_per_second" => ask(&rule.query, PER_SECOND, by_requests),
            "http_requests_in_flight" => ask(&rule.query, IN_FLIGHT, by_in_flight),
            other => panic!("{}: give {other} a case here", rule.source),
        }
    }
    assert_eq!(wanted.len(), 5, "KEDA's query, and two of the adapter in both variants");
    let case = json!({"interval": "15s", "input_series": series(more, status, reason), "promql_expr_test": wanted});
    let folder = RunFolder::new("demand").expect("a folder");
    let file = folder.path().join("test.yaml");
    std::fs::write(&file, json!({"evaluation_interval": "15s", "tests": [case]}).to_string()).expect("a file");
    promtool(&["test", "rules"], &[file.display().to_string()]);
}

#[test]
fn the_usual_load_changes_nothing() {
    assert_wanted(0, 503, "shedding", 2, 2);
}

#[test]
fn an_overload_adds_replicas_for_all_that_is_shed() {
    assert_wanted(150, 503, "shedding", 5, 11);
    assert_wanted(150, 503, "in_flight", 5, 11);
}

#[test]
fn a_caller_over_its_rate_adds_none() {
    assert_wanted(5_000, 429, "rate", 2, 2);
}
