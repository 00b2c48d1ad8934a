//! Makes the data folder, as a user who may not be ours.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
};

use super::{Postgres, START_DEADLINE, UNPRIVILEGED_ID, USER, secret};
use crate::{
    error::{Doing, Result, StackError},
    process::{Lifetime, Process, is_root},
};

/// Runs `initdb`. The folder gets its final name when it is complete, so that an interrupted start is simply repeated.
pub(super) async fn create(server: &Postgres) -> Result<()> {
    let unfinished = server.folder.join("data.unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).doing(format!("removing {}", unfinished.display()))?;
    }
    fs::create_dir(&unfinished).doing(format!("making {}", unfinished.display()))?;
    let only_owner = fs::Permissions::from_mode(0o700);
    fs::set_permissions(&unfinished, only_owner).doing(format!("closing {}", unfinished.display()))?;
    // initdb reads it as the server's user, who may not read ours.
    let password_file = server.folder.join("initdb-password");
    secret::write(&password_file, &server.password)?;
    if is_root() {
        for path in [&unfinished, &password_file] {
            chown(path, Some(UNPRIVILEGED_ID), Some(UNPRIVILEGED_ID)).doing(format!("chown {}", path.display()))?;
        }
    }
    let mut command = server.command("initdb");
    command.arg("-D").arg(&unfinished).args(["-U", USER, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]);
    command.arg("--pwfile").arg(&password_file);
    let log = server.folder.join("initdb.log");
    let mut initdb = Process::spawn("initdb", command, &log, Lifetime::WithParent)?;
    let status = initdb.wait_exit(START_DEADLINE).await?;
    fs::remove_file(&password_file).doing(format!("removing {}", password_file.display()))?;
    if !status.success() {
        return Err(initdb.failure(format!("failed ({status})")));
    }
    fs::rename(&unfinished, server.data()).doing(format!("renaming {}", unfinished.display()))
}

/// The server's user must be able to enter every folder on the way to its files.
pub(super) fn check_enterable(folder: &Path) -> Result<()> {
    const OTHERS_MAY_ENTER: u32 = 0o001;
    for part in folder.ancestors() {
        let mode = fs::metadata(part).doing(format!("looking at {}", part.display()))?.mode();
        if mode & OTHERS_MAY_ENTER == 0 {
            return Err(StackError::Refused(format!(
                "PostgreSQL does not run as root, and the user nobody (id {UNPRIVILEGED_ID}) may not enter {part}: \
                 run this as another user, or `chmod o+x {part}`, or put the build elsewhere with CARGO_TARGET_DIR",
                part = part.display()
            )));
        }
    }
    Ok(())
}
