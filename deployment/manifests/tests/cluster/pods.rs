//! What a pod may do, what it asks for, and how it ends.

use manifests::findings::Findings;
use manifests::object::{Object, list};
use manifests::render::find;
use serde_json::Value;
use shared::metrics::RouteSeries;

use crate::workloads::{SERVICES, containers, environment, in_every_overlay, workloads};

const POD: &str = "/spec/template/spec";
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
    for (index, container) in containers(workload).enumerate() {
        let field = format!("{POD}/containers/{index}");
        let security = &container["securityContext"];
        let mut expect = |name: &str, expected: Value| {
            findings.check(security[name] == expected, workload, &format!("{field}/securityContext/{name}"), expected);
        };
        expect("allowPrivilegeEscalation", false.into());
        expect("readOnlyRootFilesystem", true.into());
        expect("capabilities", serde_json::json!({"drop": ["ALL"]}));
        expect("privileged", Value::Null);
        for kind in ["requests", "limits"] {
            for resource in ["cpu", "memory"] {
                let set = container["resources"][kind][resource].is_string();
                findings.check(set, workload, &format!("{field}/resources/{kind}/{resource}"), "a quantity");
            }
        }
    }
    for (index, volume) in workload.list(&format!("{POD}/volumes")).iter().enumerate() {
        let allowed = VOLUMES.iter().any(|kind| volume.get(kind).is_some());
        findings.check(allowed, workload, &format!("{POD}/volumes/{index}"), format!("one of {VOLUMES:?}"));
    }
}

#[test]
fn a_service_has_the_time_to_drain() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        for service in SERVICES {
            let deployment = find(objects, "Deployment", service);
            let settings = environment(objects, deployment);
            let ending = ["DRAIN_DELAY_MS", "DRAIN_TIMEOUT_MS", "FLUSH_TIMEOUT_MS"];
            let drain: i64 = ending.iter().filter_map(|name| settings.get(*name)?.parse::<i64>().ok()).sum();
            let pre_stop = deployment.number(&format!("{POD}/containers/0/lifecycle/preStop/sleep/seconds"));
            let needed = pre_stop.unwrap_or(i64::MAX / 2000) + drain / 1000;
            let field = format!("{POD}/terminationGracePeriodSeconds");
            let given = deployment.number(&field).unwrap_or(30);
            findings.check(given > needed, deployment, &field, format!("more than preStop and drain: {needed} s"));
        }
        findings.assert_none();
    });
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

/// Paths that a probe may ask, by what they look at.
const LIVENESS: &str = "/livez";
const READINESS: &str = "/readyz";

#[test]
fn probes_ask_paths_that_are_served_and_liveness_asks_no_dependency() {
    let routes: [(&str, &[RouteSeries]); 2] =
        [(SERVICES[0], &web_server::routes::ROUTES), (SERVICES[1], management_api::routes::ROUTES)];
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        for (service, routes) in routes {
            let deployment = find(objects, "Deployment", service);
            let served = |path: &str| routes.iter().any(|(method, route, _)| *method == "GET" && *route == path);
            for (probe, path) in
                [("startupProbe", LIVENESS), ("livenessProbe", LIVENESS), ("readinessProbe", READINESS)]
            {
                let field = format!("{POD}/containers/0/{probe}/httpGet/path");
                findings.check(deployment.text(&field) == path && served(path), deployment, &field, path);
            }
            let field = "/spec/template/metadata/annotations/prometheus.io~1path";
            findings.check(served(deployment.text(field)), deployment, field, "a path that is served");
        }
        findings.assert_none();
    });
}

#[test]
fn connections_of_all_replicas_fit_the_database() {
    let mut seen = 0;
    in_every_overlay(|name, objects| {
        let Some(postgres) = workloads(objects).find(|workload| workload.name() == "postgres") else { return };
        seen += 1;
        let mut arguments =
            containers(postgres).flat_map(|container| list(&container["args"])).filter_map(Value::as_str);
        let max = arguments.find_map(|argument| argument.strip_prefix("max_connections="));
        let max: u64 = max.and_then(|max| max.parse().ok()).expect("max_connections among the arguments of postgres");
        let settings = environment(objects, find(objects, "Deployment", SERVICES[1]));
        let number = |name: &str| settings[name].parse::<u64>().expect("a number");
        // Five replicas, one more while a Deployment rolls, and each with its connections for reading and recording and a spare.
        let needed = 6 * (number("DATABASE_READ_CONNECTIONS") + number("RECORD_LANES") + 1);
        assert!(needed < max, "overlays/{name}: {needed} connections at most, max_connections is {max}");
    });
    assert_eq!(seen, 3, "overlays with PostgreSQL inside");
}
