//! Two replicas show the same partition's lag while it goes from one to the other: nobody may add both.

use manifests::queries::{files, panel_queries, rule_queries, scaler_queries};
use manifests::read;
use regex::Regex;

/// Guides in which people find queries to ask.
const GUIDES: [&str; 4] = ["README.md", "deployment/AUTOSCALING.md", "keda/README.md", "grafana/README.md"];

/// Where the lag of replicas is added up as it is, without the largest of each partition being taken first.
fn added_up(text: &str) -> Option<&str> {
    let sum = r"(sum|avg|count_values)\s*((by|without)\s*\([^)]*\)\s*)?\(\s*kafka_consumer_lag\b";
    Regex::new(sum).expect("an expression").find(text).map(|found| found.as_str())
}

#[test]
fn a_partition_s_lag_counts_once_whoever_shows_it() {
    let queries = [panel_queries(), rule_queries(), scaler_queries()].concat();
    let mut texts: Vec<_> = queries.into_iter().map(|query| (query.source, query.text)).collect();
    let guides = GUIDES.into_iter().map(str::to_owned).chain(files("grafana/runbooks", "md"));
    texts.extend(guides.map(|file| (file.clone(), read(&file))));
    assert!(texts.iter().filter(|(_, text)| text.contains("kafka_consumer_lag")).count() > 8, "lag is asked for");
    for (source, text) in texts {
        let found = added_up(&text);
        let right = "sum by (…) (max by (namespace, partition) (kafka_consumer_lag))";
        assert!(found.is_none(), "{source}: {}, expected {right}", found.unwrap_or_default());
    }
}

#[test]
fn what_adds_up_is_seen() {
    for wrong in
        ["sum(kafka_consumer_lag)", "sum by (a, b) (kafka_consumer_lag{c=\"d\"})", "avg ( kafka_consumer_lag )"]
    {
        assert!(added_up(wrong).is_some(), "{wrong}");
    }
    for right in [
        "sum by (n) (max by (n, p) (kafka_consumer_lag))",
        "sum(kafka_consumer_lag_seconds)",
        "max(kafka_consumer_lag)",
    ] {
        assert_eq!(added_up(right), None);
    }
}
