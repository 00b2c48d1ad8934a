//! What receivers of callbacks run on.

use std::{path::PathBuf, process::Command};

use super::{
    cluster::new_environment,
    once, run,
    tools::{NODE, require},
};
use crate::error::Result;

/// What verifies Ed25519 in Python.
const CRYPTOGRAPHY: (&str, &str) = ("cryptography", "48.0.0");

/// A Python that can import `cryptography`.
///
/// # Errors
/// When Python is missing or the download fails.
pub fn python_with_cryptography() -> Result<PathBuf> {
    let (package, version) = CRYPTOGRAPHY;
    let folder = once(&format!("{package}-{version}"), |folder| {
        let python = new_environment(&folder.join("python"))?;
        let install = ["-m", "pip", "install", "--quiet"];
        run("pip install", Command::new(python).args(install).arg(format!("{package}=={version}")))
    })?;
    Ok(folder.join("python/bin/python"))
}

/// The program of Node.js.
///
/// # Errors
/// When it is missing.
pub fn node() -> Result<&'static str> {
    require(&[NODE])?;
    Ok(NODE.program)
}
