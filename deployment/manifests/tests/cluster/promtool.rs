//! Rules are valid, and each alert is tested both ways.

use std::process::Command;

use manifests::object::{list, selects, texts};
use manifests::queries::{Rule, files, rules};
use manifests::{root, yaml};
use serde_json::{Value, json};
use stack::install;

/// Runs promtool and returns what it said; fails when promtool does.
pub fn promtool(arguments: &[&str], files: &[String]) -> String {
    let programs = install::prometheus().unwrap_or_else(|error| panic!("{error}"));
    let mut command = Command::new(programs.join("promtool"));
    let output = command.args(arguments).args(files).current_dir(root()).output().expect("promtool starts");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "promtool {arguments:?}:\n{said}");
    said
}

#[test]
fn promtool_accepts_every_rule_and_configuration() {
    let said = promtool(&["check", "rules", "--lint=all", "--lint-fatal"], &files("grafana/alerts", "yaml"));
    assert!(said.contains("SUCCESS"), "{said}");
    promtool(&["check", "config", "--syntax-only"], &["deployment/docker/prometheus.yml".to_owned()]);
}

#[test]
fn every_alert_fires_when_it_should_and_not_else() {
    let tests = files("grafana/alerts/tests", "yaml");
    let said = promtool(&["test", "rules"], &tests);
    assert_eq!(said.matches("SUCCESS").count(), tests.len(), "{said}");
    let read: Vec<_> = tests.iter().map(|file| yaml::read(file)).collect();
    let cases = read.iter().flat_map(|file| list(&file["tests"])).flat_map(|test| list(&test["alert_rule_test"]));
    let untested = untested(&rules(), &cases.cloned().collect::<Vec<_>>());
    assert!(untested.is_empty(), "{}", untested.join("\n"));
}

/// What no case covers: each rule has to fire in one and not in another. Alerts of one name differ by their labels.
fn untested(rules: &[Rule], cases: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    for rule in rules.iter().filter(|rule| rule.value["alert"].is_string()) {
        let labels = &rule.value["labels"];
        let of_alert: Vec<_> = cases.iter().filter(|case| case["alertname"] == rule.value["alert"]).collect();
        let fires = |case: &&Value| {
            let mut expected = list(&case["exp_alerts"]).iter();
            expected.any(|alert| selects(labels, &texts(&alert["exp_labels"])))
        };
        let place = format!("{}: {} with {labels}", rule.file, rule.value["alert"]);
        if !of_alert.iter().any(fires) {
            found.push(format!("{place}: expected a test in which it fires"));
        }
        if of_alert.iter().all(fires) {
            found.push(format!("{place}: expected a test in which it does not fire"));
        }
    }
    found
}

#[test]
fn each_rule_of_an_alert_has_its_own_tests() {
    let rule = |severity: &str| Rule {
        file: "a.yaml".to_owned(),
        value: json!({"alert": "A", "labels": {"severity": severity}}),
    };
    let case = |severities: &[&str]| {
        let alerts =
            severities.iter().map(|severity| json!({"exp_labels": {"severity": severity, "namespace": "shop"}}));
        json!({"alertname": "A", "exp_alerts": alerts.collect::<Vec<_>>()})
    };
    let rules = [rule("page"), rule("ticket")];
    let untested = |cases: &[Value]| untested(&rules, cases).len();
    assert_eq!(untested(&[case(&["page", "ticket"]), case(&[])]), 0);
    assert_eq!(untested(&[case(&["page"]), case(&["ticket"])]), 0);
    assert_eq!(untested(&[case(&["page"]), case(&[])]), 1, "the ticket never fires");
    assert_eq!(untested(&[case(&["page", "ticket"]), case(&["page"])]), 1, "the page always fires");
    assert_eq!(untested(&[]), 4);
}
