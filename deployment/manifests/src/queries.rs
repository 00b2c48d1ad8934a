//! Every PromQL expression that is shipped, and where it stands.

use std::fs;

use serde_json::Value;

use crate::{object::list, read, root, yaml};

/// A window that fits every scrape interval here; dashboards leave it to Grafana.
const WINDOW: &str = "1m";
/// The ScaledObjects.
const SCALED_OBJECTS: [&str; 2] = ["keda/customer-web-server.yaml", "keda/arrival-rate/customer-management-api.yaml"];
/// The values for Prometheus-Adapter, as they are and for `METRICS_HTTP_PREFIX=flask_`.
pub const ADAPTERS: [&str; 2] = [
    "deployment/monitoring/prometheus-adapter-values.yaml",
    "deployment/monitoring/prometheus-adapter-values-flask.yaml",
];

/// An expression.
#[derive(Debug, Clone)]
pub struct Query {
    /// File and place.
    pub source: String,
    /// The expression, with variables replaced.
    pub text: String,
}

/// A recording or alerting rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The file.
    pub file: String,
    /// All of it.
    pub value: Value,
}

/// The files of a folder with this extension, from the root of the workspace, in order.
///
/// # Panics
/// When the folder cannot be read.
pub fn files(folder: &str, extension: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}")).flatten();
    let paths = entries.map(|entry| entry.path());
    let chosen = paths.filter(|path| path.extension().is_some_and(|found| found == extension));
    let name = |path: &std::path::Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut names: Vec<_> = chosen.filter_map(|path| Some(format!("{folder}/{}", name(&path)?))).collect();
    names.sort();
    names
}

/// Every rule for Prometheus.
pub fn rules() -> Vec<Rule> {
    let mut rules = Vec::new();
    for file in files("grafana/alerts", "yaml") {
        for group in list(&yaml::read(&file)["groups"]) {
            rules.extend(list(&group["rules"]).iter().map(|rule| Rule { file: file.clone(), value: rule.clone() }));
        }
    }
    rules
}

/// Every dashboard with its file.
///
/// # Panics
/// When one is no JSON.
pub fn dashboards() -> Vec<(String, Value)> {
    let parse = |file: String| {
        let value = serde_json::from_str(&read(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        (file, value)
    };
    files("grafana/dashboards", "json").into_iter().map(parse).collect()
}

/// Every panel of a dashboard that shows something, also those within rows.
pub fn panels(dashboard: &Value) -> Vec<&Value> {
    let all = list(&dashboard["panels"]).iter().flat_map(|panel| std::iter::once(panel).chain(list(&panel["panels"])));
    all.filter(|panel| panel["type"] != "row").collect()
}

/// The queries of all panels, with every job and namespace chosen.
pub fn panel_queries() -> Vec<Query> {
    let mut queries = Vec::new();
    for (file, dashboard) in dashboards() {
        for panel in panels(&dashboard) {
            for target in list(&panel["targets"]) {
                let title = panel["title"].as_str().unwrap_or_default();
                queries.push(Query { source: format!("{file}: panel {title}"), text: chosen(&target["expr"]) });
            }
        }
    }
    queries
}

fn chosen(expression: &Value) -> String {
    let text = expression.as_str().unwrap_or_default();
    text.replace("$__rate_interval", WINDOW)
        .replace("$__range", WINDOW)
        .replace("$namespace", ".*")
        .replace("$job", ".*")
}

/// The queries of rules.
pub fn rule_queries() -> Vec<Query> {
    let named = |rule: &Rule| {
        let name = rule.value["alert"].as_str().or(rule.value["record"].as_str()).unwrap_or_default().to_owned();
        let text = rule.value["expr"].as_str().unwrap_or_default().to_owned();
        Query { source: format!("{}: {name}", rule.file), text }
    };
    rules().iter().map(named).collect()
}

/// The queries of runbooks: each begins at the left, and goes on in lines that do not.
pub fn runbook_queries() -> Vec<Query> {
    let mut queries: Vec<Query> = Vec::new();
    for file in files("grafana/runbooks", "md") {
        let text = read(&file);
        let blocks = text.split("```promql\n").skip(1).filter_map(|rest| rest.split("```").next());
        for line in blocks.flat_map(str::lines) {
            match queries.last_mut() {
                Some(last) if line.starts_with(' ') => last.text.push_str(line),
                _ => queries.push(Query { source: file.clone(), text: line.to_owned() }),
            }
        }
    }
    queries
}

/// The queries of ScaledObjects.
pub fn scaler_queries() -> Vec<Query> {
    let mut queries = Vec::new();
    for file in SCALED_OBJECTS {
        for (index, trigger) in list(&yaml::read(file)["spec"]["triggers"]).iter().enumerate() {
            if let Some(text) = trigger["metadata"]["query"].as_str() {
                queries.push(Query { source: format!("{file}: /spec/triggers/{index}"), text: text.to_owned() });
            }
        }
    }
    queries
}

/// A rule of Prometheus-Adapter.
#[derive(Debug, Clone)]
pub struct AdapterRule {
    /// Where it stands.
    pub source: String,
    /// The series that it begins with.
    pub series: String,
    /// The metric that it yields.
    pub metric: String,
    /// Its query, as the adapter fills it in for pods of a namespace.
    pub query: String,
    /// All of it.
    pub value: Value,
}

/// The rules in a file of values for the adapter, filled in for all pods of our namespace.
///
/// Templates as in the adapter's pkg/naming: `Series`, `LabelMatchers` (namespace and pods) and `GroupBy` (pod).
pub fn adapter_rules(file: &str) -> Vec<AdapterRule> {
    let values = yaml::read(file);
    let mut rules = Vec::new();
    for (index, rule) in list(&values["rules"]["custom"]).iter().enumerate() {
        let text = |pointer: &str| rule.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let series = series_name(text("/seriesQuery")).to_owned();
        let metric = if text("/name/as").is_empty() { series.clone() } else { text("/name/as").to_owned() };
        let query = text("/metricsQuery")
            .replace("<<.Series>>", &series)
            .replace("<<.LabelMatchers>>", r#"namespace="purchase-system",pod=~".+""#)
            .replace("<<.GroupBy>>", "pod");
        let source = format!("{file}: /rules/custom/{index}");
        rules.push(AdapterRule { source, series, metric, query, value: rule.clone() });
    }
    rules
}

/// The name in `name{…}` or `{__name__="name",…}`.
fn series_name(selector: &str) -> &str {
    match selector.split_once("__name__=\"") {
        Some((_, rest)) => rest.split('"').next().unwrap_or_default(),
        None => selector.split('{').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_series_is_found_in_both_ways_of_writing_it() {
        assert_eq!(series_name(r#"a_total{pod!=""}"#), "a_total");
        assert_eq!(series_name(r#"{__name__="a_total",pod!=""}"#), "a_total");
    }
}
