//! The key of access tokens, for replicas that are to have the same.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::Command,
};

use super::Program;
use crate::error::{Doing as _, Result, StackError};

/// Has management-api make a key, readable by its owner alone, unless there is one.
///
/// # Errors
/// When the program is not built, or the file cannot be written.
pub fn make_signing_key(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let executable = Program::ManagementApi.executable()?;
    let made = Command::new(&executable).args(["signing-keys", "new"]).env_clear().output();
    let made = made.doing(format!("running {}", executable.display()))?;
    if !made.status.success() {
        return Err(StackError::Refused(String::from_utf8_lossy(&made.stderr).into_owned()));
    }
    write_for_owner(path, &made.stdout).doing(format!("writing {}", path.display()))
}

fn write_for_owner(path: &Path, content: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(content)
}
