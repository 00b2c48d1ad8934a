//! One autoscaler a workload, and each can work.

use std::collections::BTreeMap;
use std::fs;

use manifests::findings::Findings;
use manifests::object::{Object, list, texts};
use manifests::render::{find, kustomize, overlay};
use manifests::{root, yaml};
use serde_json::Value;
use stack::install::keda;

use crate::workloads::{SERVICES, by_arrival_rate, containers, environment, in_every_overlay};

const SCALED_OBJECT: &str = "ScaledObject";
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

#[test]
fn the_targets_are_those_of_the_guide() {
    let metrics = |overlay_name: &str, service: &str| {
        let objects = overlay(overlay_name);
        list(find(&objects, AUTOSCALER, service).at("/spec/metrics")).to_vec()
    };
    let utilization = |metrics: &[Value], resource: &str| {
        let metric = metrics.iter().find(|metric| metric["resource"]["name"] == resource).cloned().unwrap_or_default();
        metric["resource"]["target"]["averageUtilization"].as_i64()
    };
    for overlay_name in ["cpu", "http"] {
        let (web, api) = (metrics(overlay_name, SERVICES[0]), metrics(overlay_name, SERVICES[1]));
        assert_eq!((utilization(&web, "cpu"), utilization(&web, "memory")), (Some(70), Some(80)), "{overlay_name}");
        assert_eq!(utilization(&api, "cpu"), Some(70), "{overlay_name}");
    }
    let web = metrics("http", SERVICES[0]);
    let pods = web.iter().find(|metric| metric["type"] == "Pods").expect("a metric of pods");
    assert_eq!(pods["pods"]["metric"]["name"], "http_request_per_second");
    assert_eq!(pods["pods"]["target"]["averageValue"], "100");
    let scaled = overlay("keda");
    assert_eq!(find(&scaled, SCALED_OBJECT, SERVICES[1]).text("/spec/triggers/0/metadata/lagThreshold"), "100");
    assert_eq!(find(&scaled, SCALED_OBJECT, SERVICES[0]).text("/spec/triggers/0/metadata/threshold"), "100");
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
                for (index, container) in containers(workload).enumerate() {
                    let requested = container["resources"]["requests"][resource].is_string();
                    let field = format!("/spec/template/spec/containers/{index}/resources/requests");
                    findings.check(
                        requested,
                        workload,
                        &field,
                        format!("a request of {resource}: {autoscaler} needs it"),
                    );
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

#[test]
fn kafka_triggers_ask_for_what_the_consumer_reads() {
    let mut seen = 0;
    let mut test = |objects: &[Object], scaled: &Object| {
        let mut findings = Findings::default();
        let settings = environment(objects, find(objects, "Deployment", SERVICES[1]));
        let pairs = [
            ("bootstrapServers", "KAFKA_BOOTSTRAP_SERVERS"),
            ("consumerGroup", "KAFKA_CONSUMER_GROUP"),
            ("topic", "KAFKA_TOPIC"),
        ];
        for (index, trigger) in scaled.list("/spec/triggers").iter().enumerate() {
            if trigger["type"] != "kafka" {
                continue;
            }
            seen += 1;
            let field = |key: &str| format!("/spec/triggers/{index}/metadata/{key}");
            for (key, setting) in pairs {
                let expected = settings.get(setting).map_or("set", String::as_str);
                let message = format!("{expected}, as {setting} of {}", SERVICES[1]);
                findings.check(scaled.text(&field(key)) == expected, scaled, &field(key), message);
            }
            let reset = field("offsetResetPolicy");
            findings.check(scaled.text(&reset) == "earliest", scaled, &reset, "earliest, as the consumer begins");
            check_names(scaled, &field("bootstrapServers"), &mut findings);
            check_security(scaled, trigger, index, &settings, &mut findings);
        }
        findings.assert_none();
    };
    in_every_overlay(|_, objects| {
        for scaled in objects.iter().filter(|object| object.kind() == SCALED_OBJECT) {
            test(objects, scaled);
        }
    });
    let alternative = kustomize(&["deployment/overlays/keda"], &["keda/arrival-rate"]);
    test(&alternative, find(&alternative, SCALED_OBJECT, SERVICES[1]));
    assert_eq!(seen, 3, "kafka triggers");
}

/// KEDA resolves the name from its own namespace.
fn check_names(scaled: &Object, field: &str, findings: &mut Findings) {
    for server in scaled.text(field).split(',') {
        let host = server.split(':').next().unwrap_or_default();
        let full = host.ends_with(".svc.cluster.local") || host.ends_with(".example.com");
        findings.check(full, scaled, field, "full names only: they are resolved from the namespace keda");
    }
}

/// TLS and SASL of the trigger are those of the services.
fn check_security(
    scaled: &Object,
    trigger: &Value,
    index: usize,
    settings: &BTreeMap<String, String>,
    findings: &mut Findings,
) {
    let protocol = settings.get("KAFKA_SECURITY_PROTOCOL").map_or("plaintext", String::as_str);
    let mechanism = settings.get("KAFKA_SASL_MECHANISM").map(|name| name.to_lowercase().replace("-sha-", "_sha"));
    let expected_tls = if protocol.ends_with("ssl") { "enable" } else { "" };
    let found = |key: &str| trigger["metadata"][key].as_str().unwrap_or_default();
    let field = |key: &str| format!("/spec/triggers/{index}/metadata/{key}");
    findings.check(found("tls") == expected_tls, scaled, &field("tls"), format!("{expected_tls:?} for {protocol}"));
    let sasl = mechanism.unwrap_or_default();
    findings.check(found("sasl") == sasl, scaled, &field("sasl"), format!("{sasl:?}, as KAFKA_SASL_MECHANISM"));
}

/// The parameters that KEDA's own list has for a kind of trigger.
fn parameters(schema: &Value, kind: &str) -> Vec<String> {
    let scaler = list(&schema["scalers"]).iter().find(|scaler| scaler["type"] == kind);
    let parameters = scaler.map(|scaler| list(&scaler["parameters"])).unwrap_or_default();
    parameters.iter().filter_map(|parameter| Some(parameter["name"].as_str()?.to_owned())).collect()
}

fn check_trigger(scaled: &Object, index: usize, schema: &Value, findings: &mut Findings) {
    let trigger = &scaled.list("/spec/triggers")[index];
    let kind = trigger["type"].as_str().unwrap_or_default();
    let known = parameters(schema, kind);
    let type_field = format!("/spec/triggers/{index}/type");
    findings.check(!known.is_empty(), scaled, &type_field, "a scaler of KEDA");
    let metadata = format!("/spec/triggers/{index}/metadata");
    for (key, value) in scaled.at(&metadata).as_object().into_iter().flatten() {
        let field = format!("{metadata}/{key}");
        findings.check(known.contains(key), scaled, &field, format!("a parameter of {kind}: one of {known:?}"));
        findings.check(value.is_string(), scaled, &field, "a string");
    }
    if ["cpu", "memory"].contains(&kind) {
        let field = format!("/spec/triggers/{index}/metricType");
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
        for index in 0..scaled.list("/spec/triggers").len() {
            check_trigger(&scaled, index, &schema, &mut findings);
            seen += 1;
        }
    }
    findings.assert_none();
    assert!(seen >= 8, "{seen} triggers");
    let mut misspelt = scaled_objects().remove(0);
    misspelt.value["spec"]["triggers"] = serde_json::json!([{"type": "kafka", "metadata": {"lagTreshold": "1"}}]);
    let mut findings = Findings::default();
    check_trigger(&misspelt, 0, &schema, &mut findings);
    assert_eq!(findings.all().len(), 1, "a misspelt key is found: {:?}", findings.all());
}

/// Every ScaledObject that is shipped: of the overlays, and the alternative.
fn scaled_objects() -> Vec<Object> {
    let alternative = by_arrival_rate();
    assert!(alternative.iter().any(|object| !object.at("/spec/advanced/scalingModifiers").is_null()));
    let all = [overlay("keda"), overlay("production"), alternative].concat();
    all.into_iter().filter(|object| object.kind() == SCALED_OBJECT).collect()
}

/// Rules of KEDA 2.21's webhook and of its fallback (apis/keda/v1alpha1/scaledobject_webhook.go, pkg/fallback/fallback.go).
#[test]
fn keda_s_webhook_would_accept_every_scaled_object() {
    let mut findings = Findings::default();
    for scaled in scaled_objects() {
        let triggers = scaled.list("/spec/triggers");
        let names: Vec<_> = triggers.iter().filter_map(|trigger| trigger["name"].as_str()).collect();
        let mut distinct = names.clone();
        distinct.sort_unstable();
        distinct.dedup();
        findings.check(distinct.len() == names.len(), &scaled, "/spec/triggers", "names that differ");
        let failing = scaled.number("/spec/fallback/failureThreshold").is_some_and(|number| number > 0);
        findings.check(failing, &scaled, "/spec/fallback/failureThreshold", "a number above 0");
        let kept = scaled.text("/spec/fallback/behavior") == "currentReplicasIfHigher";
        findings.check(kept, &scaled, "/spec/fallback/behavior", "currentReplicasIfHigher");
        let formula = scaled.text("/spec/advanced/scalingModifiers/formula");
        if !formula.is_empty() {
            let target = scaled.text("/spec/advanced/scalingModifiers/target");
            let whole = target.parse::<i64>().is_ok_and(|target| target > 0);
            findings.check(whole, &scaled, "/spec/advanced/scalingModifiers/target", "a whole number above 0");
            let words = formula.split(|character: char| !character.is_alphanumeric());
            for word in words.filter(|word| word.starts_with(char::is_alphabetic)) {
                let field = "/spec/advanced/scalingModifiers/formula";
                findings.check(names.contains(&word), &scaled, field, format!("a trigger named {word}"));
            }
        }
        let asks_often = !scaled.at("/spec/pollingInterval").is_null();
        let by_keda = !formula.is_empty() || triggers.iter().any(|trigger| trigger["useCachedMetrics"] == true);
        findings.check(!asks_often || by_keda, &scaled, "/spec/pollingInterval", "none: it would do nothing");
        let idle = scaled.at("/spec/cooldownPeriod").is_null();
        findings.check(idle, &scaled, "/spec/cooldownPeriod", "none: it does nothing with a minimum above 0");
    }
    findings.assert_none();
}

/// The capacity in the formula's ScaledObject is 70 % of what our own benchmark measured.
#[test]
fn the_capacity_is_that_of_the_saved_benchmark() {
    let text = fs::read_to_string(root().join("deployment/stack/bench/results.json")).expect("saved results");
    let results: Value = serde_json::from_str(&text).expect("JSON");
    let is_rate =
        |row: &&Value| row["what"].as_str().is_some_and(|what| what.ends_with("rows from first to last commit"));
    let row = list(&results["rows"]).iter().find(is_rate).expect("the rate of recording");
    let measured = row["measured"]["median"].as_f64().expect("a number");
    let scaled = yaml::read("keda/arrival-rate/customer-management-api.yaml");
    let target: f64 = scaled["spec"]["advanced"]["scalingModifiers"]["target"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .expect("a number");
    let share = target / measured;
    assert!((0.65..0.75).contains(&share), "target {target} is {share:.2} of the {measured} measured, expected 0.7");
    assert!(texts(&scaled["metadata"]["labels"]).contains(&("app", SERVICES[1])));
}
