//! What Prometheus finds here instead of a cluster: targets with the labels that Kubernetes' discovery gives.

use std::net::Ipv4Addr;
use std::path::Path;

use axum::Router;
use axum::routing::get;
use manifests::embedded::Embedded;
use manifests::object::texts;
use manifests::read;
use manifests::render::{find, overlay};
use manifests::services::SERVICES;
use serde_json::{Value, json};
use stack::{Load, LoadPlan, Service};
use tokio::net::TcpListener;

/// Pods per service: two as they are shipped, and one that runs with `METRICS_HTTP_PREFIX=flask_`.
pub const PREFIXES: [&str; 3] = ["", "", "flask_"];
/// The pod of KEDA, and its label.
pub const KEDA: (&str, &str) = ("keda-operator-0", "keda-operator");

/// Both services, and the load on them.
pub struct Pods {
    /// Before the processes: it ends first.
    _load: Load,
    embedded: Vec<Embedded>,
}

impl Pods {
    pub async fn start(folder: &Path) -> Self {
        let mut embedded = Vec::new();
        for (number, prefix) in PREFIXES.iter().enumerate() {
            embedded.push(Embedded::start(&folder.join(format!("pod-{number}")), prefix).await);
        }
        let targets = embedded.iter().map(|pod| Service::address(&pod.web)).collect();
        Self { _load: Load::start(LoadPlan::new(targets, PREFIXES.len())), embedded }
    }

    /// A target for each pod, with the labels and annotations of the shipped pods, and one that is not scraped.
    pub fn targets(&self) -> Value {
        let objects = overlay("keda");
        let addresses = |pod: &Embedded| [pod.web.address(), pod.management.clone()];
        let mut targets = Vec::new();
        for (number, pod) in self.embedded.iter().enumerate() {
            for (service, address) in SERVICES.iter().zip(addresses(pod)) {
                let pod = find(&objects, "Deployment", service).at("/spec/template/metadata");
                let mut labels = meta_labels("purchase-system", &format!("{service}-{number}"), pod);
                // Pods of a cluster listen on the port of the annotation; here each has a port of its own.
                let port = address.rsplit(':').next().unwrap_or_default();
                labels["__meta_kubernetes_pod_annotation_prometheus_io_port"] = json!(port);
                targets.push(json!({"targets": ["127.0.0.1:1"], "labels": labels}));
            }
        }
        let kafka = find(&objects, "StatefulSet", "kafka").at("/spec/template/metadata");
        targets.push(json!({"targets": ["127.0.0.1:2"], "labels": meta_labels("purchase-system", "kafka-0", kafka)}));
        json!(targets)
    }
}

/// A target for each port of KEDA's operator, as its chart names them; one has metrics.
pub fn keda_targets(address: &str) -> Value {
    let pod = json!({"labels": {"app": KEDA.1, "app.kubernetes.io/name": KEDA.1}});
    let target = |port: &str, address: &str| {
        let mut labels = meta_labels("keda", KEDA.0, &pod);
        labels["__meta_kubernetes_pod_container_port_name"] = json!(port);
        json!({"targets": [address], "labels": labels})
    };
    json!([target("metrics", address), target("metricsservice", "127.0.0.1:3")])
}

/// The labels that `kubernetes_sd_configs` gives a pod (Prometheus' documentation, role `pod`).
fn meta_labels(namespace: &str, name: &str, metadata: &Value) -> Value {
    let mut labels = json!({
        "__meta_kubernetes_namespace": namespace,
        "__meta_kubernetes_pod_name": name,
        "__meta_kubernetes_pod_phase": "Running",
    });
    for (field, prefix) in [("labels", "label"), ("annotations", "annotation")] {
        for (key, value) in texts(&metadata[field]) {
            let key = key.replace(|character: char| !character.is_ascii_alphanumeric(), "_");
            labels[format!("__meta_kubernetes_pod_{prefix}_{key}")] = json!(value);
        }
    }
    labels
}

/// Serves the series of KEDA, and those of the other programs: both addresses.
pub async fn serve_others() -> [String; 2] {
    let page = read("grafana/upstream.prom");
    let series = page.lines().filter(|line| !line.starts_with('#'));
    let (of_keda, others): (Vec<_>, Vec<_>) = series.partition(|line| line.starts_with("keda_"));
    [serve(of_keda.join("\n") + "\n").await, serve(others.join("\n") + "\n").await]
}

async fn serve(page: String) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let router = Router::new().route("/metrics", get(async || page));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}
