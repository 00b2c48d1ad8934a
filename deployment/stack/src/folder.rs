//! Where things are kept: the build's own folders, and one folder for each run of a test or benchmark.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use crate::{
    error::{Doing, Result, StackError},
    process::ProcessId,
};

/// Present in the folder of a run that failed: it is kept for its reader.
const KEPT: &str = "KEPT";

/// The folder of the executables of this build, such as target/release.
///
/// # Errors
/// When the operating system does not tell where this program is.
pub fn profile_folder() -> Result<PathBuf> {
    let program = std::env::current_exe().doing("finding this program's own file")?;
    let folder = program.parent().ok_or_else(|| StackError::Refused(format!("{} has no folder", program.display())))?;
    // Tests and benchmarks live one level deeper than programs.
    let is_deps = folder.file_name().is_some_and(|name| name == "deps");
    let profile = if is_deps { folder.parent().unwrap_or(folder) } else { folder };
    Ok(profile.to_owned())
}

/// What this crate keeps beside the build, target/stack: downloads and the folders of runs.
///
/// # Errors
/// When the folder cannot be made.
pub fn cache_folder() -> Result<PathBuf> {
    let profile = profile_folder()?;
    let folder = profile.parent().unwrap_or(&profile).join("stack");
    fs::create_dir_all(&folder).doing(format!("making {}", folder.display()))?;
    Ok(folder)
}

/// The folder of one test or benchmark run: removed at its end, kept and named when it panics.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes an empty folder, and removes those of runs that were killed before they could.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(name: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let runs = cache_folder()?.join("runs");
        fs::create_dir_all(&runs).doing(format!("making {}", runs.display()))?;
        remove_abandoned(&runs);
        let own = ProcessId::own();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = runs.join(format!("{name}.{count}.{}.{}", own.started, own.pid));
        fs::create_dir(&path).doing(format!("making {}", path.display()))?;
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a folder in it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn subfolder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).doing(format!("making {}", path.display()))?;
        Ok(path)
    }

    /// Keeps it for its reader, because something failed that it shows.
    pub fn keep(&self) {
        let _ = fs::write(self.path.join(KEPT), "kept because its run failed; remove it when read\n");
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if thread::panicking() {
            self.keep();
        }
        if self.path.join(KEPT).exists() {
            eprintln!("the logs and data of the failed run are kept in {}", self.path.display());
        } else if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("removing {}: {error}", self.path.display());
        }
    }
}

/// Removes folders whose program is gone without having kept them on purpose.
fn remove_abandoned(runs: &Path) {
    let Ok(entries) = fs::read_dir(runs) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let owner = path.file_name().and_then(|name| name.to_str()).and_then(owner_of);
        let abandoned = owner.is_some_and(|owner| !owner.is_alive()) && !path.join(KEPT).exists();
        if abandoned {
            // Another run may be removing it too.
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// The program that made a folder named NAME.COUNT.STARTED.PID.
fn owner_of(folder_name: &str) -> Option<ProcessId> {
    let mut parts = folder_name.rsplit('.');
    let pid = parts.next()?.parse().ok()?;
    let started = parts.next()?.parse().ok()?;
    Some(ProcessId { pid, started })
}
