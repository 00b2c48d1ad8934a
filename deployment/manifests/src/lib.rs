//! The files for a cluster, as users apply them. What is wrong is told with file, object, field and what is expected.

pub mod embedded;
pub mod findings;
pub mod nginx;
pub mod object;
pub mod queries;
pub mod render;
pub mod services;
pub mod yaml;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The root of the workspace: paths in findings begin there.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new(".")).to_owned()
}

/// The text of a file in the workspace.
///
/// # Panics
/// When it cannot be read: with its name.
pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
