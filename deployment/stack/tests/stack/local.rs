//! `make stack-up`, `make stack-status` and `make stack-down`: the program behind them, in a folder and on ports of its own.

use std::path::PathBuf;
use std::process::{Command, Output};

use http::Method;
use shared::testing::HttpClient;
use stack::RunFolder;
use stack::folder::profile_folder;
use stack::ports::{free_port, is_free};

use crate::doors::order;
use crate::infra::infra_alone;

/// The stack of this test. Ends with it, whatever happens.
struct Local {
    program: PathBuf,
    ports: Vec<(&'static str, Vec<u16>)>,
    folder: RunFolder,
}

impl Local {
    fn new() -> Self {
        let port = || free_port().expect("a free port");
        let ports = vec![
            ("KAFKA_PORT", vec![port()]),
            ("KAFKA_CONTROLLER_PORT", vec![port()]),
            ("POSTGRES_PORT", vec![port()]),
            ("WEB_SERVER_PORTS", vec![port(), port()]),
            ("MANAGEMENT_API_PORTS", vec![port(), port()]),
        ];
        let program = profile_folder().expect("a folder").join("stack");
        Self { program, ports, folder: RunFolder::new("local").expect("a folder") }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        for (name, ports) in &self.ports {
            command.env(name, ports.iter().map(u16::to_string).collect::<Vec<_>>().join(","));
        }
        command.arg("--directory").arg(self.folder.path().join("state")).args(arguments);
        command.output().expect("the program `stack` is built")
    }

    /// Runs it and expects that it succeeds: what it printed.
    fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success(), "stack {arguments:?}: {said}");
        said
    }

    fn management(&self) -> String {
        format!("127.0.0.1:{}", self.ports[4].1[0])
    }

    fn web(&self) -> u16 {
        self.ports[3].1[0]
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.run(&["down"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_development_stack_comes_up_keeps_its_data_and_goes_down() {
    let _idle = infra_alone().await;
    let stack = Local::new();
    assert!(!stack.run(&["status"]).status.success(), "nothing runs yet");
    stack.succeed(&["up"]);
    let table = stack.succeed(&["status"]);
    for name in ["kafka-1", "postgres", "web-server-1", "web-server-2", "management-api-1", "management-api-2"] {
        let line = table.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in\n{table}"));
        assert!(line.ends_with("  ready"), "{table}");
    }
    assert!(table.contains("lag"), "{table}");
    let answer = buy(stack.web()).await;
    let populate = ["accounts", "--count", "5", "--address", &stack.management()];
    let made = [stack.succeed(&populate), stack.succeed(&populate)];
    assert!(made[0].starts_with("5 accounts made") && made[1].starts_with("0 accounts made"), "{made:?}");
    let again = stack.succeed(&["up"]);
    assert!(!again.contains("started "), "what runs is left alone: {again}");

    stack.succeed(&["down"]);
    let mut ports = stack.ports.iter().flat_map(|(_, ports)| ports);
    assert!(ports.all(|port| is_free(*port)), "everything is stopped");
    stack.succeed(&["up"]);
    let url = format!("http://127.0.0.1:{}/purchases/{answer}", stack.web());
    assert_eq!(HttpClient::default().get(&url).await.status, 200, "the purchase is still there");
    stack.succeed(&["down", "--delete-data"]);
    assert!(!stack.folder.path().join("state").exists());
}

/// Buys, waits until it is recorded, and gives the id.
async fn buy(port: u16) -> String {
    let headers = [("content-type", "application/json"), ("prefer", "wait=10")];
    let url = format!("http://127.0.0.1:{port}/buy");
    let answer = HttpClient::default().request(Method::POST, &url, &headers, order("Ann", "local", "1")).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["purchase_id"].as_str().expect("an id").to_owned()
}
