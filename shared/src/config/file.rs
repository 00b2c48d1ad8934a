//! Files that settings name.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The most bytes of a secret; whoever names a larger file means another one.
const SECRET_BYTES_MAX: u64 = 1024 * 1024;

/// Whether a file is there and can be read, or why not.
pub(super) fn check(path: &Path) -> Result<(), String> {
    open(path).map(|_| ())
}

/// What a file holds, without the end of its last line.
pub(super) fn read_secret(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    open(path)?.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| cannot_read(path, &error))?;
    let shown = absolute(path);
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(format!("{shown} is larger than 1 MiB"));
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("{shown} is no UTF-8 text"))?;
    if text.trim().is_empty() {
        return Err(format!("{shown} is empty"));
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn open(path: &Path) -> Result<File, String> {
    let file = File::open(path).map_err(|error| cannot_read(path, &error))?;
    match file.metadata() {
        Ok(about) if about.is_dir() => Err(format!("{} is a directory", absolute(path))),
        Ok(_) => Ok(file),
        Err(error) => Err(cannot_read(path, &error)),
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> String {
    format!("cannot read {}: {error}", absolute(path))
}

/// The whole path: from where a service was started is not always known to who reads its complaint.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}
