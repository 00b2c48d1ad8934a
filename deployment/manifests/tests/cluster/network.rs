//! Ports that are open, and ways that are needed: no more, no less.

use manifests::findings::Findings;
use manifests::object::{Object, list, selects, texts};
use manifests::render::{find, kustomize};
use manifests::services::SERVICES;
use serde_json::{Value, json};

use crate::workloads::{containers, environment, in_every_overlay, workloads};

const PRODUCTION: &str = "production";
/// The same with the component `outside-issuer`.
const WITH_ISSUER: &str = "production, outside-issuer";
/// The same with the component `callbacks`.
const WITH_CALLBACKS: &str = "production, callbacks";
const POLICY: &str = "NetworkPolicy";
/// What a rule of each direction calls its peers.
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

/// The ports of a workload's containers, with their names.
fn ports(workload: &Object) -> Vec<(i64, &str)> {
    let ports = containers(workload).flat_map(|(_, container)| list(&container["ports"]));
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
        for service in SERVICES {
            let service = find(objects, "Service", service);
            let apart = service.list("/spec/ports").iter().all(|port| port["targetPort"] == "http");
            findings.check(apart, service, "/spec/ports", "no port of operations: its metrics are not everybody's");
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
            let address = settings.get("OPERATIONS_LISTEN_ADDRESS").map_or("(not set)", String::as_str);
            let ends = address.ends_with(&format!(":{}", deployment.text(&port)));
            findings.check(ends, deployment, &port, format!("the port of OPERATIONS_LISTEN_ADDRESS={address}"));
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
        for policy in objects.iter().filter(|object| object.kind() == POLICY) {
            let selector = policy.at("/spec/podSelector/matchLabels");
            for (direction, peers) in DIRECTIONS {
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
                        findings.check(port["endPort"].is_null(), policy, &field, "single ports");
                        let open = ends.iter().all(|workload| has_port(workload, &port["port"]));
                        findings.check(open, policy, &field, format!("a port of {ends:?}, not {}", port["port"]));
                    }
                }
            }
        }
        findings.assert_none();
    });
}

/// Whether the policies let a pod of one workload reach a port of another.
fn may_reach(objects: &[Object], from: &Object, to: &Object, port: i64) -> bool {
    let of = |workload: &Object, direction: &str| -> Vec<Value> {
        let policies = objects.iter().filter(|object| object.kind() == POLICY);
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
        port_named && (entries.is_empty() || named)
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
    // Replicas that share rates.
    let peers = (SERVICES[0], SERVICES[0], 9090);
    in_every_overlay(|name, objects| {
        let mut findings = Findings::default();
        for from in workloads(objects) {
            for to in workloads(objects) {
                for (port, _) in ports(to) {
                    let way = (from.name(), to.name(), port);
                    let expected = needed.contains(&way)
                        || (name == PRODUCTION && way == peers)
                        || (from.name() == "kafka" && to.name() == "kafka");
                    let public = to.name() == SERVICES[0] && port == 8080;
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

/// The ways beyond our pods: direction, peer (null for everybody), and ports.
fn ways_outside(overlay: &str, policy: &str) -> Vec<(&'static str, Value, Value)> {
    let labelled = |key: &str, value: &str| json!({"matchLabels": {key: value}});
    let namespace = |name: &str| labelled("kubernetes.io/metadata.name", name);
    let pods_of = |name: &str, pods: Value| json!({"namespaceSelector": namespace(name), "podSelector": pods});
    let network = |cidr: &str| json!({"ipBlock": {"cidr": cidr}});
    let tcp = |port: u16| json!([{"protocol": "TCP", "port": port}]);
    let scrapes = ("ingress", json!({"namespaceSelector": namespace("monitoring")}), tcp(9090));
    let dns = json!([{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]);
    let mut ways = match policy {
        "allow-dns" => vec![
            ("egress", pods_of("kube-system", labelled("k8s-app", "kube-dns")), dns.clone()),
            ("egress", network("169.254.20.10/32"), dns),
        ],
        "customer-web-server" => vec![("ingress", Value::Null, tcp(8080)), scrapes],
        "customer-management-api" => vec![scrapes],
        "kafka" => vec![("ingress", pods_of("keda", labelled("app", "keda-operator")), tcp(9092))],
        _ => vec![],
    };
    if overlay == WITH_CALLBACKS && policy == SERVICES[1] {
        let ours_v4 =
            ["10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"];
        for (cidr, except) in [("0.0.0.0/0", json!(ours_v4)), ("::/0", json!(["fc00::/7", "fe80::/10"]))] {
            ways.push(("egress", json!({"ipBlock": {"cidr": cidr, "except": except}}), tcp(443)));
        }
    }
    if [PRODUCTION, WITH_ISSUER, WITH_CALLBACKS].contains(&overlay) {
        let ports: &[u16] = match policy {
            "customer-web-server" if overlay == WITH_ISSUER => &[9093, 443],
            "customer-web-server" => &[9093],
            "customer-management-api" => &[9093, 5432],
            _ => &[],
        };
        ways.extend(ports.iter().map(|port| ("egress", network("10.0.0.0/8"), tcp(*port))));
    }
    ways
}

/// Every peer in a direction, with its field and the ports of its rule.
fn peers_with_ports<'a>(policy: &'a Object, direction: &str, peers: &str) -> Vec<(String, &'a Value, &'a Value)> {
    let mut found = Vec::new();
    for (index, rule) in policy.list(&format!("/spec/{direction}")).iter().enumerate() {
        let field = format!("/spec/{direction}/{index}");
        if list(&rule[peers]).is_empty() {
            found.push((field.clone(), &Value::Null, &rule["ports"]));
        }
        for (index, entry) in list(&rule[peers]).iter().enumerate() {
            found.push((format!("{field}/{peers}/{index}"), entry, &rule["ports"]));
        }
    }
    found
}

fn check_outside(overlay: &str, policy: &Object, findings: &mut Findings) {
    let mut expected = ways_outside(overlay, policy.name());
    let named: Vec<_> = expected.iter().map(|(_, peer, ports)| format!("{peer} with {ports}")).collect();
    for (direction, peers) in DIRECTIONS {
        for (field, peer, ports) in peers_with_ports(policy, direction, peers) {
            let labels = &peer["podSelector"]["matchLabels"];
            // Those are held against the workloads, in the test above.
            if !texts(labels).is_empty() && *peer == json!({"podSelector": {"matchLabels": labels}}) {
                continue;
            }
            let found = expected.iter().position(|way| (way.0, &way.1, &way.2) == (direction, peer, ports));
            let allowed = format!("pods of ours, or outside just [{}]; here with {ports}", named.join("; "));
            findings.check(found.is_some(), policy, &field, allowed);
            if let Some(index) = found {
                expected.remove(index);
            }
        }
    }
    for (direction, peer, ports) in expected {
        findings.add(format!("{policy}: /spec/{direction}: expected {peer} with {ports}"));
    }
}

#[test]
fn only_who_is_named_comes_from_outside_or_is_reached_there() {
    in_every_overlay(|name, objects| {
        let mut findings = Findings::default();
        for policy in objects.iter().filter(|object| object.kind() == POLICY) {
            check_outside(name, policy, &mut findings);
        }
        findings.assert_none();
    });
}

#[test]
fn an_outside_issuer_is_reached_by_web_server_alone() {
    let objects = kustomize(&["deployment/overlays/production"], &["deployment/components/outside-issuer"]);
    let mut findings = Findings::default();
    for policy in objects.iter().filter(|object| object.kind() == POLICY) {
        check_outside(WITH_ISSUER, policy, &mut findings);
    }
    findings.assert_none();
}

#[test]
fn receivers_of_callbacks_are_reached_by_management_api_alone_and_never_inside() {
    let objects = kustomize(&["deployment/overlays/production"], &["deployment/components/callbacks"]);
    let mut findings = Findings::default();
    for policy in objects.iter().filter(|object| object.kind() == POLICY) {
        check_outside(WITH_CALLBACKS, policy, &mut findings);
    }
    findings.assert_none();
}

#[test]
fn a_way_too_many_or_too_few_is_found() {
    let keda = ways_outside("keda", "kafka").remove(0);
    let own = json!({"podSelector": {"matchLabels": {"app": "kafka"}}});
    let from = |peers: Value| json!([{"from": peers, "ports": keda.2}]);
    for (ingress, count) in [
        (from(json!([keda.1, own])), 0),
        (from(json!([own])), 1),
        (from(json!([keda.1, {"namespaceSelector": {}}])), 1),
        (from(json!([keda.1, {"podSelector": {}}])), 1),
        (from(json!([keda.1, {"ipBlock": {"cidr": "10.0.0.0/8"}}])), 1),
        (from(json!([])), 2),
        (json!([{"ports": keda.2}]), 2),
        (json!([{"from": [keda.1], "ports": [{"protocol": "TCP", "port": 9093}]}]), 2),
    ] {
        let value = json!({"kind": POLICY, "metadata": {"name": "kafka"}, "spec": {"ingress": ingress}});
        let mut findings = Findings::default();
        check_outside("keda", &Object { file: "a.yaml".to_owned(), value }, &mut findings);
        assert_eq!(findings.all().len(), count, "{:?}", findings.all());
    }
}

#[test]
fn everything_is_shut_by_default_but_dns() {
    in_every_overlay(|_, objects| {
        let mut findings = Findings::default();
        let deny = find(objects, POLICY, "default-deny");
        let expected = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
        findings.check(*deny.at("/spec") == expected, deny, "/spec", expected);
        let dns = find(objects, POLICY, "allow-dns");
        for (field, expected) in [("/spec/podSelector", json!({})), ("/spec/policyTypes", json!(["Egress"]))] {
            findings.check(*dns.at(field) == expected, dns, field, expected);
        }
        findings.assert_none();
    });
}
