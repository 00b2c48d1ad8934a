//! Programs of Debian's packages: downloaded and unpacked, not installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    find, once, run,
    tools::{APT, DPKG, require},
};
use crate::error::{Doing, Result};

/// The root of a file system that has nginx as Debian ships it: `usr/sbin/nginx` and `etc/nginx`, as nobody has changed them.
///
/// # Errors
/// When they cannot be had from Debian.
pub fn nginx() -> Result<PathBuf> {
    once("nginx-debian", |folder| unpack_debian(&["nginx", "nginx-common"], folder))
}

/// Downloads packages and unpacks them into `folder`, as if it were the root.
pub(super) fn unpack_debian(packages: &[&str], folder: &Path) -> Result<()> {
    require(&[APT, DPKG])?;
    for package in packages {
        let downloads = folder.join(package);
        fs::create_dir(&downloads).doing(format!("making {}", downloads.display()))?;
        // Also as root: the package manager's own user may not enter the folder of the build, and says so as a warning.
        let download = || {
            let mut command = Command::new(APT.program);
            let command = command.args(["--quiet", "download", package]).current_dir(&downloads);
            run(&format!("apt-get download {package}"), command)
        };
        if download().is_err() {
            run("apt-get update", Command::new(APT.program).args(["--quiet", "update"]))?;
            download()?;
        }
        let archive = find(&downloads, ".deb")?;
        run("dpkg-deb --extract", Command::new(DPKG.program).arg("--extract").arg(archive).arg(folder))?;
    }
    Ok(())
}
