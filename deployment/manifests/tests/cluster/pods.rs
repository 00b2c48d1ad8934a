//! What a pod may do, what it asks for, and how it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use manifests::findings::Findings;
use manifests::object::Object;
use manifests::render::find;
use manifests::services::SERVICES;
use serde_json::{Value, json};
use shared::config::Settings;

use crate::workloads::{POD, containers, environment, in_every_overlay, workloads};

/// Volumes that the restricted level allows (Kubernetes, Pod Security Standards) and that are used here.
const VOLUMES: [&str; 4] = ["configMap", "emptyDir", "persistentVolumeClaim", "secret"];

#[test]
fn every_pod_is_accepted_by_the_restricted_level() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        let namespace = find(objects, "Namespace", "purchase-system");
        let enforced = "/metadata/labels/pod-security.kubernetes.io~1enforce";
        findings.check(namespace.text(enforced) == "restricted", namespace, enforced, "restricted");
        for workload in workloads(objects) {
            check_pod(workload, &mut findings);
        }
        findings.assert_none();
    });
}

fn check_pod(workload: &Object, findings: &mut Findings) {
    let mut expect = |field: &str, expected: Value| {
        let pointer = format!("{POD}/{field}");
        findings.check(*workload.at(&pointer) == expected, workload, &pointer, expected);
    };
    expect("securityContext/runAsNonRoot", true.into());
    expect("securityContext/seccompProfile/type", "RuntimeDefault".into());
    expect("automountServiceAccountToken", false.into());
    expect("enableServiceLinks", false.into());
    for host in ["hostNetwork", "hostPID", "hostIPC"] {
        expect(host, Value::Null);
    }
    for (field, container) in containers(workload) {
        check_container(workload, &field, container, findings);
    }
    for (index, volume) in workload.list(&format!("{POD}/volumes")).iter().enumerate() {
        let allowed = VOLUMES.iter().any(|kind| volume.get(kind).is_some());
        findings.check(allowed, workload, &format!("{POD}/volumes/{index}"), format!("one of {VOLUMES:?}"));
    }
}

fn check_container(workload: &Object, field: &str, container: &Value, findings: &mut Findings) {
    for (name, expected) in [
        ("allowPrivilegeEscalation", json!(false)),
        ("readOnlyRootFilesystem", json!(true)),
        ("capabilities", json!({"drop": ["ALL"]})),
        ("privileged", Value::Null),
    ] {
        let right = container["securityContext"][name] == expected;
        findings.check(right, workload, &format!("{field}/securityContext/{name}"), expected);
    }
    for kind in ["requests", "limits"] {
        for resource in ["cpu", "memory"] {
            let set = container["resources"][kind][resource].is_string();
            findings.check(set, workload, &format!("{field}/resources/{kind}/{resource}"), "a quantity");
        }
    }
}

/// From SIGTERM to the end, as a service reads its settings: what is not set has its default.
fn ending(service: &str, environment: BTreeMap<String, String>) -> Duration {
    let mut settings = Settings::from_pairs(environment);
    let (http, flush) = if service == SERVICES[0] {
        let config = web_server::Config::read(&mut settings);
        (config.http, config.publisher.flush_timeout)
    } else {
        (management_api::config::Config::read(&mut settings).http, Duration::ZERO)
    };
    http.drain_delay + http.limits.drain_timeout + flush
}

#[test]
fn a_service_has_the_time_to_drain() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        for service in SERVICES {
            let deployment = find(objects, "Deployment", service);
            let sleep = format!("{POD}/containers/0/lifecycle/preStop/sleep/seconds");
            let before = deployment.number(&sleep).and_then(|seconds| u64::try_from(seconds).ok());
            findings.check(before.is_some(), deployment, &sleep, "seconds in which nodes hear that the pod is going");
            let after = ending(service, environment(objects, deployment));
            let needed = Duration::from_secs(before.unwrap_or_default()) + after;
            let grace = format!("{POD}/terminationGracePeriodSeconds");
            let given = deployment.number(&grace).and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(30);
            let expected = format!("more than preStop, drain and flush: {needed:?}");
            findings.check(Duration::from_secs(given) > needed, deployment, &grace, expected);
        }
        findings.assert_none();
    });
}

#[test]
fn settings_that_are_left_out_have_their_time_too() {
    let times = |pairs: &[(&str, &str)]| {
        let pairs: BTreeMap<_, _> = pairs.iter().map(|(name, ms)| ((*name).to_owned(), (*ms).to_owned())).collect();
        SERVICES.map(|service| ending(service, pairs.clone()).as_millis())
    };
    assert_eq!(times(&[]), [23_000, 20_000]);
    assert_eq!(times(&[("DRAIN_DELAY_MS", "1"), ("DRAIN_TIMEOUT_MS", "10"), ("FLUSH_TIMEOUT_MS", "100")]), [111, 11]);
}

#[test]
fn services_spread_over_nodes_and_roll_without_a_gap() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        for service in SERVICES {
            let deployment = find(objects, "Deployment", service);
            let field = format!("{POD}/topologySpreadConstraints");
            let keys: Vec<_> = deployment.list(&field).iter().map(|constraint| &constraint["topologyKey"]).collect();
            let spread = keys.iter().any(|key| **key == "kubernetes.io/hostname");
            findings.check(spread, deployment, &field, "one by kubernetes.io/hostname");
            let rolling = "/spec/strategy/rollingUpdate/maxUnavailable";
            findings.check(deployment.number(rolling) == Some(0), deployment, rolling, 0);
        }
        findings.assert_none();
    });
}

#[test]
fn a_drain_of_a_node_is_never_blocked() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        let budgets: Vec<_> = objects.iter().filter(|object| object.kind() == "PodDisruptionBudget").collect();
        for budget in &budgets {
            let allowed = budget.number("/spec/maxUnavailable").is_some_and(|number| number >= 1);
            findings.check(allowed, budget, "/spec/maxUnavailable", "at least 1, whatever the number of replicas");
            let not_ready = "/spec/unhealthyPodEvictionPolicy";
            findings.check(budget.text(not_ready) == "AlwaysAllow", budget, not_ready, "AlwaysAllow");
        }
        for service in SERVICES {
            if !budgets.iter().any(|budget| budget.name() == service) {
                findings.add(format!("{service} has no PodDisruptionBudget"));
            }
        }
        findings.assert_none();
    });
}

/// KiB for everything that callers can make a service hold.
const HELD: &str = "HTTP_MEMORY_MAX_KIB";

/// Paths that a probe may ask, by what they look at.
const LIVENESS: &str = "/livez";
const READINESS: &str = "/readyz";
/// The port that is never full.
const OPERATIONS: &str = "operations";

#[test]
fn probes_ask_paths_that_are_served_and_liveness_asks_no_dependency() {
    let routes = [(SERVICES[0], web_server::routes::successes()), (SERVICES[1], management_api::routes::successes())];
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        for (service, routes) in &routes {
            let deployment = find(objects, "Deployment", service);
            let served = |path: &str| routes.iter().any(|(method, route, _)| *method == "GET" && *route == path);
            for (probe, path) in
                [("startupProbe", LIVENESS), ("livenessProbe", LIVENESS), ("readinessProbe", READINESS)]
            {
                let field = format!("{POD}/containers/0/{probe}/httpGet/path");
                findings.check(deployment.text(&field) == path && served(path), deployment, &field, path);
                // The other port may be full of callers, and a pod that is busy must not be restarted.
                let port = format!("{POD}/containers/0/{probe}/httpGet/port");
                findings.check(deployment.text(&port) == OPERATIONS, deployment, &port, OPERATIONS);
            }
            let field = "/spec/template/metadata/annotations/prometheus.io~1path";
            findings.check(served(deployment.text(field)), deployment, field, "a path that is served");
        }
        findings.assert_none();
    });
}

/// What callers and Kafka's queue can make a service hold leaves half of its memory for everything else.
#[test]
fn what_a_service_may_hold_fits_its_memory() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        for service in SERVICES {
            let settings = environment(objects, find(objects, "Deployment", service));
            let kib = |name: &str| settings.get(name).and_then(|text| text.parse::<u64>().ok());
            let map = find(objects, "ConfigMap", service);
            findings.check(kib(HELD).is_some(), map, &format!("/data/{HELD}"), "a number");
            let held = kib(HELD).unwrap_or_default() + kib("KAFKA_PRODUCER_QUEUE_KIB").unwrap_or_default();
            let deployment = find(objects, "Deployment", service);
            let field = format!("{POD}/containers/0/resources/limits/memory");
            let limit = deployment.text(&field).strip_suffix("Mi").and_then(|text| text.parse::<u64>().ok());
            let expected = format!("at least twice the {} MiB that may be held", held / 1024);
            findings.check(limit.is_some_and(|limit| limit * 1024 >= 2 * held), deployment, &field, expected);
        }
        findings.assert_none();
    });
}

/// Five replicas, one more while a Deployment rolls, each with connections for reading and recording and a spare.
#[test]
fn connections_of_all_replicas_fit_the_database() {
    let mut seen = 0;
    in_every_overlay(|_, objects| {
        let Some(postgres) = workloads(objects).find(|workload| workload.name() == "postgres") else { return };
        seen += 1;
        let mut findings = Findings::default();
        let settings = environment(objects, find(objects, "Deployment", SERVICES[1]));
        let number = |name: &str| settings.get(name).and_then(|text| text.parse::<u64>().ok());
        let map = find(objects, "ConfigMap", SERVICES[1]);
        let mut needed = 1;
        for name in ["DATABASE_READ_CONNECTIONS", "RECORD_LANES"] {
            findings.check(number(name).is_some(), map, &format!("/data/{name}"), "a number");
            needed += number(name).unwrap_or_default();
        }
        needed *= 6;
        let (field, max) = max_connections(postgres);
        let expected = format!("max_connections above {needed}, which all replicas of {} may take", SERVICES[1]);
        findings.check(max.is_some_and(|max| max > needed), postgres, &field, expected);
        findings.assert_none();
    });
    assert_eq!(seen, 3, "overlays with PostgreSQL inside");
}

/// The argument that limits PostgreSQL's connections, and the limit.
fn max_connections(postgres: &Object) -> (String, Option<u64>) {
    let field = format!("{POD}/containers/0/args");
    let arguments = postgres.list(&field).iter().enumerate();
    let mut limits = arguments.filter_map(|(index, argument)| {
        let limit = argument.as_str()?.strip_prefix("max_connections=")?;
        Some((format!("{field}/{index}"), limit.parse().ok()))
    });
    limits.next().unwrap_or((field.clone(), None))
}
