//! The superuser's password: made once, in a file of its own that only its owner may read.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt, path::Path};

use uuid::Uuid;

use crate::error::{Doing, Result};

/// The superuser's password belongs to the data: made with it, kept beside it, readable by its owner only.
pub(super) fn read_or_make(path: &Path) -> Result<String> {
    if path.exists() {
        return fs::read_to_string(path).doing(format!("reading {}", path.display()));
    }
    let password = Uuid::new_v4().simple().to_string();
    write(path, &password)?;
    Ok(password)
}

pub(super) fn write(path: &Path, secret: &str) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(secret.as_bytes())).doing(format!("writing {}", path.display()))
}
