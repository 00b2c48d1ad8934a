//! Every object is what the schemas of Kubernetes, KEDA and the Prometheus Operator allow, strictly: no unknown field.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use manifests::object::Object;
use manifests::render::kustomize;
use manifests::root;
use serde_json::json;
use stack::RunFolder;
use stack::install::{keda, prometheus_operator, schema_validator};

use crate::chart::modes;
use crate::workloads::by_arrival_rate_with_tls;

/// The minor version of Kubernetes whose schemas are taken.
const KUBERNETES: &str = "1.35";

/// The definitions of the resources that are shipped.
fn definitions() -> [PathBuf; 4] {
    let keda = keda().unwrap_or_else(|error| panic!("{error}")).join("config/crd/bases");
    let operator = prometheus_operator().unwrap_or_else(|error| panic!("{error}"));
    let operator = operator.join("example/prometheus-operator-crd");
    [
        keda.join("keda.sh_scaledobjects.yaml"),
        keda.join("keda.sh_triggerauthentications.yaml"),
        operator.join("monitoring.coreos.com_podmonitors.yaml"),
        operator.join("monitoring.coreos.com_prometheusrules.yaml"),
    ]
}

/// What the validator says of these objects; empty when all are right.
fn complaints(objects: &[Object]) -> String {
    let folder = RunFolder::new("schemas").expect("a folder");
    let input = folder.path().join("objects.json");
    let entries: Vec<_> = objects.iter().map(|object| json!({"file": object.file, "object": object.value})).collect();
    fs::write(&input, json!(entries).to_string()).expect("a file");
    let python = schema_validator().unwrap_or_else(|error| panic!("{error}"));
    let mut command = Command::new(python);
    command.arg(root().join("deployment/manifests/tests/cluster/validate.py")).args(["--kubernetes", KUBERNETES]);
    let output = command.arg(&input).args(definitions()).output().expect("Python starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_some_and(|code| code <= 1) && errors.is_empty(), "{errors}");
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}

#[test]
fn what_kustomize_and_the_chart_render_is_valid() {
    let mut objects = Vec::new();
    for mode in modes() {
        let named = |object: Object| Object { file: format!("{}: {}", mode.name, object.file), ..object };
        objects.extend(mode.kustomize.into_iter().chain(mode.chart).map(named));
    }
    // At once: reading the definitions takes longer than checking against them.
    let said = complaints(&objects);
    assert!(said.is_empty(), "{said}");
}

#[test]
fn what_stands_beside_the_overlays_is_valid_too() {
    let monitors = kustomize(&["deployment/monitoring/podmonitors", "grafana"], &[]);
    let said = complaints(&[monitors, by_arrival_rate_with_tls()].concat());
    assert!(said.is_empty(), "{said}");
}

#[test]
fn a_mistake_is_told_with_file_object_and_field() {
    let broken = |kind: &str, version: &str, spec: serde_json::Value| Object {
        file: "a.yaml".to_owned(),
        value: json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}, "spec": spec}),
    };
    let unquoted =
        json!({"scaleTargetRef": {"name": "x"}, "triggers": [{"type": "kafka", "metadata": {"lagThreshold": 100}}]});
    let said = complaints(&[broken("ScaledObject", "keda.sh/v1alpha1", unquoted)]);
    assert!(said.contains("a.yaml: ScaledObject x: /spec/triggers/0/metadata/lagThreshold"), "{said}");
    let unknown = json!({"maxUnavailabel": 1, "selector": {}});
    let said = complaints(&[broken("PodDisruptionBudget", "policy/v1", unknown)]);
    assert!(said.contains("a.yaml: PodDisruptionBudget x: /spec") && said.contains("maxUnavailabel"), "{said}");
    let said = complaints(&[broken("Nothing", "example.com/v1", json!({}))]);
    assert!(said.contains("a.yaml: Nothing x") && said.contains("no schema"), "{said}");
}
