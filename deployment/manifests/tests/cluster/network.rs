//! Ports that are open, and ways that are needed: no more, no less.

use manifests::findings::Findings;
use manifests::object::{Object, list, selects};
use serde_json::Value;

use crate::workloads::{SERVICES, containers, environment, in_every_overlay, workloads};
use manifests::render::find;

/// The ports of a workload's containers, with their names.
fn ports(workload: &Object) -> Vec<(i64, &str)> {
    let ports = containers(workload).flat_map(|container| list(&container["ports"]));
    ports
        .filter_map(|port| Some((port["containerPort"].as_i64()?, port["name"].as_str().unwrap_or_default())))
        .collect()
}

fn has_port(workload: &Object, port: &Value) -> bool {
    ports(workload).iter().any(|(number, name)| port.as_i64() == Some(*number) || port.as_str() == Some(name))
}

#[test]
fn services_lead_to_container_ports() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        for service in objects.iter().filter(|object| object.kind() == "Service") {
            let selector = service.at("/spec/selector");
            for (index, port) in service.list("/spec/ports").iter().enumerate() {
                let target = if port["targetPort"].is_null() { &port["port"] } else { &port["targetPort"] };
                let field = format!("/spec/ports/{index}");
                let open = workloads(objects)
                    .any(|workload| selects(selector, &workload.pod_labels()) && has_port(workload, target));
                findings.check(open, service, &field, "a port of the containers it selects");
            }
            let scraped = "/metadata/annotations/prometheus.io~1scrape";
            findings.check(service.at(scraped).is_null(), service, scraped, "none: pods are scraped, and only once");
        }
        let web = find(objects, "Service", SERVICES[0]);
        findings.check(web.text("/spec/type") == "NodePort", web, "/spec/type", "NodePort");
        findings.check(web.number("/spec/ports/0/nodePort") == Some(30080), web, "/spec/ports/0/nodePort", 30080);
        findings.assert_none();
    });
}

#[test]
fn pods_are_scraped_at_a_port_that_they_listen_on() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        for service in SERVICES {
            let deployment = find(objects, "Deployment", service);
            let annotation = |name: &str| format!("/spec/template/metadata/annotations/prometheus.io~1{name}");
            let (scrape, port) = (annotation("scrape"), annotation("port"));
            findings.check(deployment.text(&scrape) == "true", deployment, &scrape, "\"true\"");
            let listening = deployment.text(&port).parse::<i64>().is_ok_and(|port| has_port(deployment, &port.into()));
            findings.check(listening, deployment, &port, "a container port");
            let settings = environment(objects, deployment);
            let address = &settings["LISTEN_ADDRESS"];
            let ends = address.ends_with(&format!(":{}", deployment.text(&port)));
            findings.check(ends, deployment, &port, format!("the port of LISTEN_ADDRESS={address}"));
        }
        findings.assert_none();
    });
}

/// The workload that a peer of a policy means, if it is one of this overlay.
fn peer<'a>(objects: &'a [Object], peer: &Value) -> Option<&'a Object> {
    let selector = &peer["podSelector"]["matchLabels"];
    let ours = peer["namespaceSelector"].is_null() && selector.is_object();
    workloads(objects).find(|workload| ours && selects(selector, &workload.pod_labels()))
}

#[test]
fn policies_name_container_ports() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        for policy in objects.iter().filter(|object| object.kind() == "NetworkPolicy") {
            let selector = policy.at("/spec/podSelector/matchLabels");
            for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
                for (index, rule) in policy.list(&format!("/spec/{direction}")).iter().enumerate() {
                    let field = format!("/spec/{direction}/{index}");
                    findings.check(!list(&rule["ports"]).is_empty(), policy, &field, "ports: without, all are open");
                    let mut ends: Vec<&Object> =
                        list(&rule[peers]).iter().filter_map(|entry| peer(objects, entry)).collect();
                    let named = list(&rule[peers]).iter().filter(|entry| entry["ipBlock"].is_null());
                    if direction == "ingress" {
                        ends = workloads(objects).filter(|one| selects(selector, &one.pod_labels())).collect();
                    } else if named.clone().any(|entry| entry["namespaceSelector"].is_null()) {
                        findings.check(!ends.is_empty(), policy, &field, "pods of this overlay");
                    }
                    for port in list(&rule["ports"]) {
                        // Left out it is TCP too, but then every apply finds a difference.
                        findings.check(port["protocol"].is_string(), policy, &field, "a protocol");
                        let open = ends.iter().all(|workload| has_port(workload, &port["port"]));
                        findings.check(open, policy, &field, format!("a port of {ends:?}, not {}", port["port"]));
                    }
                }
            }
        }
        findings.assert_none();
    });
}

/// Whether the policies let a pod of one workload reach a port of another, or of a namespace beside ours.
fn may_reach(objects: &[Object], from: &Object, to: &Object, port: i64) -> bool {
    let of = |workload: &Object, direction: &str| -> Vec<Value> {
        let policies = objects.iter().filter(|object| object.kind() == "NetworkPolicy");
        let selecting =
            policies.filter(|policy| selects(policy.at("/spec/podSelector/matchLabels"), &workload.pod_labels()));
        selecting.flat_map(|policy| policy.list(&format!("/spec/{direction}")).to_vec()).collect()
    };
    let names = |rule: &Value, peers: &str, other: &Object| {
        let entries = list(&rule[peers]);
        let named = entries.iter().any(|entry| {
            entry["namespaceSelector"].is_null() && selects(&entry["podSelector"]["matchLabels"], &other.pod_labels())
        });
        let port_named = list(&rule["ports"]).iter().any(|entry| entry["port"].as_i64() == Some(port));
        port_named && (rule[peers].is_null() || named)
    };
    of(from, "egress").iter().any(|rule| names(rule, "to", to))
        && of(to, "ingress").iter().any(|rule| names(rule, "from", from))
}

#[test]
fn the_needed_ways_are_open_and_no_others() {
    let needed = [
        ("customer-web-server", "kafka", 9092),
        ("customer-web-server", "customer-management-api", 8081),
        ("customer-management-api", "kafka", 9092),
        ("customer-management-api", "postgres", 5432),
        ("kafka", "kafka", 9093),
    ];
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        for from in workloads(objects) {
            for to in workloads(objects) {
                for (port, _) in ports(to) {
                    let way = (from.name(), to.name(), port);
                    let expected = needed.contains(&way) || (from.name() == "kafka" && to.name() == "kafka");
                    let public = to.name() == SERVICES[0];
                    let open = may_reach(objects, from, to, port);
                    if open != expected && !public {
                        findings
                            .add(format!("{way:?} is {}, expected the contrary", if open { "open" } else { "shut" }));
                    }
                }
            }
        }
        findings.assert_none();
    });
}

#[test]
fn everything_is_shut_by_default_but_dns() {
    in_every_overlay(|_, objects| {
        let deny = find(objects, "NetworkPolicy", "default-deny");
        assert_eq!(*deny.at("/spec"), serde_json::json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}));
        let dns = find(objects, "NetworkPolicy", "allow-dns");
        assert_eq!(*dns.at("/spec/podSelector"), serde_json::json!({}));
        let ports: Vec<_> = dns.list("/spec/egress/0/ports").iter().map(|port| port["port"].as_i64()).collect();
        assert_eq!(ports, [Some(53), Some(53)]);
    });
}

#[test]
fn keda_reaches_kafka_and_prometheus_reaches_the_consumer() {
    let from = |objects: &[Object], policy: &str, namespace: &str, port: i64| {
        let rules = find(objects, "NetworkPolicy", policy).list("/spec/ingress").to_vec();
        rules.iter().any(|rule| {
            let named = list(&rule["from"])
                .iter()
                .any(|entry| entry["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] == namespace);
            named && list(&rule["ports"]).iter().any(|entry| entry["port"].as_i64() == Some(port))
        })
    };
    in_every_overlay(|name, objects| {
        assert!(from(objects, "customer-management-api", "monitoring", 8081), "overlays/{name}");
        if workloads(objects).any(|workload| workload.name() == "kafka") {
            assert!(from(objects, "kafka", "keda", 9092), "overlays/{name}");
        }
    });
}
