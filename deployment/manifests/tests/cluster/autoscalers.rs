//! One autoscaler a workload, and each can work.

use std::collections::BTreeMap;

use manifests::findings::Findings;
use manifests::object::Object;
use manifests::render::{find, kustomize, overlay};
use manifests::services::SERVICES;
use serde_json::Value;

use crate::keda::SCALED_OBJECT;
use crate::workloads::{containers, environment, in_every_overlay};

const AUTOSCALER: &str = "HorizontalPodAutoscaler";
/// Limits of `autoscaling/v2` (its API reference): longer windows and periods are refused.
const WINDOW_MAX_SECONDS: i64 = 3600;
const PERIOD_MAX_SECONDS: i64 = 1800;

fn autoscalers(objects: &[Object]) -> impl Iterator<Item = &Object> {
    objects.iter().filter(|object| [AUTOSCALER, SCALED_OBJECT].contains(&object.kind()))
}

/// The workload that an autoscaler changes.
fn target(autoscaler: &Object) -> (&str, &str) {
    (autoscaler.text("/spec/scaleTargetRef/kind"), autoscaler.text("/spec/scaleTargetRef/name"))
}

/// Whoever sets a workload's number of replicas, by workload.
fn owners(objects: &[Object]) -> BTreeMap<(&str, &str), Vec<String>> {
    let mut owners = BTreeMap::<_, Vec<_>>::new();
    for autoscaler in autoscalers(objects) {
        owners.entry(target(autoscaler)).or_default().push(autoscaler.to_string());
    }
    for deployment in objects.iter().filter(|object| object.kind() == "Deployment") {
        if !deployment.at("/spec/replicas").is_null() {
            let by_number = format!("{deployment}: /spec/replicas");
            owners.entry((deployment.kind(), deployment.name())).or_default().push(by_number);
        }
    }
    owners
}

#[test]
fn every_workload_has_exactly_one_owner_in_every_overlay() {
    in_every_overlay(|name, objects| {
        let owners = owners(objects);
        let mut findings = Findings::default();
        for service in SERVICES {
            let of_service = owners.get(&("Deployment", service)).map_or(&[][..], Vec::as_slice);
            if of_service.len() != 1 {
                findings.add(format!("overlays/{name}: {service} is owned by {of_service:?}, expected exactly one"));
            }
        }
        for autoscaler in autoscalers(objects) {
            let (kind, workload) = target(autoscaler);
            let there = objects.iter().any(|object| object.kind() == kind && object.name() == workload);
            findings.check(there, autoscaler, "/spec/scaleTargetRef", "a workload of this overlay");
        }
        findings.assert_none();
    });
}

#[test]
fn a_second_owner_would_be_found() {
    let both = ["deployment/components/autoscaling-in-flight", "deployment/components/autoscaling-keda"];
    let objects = kustomize(&["deployment/base"], &both);
    assert_eq!(owners(&objects)[&("Deployment", SERVICES[0])].len(), 2);
    let none = kustomize(&["deployment/base"], &[]);
    assert!(owners(&none).is_empty(), "the base sets replicas: {:?}", owners(&none));
}

/// The name of the HPA, whoever makes it: with one name, a second one can only replace the first.
#[test]
fn every_autoscaler_of_a_workload_makes_an_hpa_of_the_same_name() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        for autoscaler in autoscalers(objects) {
            let field = if autoscaler.kind() == SCALED_OBJECT {
                let taken_over = "/metadata/annotations/scaledobject.keda.sh~1transfer-hpa-ownership";
                findings.check(autoscaler.text(taken_over) == "true", autoscaler, taken_over, "\"true\"");
                "/spec/advanced/horizontalPodAutoscalerConfig/name"
            } else {
                "/metadata/name"
            };
            findings.check(autoscaler.text(field) == target(autoscaler).1, autoscaler, field, target(autoscaler).1);
        }
        findings.assert_none();
    });
}

#[test]
fn limits_and_windows_are_those_of_the_guide() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        for autoscaler in autoscalers(objects) {
            let (min, max, up) = if target(autoscaler).1 == SERVICES[0] { (2, 10, 30) } else { (1, 5, 60) };
            let scaled = autoscaler.kind() == SCALED_OBJECT;
            let (min_field, max_field, behavior) = if scaled {
                (
                    "/spec/minReplicaCount",
                    "/spec/maxReplicaCount",
                    "/spec/advanced/horizontalPodAutoscalerConfig/behavior",
                )
            } else {
                ("/spec/minReplicas", "/spec/maxReplicas", "/spec/behavior")
            };
            let (up_field, down_field) = ["scaleUp", "scaleDown"]
                .map(|direction| format!("{behavior}/{direction}/stabilizationWindowSeconds"))
                .into();
            for (field, expected) in [(min_field, min), (max_field, max), (&*up_field, up), (&*down_field, 300)] {
                findings.check(autoscaler.number(field) == Some(expected), autoscaler, field, expected);
            }
            check_behavior(autoscaler, behavior, &mut findings);
        }
        findings.assert_none();
    });
}

fn check_behavior(autoscaler: &Object, behavior: &str, findings: &mut Findings) {
    for direction in ["scaleUp", "scaleDown"] {
        let window = format!("{behavior}/{direction}/stabilizationWindowSeconds");
        let seconds = autoscaler.number(&window);
        let short = seconds.is_some_and(|seconds| (0..=WINDOW_MAX_SECONDS).contains(&seconds));
        findings.check(short, autoscaler, &window, format!("at most {WINDOW_MAX_SECONDS}"));
        let policies = format!("{behavior}/{direction}/policies");
        findings.check(!autoscaler.list(&policies).is_empty(), autoscaler, &policies, "at least one");
        for (index, policy) in autoscaler.list(&policies).iter().enumerate() {
            let period = policy["periodSeconds"].as_i64();
            let field = format!("{policies}/{index}/periodSeconds");
            let short = period.is_some_and(|period| (1..=PERIOD_MAX_SECONDS).contains(&period));
            findings.check(short, autoscaler, &field, format!("at most {PERIOD_MAX_SECONDS}"));
        }
    }
}

/// Where an HPA's metric of this name stands, or would stand.
fn metric(autoscaler: &Object, name: &str) -> String {
    let metrics = autoscaler.list("/spec/metrics");
    let names = |metric: &Value| metric["resource"]["name"] == name || metric["pods"]["metric"]["name"] == name;
    format!("/spec/metrics/{}", metrics.iter().position(names).unwrap_or(metrics.len()))
}

#[test]
fn the_targets_are_those_of_the_guide() {
    let [cpu, http, keda] = ["cpu", "http", "keda"].map(overlay);
    let mut findings = Findings::default();
    for objects in [&cpu, &http] {
        for (service, resource, expected) in [(0, "cpu", 70), (1, "cpu", 70)] {
            let autoscaler = find(objects, AUTOSCALER, SERVICES[service]);
            let field = metric(autoscaler, resource) + "/resource/target/averageUtilization";
            let right = autoscaler.number(&field) == Some(expected);
            findings.check(right, autoscaler, &field, format!("{expected} of {resource}"));
        }
    }
    for service in SERVICES {
        let autoscaler = find(&http, AUTOSCALER, service);
        let field = metric(autoscaler, "http_request_per_second") + "/pods/target/averageValue";
        findings.check(autoscaler.text(&field) == "100", autoscaler, &field, "\"100\" of http_request_per_second");
    }
    let scaled = find(&keda, SCALED_OBJECT, SERVICES[0]);
    let field = "/spec/triggers/0/metadata/threshold";
    findings.check(scaled.text(field) == "100", scaled, field, "\"100\"");
    findings.assert_none();
}

/// Memory does not follow the load, so each step down would begin a new window, and pods would stay (keda/simulator shows it).
#[test]
fn no_autoscaler_looks_at_memory() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        for autoscaler in autoscalers(objects) {
            let blind = !resource_metrics(autoscaler).contains(&"memory");
            findings.check(blind, autoscaler, "/spec", "no metric of memory");
        }
        findings.assert_none();
    });
}

/// The resources whose use a workload is scaled by.
fn resource_metrics(autoscaler: &Object) -> Vec<&str> {
    let of_hpa = autoscaler.list("/spec/metrics").iter().filter_map(|metric| metric["resource"]["name"].as_str());
    let triggers = autoscaler.list("/spec/triggers").iter().filter_map(|trigger| trigger["type"].as_str());
    of_hpa.chain(triggers.filter(|kind| ["cpu", "memory"].contains(kind))).collect()
}

#[test]
fn what_is_scaled_by_a_resource_requests_it() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        for autoscaler in autoscalers(objects) {
            let workload = find(objects, target(autoscaler).0, target(autoscaler).1);
            for resource in resource_metrics(autoscaler) {
                for (field, container) in containers(workload) {
                    let requested = container["resources"]["requests"][resource].is_string();
                    let expected = format!("a request of {resource}: {autoscaler} needs it");
                    findings.check(requested, workload, &format!("{field}/resources/requests"), expected);
                }
            }
        }
        findings.assert_none();
    });
}

#[test]
fn each_consumer_gets_the_same_number_of_partitions() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        let consumer = find(objects, "Deployment", SERVICES[1]);
        let settings = environment(objects, consumer);
        let partitions: i64 = settings["KAFKA_TOPIC_PARTITIONS"].parse().expect("a number");
        for autoscaler in autoscalers(objects).filter(|autoscaler| target(autoscaler).1 == SERVICES[1]) {
            for field in ["/spec/maxReplicaCount", "/spec/maxReplicas"] {
                let Some(max) = autoscaler.number(field) else { continue };
                let expected = format!("a divisor of the topic's {partitions} partitions");
                findings.check(max <= partitions && partitions % max == 0, autoscaler, field, expected);
            }
        }
        findings.assert_none();
    });
}
