//! The key of access tokens, for replicas that are to have the same.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::Command,
};

use super::Program;
use crate::error::{Doing as _, Result, StackError};

/// What a whole key ends with.
const END: &str = "-----END PRIVATE KEY-----";

/// Has management-api make a key, readable by its owner alone, unless there is one.
///
/// # Errors
/// When the program is not built, the file cannot be written, or what is there is only a part of a key.
pub fn make_signing_key(path: &Path) -> Result<()> {
    if is_there(path)? {
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

/// Whether there is a key. A part of one is not replaced: whoever has put it there may have the rest.
fn is_there(path: &Path) -> Result<bool> {
    let reading = || format!("reading {}", path.display());
    if !path.try_exists().doing(reading())? {
        return Ok(false);
    }
    if fs::read_to_string(path).doing(reading())?.trim_end().ends_with(END) {
        return Ok(true);
    }
    Err(StackError::Refused(format!("{} is not a whole key: remove it, and a new one is made", path.display())))
}

/// Whole or not at all: half a key would keep every later start from succeeding.
fn write_for_owner(path: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let _ = fs::remove_file(&unfinished);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::RunFolder;

    #[test]
    fn a_key_is_there_whole_or_not_at_all_and_a_part_of_one_is_told() {
        let folder = RunFolder::new("signing-key").unwrap();
        let path = folder.path().join("key.pem");
        let key = format!("-----BEGIN PRIVATE KEY-----\nAAAA\n{END}\n");
        assert!(!is_there(&path).unwrap());
        // Left by a run that was killed while it wrote.
        fs::write(path.with_extension("new"), &key[..9]).unwrap();
        assert!(!is_there(&path).unwrap());
        write_for_owner(&path, key.as_bytes()).unwrap();
        assert!(is_there(&path).unwrap() && !path.with_extension("new").exists());
        assert_eq!(fs::read_to_string(&path).unwrap(), key);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for part in [&key[..30], ""] {
            fs::write(&path, part).unwrap();
            let told = make_signing_key(&path).unwrap_err().to_string();
            assert!(told.contains("is not a whole key") && told.contains("key.pem"), "{told}");
        }
    }
}
