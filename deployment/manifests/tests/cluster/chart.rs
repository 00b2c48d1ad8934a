//! The chart and kustomize cannot drift apart.

use std::collections::BTreeMap;

use manifests::findings::Findings;
use manifests::object::Object;
use manifests::render::{OVERLAYS, chart, chart_with, kustomize, overlay};
use manifests::services::SERVICES;
use serde_json::{Value, json};

use crate::workloads::by_arrival_rate;

/// What can be chosen, by kustomize and by the chart.
pub struct Mode {
    pub name: String,
    pub kustomize: Vec<Object>,
    pub chart: Vec<Object>,
}

/// The overlays, and what the chart offers beside them.
pub fn modes() -> Vec<Mode> {
    let of_overlay = |name: &str| Mode { name: format!("values-{name}"), kustomize: overlay(name), chart: chart(name) };
    let with = |values: &str, kustomize: Vec<Object>| {
        let chart = chart_with(&["--set", values]).unwrap_or_else(|said| panic!("{values}: {said}"));
        Mode { name: values.to_owned(), kustomize, chart }
    };
    let mut modes: Vec<_> = OVERLAYS.into_iter().map(of_overlay).collect();
    modes.push(with("webServer.autoscaling.mode=in-flight,managementApi.autoscaling.mode=lag", by_in_flight()));
    modes.push(with("managementApi.autoscaling.mode=arrival-rate", by_arrival_rate()));
    modes.push(with("monitoring.metricsHttpPrefix=flask_", with_flask_metrics()));
    modes.push(with_outside_issuer());
    modes.push(with_callbacks());
    modes
}

/// The overlay `production`, with an outside issuer whose tokens count.
fn with_outside_issuer() -> Mode {
    let component = "deployment/components/outside-issuer";
    let values = "webServer.settings.OIDC_ISSUER=https://id.example.com/realms/shop,webServer.settings.OIDC_AUDIENCE=shop,\
        webServer.issuer.networks={10.0.0.0/8}";
    let chart = chart_with(&["-f", "deployment/helm/values-production.yaml", "--set", values]);
    Mode {
        name: component.to_owned(),
        kustomize: kustomize(&["deployment/overlays/production"], &[component]),
        chart: chart.unwrap_or_else(|said| panic!("{values}: {said}")),
    }
}

/// The overlay `production`, where buyers are called back.
fn with_callbacks() -> Mode {
    let (component, values) = ("deployment/components/callbacks", "secrets.callbacks=callback-credentials");
    let chart = chart_with(&["-f", "deployment/helm/values-production.yaml", "--set", values]);
    Mode {
        name: component.to_owned(),
        kustomize: kustomize(&["deployment/overlays/production"], &[component]),
        chart: chart.unwrap_or_else(|said| panic!("{values}: {said}")),
    }
}

/// The overlay `keda` with the web tier scaled by requests in flight.
fn by_in_flight() -> Vec<Object> {
    let component = "deployment/components/autoscaling-in-flight";
    let mut objects = kustomize(&["deployment/overlays/keda"], &[component]);
    objects.retain(|object| (object.kind(), object.name()) != ("ScaledObject", SERVICES[0]));
    objects
}

/// The overlay `keda` with other names of the metrics, in the services' settings and for KEDA.
fn with_flask_metrics() -> Vec<Object> {
    let mut objects = kustomize(&["deployment/overlays/keda"], &["keda/flask"]);
    for map in objects.iter_mut().filter(|object| object.kind() == "ConfigMap" && SERVICES.contains(&object.name())) {
        map.value["data"]["METRICS_HTTP_PREFIX"] = json!("flask_");
    }
    objects
}

fn by_name(objects: &[Object]) -> BTreeMap<(&str, &str), &Object> {
    objects.iter().map(|object| ((object.kind(), object.name()), object)).collect()
}

/// The fields in which two values differ, as JSON pointers.
fn differences(left: &Value, right: &Value, pointer: &str, found: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let keys = left.keys().chain(right.keys().filter(|key| !left.contains_key(*key)));
            for key in keys {
                let sides = (left.get(key).unwrap_or(&Value::Null), right.get(key).unwrap_or(&Value::Null));
                differences(sides.0, sides.1, &format!("{pointer}/{}", key.replace('/', "~1")), found);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                differences(left, right, &format!("{pointer}/{index}"), found);
            }
        }
        (left, right) if left != right => found.push(pointer.to_owned()),
        _ => {}
    }
}

fn check_mode(mode: &Mode, findings: &mut Findings) {
    let (expected, found) = (by_name(&mode.kustomize), by_name(&mode.chart));
    for (key, object) in &expected {
        let Some(of_chart) = found.get(key) else {
            findings.add(format!("the chart with {} has no {} {}, as {object}", mode.name, key.0, key.1));
            continue;
        };
        let mut fields = Vec::new();
        differences(&object.value, &of_chart.value, "", &mut fields);
        for field in fields {
            let expected = format!("{} with {}, as in {}", object.at(&field), mode.name, object.file);
            findings.check(false, of_chart, &field, expected);
        }
    }
    for (key, object) in found.iter().filter(|(key, _)| !expected.contains_key(*key)) {
        findings.add(format!("{object}: by kustomize there is no {} {} with {}", key.0, key.1, mode.name));
    }
}

#[test]
fn the_chart_renders_what_kustomize_renders() {
    let mut findings = Findings::default();
    for mode in modes() {
        check_mode(&mode, &mut findings);
    }
    findings.assert_none();
}

#[test]
fn a_difference_is_found_with_its_field() {
    let (left, right) = (json!({"a": {"b/c": [1, 2]}}), json!({"a": {"b/c": [1, 3]}, "d": 1}));
    let mut found = Vec::new();
    differences(&left, &right, "", &mut found);
    assert_eq!(found, ["/a/b~1c/1", "/d"]);
    let object = |kind: &str, replicas: u8| Object {
        file: format!("{kind}.yaml"),
        value: json!({"kind": kind, "metadata": {"name": "a"}, "spec": {"replicas": replicas}}),
    };
    let (kustomize, chart) = (vec![object("A", 1), object("B", 1)], vec![object("A", 2), object("C", 1)]);
    let mut findings = Findings::default();
    check_mode(&Mode { name: "x=y".to_owned(), kustomize, chart }, &mut findings);
    let expected = [
        "A.yaml: A a: /spec/replicas is 2, expected 1 with x=y, as in A.yaml",
        "the chart with x=y has no B a, as B.yaml: B a",
        "C.yaml: C a: by kustomize there is no C a with x=y",
    ];
    assert_eq!(findings.all(), expected);
}

#[test]
fn the_chart_refuses_values_that_cannot_work() {
    for (argument, word) in [
        ("webServer.autoscaling.mode=both", "/webServer/autoscaling/mode"),
        ("managementApi.autoscaling.maxReplicas=20", "partitions"),
        ("managementApi.autoscaling.maxReplicas=4", "partitions"),
        ("webServer.settings.OPERATIONS_LISTEN_ADDRESS=0.0.0.0:8080", "webServer.settings.OPERATIONS_LISTEN_ADDRESS"),
        ("secrets.accounts=account-credentials", "secrets.accounts needs secrets.managementApi"),
        ("webServer.settings.OIDC_ISSUER=https://id.example.com", "needs webServer.issuer.networks"),
        ("webServer.issuer.networks={10.0.0.0/8}", "webServer.settings.OIDC_ISSUER names"),
        ("webServer.settings.RATE_LIMIT_PEERS=web:9090", "webServer.settings.RATE_LIMIT_PEERS"),
        ("no.such.value=1", "additional properties 'no' not allowed"),
    ] {
        let said = chart_with(&["--set", argument]).expect_err(argument);
        assert!(said.contains(word), "{argument}: {said}");
    }
}
