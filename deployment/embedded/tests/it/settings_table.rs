//! The README's table of settings is the code's.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use embedded::settings::EmbeddedConfig;
use shared::config::{SettingRow, Settings};

fn rows(read: impl Fn(&mut Settings)) -> Vec<SettingRow> {
    let mut settings = Settings::from_pairs::<String, String>([]);
    read(&mut settings);
    settings.rows().to_vec()
}

/// Every setting once, with the services that read it.
fn table() -> String {
    let services = [
        ("web", rows(|settings| drop(web_server::Config::read(settings)))),
        ("api", rows(|settings| drop(management_api::config::Config::read(settings)))),
        ("embedded", rows(|settings| drop(EmbeddedConfig::read(settings)))),
    ];
    let mut names: BTreeMap<&str, (Vec<&str>, Vec<String>, &str)> = BTreeMap::new();
    for (service, rows) in services {
        for SettingRow { name, default, help } in rows {
            let entry = names.entry(name).or_insert_with(|| (Vec::new(), Vec::new(), help));
            entry.0.push(service);
            if !entry.1.contains(&default) {
                entry.1.push(default);
            }
        }
    }
    let mut table = String::from("| name | default | of | what |\n|---|---|---|---|\n");
    for (name, (services, defaults, help)) in names {
        let _ = writeln!(table, "| `{name}` | {} | {} | {help} |", defaults.join(" / "), services.join(", "));
    }
    table
}

#[test]
fn the_readme_lists_every_setting_as_the_code_has_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = fs::read_to_string(path).unwrap();
    let table = table();
    assert!(readme.contains(&table), "README.md must have this table:\n\n{table}");
}
