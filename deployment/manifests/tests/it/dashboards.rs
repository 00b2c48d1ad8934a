//! Dashboards and alerts are whole.

use std::collections::BTreeSet;

use manifests::object::list;
use manifests::queries::{dashboards, panels, rules};
use manifests::{read, root};
use serde_json::Value;

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

#[test]
fn every_panel_says_what_it_shows_and_in_what_unit() {
    let mut found = Vec::new();
    for (file, dashboard) in dashboards() {
        for panel in panels(&dashboard) {
            let title = text(panel, "title");
            let mut expect = |right: bool, what: &str| {
                if !right {
                    found.push(format!("{file}: panel {title:?}: expected {what}"));
                }
            };
            expect(!title.is_empty(), "a title");
            expect(!text(panel, "description").is_empty(), "a description");
            expect(!text(&panel["fieldConfig"]["defaults"], "unit").is_empty(), "a unit");
            let chosen = ["$datasource", "${datasource}"].contains(&text(&panel["datasource"], "uid"));
            expect(chosen, "the datasource of the variable");
            expect(!list(&panel["targets"]).is_empty(), "a query");
            for target in list(&panel["targets"]) {
                let rates = text(target, "expr").split("rate(").skip(1);
                let windows = text(target, "expr").matches("[$__rate_interval]").count();
                expect(rates.count() <= windows, "$__rate_interval in each rate");
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn dashboards_are_the_four_and_choose_datasource_namespace_and_job() {
    let all = dashboards();
    let names: Vec<_> = all.iter().map(|(file, _)| file.rsplit('/').next().unwrap_or_default()).collect();
    assert_eq!(names, ["autoscaling.json", "pipeline.json", "resources.json", "service.json"]);
    let uids: BTreeSet<_> = all.iter().map(|(_, dashboard)| text(dashboard, "uid")).collect();
    assert_eq!(uids.len(), 4, "uids differ: {uids:?}");
    for (file, dashboard) in &all {
        let variables: Vec<_> = list(&dashboard["templating"]["list"]).iter().map(|it| text(it, "name")).collect();
        for name in ["datasource", "namespace", "job"] {
            assert!(variables.contains(&name), "{file}: no variable {name}");
        }
    }
}

#[test]
fn every_alert_has_a_severity_a_text_and_a_runbook_that_exists() {
    let mut alerts = 0;
    for rule in rules().iter().filter(|rule| rule.value["alert"].is_string()) {
        alerts += 1;
        let place = format!("{}: {}", rule.file, rule.value["alert"]);
        let severity = text(&rule.value["labels"], "severity");
        assert!(["page", "ticket"].contains(&severity), "{place}: severity {severity:?}, expected page or ticket");
        let annotations = &rule.value["annotations"];
        for field in ["summary", "description"] {
            assert!(!text(annotations, field).is_empty(), "{place}: no {field}");
        }
        let runbook = text(annotations, "runbook_url");
        let runbook = runbook.split('#').next().unwrap_or_default();
        assert!(root().join(runbook).is_file(), "{place}: there is no {runbook}");
        let page = read(runbook);
        for heading in ["Meaning", "Impact", "Diagnosis", "Mitigation"] {
            assert!(page.contains(&format!("**{heading}.**")), "{runbook}: no **{heading}.**");
        }
    }
    assert!(alerts >= 15, "{alerts} alerts");
}
