//! The chart and the overlays cannot drift apart.

use std::collections::BTreeMap;

use manifests::findings::Findings;
use manifests::object::Object;
use manifests::render::{OVERLAYS, chart, chart_with, overlay};
use serde_json::Value;

fn by_name(objects: Vec<Object>) -> BTreeMap<(String, String), Object> {
    objects.into_iter().map(|object| ((object.kind().to_owned(), object.name().to_owned()), object)).collect()
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

#[test]
fn the_chart_renders_what_the_overlays_render() {
    let mut findings = Findings::default();
    for name in OVERLAYS {
        let (expected, found) = (by_name(overlay(name)), by_name(chart(name)));
        for (key, object) in &expected {
            let Some(of_chart) = found.get(key) else {
                findings.add(format!("the chart with values-{name}.yaml has no {} {}, as {object}", key.0, key.1));
                continue;
            };
            let mut fields = Vec::new();
            differences(&object.value, &of_chart.value, "", &mut fields);
            for field in fields {
                let expected = format!("{} as in overlays/{name}, {}", object.at(&field), object.file);
                findings.check(false, of_chart, &field, expected);
            }
        }
        for (key, object) in found.iter().filter(|(key, _)| !expected.contains_key(*key)) {
            findings.add(format!("{object}: overlays/{name} has no {} {}", key.0, key.1));
        }
    }
    findings.assert_none();
}

#[test]
fn a_difference_is_found_with_its_field() {
    let (left, right) = (serde_json::json!({"a": {"b/c": [1, 2]}}), serde_json::json!({"a": {"b/c": [1, 3]}, "d": 1}));
    let mut found = Vec::new();
    differences(&left, &right, "", &mut found);
    assert_eq!(found, ["/a/b~1c/1", "/d"]);
}

#[test]
fn the_chart_refuses_values_that_cannot_work() {
    for (argument, word) in [
        ("webServer.autoscaling.mode=both", "/webServer/autoscaling/mode"),
        ("managementApi.autoscaling.maxReplicas=20", "partitions"),
        ("managementApi.autoscaling.maxReplicas=4", "partitions"),
        ("no.such.value=1", "additional properties 'no' not allowed"),
    ] {
        let said = chart_with(&["--set", argument]).expect_err(argument);
        assert!(said.contains(word), "{argument}: {said}");
    }
}
