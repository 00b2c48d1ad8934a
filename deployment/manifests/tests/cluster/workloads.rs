//! The two services among the rendered objects.

use std::collections::BTreeMap;

use manifests::object::{Object, list, texts};
use manifests::render::{OVERLAYS, kustomize, overlay};
use serde_json::Value;

pub const SERVICES: [&str; 2] = ["customer-web-server", "customer-management-api"];

/// Calls a test with the objects of every overlay.
pub fn in_every_overlay(mut test: impl FnMut(&str, &[Object])) {
    for name in OVERLAYS {
        let objects = overlay(name);
        assert!(!objects.is_empty(), "overlays/{name} renders nothing");
        test(name, &objects);
    }
}

/// Production with the consumer scaled by arrival rate.
pub fn by_arrival_rate() -> Vec<Object> {
    let components = ["deployment/components/autoscaling-keda", "keda/arrival-rate", "keda/tls-sasl"];
    kustomize(&["deployment/base"], &components)
}

/// Objects that have pods.
pub fn workloads(objects: &[Object]) -> impl Iterator<Item = &Object> {
    objects.iter().filter(|object| object.pod().is_some())
}

/// The containers of a workload, with those that run before.
pub fn containers(workload: &Object) -> impl Iterator<Item = &Value> {
    let lists = ["initContainers", "containers"].map(|field| workload.at(&format!("/spec/template/spec/{field}")));
    lists.into_iter().flat_map(list)
}

/// The environment of a service's container: of its ConfigMaps and its own; a value from a Secret is `(a secret)`.
pub fn environment(objects: &[Object], workload: &Object) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    for container in containers(workload) {
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
