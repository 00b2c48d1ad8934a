//! What objects say of each other holds.

use manifests::findings::Findings;
use manifests::object::{Object, list, selects};
use serde_json::Value;

use crate::workloads::{POD, containers, in_every_overlay, workloads};

/// Secrets are made by hand or by the script beside PostgreSQL: none is in these files. AUTOSCALING.md names them.
const SECRETS: [&str; 6] = [
    "account-credentials",
    "kafka-credentials",
    "management-api-token",
    "postgres-credentials",
    "web-server-peer-token",
    "web-server-tls",
];

/// Where a kind of object says which pods it means.
fn pod_selector(object: &Object) -> Option<(&'static str, &Value)> {
    let pointer = match object.kind() {
        "Service" => "/spec/selector",
        "Deployment" | "StatefulSet" | "PodDisruptionBudget" => "/spec/selector/matchLabels",
        "NetworkPolicy" if !object.at("/spec/podSelector/matchLabels").is_null() => "/spec/podSelector/matchLabels",
        _ => return None,
    };
    Some((pointer, object.at(pointer)))
}

#[test]
fn selectors_match_the_pods_they_mean() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        for object in objects {
            let Some((pointer, selector)) = pod_selector(object) else { continue };
            let matched: Vec<_> =
                workloads(objects).filter(|workload| selects(selector, &workload.pod_labels())).collect();
            findings.check(matched.len() == 1, object, pointer, "the labels of exactly one workload's pods");
            if object.pod().is_some() {
                let own = matched.iter().any(|workload| workload.name() == object.name());
                findings.check(own, object, pointer, "labels of its own pods");
            }
            let fixed = matched.iter().all(|workload| workload.namespace() == object.namespace());
            findings.check(fixed, object, "/metadata/namespace", "the namespace of the pods it selects");
        }
        findings.assert_none();
    });
}

#[test]
fn everything_is_in_our_namespace() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        for object in objects.iter().filter(|object| object.kind() != "Namespace") {
            let right = object.namespace() == "purchase-system";
            findings.check(
                right,
                object,
                "/metadata/namespace",
                "purchase-system, so that a single file can be applied",
            );
        }
        findings.assert_none();
    });
}

#[test]
fn what_a_pod_refers_to_is_there() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        let there =
            |kind: &str, name: &str| objects.iter().any(|object| object.kind() == kind && object.name() == name);
        for workload in workloads(objects) {
            for (kind, field, name) in referred(workload) {
                let known = if kind == "Secret" { SECRETS.contains(&&*name) } else { there(kind, &name) };
                findings.check(
                    known,
                    workload,
                    &field,
                    format!("a {kind} that is here or that the guide names: {name}"),
                );
            }
        }
        findings.assert_none();
    });
}

/// Every object that a pod needs, with the field that says so.
fn referred(workload: &Object) -> Vec<(&'static str, String, String)> {
    let mut all = Vec::new();
    let mut add =
        |kind, field: String, name: &Value| all.extend(name.as_str().map(|name| (kind, field, name.to_owned())));
    let account = format!("{POD}/serviceAccountName");
    add("ServiceAccount", account.clone(), workload.at(&account));
    for (index, volume) in workload.list(&format!("{POD}/volumes")).iter().enumerate() {
        let field = format!("{POD}/volumes/{index}");
        add("ConfigMap", field.clone(), &volume["configMap"]["name"]);
        add("Secret", field, &volume["secret"]["secretName"]);
    }
    for (field, container) in containers(workload) {
        for source in list(&container["envFrom"]) {
            add("ConfigMap", field.clone(), &source["configMapRef"]["name"]);
            add("Secret", field.clone(), &source["secretRef"]["name"]);
        }
        for entry in list(&container["env"]) {
            add("ConfigMap", field.clone(), &entry["valueFrom"]["configMapKeyRef"]["name"]);
            add("Secret", field.clone(), &entry["valueFrom"]["secretKeyRef"]["name"]);
        }
    }
    all
}

#[test]
fn mounts_are_of_volumes_that_exist() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        for workload in workloads(objects) {
            let volumes = workload.list(&format!("{POD}/volumes"));
            let claims = workload.list("/spec/volumeClaimTemplates");
            let known = |name: &Value| {
                volumes.iter().any(|volume| volume["name"] == *name)
                    || claims.iter().any(|claim| claim["metadata"]["name"] == *name)
            };
            for (field, container) in containers(workload) {
                for (index, mount) in list(&container["volumeMounts"]).iter().enumerate() {
                    let field = format!("{field}/volumeMounts/{index}");
                    findings.check(known(&mount["name"]), workload, &field, format!("a volume {}", mount["name"]));
                }
            }
        }
        findings.assert_none();
    });
}

#[test]
fn authentication_that_a_trigger_refers_to_is_there() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        for scaled in objects.iter().filter(|object| object.kind() == "ScaledObject") {
            for (index, trigger) in scaled.list("/spec/triggers").iter().enumerate() {
                let Some(name) = trigger["authenticationRef"]["name"].as_str() else { continue };
                let there =
                    objects.iter().any(|object| object.kind() == "TriggerAuthentication" && object.name() == name);
                let field = format!("/spec/triggers/{index}/authenticationRef/name");
                findings.check(there, scaled, &field, "a TriggerAuthentication that is here");
            }
        }
        for authentication in objects.iter().filter(|object| object.kind() == "TriggerAuthentication") {
            for (index, entry) in authentication.list("/spec/secretTargetRef").iter().enumerate() {
                let known = entry["name"].as_str().is_some_and(|name| SECRETS.contains(&name));
                let field = format!("/spec/secretTargetRef/{index}/name");
                findings.check(known, authentication, &field, "a Secret that the guide names");
            }
        }
        findings.assert_none();
    });
}
