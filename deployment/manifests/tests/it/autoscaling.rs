//! What the adapter yields is what the autoscalers ask for, and is computed as it should be.

use manifests::object::list;
use manifests::queries::{ADAPTERS, adapter_rules};
use manifests::yaml;
use regex::Regex;
use serde_json::Value;

const HPAS: [&str; 3] = [
    "deployment/customer-web-server/hpa-http.yaml",
    "deployment/customer-web-server/hpa-in-flight.yaml",
    "deployment/customer-management-api/hpa-http.yaml",
];

/// The names of the pods' metrics that an HPA asks for.
fn asked_for(hpa: &Value) -> Vec<String> {
    let metrics = list(&hpa["spec"]["metrics"]).iter();
    metrics.filter_map(|metric| Some(metric["pods"]["metric"]["name"].as_str()?.to_owned())).collect()
}

#[test]
fn each_hpa_asks_for_a_name_that_the_adapter_yields() {
    for adapter in ADAPTERS {
        let yielded: Vec<_> = adapter_rules(adapter).into_iter().map(|rule| rule.metric).collect();
        for hpa in HPAS {
            let names = asked_for(&yaml::read(hpa));
            assert!(!names.is_empty(), "{hpa}: no metric of pods");
            for name in names {
                assert!(yielded.contains(&name), "{hpa}: asks for {name}, expected one of {yielded:?} of {adapter}");
            }
        }
    }
}

/// The adapter leaves out series that `matches` does not match (0.12: pkg/naming/metric_namer.go).
fn check_name(series: &str, pattern: &str) -> Result<(), String> {
    let expression = Regex::new(pattern).map_err(|error| error.to_string())?;
    expression.is_match(series).then_some(()).ok_or_else(|| format!("{pattern}, expected a pattern of {series}"))
}

#[test]
fn each_rule_names_the_series_that_it_asks_for() {
    for rule in ADAPTERS.iter().flat_map(|adapter| adapter_rules(adapter)) {
        let pattern = rule.value["name"]["matches"].as_str().unwrap_or_default();
        check_name(&rule.series, pattern).unwrap_or_else(|said| panic!("{}: /name/matches: {said}", rule.source));
    }
    for wrong in ["^http_requests_total$", "("] {
        check_name("http_request_total", wrong).expect_err(wrong);
    }
}

#[test]
fn the_adapter_s_rules_are_loaded_aggregated_and_without_probes() {
    // The variant is given after the first, and changes its rules alone.
    assert_eq!(yaml::read(ADAPTERS[0])["rules"]["default"], false, "{}: /rules/default", ADAPTERS[0]);
    for adapter in ADAPTERS {
        let rules = adapter_rules(adapter);
        assert_eq!(rules.len(), 2, "{adapter}: /rules/custom");
        for rule in rules {
            let query = rule.value["metricsQuery"].as_str().unwrap_or_default();
            let summed = query.starts_with("sum by (<<.GroupBy>>)") || query.starts_with("sum(");
            assert!(
                summed && query.contains("by (<<.GroupBy>>)"),
                "{}: {query}, expected sum by (<<.GroupBy>>)",
                rule.source
            );
            for label in ["namespace", "pod"] {
                let resource = &rule.value["resources"]["overrides"][label]["resource"];
                assert_eq!(resource, label, "{}: /resources/overrides/{label}", rule.source);
            }
            if rule.metric == "http_request_per_second" {
                for path in ["/livez", "/readyz", "/health", "/metrics"] {
                    assert!(query.contains(path), "{}: {query}, expected without {path}", rule.source);
                }
            }
        }
    }
}

/// `METRICS_HTTP_PREFIX=flask_` changes the series, not the metric that an HPA asks for.
#[test]
fn the_variant_differs_in_the_series_alone() {
    let [plain, flask] = ADAPTERS.map(|file| adapter_rules(file).remove(0));
    assert_eq!((plain.series.as_str(), flask.series.as_str()), ("http_request_total", "flask_http_request_total"));
    assert_eq!((plain.metric, plain.query), (flask.metric, flask.query.replace("flask_", "")));
}
