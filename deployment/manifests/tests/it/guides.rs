//! Guides name files, links and commands that exist.

use std::fs;
use std::path::{Path, PathBuf};

use manifests::{read, root};

/// Folders without guides of ours.
const SKIPPED: [&str; 4] = ["target", "data", "node_modules", ".git"];
/// Beginnings of paths of this repository in commands.
const OUR_FOLDERS: [&str; 3] = ["deployment/", "grafana", "keda/"];

fn guides() -> Vec<PathBuf> {
    let (mut guides, mut folders) = (Vec::new(), vec![root()]);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).expect("a folder").flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !SKIPPED.contains(&&*name) && !name.starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                guides.push(path);
            }
        }
    }
    guides
}

/// The targets of a text's links, without their anchors.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let relative = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    relative.filter_map(|target| target.split('#').next()).collect()
}

/// The lines of the blocks that are commands.
fn commands(text: &str) -> Vec<&str> {
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

fn mistakes(guide: &Path, makefile: &str) -> Vec<String> {
    let text = fs::read_to_string(guide).expect("a guide");
    let folder = guide.parent().expect("a folder");
    let name = guide.strip_prefix(root()).unwrap_or(guide).display();
    let mut found = Vec::new();
    for link in links(&text).into_iter().filter(|link| !folder.join(link).exists()) {
        found.push(format!("{name}: there is no {link}"));
    }
    for command in commands(&text) {
        let words = || command.split_whitespace();
        // `deployment/NAME` alone is an object of Kubernetes, in the words of kubectl.
        let files =
            words().zip(words().skip(1)).filter(|(before, path)| ["-f", "-k"].contains(before) || path.contains('.'));
        let files = files.map(|(_, path)| path).chain(words().take(1)).filter(|path| !path.contains(['*', '|']));
        let ours = files.filter(|path| OUR_FOLDERS.iter().any(|folder| path.starts_with(folder)));
        for path in ours.filter(|path| !root().join(path).exists()) {
            found.push(format!("{name}: {command}: there is no {path}"));
        }
        if let Some(target) = words().skip_while(|word| *word != "make").nth(1) {
            let known = makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
            if !known {
                found.push(format!("{name}: {command}: there is no target {target}"));
            }
        }
    }
    found
}

#[test]
fn every_link_path_and_target_exists() {
    let makefile = read("Makefile");
    let guides = guides();
    assert!(guides.len() > 10, "{guides:?}");
    let found: Vec<_> = guides.iter().flat_map(|guide| mistakes(guide, &makefile)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn links_and_commands_are_seen() {
    assert_eq!(links("[a](b/c.md#d) [e](https://f) [g](#h)"), ["b/c.md"]);
    assert_eq!(commands("x\n```sh\n# no\nmake a\n```\n```json\n{}\n```\n"), ["make a"]);
}
