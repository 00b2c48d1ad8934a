//! Every command that README.md shows is run: by this test, by another one, or by CI.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use stack::RunFolder;

use crate::pipeline::Embedded;

/// Targets of the Makefile that .ci/run does not call, and what runs the same command.
const TARGETS_RUN_ELSEWHERE: [(&str, &str); 10] = [
    ("run", "every test of tests/e2e starts the same binary"),
    ("bench", "starts what tests/stack starts, and takes too long for CI"),
    ("load", "deployment/load/tests/test_runs.py makes the same runs: test-load"),
    ("scale-demo", "tests/stack/scale_out.rs runs the same consumers, and keda/simulator's tests the arithmetic"),
    ("accounts", "tests/stack/local.rs"),
    ("stand-ins", "the stand-ins have tests of their own, and the benchmark reads from them"),
    ("stack-up", "tests/stack/local.rs"),
    ("stack-status", "tests/stack/local.rs"),
    ("stack-down", "tests/stack/local.rs"),
    ("help", "the_targets_explain_themselves"),
];
/// First words of lines that are run here, as one script for each block.
const RUN_HERE: [&str; 4] = ["curl", "hey", "management-api", "target/release/management-api"];
/// What a machine for `make test` need not have; .ci/run installs both.
const MAY_BE_MISSING: [&str; 2] = ["curl", "hey"];
const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// First words of lines that put the reader where the next line runs.
const NOT_RUN: [&str; 3] = ["git", "cd", "sudo"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace's root").to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The commands of each ```sh block: without comments and prompts, continued lines joined.
fn blocks(markdown: &str) -> Vec<Vec<String>> {
    let mut blocks = Vec::new();
    let mut open: Option<Vec<String>> = None;
    for line in markdown.lines().map(str::trim) {
        match &mut open {
            None if line == "```sh" => open = Some(Vec::new()),
            None => {}
            Some(_) if line == "```" => blocks.extend(open.take()),
            Some(commands) => {
                let command = line.strip_prefix("$ ").unwrap_or(line);
                match commands.last_mut().filter(|last| last.ends_with('\\')) {
                    Some(last) => {
                        last.pop();
                        last.push_str(command);
                    }
                    None if command.is_empty() || command.starts_with('#') => {}
                    None => commands.push(command.to_owned()),
                }
            }
        }
    }
    blocks
}

/// The first word that is no assignment, or the one whose answer is assigned.
fn program(command: &str) -> &str {
    let called = |word| match assigned(word) {
        Some(value) => value.strip_prefix("$("),
        None => Some(word),
    };
    command.split_whitespace().find_map(called).unwrap_or_default()
}

/// What a word assigns, if it does.
fn assigned(word: &str) -> Option<&str> {
    let (name, value) = word.split_once('=')?;
    name.bytes().all(|it| it.is_ascii_uppercase() || it == b'_').then_some(value)
}

/// A target is run by CI if .ci/run calls it or one that needs it.
fn run_by_ci(target: &str, makefile: &str, ci: &str) -> bool {
    let called = |name: &str| {
        ci.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().windows(2).any(|pair| pair == ["make", name]))
    };
    let needed_by = |line: &str| {
        let (name, needs) = line.split_once(':')?;
        let needs = needs.split('#').next().unwrap_or_default();
        needs.split_whitespace().any(|need| need == target).then(|| name.to_owned())
    };
    called(target)
        || makefile
            .lines()
            .filter(|line| !line.starts_with(['\t', '.']))
            .filter_map(needed_by)
            .any(|name| called(&name))
}

fn check_make(command: &str, makefile: &str, ci: &str) {
    let words = command.split_whitespace().skip_while(|word| *word != "make").skip(1);
    for target in words.filter(|word| !word.contains('=') && !word.starts_with('#')) {
        assert!(makefile.lines().any(|line| line.starts_with(&format!("{target}:"))), "{command}: no such target");
        let elsewhere = TARGETS_RUN_ELSEWHERE.iter().any(|(name, _)| *name == target);
        assert!(elsewhere || run_by_ci(target, makefile, ci), "{command}: nothing runs it");
    }
}

#[tokio::test]
async fn every_command_of_the_readme_runs() {
    let (readme, makefile, ci) = (read("README.md"), read("Makefile"), read(".ci/run"));
    let blocks = blocks(&readme);
    assert!(!blocks.is_empty(), "README.md shows no ```sh block");
    let mut scripts = Vec::new();
    for block in blocks {
        let mut script = Vec::new();
        for command in block {
            match program(&command) {
                "" => script.push(command),
                "make" => check_make(&command, &makefile, &ci),
                name if RUN_HERE.contains(&name) => script.push(command),
                name => assert!(
                    NOT_RUN.contains(&name) || name == "apt-get",
                    "nothing runs this line of README.md: {command}"
                ),
            }
        }
        scripts.push(script.join("\n"));
    }
    let embedded = Embedded::start("readme").await;
    let folder = RunFolder::new("readme-home").expect("a folder");
    // An answer of 4xx or 5xx is a failure of the command.
    fs::write(folder.path().join(".curlrc"), "fail-with-body\nsilent\nshow-error\n").expect("a file");
    for script in scripts.iter().filter(|script| !script.is_empty()) {
        match script.lines().map(program).find(|program| MAY_BE_MISSING.contains(program) && !is_installed(program)) {
            Some(missing) => eprintln!("not run, because {missing} is not installed here: {script}"),
            None => run(script, &embedded, folder.path()),
        }
    }
}

fn is_installed(program: &str) -> bool {
    SYSTEM_PATH.split(':').any(|folder| Path::new(folder).join(program).is_file())
}

fn run(script: &str, embedded: &Embedded, home: &Path) {
    let doors = embedded.doors();
    let programs = stack::folder::profile_folder().expect("a folder");
    let port = |url: String| url.rsplit_once(':').map(|(_, port)| port.to_owned()).expect("a port");
    let mapped = script
        .replace("30080", &port(doors.web("")))
        .replace("30081", &port(doors.management("")))
        .replace("target/release/", &format!("{}/", programs.display()));
    let path = [programs.display().to_string(), SYSTEM_PATH.to_owned()].join(":");
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &mapped])
        .env_clear()
        .envs([("PATH", path.as_str()), ("HOME", home.to_str().expect("UTF-8"))])
        .env("CURL_HOME", home)
        .env("KAFKA_BOOTSTRAP_SERVERS", &doors.kafka.bootstrap_servers)
        .current_dir(root())
        .output()
        .expect("bash can be started");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{script}\n{said}");
    // hey ends with 0 whatever it got.
    let is_failure = |line: &str| {
        line.starts_with("Error distribution")
            || ["[4", "[5"].iter().any(|status| line.trim_start().starts_with(status) && line.ends_with(" responses"))
    };
    assert!(!said.lines().any(is_failure), "{script}\n{said}");
}

#[test]
fn the_targets_explain_themselves() {
    let output = Command::new("make").current_dir(root()).output().expect("make can be started");
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in read("Makefile").lines().filter(|line| line.starts_with(".PHONY: ")) {
        let target = line.trim_start_matches(".PHONY: ");
        assert!(help.contains(&format!("make {target} ")), "{target} is not explained:\n{help}");
    }
}

#[test]
fn commands_are_found_in_blocks_only() {
    let markdown = "run `make x`\n```sh\n# first\n$ make run\ncurl -X POST \\\n  -d '{}' \\\n  http://x/buy\n\nA=1 curl y\n```\n```json\n{}\n```\n";
    assert_eq!(blocks(markdown), [["make run", "curl -X POST -d '{}' http://x/buy", "A=1 curl y"]]);
    assert_eq!(program("A=1 B_C=2 curl y"), "curl");
    assert_eq!(program("ID=7"), "");
    assert_eq!(program("A=1 ID=$(curl y)"), "curl");
}

#[test]
fn a_target_that_ci_reaches_counts_as_run() {
    let makefile = "test: format lint ## all\nformat: ## x\nbench: build\n";
    let ci = "step make test\n";
    assert!(run_by_ci("test", makefile, ci) && run_by_ci("lint", makefile, ci));
    assert!(!run_by_ci("bench", makefile, ci) && !run_by_ci("build", makefile, ci));
}
