//! The environment of each pod is one that its service accepts.

use std::collections::BTreeSet;

use manifests::findings::Findings;
use manifests::object::texts;
use manifests::render::find;
use shared::config::Settings;
use stack::RunFolder;

use crate::workloads::{SERVICES, environment, in_every_overlay};

fn read(service: &str, settings: &mut Settings) {
    if service == SERVICES[0] {
        drop(web_server::Config::read(settings));
    } else {
        drop(management_api::config::Config::read(settings));
    }
}

fn names(service: &str) -> BTreeSet<&'static str> {
    let mut settings = Settings::from_pairs::<String, String>([]);
    read(service, &mut settings);
    settings.rows().iter().map(|row| row.name).collect()
}

#[test]
fn every_name_is_a_setting_of_the_service() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        for service in SERVICES {
            let known = names(service);
            let deployment = find(objects, "Deployment", service);
            for name in environment(objects, deployment).keys() {
                if !known.contains(name.strip_suffix("_FILE").unwrap_or(name)) && !known.contains(name.as_str()) {
                    findings.add(format!("{deployment}: {name} is no setting of it, expected one of {known:?}"));
                }
            }
        }
        findings.assert_none();
    });
}

/// Read as the service reads it: files of Secrets stand in a folder of the test.
#[test]
fn every_service_accepts_its_environment() {
    in_every_overlay(|name, objects| {
        let folder = RunFolder::new("settings").expect("a folder");
        for service in SERVICES {
            let deployment = find(objects, "Deployment", service);
            let mut pairs = environment(objects, deployment);
            for (key, value) in &mut pairs {
                let stand_in = match key.as_str() {
                    "DATABASE_URL_FILE" => "postgres://purchase:secret@localhost:5432/purchases",
                    other if other.ends_with("_FILE") => "secret",
                    _ => continue,
                };
                let path = folder.path().join(key);
                std::fs::write(&path, stand_in).expect("a file");
                *value = path.display().to_string();
            }
            let mut settings = Settings::from_pairs(pairs);
            read(service, &mut settings);
            let mistakes = settings.finish().err().map(|bad| bad.0).unwrap_or_default();
            // The images are built with it (deployment/docker/Dockerfile), this test is not.
            let real: Vec<_> = mistakes.iter().filter(|mistake| !mistake.ends_with("cargo feature tls")).collect();
            assert!(real.is_empty(), "overlays/{name}: {deployment}: {real:?}");
        }
    });
}

#[test]
fn both_services_agree_on_kafka() {
    in_every_overlay(|name, objects| {
        let [web, api] = SERVICES.map(|service| environment(objects, find(objects, "Deployment", service)));
        for (key, value) in web.iter().filter(|(key, _)| key.starts_with("KAFKA_")) {
            if let Some(other) = api.get(key) {
                assert_eq!(value, other, "overlays/{name}: {key}");
            }
        }
        assert_eq!(web["KAFKA_PARTITION_BY"], "balanced", "overlays/{name}");
        let url = format!("http://{}.purchase-system.svc.cluster.local:8081", SERVICES[1]);
        assert_eq!(web["CUSTOMER_MGMT_API_URL"], url, "overlays/{name}");
        let service = find(objects, "Service", SERVICES[1]);
        assert_eq!(service.text("/spec/clusterIP"), "None", "headless, so that web-server sees every replica");
    });
}

#[test]
fn no_secret_is_in_the_files() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        for object in objects {
            findings.check(object.kind() != "Secret", object, "/kind", "no Secret: those are made, not written down");
            for (name, _) in texts(object.at("/data")) {
                let secret = ["PASSWORD", "TOKEN", "SECRET", "DATABASE_URL"].iter().any(|word| name.contains(word));
                findings.check(!secret, object, &format!("/data/{name}"), "nothing secret in a ConfigMap");
            }
        }
        findings.assert_none();
    });
}
