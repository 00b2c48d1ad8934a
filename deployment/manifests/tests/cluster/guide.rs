//! Paths of the autoscaling guide stay valid, for `kubectl apply -f` and for whoever names them.

use std::fs;

use manifests::services::SERVICES;
use manifests::{root, yaml};

/// Paths that stay, beside those of the two services.
const PATHS: [&str; 16] = [
    "deployment/kafka/kustomization.yaml",
    "deployment/kafka/statefulset.yaml",
    "deployment/postgres/kustomization.yaml",
    "deployment/postgres/statefulset.yaml",
    "deployment/monitoring/prometheus-values.yaml",
    "deployment/monitoring/prometheus-adapter-values.yaml",
    "deployment/monitoring/prometheus-adapter-values-flask.yaml",
    "deployment/monitoring/keda-values.yaml",
    "deployment/monitoring/grafana-values.yaml",
    "deployment/monitoring/podmonitors",
    "keda/customer-web-server.yaml",
    "keda/customer-management-api.yaml",
    "grafana/dashboards",
    "grafana/alerts",
    "grafana/runbooks",
    "grafana/provisioning",
];

#[test]
fn the_guide_s_paths_hold_what_the_components_apply() {
    for (file, component, services) in [
        ("hpa", "autoscaling-cpu", &SERVICES[..]),
        ("hpa-http", "autoscaling-http", &SERVICES[..]),
        ("hpa-in-flight", "autoscaling-in-flight", &SERVICES[..1]),
    ] {
        for service in services {
            let path = format!("deployment/{service}/{file}.yaml");
            let (by_path, applied) = (yaml::read(&path), format!("deployment/components/{component}/{service}.yaml"));
            assert_eq!(by_path, yaml::read(&applied), "{path}: expected what {applied} holds");
            assert_eq!(by_path["kind"], "HorizontalPodAutoscaler", "{path}: /kind");
        }
    }
    for service in SERVICES {
        for file in ["deployment", "service", "serviceaccount", "configmap", "pdb", "networkpolicy"] {
            let path = format!("deployment/{service}/{file}.yaml");
            let object = yaml::read(&path);
            assert_eq!(object["metadata"]["name"], service, "{path}: /metadata/name");
            assert_eq!(object["metadata"]["namespace"], "purchase-system", "{path}: /metadata/namespace");
        }
    }
}

/// Those of the paths that are neither a file nor a folder with something in it.
fn missing<'a>(paths: &[&'a str]) -> Vec<&'a str> {
    let is_there = |path: &&str| {
        let path = root().join(path);
        path.is_file() || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
    };
    paths.iter().copied().filter(|path| !is_there(path)).collect()
}

#[test]
fn paths_that_stay_are_there() {
    let missing_now = missing(&PATHS);
    assert!(missing_now.is_empty(), "there is no {missing_now:?}, expected paths that stay");
    assert_eq!(missing(&["keda/kafka.yaml", "grafana/boards", "keda"]), ["keda/kafka.yaml", "grafana/boards"]);
}
