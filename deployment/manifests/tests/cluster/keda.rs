//! Triggers ask for what is there, and KEDA accepts them.

use std::collections::BTreeMap;
use std::fs;

use manifests::findings::Findings;
use manifests::object::{Object, list};
use manifests::render::{find, overlay};
use manifests::services::SERVICES;
use manifests::{read, yaml};
use serde_json::{Value, json};
use stack::install::keda;

use crate::workloads::{by_arrival_rate, by_arrival_rate_with_tls, environment, in_every_overlay};

pub const SCALED_OBJECT: &str = "ScaledObject";

/// A ScaledObject's triggers with the fields that they are.
fn triggers(scaled: &Object) -> impl Iterator<Item = (String, &Value)> {
    let all = scaled.list("/spec/triggers").iter().enumerate();
    all.map(|(index, trigger)| (format!("/spec/triggers/{index}"), trigger))
}

#[test]
fn kafka_triggers_ask_for_what_the_consumer_reads() {
    let mut findings = Findings::default();
    let mut seen = 0;
    let mut test = |objects: &[Object]| {
        let settings = environment(objects, find(objects, "Deployment", SERVICES[1]));
        for scaled in objects.iter().filter(|object| object.kind() == SCALED_OBJECT) {
            for (field, _) in triggers(scaled).filter(|(_, trigger)| trigger["type"] == "kafka") {
                seen += 1;
                check_source(scaled, &field, &settings, &mut findings);
                check_names(scaled, &format!("{field}/metadata/bootstrapServers"), &mut findings);
                check_security(scaled, &field, &settings, &mut findings);
            }
        }
    };
    in_every_overlay(|_, objects| test(objects));
    test(&by_arrival_rate());
    findings.assert_none();
    assert_eq!(seen, 3, "kafka triggers");
}

fn check_source(scaled: &Object, trigger: &str, settings: &BTreeMap<String, String>, findings: &mut Findings) {
    for (key, setting) in [
        ("bootstrapServers", "KAFKA_BOOTSTRAP_SERVERS"),
        ("consumerGroup", "KAFKA_CONSUMER_GROUP"),
        ("topic", "KAFKA_TOPIC"),
    ] {
        let field = format!("{trigger}/metadata/{key}");
        let expected = settings.get(setting).map_or("(not set)", String::as_str);
        let right = scaled.text(&field) == expected;
        findings.check(right, scaled, &field, format!("{expected}, as {setting} of {}", SERVICES[1]));
    }
    let reset = format!("{trigger}/metadata/offsetResetPolicy");
    findings.check(scaled.text(&reset) == "earliest", scaled, &reset, "earliest, as the consumer begins");
}

/// KEDA resolves the name from its own namespace.
fn check_names(scaled: &Object, field: &str, findings: &mut Findings) {
    for server in scaled.text(field).split(',') {
        let host = server.split(':').next().unwrap_or_default();
        let full = host.ends_with(".svc.cluster.local") || host.ends_with(".example.com");
        findings.check(full, scaled, field, "full names only: they are resolved from the namespace keda");
    }
}

/// Fault 6 of the guide: after the first answer KEDA goes to the name that the broker advertises.
#[test]
fn the_development_broker_advertises_a_full_name() {
    let mut findings = Findings::default();
    in_every_overlay(|name, objects| {
        if name == "production" {
            return;
        }
        let config = find(objects, "ConfigMap", "kafka");
        let field = "/data/server.properties";
        let line = config.text(field).lines().find_map(|line| line.strip_prefix("advertised.listeners="));
        let advertised: Vec<_> = line.unwrap_or_default().split(',').collect();
        let expected = "PLAINTEXT://kafka-0.kafka.purchase-system.svc.cluster.local:9092";
        let full = advertised.iter().all(|listener| listener.contains(".svc.cluster.local:"));
        let right = full && advertised.contains(&expected);
        findings.check(right, config, field, format!("advertised.listeners of full names, and {expected}"));
        let service = find(objects, "Service", "kafka");
        let headless = service.text("/spec/clusterIP") == "None";
        findings.check(headless, service, "/spec/clusterIP", "None: only then has a pod a name of its own");
        let set = find(objects, "StatefulSet", "kafka");
        findings.check(set.text("/spec/serviceName") == service.name(), set, "/spec/serviceName", service.name());
    });
    findings.assert_none();
}

/// TLS and SASL of the trigger are those of the services.
fn check_security(scaled: &Object, trigger: &str, settings: &BTreeMap<String, String>, findings: &mut Findings) {
    let protocol = settings.get("KAFKA_SECURITY_PROTOCOL").map_or("plaintext", String::as_str);
    let tls = if protocol.ends_with("ssl") { "enable" } else { "" };
    let mechanism = settings.get("KAFKA_SASL_MECHANISM").map(|name| name.to_lowercase().replace("-sha-", "_sha"));
    let sasl = mechanism.unwrap_or_default();
    for (key, expected) in [("tls", tls), ("sasl", &*sasl)] {
        let field = format!("{trigger}/metadata/{key}");
        let right = scaled.text(&field) == expected;
        findings.check(right, scaled, &field, format!("{expected:?}: the services use {protocol} {sasl}"));
    }
}

/// Every ScaledObject that is shipped: of the overlays, and the alternative.
fn scaled_objects() -> Vec<Object> {
    let alternative = by_arrival_rate_with_tls();
    assert!(alternative.iter().any(|object| !object.at("/spec/advanced/scalingModifiers").is_null()));
    let all = [overlay("keda"), overlay("production"), alternative].concat();
    all.into_iter().filter(|object| object.kind() == SCALED_OBJECT).collect()
}

/// The parameters that KEDA's own list has for a kind of trigger.
fn parameters(schema: &Value, kind: &str) -> Vec<String> {
    let scaler = list(&schema["scalers"]).iter().find(|scaler| scaler["type"] == kind);
    let parameters = scaler.map(|scaler| list(&scaler["parameters"])).unwrap_or_default();
    parameters.iter().filter_map(|parameter| Some(parameter["name"].as_str()?.to_owned())).collect()
}

fn check_keys(scaled: &Object, trigger: &str, schema: &Value, findings: &mut Findings) {
    let kind = scaled.text(&format!("{trigger}/type"));
    let known = parameters(schema, kind);
    findings.check(!known.is_empty(), scaled, &format!("{trigger}/type"), "a scaler of KEDA");
    for (key, value) in scaled.at(&format!("{trigger}/metadata")).as_object().into_iter().flatten() {
        let field = format!("{trigger}/metadata/{key}");
        findings.check(known.contains(key), scaled, &field, format!("a parameter of {kind}: one of {known:?}"));
        findings.check(value.is_string(), scaled, &field, "a string");
    }
    if ["cpu", "memory"].contains(&kind) {
        let field = format!("{trigger}/metricType");
        findings.check(scaled.text(&field) == "Utilization", scaled, &field, "Utilization: metadata.type is refused");
    }
}

#[test]
fn trigger_keys_are_keda_s_own_and_their_values_are_strings() {
    let path = keda().unwrap_or_else(|error| panic!("{error}")).join("schema/generated/scalers-schema.json");
    let text = fs::read_to_string(path).expect("KEDA's list of scalers");
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    let mut findings = Findings::default();
    let mut seen = 0;
    for scaled in scaled_objects() {
        for (field, _) in triggers(&scaled) {
            check_keys(&scaled, &field, &schema, &mut findings);
            seen += 1;
        }
    }
    findings.assert_none();
    assert!(seen >= 8, "{seen} triggers");
    let mut misspelt = scaled_objects().remove(0);
    misspelt.value["spec"]["triggers"] = json!([{"type": "kafka", "metadata": {"lagTreshold": "1"}}]);
    let mut findings = Findings::default();
    check_keys(&misspelt, "/spec/triggers/0", &schema, &mut findings);
    assert_eq!(findings.all().len(), 1, "a misspelt key is found: {:?}", findings.all());
}

/// Rules of KEDA 2.21 (apis/keda/v1alpha1/scaledobject_webhook.go, pkg/fallback/fallback.go).
#[test]
fn keda_s_webhook_would_accept_every_scaled_object() {
    let mut findings = Findings::default();
    for scaled in scaled_objects() {
        check_fallback(&scaled, &mut findings);
        check_formula(&scaled, &mut findings);
        check_intervals(&scaled, &mut findings);
    }
    findings.assert_none();
}

fn check_fallback(scaled: &Object, findings: &mut Findings) {
    let threshold = "/spec/fallback/failureThreshold";
    let positive = scaled.number(threshold).is_some_and(|number| number > 0);
    findings.check(positive, scaled, threshold, "a number above 0");
    let behavior = "/spec/fallback/behavior";
    let kept = scaled.text(behavior) == "currentReplicasIfHigher";
    findings.check(kept, scaled, behavior, "currentReplicasIfHigher");
}

/// A formula calls triggers by their names.
fn check_formula(scaled: &Object, findings: &mut Findings) {
    let names: Vec<_> = triggers(scaled).filter_map(|(_, trigger)| trigger["name"].as_str()).collect();
    let mut distinct = names.clone();
    distinct.sort_unstable();
    distinct.dedup();
    findings.check(distinct.len() == names.len(), scaled, "/spec/triggers", "names that differ");
    let modifiers = "/spec/advanced/scalingModifiers";
    if scaled.at(modifiers).is_null() {
        return;
    }
    let (formula, target) = (format!("{modifiers}/formula"), format!("{modifiers}/target"));
    let whole = scaled.text(&target).parse::<i64>().is_ok_and(|target| target > 0);
    findings.check(whole, scaled, &target, "a whole number above 0");
    let words = scaled.text(&formula).split(|character: char| !character.is_alphanumeric());
    for word in words.filter(|word| word.starts_with(char::is_alphabetic)) {
        findings.check(names.contains(&word), scaled, &formula, format!("a trigger named {word}"));
    }
}

/// Intervals that would do nothing are not there.
fn check_intervals(scaled: &Object, findings: &mut Findings) {
    let polling = scaled.at("/spec/pollingInterval");
    let by_keda = !scaled.at("/spec/advanced/scalingModifiers").is_null()
        || triggers(scaled).any(|(_, trigger)| trigger["useCachedMetrics"] == true);
    findings.check(polling.is_null() || by_keda, scaled, "/spec/pollingInterval", "none: it would do nothing");
    let cooldown = "/spec/cooldownPeriod";
    findings.check(scaled.at(cooldown).is_null(), scaled, cooldown, "none: it does nothing with a minimum above 0");
}

#[test]
fn what_keda_would_refuse_or_ignore_is_found() {
    let object =
        |spec: Value| Object { file: "a.yaml".to_owned(), value: json!({"kind": SCALED_OBJECT, "spec": spec}) };
    let named = |name: &str| json!({"type": "kafka", "name": name});
    let modifiers = json!({"scalingModifiers": {"formula": "lag + arrival / 60", "target": "1.5"}});
    for (spec, check, count) in [
        (json!({"fallback": {"failureThreshold": 0, "behavior": "static"}}), check_fallback as fn(&_, &mut _), 2),
        (json!({"triggers": [named("lag"), named("lag")]}), check_formula, 1),
        (json!({"triggers": [named("lag")], "advanced": modifiers}), check_formula, 2),
        (json!({"triggers": [named("lag")], "pollingInterval": 15, "cooldownPeriod": 30}), check_intervals, 2),
    ] {
        let mut findings = Findings::default();
        check(&object(spec), &mut findings);
        assert_eq!(findings.all().len(), count, "{:?}", findings.all());
    }
}

/// Records that one replica recorded in a second, in our own benchmark.
fn measured_capacity() -> f64 {
    let text = read("deployment/benchmark/results.json");
    let results: Value = serde_json::from_str(&text).expect("JSON");
    let is_rate =
        |row: &&Value| row["what"].as_str().is_some_and(|what| what.ends_with("rows from first to last commit"));
    let row = list(&results["rows"]).iter().find(is_rate).expect("the rate of recording");
    row["measured"]["median"].as_f64().expect("a number")
}

/// AUTOSCALING.md: what one replica records in a second, times 8 ms; and at the guide's 1,000 a second never below what is recorded
/// while Kafka has not heard of it.
#[test]
fn the_threshold_follows_from_the_guide_s_formula() {
    const NOISE: f64 = 50.0;
    for file in ["keda/customer-management-api.yaml", "keda/arrival-rate/customer-management-api.yaml"] {
        let threshold = &yaml::read(file)["spec"]["triggers"][0]["metadata"]["lagThreshold"];
        let records = threshold.as_str().and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
        let delay_ms = records / measured_capacity() * 1000.0;
        let place = format!("{file}: /spec/triggers/0/metadata/lagThreshold is {threshold}");
        assert!((6.0..10.0).contains(&delay_ms), "{place}, {delay_ms:.1} ms of a replica's work, expected about 8");
        assert!(records >= 2.0 * NOISE, "{place}, expected well above {NOISE}");
    }
}

/// The capacity in the formula's ScaledObject is 70 % of what our own benchmark measured.
#[test]
fn the_capacity_is_that_of_the_saved_benchmark() {
    let measured = measured_capacity();
    let file = "keda/arrival-rate/customer-management-api.yaml";
    let target = &yaml::read(file)["spec"]["advanced"]["scalingModifiers"]["target"];
    let share = target.as_str().and_then(|text| text.parse::<f64>().ok()).unwrap_or_default() / measured;
    assert!(
        (0.65..0.75).contains(&share),
        "{file}: /spec/advanced/scalingModifiers/target is {target}, expected 70 % of the {measured} measured"
    );
}
