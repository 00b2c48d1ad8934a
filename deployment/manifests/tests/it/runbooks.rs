//! Runbooks name paths and objects that exist; their queries are checked with all others.

use manifests::queries::files;
use manifests::{read, root};

/// Made by KEDA's own chart.
const OF_OTHERS: &str = "keda-operator";
/// What stands before an object's name in a command.
const BEFORE_NAMES: [&str; 5] = ["hpa", "scaledobject", "exec", "-i", "logs"];

/// Everything that follows `start`, each up to a character that no name has.
fn after<'a>(text: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    let is_end = |letter: char| letter.is_whitespace() || "`'\"?|&),".contains(letter);
    text.split(start).skip(1).filter_map(move |rest| rest.split(is_end).next())
}

fn is_path(path: &str) -> bool {
    let (web, management) = (web_server::routes::successes(), management_api::routes::successes());
    web.into_iter().chain(management).any(|(_, route, _)| route == path)
}

/// Whether it is a workload of ours, a pod of one, or left to the reader: `POD`, `NAME`.
fn is_workload(name: &str) -> bool {
    let folder = root().join("deployment").join(name.trim_end_matches("-0"));
    let is_ours = ["deployment.yaml", "statefulset.yaml"].iter().any(|file| folder.join(file).exists());
    is_ours || name == OF_OTHERS || name.chars().all(|letter| letter.is_ascii_uppercase())
}

/// The objects that a command of kubectl works on.
fn objects(command: &str) -> Vec<&str> {
    let words: Vec<_> = command.split_whitespace().collect();
    let by_kind = words.iter().filter_map(|word| word.split_once('/'));
    let by_kind = by_kind.filter(|(kind, _)| ["deployment", "statefulset"].contains(kind)).map(|(_, name)| name);
    let by_place = words.windows(2).filter(|pair| BEFORE_NAMES.contains(&pair[0])).map(|pair| pair[1]);
    by_kind.chain(by_place.filter(|name| !name.starts_with('-') && !name.contains('/'))).collect()
}

fn mistakes(text: &str) -> Vec<String> {
    let told = after(text, "`/").map(|path| format!("/{path}"));
    let asked = after(text, "http://localhost:9090").map(str::to_owned);
    let paths = told.chain(asked).filter(|path| !is_path(path)).map(|path| format!("there is no path {path}"));
    let commands = text.split("kubectl ").skip(1).filter_map(|rest| rest.split(['`', '|', '\n']).next());
    let names = commands.flat_map(objects).chain(after(text, "-l app="));
    let names = names.filter(|name| !is_workload(name)).map(|name| format!("there is no workload {name}"));
    paths.chain(names).collect()
}

#[test]
fn every_path_and_object_exists() {
    let files = files("grafana/runbooks", "md");
    assert!(files.len() > 10, "{files:?}");
    let found =
        files.iter().flat_map(|file| mistakes(&read(file)).into_iter().map(move |found| format!("{file}: {found}")));
    let found: Vec<_> = found.collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    for wrong in [
        "`/healthz` tells",
        "curl -s http://localhost:9090/ready",
        "kubectl -n purchase-system logs -l app=web-server --tail=50",
        "`kubectl -n purchase-system rollout restart deployment/management-api`",
        "kubectl -n purchase-system exec -i kafka-broker-0 -c kafka -- df",
        "kubectl -n purchase-system describe hpa web-server",
    ] {
        assert_eq!(mistakes(wrong).len(), 1, "{wrong}: {:?}", mistakes(wrong));
    }
}
