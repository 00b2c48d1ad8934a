//! What compose runs on one machine is what the cluster runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use manifests::findings::Findings;
use manifests::object::{list, selects, texts};
use manifests::queries::files;
use manifests::services::{SERVICES, unknown};
use manifests::{root, yaml};
use serde_json::{Value, json};

const FOLDER: &str = "deployment/docker";
const COMPOSE: &str = "deployment/docker/compose.yaml";
const PROMETHEUS: &str = "deployment/docker/prometheus.yml";
const RULES: &str = "grafana/alerts";
/// Workloads of the cluster that compose runs too.
const WORKLOADS: [(&str, &str); 4] = [
    ("customer-web-server", "deployment"),
    ("customer-management-api", "deployment"),
    ("kafka", "statefulset"),
    ("postgres", "statefulset"),
];

/// The services of compose, by name.
fn entries(compose: &Value) -> impl Iterator<Item = (&str, &Value)> {
    compose["services"].as_object().into_iter().flatten().map(|(name, entry)| (name.as_str(), entry))
}

/// The service that one of compose is a replica of.
fn replica_of(name: &str) -> Option<&'static str> {
    SERVICES.into_iter().find(|service| name.starts_with(service))
}

fn check_settings(compose: &Value, findings: &mut Findings) {
    for (name, entry) in entries(compose) {
        let Some(service) = replica_of(name) else { continue };
        let settings = entry["environment"].as_object();
        let names: Vec<_> = settings.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        if names.is_empty() {
            findings.add(format!("{COMPOSE}: /services/{name}/environment: expected settings of {service}"));
        }
        for setting in unknown(service, names) {
            findings.add(format!("{COMPOSE}: /services/{name}/environment/{setting}: expected a setting of {service}"));
        }
    }
}

/// The images of the cluster, by workload.
fn images() -> BTreeMap<&'static str, String> {
    let mut images = BTreeMap::new();
    for (workload, kind) in WORKLOADS {
        let file = format!("deployment/{workload}/{kind}.yaml");
        let pod = &yaml::read(&file)["spec"]["template"]["spec"];
        let containers = ["initContainers", "containers"].into_iter().flat_map(|field| list(&pod[field]));
        for image in containers.filter_map(|container| container["image"].as_str()) {
            let other = images.insert(workload, image.to_owned());
            assert!(other.as_ref().is_none_or(|other| other == image), "{file}: {image}, expected {other:?}");
        }
    }
    images
}

/// `kafka-format` is of the workload kafka by its name, `credentials` of postgres by its image.
fn check_images(compose: &Value, findings: &mut Findings) {
    let images = images();
    let without_tag = |image: &str| image.split(':').next().unwrap_or_default().to_owned();
    for (name, entry) in entries(compose) {
        let found = entry["image"].as_str().unwrap_or_default();
        let by_name = images.iter().find(|(workload, _)| name.starts_with(*workload));
        let workload = by_name.or_else(|| images.iter().find(|(_, image)| without_tag(image) == without_tag(found)));
        if let Some((workload, expected)) = workload.filter(|(_, expected)| *expected != found) {
            let place = format!("{COMPOSE}: /services/{name}/image");
            findings.add(format!("{place} is {found}, expected {expected} as the cluster's {workload}"));
        }
    }
}

/// What callers may make a service hold is made for the pod's limit.
fn check_memory(compose: &Value, findings: &mut Findings) {
    for (name, entry) in entries(compose) {
        let Some(service) = replica_of(name) else { continue };
        let pod = &yaml::read(&format!("deployment/{service}/deployment.yaml"))["spec"]["template"]["spec"];
        let limit = pod["containers"][0]["resources"]["limits"]["memory"].as_str().unwrap_or_default();
        // The cluster writes 256Mi, compose 256m.
        let expected = json!(limit.to_lowercase().trim_end_matches('i'));
        if entry["mem_limit"] != expected {
            let found = &entry["mem_limit"];
            findings.add(format!(
                "{COMPOSE}: /services/{name}/mem_limit is {found}, expected {expected} as {service}'s pods"
            ));
        }
    }
}

/// What a service mounts of this machine, and where it sees it.
fn mounts(entry: &Value) -> Vec<(PathBuf, &str)> {
    let volumes = list(&entry["volumes"]).iter().filter_map(Value::as_str);
    let of_machine = volumes.filter(|volume| volume.starts_with(['.', '/', '~']));
    let parts = of_machine.map(|volume| volume.split(':').collect::<Vec<_>>()).filter(|parts| parts.len() > 1);
    parts.map(|parts| (root().join(FOLDER).join(parts[0]), parts[1])).collect()
}

/// Where a service sees a file or folder of the workspace.
fn seen_at<'a>(entry: &'a Value, path: &str) -> Option<&'a str> {
    let wanted = root().join(path).canonicalize().ok()?;
    let found = mounts(entry).into_iter().find(|(host, _)| host.canonicalize().is_ok_and(|host| host == wanted));
    found.map(|(_, inside)| inside)
}

fn check_mounts_and_ports(compose: &Value, findings: &mut Findings) {
    for (name, entry) in entries(compose) {
        for (host, _) in mounts(entry).iter().filter(|(host, _)| !host.exists()) {
            findings.add(format!("{COMPOSE}: /services/{name}/volumes: there is no {}", host.display()));
        }
        for (index, volume) in list(&entry["volumes"]).iter().enumerate().filter(|(_, volume)| !volume.is_string()) {
            findings.add(format!("{COMPOSE}: /services/{name}/volumes/{index} is {volume}, expected SOURCE:TARGET"));
        }
        for (index, port) in list(&entry["ports"]).iter().enumerate() {
            if !port.as_str().is_some_and(|port| port.starts_with("127.0.0.1:")) {
                findings.add(format!("{COMPOSE}: /services/{name}/ports/{index} is {port}, expected 127.0.0.1:…"));
            }
        }
    }
}

/// Prometheus finds its configuration and the rules where they are mounted.
fn check_files_of_prometheus(configuration: &Value, compose: &Value, findings: &mut Findings) {
    let entry = &compose["services"]["prometheus"];
    let argument = format!("--config.file={}", seen_at(entry, PROMETHEUS).unwrap_or("(not mounted)"));
    if !list(&entry["command"]).contains(&json!(argument)) {
        findings.add(format!("{COMPOSE}: /services/prometheus/command: expected {argument}"));
    }
    let expected = json!([format!("{}/*.yaml", seen_at(entry, RULES).unwrap_or("(not mounted)"))]);
    if configuration["rule_files"] != expected || files(RULES, "yaml").is_empty() {
        let found = &configuration["rule_files"];
        findings.add(format!("{PROMETHEUS}: /rule_files is {found}, expected {expected}: compose mounts {RULES}"));
    }
}

/// The targets of Prometheus: the field of each group, the job, the host with its port, and its labels.
fn targets(configuration: &Value) -> Vec<(String, &str, (&str, &str), &Value)> {
    let mut found = Vec::new();
    for (number, job) in list(&configuration["scrape_configs"]).iter().enumerate() {
        let name = job["job_name"].as_str().unwrap_or_default();
        for (index, group) in list(&job["static_configs"]).iter().enumerate() {
            let field = format!("/scrape_configs/{number}/static_configs/{index}");
            let hosts = list(&group["targets"]).iter().filter_map(|target| target.as_str()?.split_once(':'));
            found.extend(hosts.map(|host| (field.clone(), name, host, &group["labels"])));
        }
    }
    found
}

/// Every replica is scraped where it serves its metrics, under the labels that it would have in the cluster; the label
/// `job` is the job's name.
fn check_targets(configuration: &Value, compose: &Value, findings: &mut Findings) {
    let mut missing: BTreeSet<_> = entries(compose).filter_map(|(name, _)| Some((replica_of(name)?, name))).collect();
    for (field, job, (host, port), labels) in targets(configuration) {
        let listening = compose["services"][host]["environment"]["OPERATIONS_LISTEN_ADDRESS"].as_str();
        if missing.contains(&(job, host)) && listening.and_then(|address| address.rsplit(':').next()) != Some(port) {
            findings.add(format!("{PROMETHEUS}: {field}/targets has port {port}, expected that of {listening:?}"));
        }
        let expected = json!({"app": job, "namespace": "purchase-system", "pod": host});
        if !selects(&expected, &texts(labels)) || labels.get("job").is_some() {
            findings.add(format!("{PROMETHEUS}: {field}/labels is {labels}, expected {expected}"));
        }
        if !missing.remove(&(job, host)) {
            findings.add(format!("{PROMETHEUS}: {field}/targets has {host}, expected replicas of {job}"));
        }
    }
    for (job, replica) in missing {
        findings.add(format!("{PROMETHEUS}: /scrape_configs: expected {replica} as a target of {job}"));
    }
}

fn mistakes(compose: &Value, configuration: &Value) -> Findings {
    let mut findings = Findings::default();
    for service in SERVICES {
        let replicas = entries(compose).filter(|(name, _)| replica_of(name) == Some(service)).count();
        if replicas != 2 {
            findings.add(format!("{COMPOSE}: /services has {replicas} of {service}, expected 2"));
        }
    }
    check_settings(compose, &mut findings);
    check_images(compose, &mut findings);
    check_memory(compose, &mut findings);
    check_mounts_and_ports(compose, &mut findings);
    check_files_of_prometheus(configuration, compose, &mut findings);
    check_targets(configuration, compose, &mut findings);
    findings
}

#[test]
fn compose_runs_what_the_cluster_runs() {
    mistakes(&yaml::read(COMPOSE), &yaml::read(PROMETHEUS)).assert_none();
}

#[test]
fn a_mistake_is_found_with_its_field() {
    let before = mistakes(&yaml::read(COMPOSE), &yaml::read(PROMETHEUS)).all().len();
    // Where, what is put there, and how many mistakes that makes.
    for (place, value, count) in [
        // Without its settings nobody knows either where it would be scraped.
        ("/services/customer-web-server-1/environment", json!({"KAFKA_TOPICS": "x"}), 2),
        ("/services/customer-web-server-1/environment", json!(["KAFKA_TOPIC=x"]), 2),
        ("/services/customer-web-server-1/image", json!("customer-management-api:0.1.0"), 1),
        ("/services/customer-web-server-1/mem_limit", json!("512m"), 1),
        ("/services/customer-management-api-2/mem_limit", json!(null), 1),
        ("/services/postgres/image", json!("postgres:18.3-bookworm"), 1),
        ("/services/credentials/image", json!("postgres:18.3-bookworm"), 1),
        ("/services/kafka/image", json!("bitnami/kafka:4.1.2"), 1),
        ("/services/customer-web-server-1/ports/0", json!("30080:8080"), 1),
        ("/services/prometheus/volumes/1", json!("../../grafana/alarms:/etc/prometheus/alerts:ro"), 2),
        ("/services/prometheus/volumes/1", json!({"type": "bind"}), 2),
        ("/services/prometheus/volumes/0", json!("./prometheus.yml:/etc/prometheus.yml:ro"), 1),
        ("/rule_files/0", json!("/etc/prometheus/alerts/*.yml"), 1),
        ("/rule_files", json!([]), 1),
        ("/scrape_configs/0/static_configs/0/labels/pod", json!("web-1"), 1),
        ("/scrape_configs/0/static_configs/0/targets/0", json!("customer-web-server-1:8080"), 1),
        ("/scrape_configs/1/job_name", json!("management-api"), 6),
        ("/scrape_configs/0/static_configs/1/targets/0", json!("customer-web-server-1:9090"), 3),
    ] {
        let (mut compose, mut configuration) = (yaml::read(COMPOSE), yaml::read(PROMETHEUS));
        let file = if place.starts_with("/services") { &mut compose } else { &mut configuration };
        *file.pointer_mut(place).expect(place) = value;
        let found = mistakes(&compose, &configuration);
        assert_eq!(found.all().len(), before + count, "{place}: {:#?}", found.all());
    }
}
