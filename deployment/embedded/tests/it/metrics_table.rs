//! The README's table of metrics is what the services export.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// What a scrape of each service shows from its start; tests of their own hold these files against them.
const SCRAPES: [(&str, &str); 2] = [
    ("web", include_str!("../../../../web-server/tests/it/scrape.txt")),
    ("api", include_str!("../../../../management-api/tests/it/scrape.txt")),
];
/// Of every process, in a row together.
const OF_PROCESSES: &str = "process_";

#[derive(Default)]
struct Family<'a> {
    kind: &'a str,
    labels: BTreeSet<&'a str>,
    services: Vec<&'a str>,
    helps: Vec<&'a str>,
}

/// The names of the labels of a series, but for those of buckets.
fn labels(series: &str) -> impl Iterator<Item = &str> {
    let inside = series.split_once('{').map_or("", |(_, labels)| labels);
    let names = inside.split("=\"").filter_map(|part| part.rsplit(['"', ',']).next());
    names.filter(|name| !name.is_empty() && !["le", "}"].contains(name))
}

fn families() -> BTreeMap<&'static str, Family<'static>> {
    let mut families: BTreeMap<_, Family<'_>> = BTreeMap::new();
    for (service, scrape) in SCRAPES {
        for line in scrape.lines() {
            if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
                let family = families.entry(name).or_default();
                family.services.push(service);
                if !family.helps.contains(&help) {
                    family.helps.push(help);
                }
            }
        }
        for line in scrape.lines() {
            if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                families.entry(name).or_default().kind = kind;
            } else if !line.starts_with('#') {
                let name = line.split('{').next().unwrap_or_default();
                let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|part| name.strip_suffix(part));
                let name = parts.into_iter().find(|name| families.contains_key(name)).unwrap_or(name);
                families.entry(name).or_default().labels.extend(labels(line));
            }
        }
    }
    families
}

fn table() -> String {
    let mut table = String::from("| metric | kind | labels | of | what |\n|---|---|---|---|---|\n");
    for (name, family) in families().iter().filter(|(name, _)| !name.starts_with(OF_PROCESSES)) {
        let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let (labels, services, helps) = (labels.join(", "), family.services.join(", "), family.helps.join(" / "));
        let _ = writeln!(table, "| `{name}` | {} | {labels} | {services} | {helps} |", family.kind);
    }
    table + "| `process_*` | | | web, api | CPU, memory, file descriptors, threads, start. |\n"
}

#[test]
fn the_readme_lists_every_metric_as_the_services_export_it() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md")).unwrap();
    let table = table();
    assert!(families().values().all(|family| !family.services.is_empty() && !family.kind.is_empty()));
    assert!(readme.contains(&table), "README.md must have this table:\n\n{table}");
}

#[test]
fn labels_are_found() {
    let found: Vec<_> = labels(r#"a_total{method="GET",path="/b,c/{d}",status="200",le="1"}"#).collect();
    assert_eq!(found, ["method", "path", "status"]);
}
