//! The environment of each pod is one that its service accepts.

use management_api::accounts::new_signing_key;
use manifests::findings::Findings;
use manifests::object::{Object, texts};
use manifests::render::{find, overlay};
use manifests::services::{SERVICES, read, unknown};
use rcgen::generate_simple_self_signed;
use shared::config::Settings;
use stack::RunFolder;

use crate::workloads::{environment, in_every_overlay};

#[test]
fn every_name_is_a_setting_of_the_service() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        for service in SERVICES {
            let deployment = find(objects, "Deployment", service);
            let environment = environment(objects, deployment);
            for name in unknown(service, environment.keys().map(String::as_str)) {
                findings
                    .add(format!("{deployment}: its environment has {name}, expected settings of the service only"));
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
        let signing_key = new_signing_key();
        let certificate = generate_simple_self_signed(["shop.test".to_owned()]).expect("a certificate");
        for service in SERVICES {
            let deployment = find(objects, "Deployment", service);
            let mut pairs = environment(objects, deployment);
            for (key, value) in &mut pairs {
                let stand_in = match key.as_str() {
                    "DATABASE_URL_FILE" => "postgres://purchase:secret@localhost:5432/purchases",
                    "JWT_SIGNING_KEY_FILE" => signing_key.expose(),
                    "TLS_CERT_FILE" => &certificate.cert.pem(),
                    "TLS_KEY_FILE" => &certificate.signing_key.serialize_pem(),
                    "ADMIN_EMAIL" | "ADMIN_PASSWORD" => {
                        *value = "root@example.com".to_owned();
                        continue;
                    }
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

/// A setting in the environment of a service; told with the ConfigMap, where it stands.
fn check_setting(objects: &[Object], service: &str, name: &str, (value, why): (&str, &str), findings: &mut Findings) {
    let environment = environment(objects, find(objects, "Deployment", service));
    let right = environment.get(name).is_some_and(|found| found == value);
    findings.check(right, find(objects, "ConfigMap", service), &format!("/data/{name}"), format!("{value}, {why}"));
}

#[test]
fn both_services_agree_on_kafka() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        let [web, api] = SERVICES.map(|service| environment(objects, find(objects, "Deployment", service)));
        for (name, value) in web.iter().filter(|(name, _)| name.starts_with("KAFKA_") && api.contains_key(*name)) {
            check_setting(objects, SERVICES[1], name, (value, "as customer-web-server has it"), &mut findings);
        }
        let spread = ("balanced", "so that more consumers help with one user's load");
        check_setting(objects, SERVICES[0], "KAFKA_PARTITION_BY", spread, &mut findings);
        let url = format!("http://{}.purchase-system.svc.cluster.local:8081", SERVICES[1]);
        check_setting(objects, SERVICES[0], "CUSTOMER_MGMT_API_URL", (&url, "its Service"), &mut findings);
        let (service, headless) = (find(objects, "Service", SERVICES[1]), "/spec/clusterIP");
        let expected = "None, so that web-server sees every replica";
        findings.check(service.text(headless) == "None", service, headless, expected);
        findings.assert_none();
    });
}

#[test]
fn the_front_door_is_shut_in_production() {
    let objects = overlay("production");
    let mut findings = Findings::default();
    let [web, api] = SERVICES.map(|service| environment(&objects, find(&objects, "Deployment", service)));
    for (name, value, why) in [
        ("AUTH", "any", "accounts and keys buy and read as themselves"),
        ("RATE_LIMIT_PER_SECOND", "100", "a caller's, of all replicas together"),
    ] {
        check_setting(&objects, SERVICES[0], name, (value, why), &mut findings);
    }
    let (peers, headless) = (find(&objects, "Service", "customer-web-server-peers"), "/spec/clusterIP");
    let address = format!("{}.purchase-system.svc.cluster.local:9090", peers.name());
    check_setting(&objects, SERVICES[0], "RATE_LIMIT_PEERS", (&address, "its own replicas"), &mut findings);
    findings.check(peers.text(headless) == "None", peers, headless, "None, so that each replica sees every other");
    let service = find(&objects, "Service", SERVICES[0]);
    let policy = "/spec/externalTrafficPolicy";
    findings.check(service.text(policy) == "Local", service, policy, "Local, or every caller has a node's address");
    for name in ["TLS_CERT_FILE", "TLS_KEY_FILE", "RATE_LIMIT_PEER_TOKEN_FILE", "MANAGEMENT_API_TOKEN_FILE"] {
        findings.check(web.contains_key(name), find(&objects, "Deployment", SERVICES[0]), name, "set");
    }
    for name in ["JWT_SIGNING_KEY_FILE", "MANAGEMENT_API_TOKEN_FILE"] {
        findings.check(api.contains_key(name), find(&objects, "Deployment", SERVICES[1]), name, "set");
    }
    findings.check(!web.contains_key("JWT_SIGNING_KEY_FILE"), service, "environment", "nothing that could sign tokens");
    findings.assert_none();
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
