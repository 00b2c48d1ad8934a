//! A real Prometheus scrapes real services as the chart would, and every query that is shipped returns data.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use manifests::object::list;
use manifests::queries::{ADAPTERS, adapter_rules, files, panel_queries, rules, scaler_queries};
use manifests::services::SERVICES;
use manifests::yaml;
use serde_json::{Value, json};
use shared::testing::{DEADLINE, eventually};
use stack::RunFolder;
use stack::http;
use stack::install;
use stack::ports::free_port;
use stack::process::{Lifetime, Process};

use crate::targets::{KEDA, PREFIXES, Pods, keda_targets, serve_others};

const VALUES: &str = "deployment/monitoring/prometheus-values.yaml";
const OUR_JOB: &str = "purchase-pods";
const KEDA_JOB: &str = "keda";
const OTHERS_JOB: &str = "kube-state-metrics";
/// Instead of 15 s, so that a test does not take minutes.
const INTERVAL: &str = "1s";

/// Starts Prometheus as the chart does, but for how it finds the targets.
async fn start(folder: &Path, pods: &Pods) -> Prometheus {
    let [keda, others] = serve_others().await;
    let jobs = &yaml::read(VALUES)["scrapeConfigs"];
    let mut upstream = jobs[OTHERS_JOB].clone();
    upstream["job_name"] = json!(OTHERS_JOB);
    upstream["static_configs"] = json!([{"targets": [others]}]);
    let configuration = json!({
        "global": {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL},
        "rule_files": hurried_rules(folder),
        "scrape_configs": [
            by_file(jobs, OUR_JOB, folder, &pods.targets()),
            by_file(jobs, KEDA_JOB, folder, &keda_targets(&keda)),
            upstream,
        ],
    });
    Prometheus::start(folder, &configuration).await
}

/// A job of the chart that finds these targets in a file instead of asking Kubernetes.
fn by_file(jobs: &Value, name: &str, folder: &Path, targets: &Value) -> Value {
    let path = folder.join(format!("{name}.json"));
    fs::write(&path, targets.to_string()).expect("a file");
    let mut job = jobs[name].clone();
    assert!(
        job["kubernetes_sd_configs"].is_array(),
        "{VALUES}: /scrapeConfigs/{name}/kubernetes_sd_configs is missing"
    );
    job.as_object_mut().expect("an object").remove("kubernetes_sd_configs");
    job["job_name"] = json!(name);
    job["file_sd_configs"] = json!([{"files": [path]}]);
    job
}

/// Copies of the rules that are evaluated each second, also those that need not be so often.
fn hurried_rules(folder: &Path) -> Vec<PathBuf> {
    let copy = |file: String| {
        let mut rules = yaml::read(&file);
        for group in rules["groups"].as_array_mut().into_iter().flatten() {
            group.as_object_mut().and_then(|group| group.remove("interval"));
        }
        let path = folder.join(file.replace('/', "-"));
        fs::write(&path, rules.to_string()).expect("a file");
        path
    };
    files("grafana/alerts", "yaml").into_iter().map(copy).collect()
}

struct Prometheus {
    _process: Process,
    address: String,
}

impl Prometheus {
    async fn start(folder: &Path, configuration: &Value) -> Self {
        let config = folder.join("prometheus.json");
        fs::write(&config, configuration.to_string()).expect("a file");
        let address = format!("127.0.0.1:{}", free_port().expect("a free port"));
        let programs = install::prometheus().unwrap_or_else(|error| panic!("{error}"));
        let mut command = Command::new(programs.join("prometheus"));
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()));
        command.arg(format!("--web.listen-address={address}")).current_dir(folder);
        let process = Process::spawn("prometheus", command, &folder.join("prometheus.log"), Lifetime::WithParent);
        let prometheus = Self { _process: process.expect("it starts"), address };
        eventually("Prometheus is ready", async || {
            let answer = http::get(&prometheus.address, "/-/ready", DEADLINE).await.ok()?;
            answer.status.is_success().then_some(())
        })
        .await;
        prometheus
    }

    async fn api(&self, path: &str) -> Option<Value> {
        let answer = http::get(&self.address, &format!("/api/v1/{path}"), Duration::from_secs(10)).await.ok()?;
        let value: Value = serde_json::from_str(&answer.body).ok()?;
        assert_eq!(value["status"], "success", "{path}: {value}");
        Some(value["data"].clone())
    }

    /// The series that an instant query returns.
    async fn query(&self, query: &str) -> Vec<Value> {
        let encoded: String = query.bytes().fold(String::new(), |text, byte| format!("{text}%{byte:02X}"));
        let data = self.api(&format!("query?query={encoded}")).await.unwrap_or_default();
        if data["resultType"] == "scalar" { vec![data["result"].clone()] } else { list(&data["result"]).to_vec() }
    }

    /// Waits until none of these queries is empty.
    async fn all_return_data(&self, queries: &[(String, String)]) {
        let mut empty: Vec<_> = queries.iter().collect();
        let end = Instant::now() + DEADLINE * 4 / 5;
        eventually("every query returns data", async || {
            let mut still = Vec::new();
            for entry in &empty {
                if self.query(&entry.1).await.is_empty() {
                    still.push(*entry);
                }
            }
            empty = still;
            (empty.is_empty() || Instant::now() > end).then_some(())
        })
        .await;
        assert!(empty.is_empty(), "no data for {empty:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_that_is_shipped_returns_data() {
    let folder = RunFolder::new("prometheus").expect("a folder");
    let pods = Pods::start(folder.path()).await;
    let prometheus = start(folder.path(), &pods).await;
    targets_have_the_labels_that_are_asked_for(&prometheus).await;
    the_adapter_gets_one_series_a_pod(&prometheus).await;
    let queries = panel_queries().into_iter().chain(scaler_queries());
    let queries: Vec<_> = queries.map(|query| (query.source, query.text)).collect();
    assert!(queries.len() > 60, "{} queries", queries.len());
    prometheus.all_return_data(&queries).await;
    let recorded = rules().into_iter().filter_map(|rule| Some((rule.file, rule.value["record"].as_str()?.to_owned())));
    prometheus.all_return_data(&recorded.collect::<Vec<_>>()).await;
    let groups = prometheus.api("rules").await.expect("an answer");
    for rule in list(&groups["groups"]).iter().flat_map(|group| list(&group["rules"])) {
        assert_eq!(rule["health"], "ok", "{}: {}", rule["name"], rule["lastError"]);
    }
}

/// Each pod once, under the labels that are asked for; KEDA's own pod too, whose series tell of our objects.
async fn targets_have_the_labels_that_are_asked_for(prometheus: &Prometheus) {
    let expected: BTreeSet<_> =
        SERVICES.iter().flat_map(|name| (0..PREFIXES.len()).map(move |number| format!("{name}-{number}"))).collect();
    eventually("every pod is scraped", async || {
        let up = prometheus.query(r#"up{job=~"customer-.+",namespace="purchase-system"} == 1"#).await;
        let right = up.iter().all(|series| series["metric"]["app"] == series["metric"]["job"]);
        let pods: BTreeSet<_> =
            up.iter().filter_map(|series| Some(series["metric"]["pod"].as_str()?.to_owned())).collect();
        (right && up.len() == expected.len() && pods == expected).then_some(())
    })
    .await;
    let (pod, job) = KEDA;
    for series in [
        format!(r#"up{{job="{job}",namespace="keda",pod="{pod}"}} == 1"#),
        format!(r#"keda_scaled_object_errors_total{{job="{job}",pod="{pod}",namespace="purchase-system"}}"#),
    ] {
        let found = async || (!prometheus.query(&series).await.is_empty()).then_some(());
        eventually(&format!("KEDA is scraped as {series}"), found).await;
    }
    only_what_should_be_is_scraped(prometheus, expected.len() + 2).await;
}

/// No pod without the annotation, and no port of KEDA without metrics.
async fn only_what_should_be_is_scraped(prometheus: &Prometheus, expected: usize) {
    let targets = prometheus.api("targets").await.expect("an answer");
    let scraped: Vec<_> = list(&targets["activeTargets"]).iter().map(|target| &target["labels"]).collect();
    assert_eq!(scraped.len(), expected, "our pods, {KEDA_JOB} and {OTHERS_JOB}: {scraped:#?}");
    let dropped = list(&targets["droppedTargets"]).iter().map(|target| &target["discoveredLabels"]);
    let dropped: BTreeSet<_> = dropped.filter_map(|labels| labels["__address__"].as_str()).collect();
    assert_eq!(dropped, BTreeSet::from(["127.0.0.1:2", "127.0.0.1:3"]), "Kafka, and KEDA's port without metrics");
}

/// Fault 2 of the guide: without a sum, a pod has a series for each method, path and status.
async fn the_adapter_gets_one_series_a_pod(prometheus: &Prometheus) {
    for (adapter, prefix) in ADAPTERS.iter().zip(["", "flask_"]) {
        for rule in adapter_rules(adapter) {
            let per_pod = !rule.series.starts_with("http_requests_in_flight");
            let expected = if per_pod { PREFIXES.iter().filter(|it| **it == prefix).count() * 2 } else { 6 };
            eventually(&format!("{} has one series a pod", rule.source), async || {
                let series = prometheus.query(&rule.query).await;
                let pods: BTreeSet<_> = series.iter().map(|one| one["metric"].to_string()).collect();
                let labels_of_pods =
                    series.iter().all(|one| one["metric"].as_object().is_some_and(|map| map.len() == 1));
                (series.len() == expected && pods.len() == expected && labels_of_pods).then_some(())
            })
            .await;
        }
    }
}
