//! Renders overlays and the chart with the programs that users have.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::{Value, json};
use stack::{RunFolder, install::cluster_tools};

use crate::{object::Object, root, yaml};

/// Every overlay that is shipped.
pub const OVERLAYS: [&str; 4] = ["cpu", "http", "keda", "production"];
/// Written by kustomize on request: the file that an object came from.
const ORIGIN: &str = "config.kubernetes.io/origin";
/// Written by helm before each object.
const SOURCE: &str = "# Source: purchase-pipeline/";

/// The objects of a shipped overlay, such as `keda`, rendered once for all tests of a program.
///
/// # Panics
/// When there is none of this name, or it does not render: with what kubectl said.
pub fn overlay(name: &str) -> Vec<Object> {
    static RENDERED: [OnceLock<Vec<Object>>; OVERLAYS.len()] = [const { OnceLock::new() }; OVERLAYS.len()];
    let index = OVERLAYS.iter().position(|overlay| *overlay == name);
    let rendered = &RENDERED[index.unwrap_or_else(|| panic!("there is no overlay {name}"))];
    rendered.get_or_init(|| kustomize(&[&format!("deployment/overlays/{name}")], &[])).clone()
}

/// The objects of these folders and components, given from the root of the workspace.
///
/// # Panics
/// When they do not render: with what kubectl said.
pub fn kustomize(resources: &[&str], components: &[&str]) -> Vec<Object> {
    let folder = RunFolder::new("kustomize").unwrap_or_else(|error| panic!("{error}"));
    let up = relative(folder.path(), &root());
    let entries = |paths: &[&str]| paths.iter().map(|path| format!("{up}/{path}")).collect::<Vec<_>>();
    let (resources, components) = (entries(resources), entries(components));
    // JSON is YAML.
    let text = json!({"resources": resources, "components": components, "buildMetadata": ["originAnnotations"]});
    fs::write(folder.path().join("kustomization.yaml"), text.to_string()).unwrap_or_else(|error| panic!("{error}"));
    let tools = cluster_tools().unwrap_or_else(|error| panic!("{error}"));
    let rendered = output(Command::new(tools.kubectl).arg("kustomize").arg(folder.path()));
    let documents = yaml::parse(&rendered).unwrap_or_else(|error| panic!("{resources:?}: {error}"));
    documents.into_iter().map(|value| with_origin(value, &up)).collect()
}

/// The chart's objects with the values of an overlay.
///
/// # Panics
/// When it does not render: with what helm said.
pub fn chart(overlay: &str) -> Vec<Object> {
    chart_with(&["-f", &format!("deployment/helm/values-{overlay}.yaml")]).unwrap_or_else(|said| panic!("{said}"))
}

/// The chart's objects with these arguments, or what helm said against them.
///
/// # Errors
/// Helm's complaint.
///
/// # Panics
/// When helm cannot be had.
pub fn chart_with(arguments: &[&str]) -> Result<Vec<Object>, String> {
    let tools = cluster_tools().unwrap_or_else(|error| panic!("{error}"));
    let mut command = Command::new(tools.helm);
    command.args(["template", "purchase-pipeline", "deployment/helm", "--namespace", "purchase-system"]);
    let rendered = try_output(command.args(arguments).current_dir(root()))?;
    let mut objects = Vec::new();
    for document in rendered.split("\n---\n") {
        let source = document.lines().find_map(|line| line.strip_prefix(SOURCE)).unwrap_or_default();
        let file = format!("deployment/helm/{source}");
        let values = yaml::parse(document).map_err(|error| format!("{file}: {error}"))?;
        objects.extend(values.into_iter().map(|value| Object { file: file.clone(), value }));
    }
    Ok(objects)
}

/// An object by its kind and name.
///
/// # Panics
/// When it is not among them.
pub fn find<'a>(objects: &'a [Object], kind: &str, name: &str) -> &'a Object {
    let found = objects.iter().find(|object| object.kind() == kind && object.name() == name);
    found.unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

fn with_origin(mut value: Value, up: &str) -> Object {
    let annotations = value.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    let origin = annotations.and_then(|annotations| annotations.remove(ORIGIN));
    let text = origin.as_ref().and_then(Value::as_str).unwrap_or_default();
    let path = text.lines().find_map(|line| line.strip_prefix("path: ")).unwrap_or_default();
    let file = path.trim_start_matches(up).trim_start_matches('/').to_owned();
    if let Some(metadata) = value.pointer_mut("/metadata").and_then(Value::as_object_mut)
        && metadata.get("annotations").is_some_and(|annotations| *annotations == json!({}))
    {
        metadata.remove("annotations");
    }
    Object { file, value }
}

/// The way from one folder to another: kustomize takes no absolute paths.
fn relative(from: &Path, to: &Path) -> String {
    let absolute = |path: &Path| -> io::Result<PathBuf> { path.canonicalize() };
    let (from, to) = match (absolute(from), absolute(to)) {
        (Ok(from), Ok(to)) => (from, to),
        (from, to) => panic!("{from:?} {to:?}"),
    };
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let ups = from.components().skip(common).map(|_| "..".to_owned());
    let downs = to.components().skip(common).map(|part| part.as_os_str().to_string_lossy().into_owned());
    ups.chain(downs).collect::<Vec<_>>().join("/")
}

fn output(command: &mut Command) -> String {
    try_output(command).unwrap_or_else(|said| panic!("{said}"))
}

fn try_output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}
