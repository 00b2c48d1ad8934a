//! Metrics that exist: of our own services with traffic, and of the other programs that are asked.

use std::collections::{BTreeMap, BTreeSet};

use manifests::embedded::Embedded;
use manifests::read;
use shared::testing::{DEADLINE, eventually};
use stack::http::get;
use stack::metrics::{samples, sum};
use stack::{Load, LoadPlan, RunFolder};

/// Labels that scraping adds (deployment/monitoring/prometheus-values.yaml).
const TARGET_LABELS: [&str; 5] = ["job", "app", "namespace", "pod", "instance"];

/// Metrics by name, with every label and its values.
#[derive(Debug, Default)]
pub struct Metrics(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Metrics {
    /// The labels of a metric; None when there is no such metric.
    pub fn labels(&self, name: &str) -> Option<&BTreeMap<String, BTreeSet<String>>> {
        self.0.get(name)
    }

    /// Adds a page; labels of the scrape are added too.
    fn add(&mut self, page: &str, target_labels: &[&str]) {
        for sample in samples(page) {
            let labels = self.0.entry(sample.name.to_owned()).or_default();
            for pair in split_labels(sample.labels) {
                labels.entry(pair.0).or_default().insert(pair.1);
            }
            for label in target_labels {
                labels.entry((*label).to_owned()).or_default();
            }
        }
    }

    /// Adds a metric that a rule makes.
    pub fn add_recorded(&mut self, name: &str, labels: impl IntoIterator<Item = String>) {
        let known = self.0.entry(name.to_owned()).or_default();
        for label in labels {
            known.entry(label).or_default();
        }
    }
}

/// `a="x",b="y, z"` as pairs.
fn split_labels(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once("=\"") {
        let Some((value, next)) = after.split_once('"') else { break };
        pairs.push((name.trim_start_matches([',', ' ']).to_owned(), value.to_owned()));
        rest = next;
    }
    pairs
}

/// Everything that is scraped: both services after some purchases and reads, `up`, and the other programs.
pub async fn all() -> Metrics {
    let mut metrics = Metrics::default();
    for page in pages().await {
        metrics.add(&page, &TARGET_LABELS);
    }
    metrics.add(&read("grafana/upstream.prom"), &[]);
    metrics.add("up 1\n", &TARGET_LABELS);
    metrics
}

/// The metrics pages of web-server and management-api, once the purchases made here are recorded and read.
pub async fn pages() -> [String; 2] {
    let folder = RunFolder::new("scrape").expect("a folder");
    let Embedded { web, management } = Embedded::start(folder.path(), "").await;
    let plan = LoadPlan { purchases_max: Some(20), ..LoadPlan::new(vec![web.address()], 2) };
    let report = Load::run(plan).await;
    assert_eq!(report.given_up, 0, "{:?}", report.failures);
    web.get("/purchases").await.expect("an answer");
    eventually("the purchases are in the metrics of both services", async || {
        let web = web.metrics().await.ok()?;
        let api = get(&management, "/metrics", DEADLINE).await.ok()?.body;
        let read = sum(&web, "http_request_total", "path=\"/purchases\"")?;
        let recorded = sum(&api, "kafka_messages_processed_total", "status=\"success\"")?;
        (read >= 1.0 && recorded >= 20.0).then_some([web, api])
    })
    .await
}

#[test]
fn labels_may_hold_commas() {
    assert_eq!(split_labels(r#"a="x",b="y, z""#), [("a".into(), "x".into()), ("b".into(), "y, z".into())]);
}
