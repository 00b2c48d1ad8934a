//! What the images are built from.

use manifests::read;
use regex::Regex;

/// What stands between two texts.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    text.split_once(before).and_then(|(_, rest)| rest.split_once(after)).map_or("", |(found, _)| found)
}

#[test]
fn the_images_are_built_with_the_toolchain_of_the_repository() {
    let channel = read("rust-toolchain.toml");
    let channel = between(&channel, "channel = \"", "\"");
    let dockerfile = read("deployment/docker/Dockerfile");
    let image = between(&dockerfile, "ARG RUST_IMAGE=rust:", "-");
    assert_eq!(image, channel, "deployment/docker/Dockerfile: RUST_IMAGE, expected the channel of rust-toolchain.toml");
}

/// Whether .dockerignore keeps a path out of the build: the last pattern that matches it or a folder above it decides.
fn is_ignored(dockerignore: &str, path: &str) -> bool {
    let mut patterns = dockerignore.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let matches = |pattern: &str| {
        let expression = regex::escape(pattern).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*");
        Regex::new(&format!("^{expression}(/.*)?$")).expect("an expression").is_match(path)
    };
    let deciding = patterns.rfind(|line| matches(line.trim_start_matches('!')));
    deciding.is_some_and(|line| !line.starts_with('!'))
}

/// The folders of crates that the build would not see: without one of them cargo refuses the whole workspace.
fn ignored_members(dockerignore: &str) -> Vec<String> {
    let manifest = read("Cargo.toml");
    let members: Vec<_> = between(&manifest, "members = [", "]").split('"').skip(1).step_by(2).collect();
    assert!(members.len() > 4, "{members:?}");
    let files = members.iter().flat_map(|member| ["Cargo.toml", "src/lib.rs"].map(|file| format!("{member}/{file}")));
    files.filter(|file| is_ignored(dockerignore, file)).collect()
}

#[test]
fn every_crate_reaches_the_build_of_the_images() {
    let dockerignore = read(".dockerignore");
    let ignored = ignored_members(&dockerignore);
    assert!(ignored.is_empty(), ".dockerignore: {ignored:?} are ignored, expected every crate to be seen");
    for path in ["Cargo.lock", "rust-toolchain.toml", "management-api/migrations"] {
        assert!(!is_ignored(&dockerignore, path), ".dockerignore: expected {path} to be seen");
    }
    for path in [".git/config", "target/debug", "shared/target", "data/purchases.db", "deployment/docker/Dockerfile"] {
        assert!(is_ignored(&dockerignore, path), ".dockerignore: expected {path} to be ignored");
    }
}

#[test]
fn a_crate_that_is_ignored_is_found() {
    let text = "# deployment\ndeployment/*\n!deployment/benchmark\n!deployment/embedded\n!deployment/manifests\n";
    assert_eq!(ignored_members(text), ["deployment/stack/Cargo.toml", "deployment/stack/src/lib.rs"]);
    let text = format!("{text}!deployment/stack\n**/src\n!*/src\n!deployment/*/src\n");
    assert_eq!(ignored_members(&text), ["keda/simulator/src/lib.rs"]);
}
