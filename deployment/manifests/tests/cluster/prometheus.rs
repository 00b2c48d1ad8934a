//! A real Prometheus scrapes real services as the chart would, and every query that is shipped returns data.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use manifests::object::list;
use manifests::queries::{ADAPTERS, adapter_rules, files, panel_queries, rules, scaler_queries};
use manifests::render::{find, overlay};
use manifests::{root, yaml};
use serde_json::{Value, json};
use shared::testing::{DEADLINE, eventually};
use stack::http;
use stack::install;
use stack::ports::free_port;
use stack::process::{Lifetime, Process};
use stack::service::{Program, Service, ServicePlan};
use stack::{Load, LoadPlan, RunFolder};
use tokio::net::TcpListener;

use crate::workloads::SERVICES;

const VALUES: &str = "deployment/monitoring/prometheus-values.yaml";
const OUR_JOB: &str = "purchase-pods";
const OTHERS_JOB: &str = "kube-state-metrics";
/// Instead of 15 s, so that a test does not take minutes.
const INTERVAL: &str = "1s";
/// Pods per service: two as they are shipped, and one that runs with `METRICS_HTTP_PREFIX=flask_`.
const PREFIXES: [&str; 3] = ["", "", "flask_"];

/// Both services in one process, and the load on them.
struct Pods {
    /// Before the processes: it ends first.
    _load: Load,
    services: Vec<Service>,
    management: Vec<String>,
}

impl Pods {
    async fn start(folder: &Path) -> Self {
        let (mut services, mut management) = (Vec::new(), Vec::new());
        for (number, prefix) in PREFIXES.iter().enumerate() {
            let name = format!("pod-{number}");
            let own = folder.join(&name);
            fs::create_dir_all(&own).expect("a folder");
            let api = format!("127.0.0.1:{}", free_port().expect("a free port"));
            let plan = ServicePlan::new(Program::Embedded, &name).expect("a free port");
            let address = plan.address;
            let mut plan = plan
                .with("WEB_LISTEN_ADDRESS", address)
                .with("MANAGEMENT_LISTEN_ADDRESS", &api)
                .with("DATA_DIR", own.join("data").display());
            if !prefix.is_empty() {
                plan = plan.with("METRICS_HTTP_PREFIX", prefix);
            }
            let mut service = Service::start(&own, plan).expect("the binary is built");
            service.wait_ready(DEADLINE).await.expect("it becomes ready");
            management.push(api);
            services.push(service);
        }
        let targets = services.iter().map(Service::address).collect();
        Self { _load: Load::start(LoadPlan::new(targets, PREFIXES.len())), services, management }
    }

    /// Targets as Kubernetes' discovery gives them: with the labels and annotations of the shipped pods, for every port.
    fn targets(&self) -> Value {
        let objects = overlay("keda");
        let mut targets = Vec::new();
        for (service, addresses) in SERVICES.iter().zip([self.web(), self.management.clone()]) {
            let deployment = find(&objects, "Deployment", service);
            for (number, address) in addresses.iter().enumerate() {
                let mut labels = meta_labels(deployment.at("/spec/template/metadata"), &format!("{service}-{number}"));
                // Pods of a cluster listen on the port of the annotation; here each has a port of its own.
                let port = address.rsplit(':').next().unwrap_or_default();
                labels["__meta_kubernetes_pod_annotation_prometheus_io_port"] = json!(port);
                targets.push(json!({"targets": ["127.0.0.1:1"], "labels": labels}));
            }
        }
        let unscraped = meta_labels(find(&objects, "StatefulSet", "kafka").at("/spec/template/metadata"), "kafka-0");
        targets.push(json!({"targets": ["127.0.0.1:2"], "labels": unscraped}));
        json!(targets)
    }

    fn web(&self) -> Vec<String> {
        self.services.iter().map(Service::address).collect()
    }
}

/// The labels that `kubernetes_sd_configs` gives a pod (Prometheus' documentation, role `pod`).
fn meta_labels(metadata: &Value, name: &str) -> Value {
    let mut labels = json!({
        "__meta_kubernetes_namespace": "purchase-system",
        "__meta_kubernetes_pod_name": name,
        "__meta_kubernetes_pod_phase": "Running",
    });
    for (field, prefix) in [("labels", "label"), ("annotations", "annotation")] {
        for (key, value) in manifests::object::texts(&metadata[field]) {
            let key = key.replace(|character: char| !character.is_ascii_alphanumeric(), "_");
            labels[format!("__meta_kubernetes_pod_{prefix}_{key}")] = json!(value);
        }
    }
    labels
}

/// What Prometheus is started with: the chart's scrape jobs, with other ways to find the targets.
fn configuration(targets: &Path, others: &str, rules: &[PathBuf]) -> Value {
    let jobs = &yaml::read(VALUES)["scrapeConfigs"];
    let mut ours = jobs[OUR_JOB].clone();
    assert!(ours.is_object(), "{VALUES}: /scrapeConfigs/{OUR_JOB} is missing");
    let fields = ours.as_object_mut().expect("an object");
    fields.remove("kubernetes_sd_configs").expect("it finds pods by Kubernetes");
    fields.insert("job_name".to_owned(), json!(OUR_JOB));
    fields.insert("file_sd_configs".to_owned(), json!([{"files": [targets]}]));
    let mut upstream = jobs[OTHERS_JOB].clone();
    upstream["job_name"] = json!(OTHERS_JOB);
    upstream["static_configs"] = json!([{"targets": [others]}]);
    json!({
        "global": {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL},
        "rule_files": rules,
        "scrape_configs": [ours, upstream],
    })
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

/// Serves the series of the other programs.
async fn serve_others() -> String {
    let page = fs::read_to_string(root().join("grafana/upstream.prom")).expect("grafana/upstream.prom");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let router = Router::new().route("/metrics", get(async || page));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_that_is_shipped_returns_data() {
    let folder = RunFolder::new("prometheus").expect("a folder");
    let pods = Pods::start(folder.path()).await;
    let targets = folder.path().join("targets.json");
    fs::write(&targets, pods.targets().to_string()).expect("a file");
    let configuration = configuration(&targets, &serve_others().await, &hurried_rules(folder.path()));
    let prometheus = Prometheus::start(folder.path(), &configuration).await;
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

/// Each pod once, and no pod that is not annotated.
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
    let all = prometheus.query("count(up)").await;
    assert_eq!(all[0]["value"][1], (expected.len() + 1).to_string(), "the pods and {OTHERS_JOB}: {all:?}");
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

/// Runs promtool and returns what it said; fails when promtool does.
fn promtool(arguments: &[&str], files: &[String]) -> String {
    let programs = install::prometheus().unwrap_or_else(|error| panic!("{error}"));
    let mut command = Command::new(programs.join("promtool"));
    let output = command.args(arguments).args(files).current_dir(root()).output().expect("promtool starts");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "promtool {arguments:?}:\n{said}");
    said
}

#[test]
fn promtool_accepts_every_rule_and_configuration() {
    let said = promtool(&["check", "rules", "--lint=all", "--lint-fatal"], &files("grafana/alerts", "yaml"));
    assert!(said.contains("SUCCESS"), "{said}");
    promtool(&["check", "config", "--syntax-only"], &["deployment/docker/prometheus.yml".to_owned()]);
}

#[test]
fn every_alert_fires_when_it_should_and_not_else() {
    let tests = files("grafana/alerts/tests", "yaml");
    let said = promtool(&["test", "rules"], &tests);
    assert_eq!(said.matches("SUCCESS").count(), tests.len(), "{said}");
    let read: Vec<_> = tests.iter().map(|file| yaml::read(file)).collect();
    let cases: Vec<&Value> =
        read.iter().flat_map(|file| list(&file["tests"])).flat_map(|test| list(&test["alert_rule_test"])).collect();
    for rule in rules() {
        let Some(alert) = rule.value["alert"].as_str() else { continue };
        let of_alert = || cases.iter().filter(|case| case["alertname"] == alert);
        assert!(of_alert().any(|case| !list(&case["exp_alerts"]).is_empty()), "no test in which {alert} fires");
        assert!(of_alert().any(|case| list(&case["exp_alerts"]).is_empty()), "no test in which {alert} does not fire");
    }
}
