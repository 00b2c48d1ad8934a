//! The two services among the rendered objects.

use std::collections::BTreeMap;

use manifests::object::{Object, list, texts};
use manifests::render::{OVERLAYS, kustomize, overlay};
use serde_json::Value;

/// Where a workload says what its pods are.
pub const POD: &str = "/spec/template/spec";

/// Calls a test with the objects of every overlay.
pub fn in_every_overlay(mut test: impl FnMut(&str, &[Object])) {
    for name in OVERLAYS {
        let objects = overlay(name);
        assert!(!objects.is_empty(), "overlays/{name} renders nothing");
        test(name, &objects);
    }
}

/// The overlay `keda` with the consumer scaled by arrival rate.
pub fn by_arrival_rate() -> Vec<Object> {
    kustomize(&["deployment/overlays/keda"], &["keda/arrival-rate"])
}

/// The consumer scaled by arrival rate, with a Kafka that wants TLS and SASL.
pub fn by_arrival_rate_with_tls() -> Vec<Object> {
    let components = ["deployment/components/autoscaling-keda", "keda/arrival-rate", "keda/tls-sasl"];
    kustomize(&["deployment/base"], &components)
}

/// Objects that have pods.
pub fn workloads(objects: &[Object]) -> impl Iterator<Item = &Object> {
    objects.iter().filter(|object| object.pod().is_some())
}

/// The containers of a workload with the fields that they are, also those that run before the others.
pub fn containers(workload: &Object) -> impl Iterator<Item = (String, &Value)> {
    ["initContainers", "containers"].into_iter().flat_map(|list| {
        let field = format!("{POD}/{list}");
        let all = workload.list(&field).iter().enumerate();
        all.map(move |(index, container)| (format!("{field}/{index}"), container))
    })
}

/// The environment of a service's container: of its ConfigMaps and its own; a value from a Secret is `(a secret)`.
pub fn environment(objects: &[Object], workload: &Object) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    for (_, container) in containers(workload) {
        for source in list(&container["envFrom"]) {
            let name = source["configMapRef"]["name"].as_str().unwrap_or_default();
            let map = objects.iter().find(|object| object.kind() == "ConfigMap" && object.name() == name);
            let pairs = map.map(|map| texts(map.at("/data"))).unwrap_or_default();
            environment.extend(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        for entry in list(&container["env"]) {
            let name = entry["name"].as_str().unwrap_or_default();
            let value = entry["value"].as_str().unwrap_or("(a secret)");
            environment.insert(name.to_owned(), value.to_owned());
        }
    }
    environment
}

#[test]
fn containers_are_given_with_their_fields() {
    let value = serde_json::json!({"spec": {"template": {"spec": {
        "initContainers": [{"name": "a"}], "containers": [{"name": "b"}, {"name": "c"}],
    }}}});
    let workload = Object { file: "a.yaml".to_owned(), value };
    let fields: Vec<_> = containers(&workload).map(|(field, _)| field).collect();
    assert_eq!(
        fields,
        [format!("{POD}/initContainers/0"), format!("{POD}/containers/0"), format!("{POD}/containers/1")]
    );
}
