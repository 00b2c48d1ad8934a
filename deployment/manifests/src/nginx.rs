//! nginx as Debian ships it, before web-server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use shared::testing::{DEADLINE, eventually};
use stack::http;
use stack::install;
use stack::ports::free_port;
use stack::process::{Lifetime, Process};

/// What Debian's files name, of which a test has its own, and what that is called in its folder.
const PLACES: [(&str, &str); 3] = [("/run/nginx.pid", "/nginx.pid"), ("/etc/nginx", ""), ("/var/log/nginx", "")];
/// One process: the workers of a master that is killed would stay.
const ONE_PROCESS: &str = "daemon off; master_process off;";

/// A running nginx; it ends with this value.
#[derive(Debug)]
pub struct Nginx {
    /// Where it listens.
    pub address: String,
    folder: PathBuf,
    process: Option<Process>,
}

impl Nginx {
    /// Starts it before `upstream`, with Debian's own configuration and a site that passes everything on, and waits until it answers.
    ///
    /// # Panics
    /// When it cannot be had from Debian, or does not start.
    pub async fn start(folder: &Path, upstream: &str) -> Self {
        let address = format!("127.0.0.1:{}", free_port().expect("a free port"));
        configure(folder, &address, upstream).unwrap_or_else(|error| panic!("nginx: {error}"));
        let mut nginx = Self { address, folder: folder.to_owned(), process: None };
        nginx.start_again().await;
        nginx
    }

    /// Ends it at once, with all connections.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again at its address.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_again(&mut self) {
        let mut command = Command::new(files().join("usr/sbin/nginx"));
        command.arg("-c").arg(self.folder.join("nginx.conf")).arg("-e").arg(self.folder.join("error.log"));
        command.args(["-g", ONE_PROCESS]);
        let process = Process::spawn("nginx", command, &self.folder.join("output.log"), Lifetime::WithParent);
        let process = self.process.insert(process.unwrap_or_else(|error| panic!("{error}")));
        eventually("nginx passes on", async || {
            process.check_alive().unwrap_or_else(|error| panic!("{error}"));
            let answer = http::get(&self.address, "/livez", DEADLINE).await.ok()?;
            answer.status.is_success().then_some(())
        })
        .await;
    }
}

fn files() -> PathBuf {
    install::nginx().unwrap_or_else(|error| panic!("{error}"))
}

/// Debian's files with other places, and what its users write: a site.
fn configure(folder: &Path, address: &str, upstream: &str) -> std::io::Result<()> {
    let here = folder.display().to_string();
    let debian = files().join("etc/nginx");
    for file in ["nginx.conf", "proxy_params", "mime.types"] {
        let mut text = fs::read_to_string(debian.join(file))?;
        for (place, ours) in PLACES {
            text = text.replace(place, &format!("{here}{ours}"));
        }
        fs::write(folder.join(file), text)?;
    }
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|kind| format!("{kind}_temp_path {here}/{kind};\n")).concat();
    fs::create_dir_all(folder.join("sites-enabled"))?;
    let passing_on = format!("include proxy_params;\n        proxy_pass http://{upstream};");
    let site =
        format!("{temporary}server {{\n    listen {address};\n    location / {{\n        {passing_on}\n    }}\n}}\n");
    fs::write(folder.join("sites-enabled/web-server"), site)
}
