//! The key of access tokens: made at the first start, kept beside the database, readable by its owner alone.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use management_api::accounts::{SigningKeys, new_signing_key};

const FILE: &str = "jwt-signing-key.pem";
const OWNER_ALONE: u32 = 0o600;

/// The key of this folder.
///
/// # Errors
/// When it cannot be read or made, or is none.
pub fn load_or_make(data_dir: &Path) -> io::Result<SigningKeys> {
    let path = data_dir.join(FILE);
    if !path.exists() {
        make(&path)?;
    }
    let pem = fs::read_to_string(&path)?;
    SigningKeys::parse(&pem).map_err(|mistake| io::Error::new(io::ErrorKind::InvalidData, mistake))
}

/// Whole or not at all: half a key would keep every later start from succeeding.
fn make(path: &Path) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let _ = fs::remove_file(&unfinished);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ALONE).open(&unfinished)?;
    file.write_all(new_signing_key().expose().as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}
