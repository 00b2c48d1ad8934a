//! Every metric and label that is asked for exists.

use manifests::object::list;
use manifests::queries::{
    ADAPTERS, Query, Rule, adapter_rules, dashboards, panel_queries, rule_queries, rules, runbook_queries,
    scaler_queries,
};

use crate::scrape::{self, Metrics};
use crate::selectors::{asked, fits};

/// The prefix that the adapter's variant is for.
const PREFIX: &str = "flask_";
/// Values of these labels come with what happens; the others are there from the start.
const VALUES_THAT_COME: [&str; 7] = ["job", "app", "namespace", "pod", "instance", "version", "partition"];
/// Of these metrics the values of `status` come too.
const BY_HTTP_STATUS: &str = "http_request_";

fn queries() -> Vec<Query> {
    let adapters = ADAPTERS.iter().flat_map(|file| adapter_rules(file));
    let adapters = adapters.map(|rule| Query { source: rule.source, text: rule.query.replace(PREFIX, "") });
    [panel_queries(), rule_queries(), runbook_queries(), scaler_queries(), adapters.collect(), variables()].concat()
}

/// The metrics that dashboards take the choices of their variables from.
fn variables() -> Vec<Query> {
    let mut queries = Vec::new();
    for (file, dashboard) in dashboards() {
        for variable in list(&dashboard["templating"]["list"]) {
            let query = variable["query"].as_str().or(variable["query"]["query"].as_str()).unwrap_or_default();
            let inside = query.strip_prefix("label_values(").and_then(|text| text.strip_suffix(')'));
            if let Some((selector, _)) = inside.and_then(|text| text.rsplit_once(',')) {
                queries.push(Query {
                    source: format!("{file}: variable {}", variable["name"]),
                    text: selector.to_owned(),
                });
            }
        }
    }
    queries
}

/// Adds what recording rules make: with the labels that they group by or, if they do not, those of what they ask.
fn add_recorded(metrics: &mut Metrics) {
    let read = |rule: &Rule| {
        let name = rule.value["record"].as_str()?.to_owned();
        let asked = asked(rule.value["expr"].as_str().unwrap_or_default()).unwrap_or_default();
        let fixed: Vec<_> =
            rule.value["labels"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
        Some((name, asked, fixed))
    };
    let recording: Vec<_> = rules().iter().filter_map(read).collect();
    // A rule may be built on one that is built on another.
    for _ in &recording {
        for (name, asked, fixed) in &recording {
            let mut labels = [asked.grouped.as_slice(), fixed].concat();
            if asked.grouped.is_empty() {
                let known = asked.selectors.iter().filter_map(|(name, _)| metrics.labels(name));
                labels.extend(known.flat_map(|labels| labels.keys().cloned()));
            }
            metrics.add_recorded(name, labels);
        }
    }
}

fn mistakes(query: &Query, metrics: &Metrics) -> Vec<String> {
    let source = &query.source;
    let asked = match asked(&query.text) {
        Ok(asked) => asked,
        Err(error) => return vec![format!("{source}: {error}: {}", query.text)],
    };
    let mut found = Vec::new();
    let mut known = Vec::new();
    for (name, matchers) in &asked.selectors {
        let Some(labels) = metrics.labels(name) else {
            found.push(format!("{source}: there is no metric {name}"));
            continue;
        };
        known.extend(labels.keys());
        for matcher in matchers {
            let Some(values) = labels.get(&matcher.name) else {
                found.push(format!("{source}: {name} has no label {}, expected one of {labels:?}", matcher.name));
                continue;
            };
            let comes = VALUES_THAT_COME.contains(&matcher.name.as_str())
                || (matcher.name == "status" && name.starts_with(BY_HTTP_STATUS));
            if !comes && !values.is_empty() && !fits(matcher, values) {
                found.push(format!("{source}: {matcher} of {name}, expected values that exist: {values:?}"));
            }
        }
    }
    for label in &asked.grouped {
        if !known.contains(&label) {
            found.push(format!("{source}: nothing in it has the label {label}"));
        }
    }
    found
}

#[tokio::test]
async fn every_metric_and_label_exists() {
    let mut metrics = scrape::all().await;
    add_recorded(&mut metrics);
    let queries = queries();
    assert!(queries.len() > 50, "{} queries", queries.len());
    let found: Vec<_> = queries.iter().flat_map(|query| mistakes(query, &metrics)).collect();
    assert!(found.is_empty(), "{} mistakes:\n{}", found.len(), found.join("\n"));
    for wrong in [
        "no_such_metric",
        r#"http_request_total{code="200"}"#,
        r#"purchases_published_total{outcome="lost"}"#,
        r#"purchases_published_total{outcome!="deliverd"}"#,
        r#"kafka_messages_processed_total{status="dead_leter"}"#,
        r#"http_request_total{path!~"/livez|/ready"}"#,
        "sum by (partition) (http_request_total)",
        "rate(",
    ] {
        let query = Query { source: "here".to_owned(), text: wrong.to_owned() };
        assert_eq!(mistakes(&query, &metrics).len(), 1, "{wrong}");
    }
}

/// Four scrapes of 15 s: the least that a rate survives one lost scrape with.
#[test]
fn every_rate_has_a_window_of_at_least_four_scrapes() {
    for query in queries() {
        for range in asked(&query.text).map(|asked| asked.ranges).unwrap_or_default() {
            assert!(range >= 60, "{}: a window of {range} s, expected at least 60 s: {}", query.source, query.text);
        }
    }
}
