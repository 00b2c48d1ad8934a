//! Gets Apache Kafka and PostgreSQL by Maven into a folder of the build, once; and what the files for a cluster and the receivers of
//! callbacks are checked with.

mod cluster;
mod receivers;
mod tools;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

pub use cluster::{ClusterTools, cluster_tools, keda, prometheus, prometheus_operator, schema_validator};
pub use receivers::{node, python_with_cryptography};
pub use tools::{JAVA, MAVEN, TAR, Tool, XZ, java, require};

use crate::{
    error::{Doing, Result, StackError},
    folder::cache_folder,
};

const KAFKA_POM: &str = include_str!("../../kafka/pom.xml");
const POSTGRES_POM: &str = include_str!("../../postgres/pom.xml");

/// The version of Apache Kafka that [`kafka`] installs.
pub fn kafka_version() -> &'static str {
    property(KAFKA_POM, "kafka.version")
}

/// The version of PostgreSQL that [`postgres`] installs, as its jar is numbered.
pub fn postgres_version() -> &'static str {
    property(POSTGRES_POM, "postgres.version")
}

/// Checks that what is needed from now on is there: Java always, the rest only for what is not installed yet.
///
/// # Errors
/// One error that names every missing tool.
pub fn check_tools() -> Result<()> {
    let cache = cache_folder()?;
    let mut tools = vec![JAVA];
    let has_postgres = cache.join(postgres_name()?).is_dir();
    if !has_postgres || !cache.join(kafka_name()).is_dir() {
        tools.push(MAVEN);
    }
    if !has_postgres {
        tools.extend([TAR, XZ]);
    }
    require(&tools)
}

/// The folder with Apache Kafka's jars, for a class path of `FOLDER/*`.
///
/// # Errors
/// When Java 17 or Maven is missing, or a download fails.
pub fn kafka() -> Result<PathBuf> {
    once(&kafka_name(), |folder| {
        require(&[JAVA, MAVEN])?;
        let pom = write_pom(folder, KAFKA_POM)?;
        maven(&pom, "dependency:copy-dependencies", &[&format!("-DoutputDirectory={}", folder.display())])
    })
}

/// The folder with PostgreSQL's bin, lib and share.
///
/// # Errors
/// When Maven, tar or xz is missing, a download fails, or there is no PostgreSQL for this kind of processor.
pub fn postgres() -> Result<PathBuf> {
    let platform = postgres_platform()?;
    once(&postgres_name()?, |folder| {
        require(&[JAVA, MAVEN, TAR, XZ])?;
        let pom = write_pom(folder, POSTGRES_POM)?;
        let jar = folder.join("jar");
        let properties = [format!("-Dpostgres.platform={platform}"), format!("-DoutputDirectory={}", jar.display())];
        maven(&pom, "dependency:unpack-dependencies", &[&properties[0], &properties[1]])?;
        let archive = find(&jar, ".txz")?;
        run("tar", Command::new("tar").arg("-xJf").arg(&archive).arg("-C").arg(folder))?;
        fs::remove_dir_all(&jar).doing(format!("removing {}", jar.display()))
    })
}

fn kafka_name() -> String {
    format!("kafka-{}", kafka_version())
}

fn postgres_name() -> Result<String> {
    Ok(format!("postgres-{}-{}", postgres_version(), postgres_platform()?))
}

/// Fills a folder of the cache exactly once, also when two programs ask at the same time.
fn once(name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let cache = cache_folder()?;
    let finished = cache.join(name);
    if finished.is_dir() {
        return Ok(finished);
    }
    let lock_path = cache.join("install.lock");
    let lock = File::create(&lock_path).doing(format!("making {}", lock_path.display()))?;
    lock.lock().doing(format!("locking {}", lock_path.display()))?;
    if finished.is_dir() {
        return Ok(finished);
    }
    eprintln!("installing {name} (once, into {})", finished.display());
    // Renamed when complete: a folder with the final name is never half full, whenever we are killed.
    let unfinished = cache.join(format!("{name}.unfinished"));
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).doing(format!("removing {}", unfinished.display()))?;
    }
    fs::create_dir(&unfinished).doing(format!("making {}", unfinished.display()))?;
    fill(&unfinished)?;
    fs::rename(&unfinished, &finished).doing(format!("renaming {}", unfinished.display()))?;
    Ok(finished)
}

fn write_pom(folder: &Path, pom: &str) -> Result<PathBuf> {
    let path = folder.join("pom.xml");
    fs::write(&path, pom).doing(format!("writing {}", path.display()))?;
    Ok(path)
}

/// Runs one goal: quiet, never asking, refusing files whose checksum is wrong.
fn maven(pom: &Path, goal: &str, properties: &[&str]) -> Result<()> {
    let mut command = Command::new(MAVEN.program);
    command.args(["--quiet", "--batch-mode", "--strict-checksums", "--file"]).arg(pom).arg(goal).args(properties);
    run(&format!("mvn {goal}"), &mut command)
}

fn run(what: &str, command: &mut Command) -> Result<()> {
    let output = command.output().doing(format!("starting {what}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Err(StackError::Refused(format!("{what} failed ({}):\n{said}", output.status)))
}

/// The first file below a folder whose name ends so.
fn find(folder: &Path, end: &str) -> Result<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).doing(format!("listing {}", next.display()))?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(end) {
                return Ok(path);
            }
        }
    }
    Err(StackError::Refused(format!("there is no {end} in {}", folder.display())))
}

/// The middle part of the artifact's name for this machine.
fn postgres_platform() -> Result<&'static str> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Ok("linux-amd64"),
        ("linux", "aarch64") => Ok("linux-arm64v8"),
        (system, processor) => Err(StackError::Refused(format!(
            "the stack runs on Linux on x86_64 and aarch64 only, this is {system} on {processor}"
        ))),
    }
}

/// A property's value in a pom of ours; the poms are the one place that holds versions.
fn property(pom: &'static str, name: &str) -> &'static str {
    let value = pom.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once('<'));
    value.map_or("unknown", |(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_the_poms() {
        assert!(kafka_version().starts_with("4."), "{}", kafka_version());
        assert!(postgres_version().starts_with("18."), "{}", postgres_version());
    }
}
