//! The invariants of the code's structure, held by looking at the code.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Files below `folder` whose names end with `ending`, with their text.
fn files(folder: &Path, ending: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "data" {
                found.extend(files(&path, ending));
            }
        } else if name.ends_with(ending) {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

fn names(found: Vec<(PathBuf, String)>, text: &str) -> Vec<String> {
    let root = root();
    let hits = found.into_iter().filter(|(_, content)| content.contains(text));
    let mut names: Vec<_> =
        hits.map(|(path, _)| path.strip_prefix(&root).unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn only_shared_knows_rdkafka() {
    let manifests =
        files(&root(), "Cargo.toml").into_iter().filter(|(path, _)| path.parent() != Some(&root())).collect();
    assert_eq!(names(manifests, "\nrdkafka"), ["shared/Cargo.toml"]);
}

#[test]
fn sql_stands_only_in_the_store() {
    for service in ["shared", "web-server", "management-api", "deployment/embedded"] {
        for name in names(files(&root().join(service), ".rs"), concat!("sql", "x::")) {
            // The contract suite of the store breaks its database from outside.
            let allowed = ["management-api/src/store/", "management-api/tests/it/store_contract/"];
            assert!(allowed.iter().any(|folder| name.starts_with(folder)), "{name} uses SQL");
        }
    }
}

#[test]
fn unsafe_code_stands_only_where_librdkafka_and_the_allocator_are_called() {
    for service in ["shared/src", "web-server/src", "management-api/src", "deployment/embedded/src"] {
        for name in names(files(&root().join(service), ".rs"), concat!("unsa", "fe {")) {
            let allowed = ["shared/src/kafka/sys/", "management-api/src/memory.rs"];
            assert!(allowed.iter().any(|place| name.starts_with(place)), "{name}");
        }
    }
}

#[test]
fn services_do_not_depend_on_each_other() {
    let manifest = |name: &str| fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
    assert!(!manifest("web-server").contains("management-api"));
    assert!(!manifest("management-api").contains("web-server"));
}

/// A service's modules from the bottom up; each may name those of the rows above its own.
const WEB_SERVER: [&[&str]; 10] = [
    &["cors", "metrics"],
    &["limits", "management_client", "publisher", "read_cache", "shedding"],
    &["callbacks", "events", "status", "tokens"],
    &["api_keys"],
    &["access"],
    &["config"],
    &["state"],
    &["routes"],
    &["app"],
    &["command"],
];
/// As above.
const MANAGEMENT_API: [&[&str]; 10] = [
    &["letter", "metrics", "memory", "planted"],
    &["store"],
    &["accounts", "callbacks", "commits", "dead_letters", "waiters"],
    &["ingest"],
    &["partitions"],
    &["config"],
    &["state"],
    &["routes"],
    &["app"],
    &["command"],
];

/// The modules of a service that are named in a text.
fn named_modules(text: &str) -> impl Iterator<Item = &str> {
    text.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|letter: char| !letter.is_ascii_lowercase() && letter != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn modules_name_only_those_below_them() {
    for (service, rows) in [("web-server", WEB_SERVER.as_slice()), ("management-api", MANAGEMENT_API.as_slice())] {
        let source = root().join(service).join("src");
        let row_of = |module: &str| rows.iter().position(|row| row.contains(&module));
        for (path, text) in files(&source, ".rs") {
            let place = path.strip_prefix(&source).unwrap().with_extension("");
            let module = place.iter().next().unwrap().to_string_lossy().into_owned();
            if ["lib", "main"].contains(&module.as_str()) {
                continue;
            }
            let row =
                row_of(&module).unwrap_or_else(|| panic!("give {service}'s module {module} a place in the order here"));
            for named in named_modules(&text).filter(|named| *named != module) {
                assert!(
                    row_of(named).is_some_and(|other| other < row),
                    "{service}: {module} names {named}, which is not below it. What both need goes into a module below \
                     both; what {named} knows and {module} must do comes as an argument ({})",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn paths_in_the_documents_exist() {
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let quoted = text.split('`').skip(1).step_by(2);
        let is_path = |name: &&str| {
            let first = name.split('/').next().unwrap_or_default();
            let ours = ["shared", "web-server", "management-api", "deployment", "keda", "grafana"].contains(&first);
            ours && name.contains('/') && !name.contains(['*', '{', ' ', '<'])
        };
        for path in quoted.filter(is_path) {
            assert!(root().join(path).exists(), "{document} names {path}, which is not there");
        }
    }
}

/// It is tried in tests on callbacks as they are sent.
#[test]
fn the_readme_quotes_the_code_of_receivers_as_it_is() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for file in ["verify.py", "verify.mjs", "verify.rs"] {
        let code = fs::read_to_string(root().join("deployment/callbacks").join(file)).unwrap();
        assert!(readme.contains(&format!("\n{}\n```", code.trim_end())), "README.md must quote {file}");
    }
}

#[test]
fn every_dependency_is_used_by_its_crate() {
    let deployment = ["deployment/embedded", "deployment/stack", "deployment/benchmark"];
    for crate_folder in ["shared", "web-server", "management-api"].into_iter().chain(deployment) {
        let manifest = fs::read_to_string(root().join(crate_folder).join("Cargo.toml")).unwrap();
        let code: String = files(&root().join(crate_folder), ".rs").into_iter().map(|(_, text)| text).collect();
        let mut in_dependencies = false;
        for line in manifest.lines() {
            if line.starts_with('[') {
                in_dependencies = line.ends_with("dependencies]");
            }
            let Some((name, _)) = line.split_once(['.', ' ']).filter(|_| in_dependencies) else { continue };
            let identifier = name.replace('-', "_");
            assert!(
                code.contains(&format!("{identifier}::")) || code.contains(&format!("use {identifier}")),
                "{crate_folder} does not use {name}"
            );
        }
    }
}

#[test]
fn files_stay_small() {
    for (path, text) in files(&root(), ".rs") {
        let lines = text.lines().count();
        assert!(lines <= 400, "{} has {lines} lines: part it", path.display());
    }
}
