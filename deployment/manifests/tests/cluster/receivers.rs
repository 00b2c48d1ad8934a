//! What receivers of callbacks are told to run, in Python and JavaScript, against a callback as it is sent. (In Rust: management-api's own tests.)

use std::io::Write as _;
use std::process::{Command, Stdio};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use management_api::callbacks::sending::{AttemptOutcome, CallbackClient, CallbackRequest, SendingConfig, new_secret};
use manifests::root;
use serde_json::{Value, json};
use shared::callbacks::{CallbackUrl, Schemes};
use shared::config::Settings;
use stack::install::{node, python_with_cryptography};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

const BODY: &str = r#"{"type":"purchase.recorded","data":{"username":"Ünïcøde"}}"#;
const IN_PYTHON: &str = "import json, sys; sys.path.insert(0, sys.argv[1]); from verify import is_genuine
print(json.dumps([is_genuine(case['key'], case['headers'], case['body'].encode()) for case in json.load(sys.stdin)]))";
const IN_JAVASCRIPT: &str = "import { readFileSync } from 'node:fs';
const { isGenuine } = await import(`${process.argv[1]}/verify.mjs`);
const cases = JSON.parse(readFileSync(0));
console.log(JSON.stringify(cases.map(({ key, headers, body }) => isGenuine(key, headers, Buffer.from(body)))));";

/// A callback as its receiver gets it, with the keys that its receiver has.
async fn callback() -> (Value, [String; 2]) {
    let (secret, (seen, mut received)) = (new_secret(), mpsc::channel(1));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let receive = move |request: Request<Body>| {
        let seen = seen.clone();
        async move {
            let (head, body) = request.into_parts();
            let headers: Value =
                head.headers.iter().map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap()))).collect();
            let body = String::from_utf8(to_bytes(body, 10_000).await.unwrap().to_vec()).unwrap();
            seen.send(json!({ "headers": headers, "body": body })).await.unwrap();
        }
    };
    let router = Router::new().fallback(receive);
    tokio::spawn(axum::serve(listener, router).into_future());
    let mut settings = Settings::from_pairs([
        ("CALLBACK_SIGNING_SECRET", secret.expose().as_str()),
        ("CALLBACK_ALLOW_HTTP", "true"),
        ("CALLBACK_ALLOW_PRIVATE", "true"),
    ]);
    let config = SendingConfig::read(&mut settings).unwrap();
    let (id, url) =
        ("0190a5c2-0000-7000-8000-000000000001".parse().unwrap(), CallbackUrl::parse(&url, Schemes::HttpToo));
    let callback = CallbackRequest { id, url: &url.unwrap(), body: BODY.into(), traceparent: None };
    assert_eq!(CallbackClient::new(&config).send(&callback).await, AttemptOutcome::Delivered);
    let symmetric = secret.expose().split(' ').next().unwrap().to_owned();
    (received.recv().await.unwrap(), [symmetric, config.rules().keys[0].webhook_public_key.clone()])
}

/// The genuine callback with each key, and what somebody else makes of it, with whether it is to be taken.
fn cases(genuine: &Value, keys: &[String; 2]) -> Vec<(Value, bool)> {
    let with = |key: &str, pointer: &str, value: &str| {
        let mut case = genuine.clone();
        case["key"] = json!(key);
        if let Some(member) = case.pointer_mut(pointer) {
            *member = json!(value);
        }
        case
    };
    let mut cases = Vec::new();
    for key in keys {
        cases.push((with(key, "/key", key), true));
        for (pointer, value) in [
            ("/body", "{}"),
            ("/headers/webhook-id", "another"),
            ("/headers/webhook-timestamp", "1614265330"),
            ("/headers/webhook-timestamp", "soon"),
            ("/headers/webhook-signature", "v1,AAAA v1a,AAAA v2,x y v1 v1a"),
            ("/headers/webhook-signature", ""),
            ("/key", "whsec_AAAA"),
            ("/key", "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="),
        ] {
            cases.push((with(key, pointer, value), false));
        }
    }
    cases
}

/// What a program says of all cases, which it gets as JSON.
fn verdicts(command: &mut Command, cases: &[(Value, bool)]) -> Vec<bool> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let sent: Vec<_> = cases.iter().map(|(case, _)| case).collect();
    child.stdin.take().unwrap().write_all(json!(sent).to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_receivers_are_told_to_run_takes_the_genuine_callback_alone() {
    let (genuine, keys) = callback().await;
    let (cases, folder) = (cases(&genuine, &keys), root().join("deployment/callbacks"));
    let expected: Vec<_> = cases.iter().map(|(_, is_genuine)| *is_genuine).collect();
    let python = python_with_cryptography().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(verdicts(Command::new(python).args(["-B", "-c", IN_PYTHON]).arg(&folder), &cases), expected);
    let node = node().unwrap_or_else(|error| panic!("{error}"));
    let arguments = ["--input-type=module", "--eval", IN_JAVASCRIPT];
    assert_eq!(verdicts(Command::new(node).args(arguments).arg(&folder), &cases), expected);
}
