//! The API description, and the reference made of it. That every status seen by any test is documented is checked by
//! the client of these tests.

use std::collections::BTreeSet;

use serde_json::Value;
use web_server::routes;

use crate::harness::{DESCRIPTION, Server};

#[tokio::test]
async fn every_route_is_documented_and_every_documented_route_is_served() {
    let server = Server::unready(&[], |_| {}).await;
    let answer = server.client.get("/openapi.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let description = answer.json();
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1."));
    let mut documented = BTreeSet::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(response["headers"]["X-Request-Id"].is_object(), "{method} {path} {status}");
            }
            documented.insert((method.to_uppercase(), path.clone()));
        }
    }
    let routes = routes::successes();
    let listed = routes.iter().map(|(method, path, _)| (String::from(*method), String::from(*path)));
    assert_eq!(documented, listed.collect());
    for (method, path, status) in routes {
        assert!(description["paths"][path][method.to_lowercase()]["responses"][status.to_string()].is_object());
        let allowed = server.client.request("TRACE", &path.replace(['{', '}'], "")).send().await;
        assert_eq!(allowed.status, 405, "{path} is served");
        assert!(allowed.header("allow").split(',').any(|allowed| allowed == method), "{method} {path}");
    }
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    references(&DESCRIPTION, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(DESCRIPTION.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn answers_have_exactly_the_documented_members() {
    let server = Server::start().await;
    let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let required = |schema: &str| {
        let names = DESCRIPTION["components"]["schemas"][schema]["required"].as_array().unwrap();
        names.iter().map(|name| name.as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let bought = server.client.buy().await.json();
    assert_eq!(members(&bought), required("BuyAnswer"));
    assert_eq!(members(&bought["data"]), required("Purchase"));
    assert_eq!(members(&bought["receipt"]), required("KafkaReceipt"));
    assert_eq!(members(&server.client.get("/nowhere").await.json()), required("Problem"));
    assert_eq!(members(&server.client.get("/readyz").await.json()), required("HealthReport"));
}

#[tokio::test]
async fn the_reference_needs_no_outside_host() {
    let server = Server::unready(&[], |_| {}).await;
    let answer = server.client.get("/docs").await;
    assert_eq!((answer.status, answer.header("location")), (303, "/docs/index.html"));
    let page = server.client.get("/docs/index.html").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html"));
    let html = page.text();
    assert!(!html.contains("//cdn") && !html.contains("https://"), "{html}");
    let links = html.split("src=\"").skip(1).chain(html.split("href=\"").skip(1));
    let linked: Vec<_> = links.map(|link| link.split('"').next().unwrap()).collect();
    assert!(linked.len() > 3, "{html}");
    for file in linked {
        let answer = server.client.get(&format!("/docs/{}", file.trim_start_matches("./"))).await;
        assert_eq!(answer.status, 200, "{file}");
    }
    let setup = server.client.get("/docs/swagger-initializer.js").await.text();
    assert!(setup.contains(r#""url": "/openapi.json""#) && setup.contains(r#""validatorUrl": "none""#), "{setup}");
    for path in ["/docs/nothing.js", "/docs/%FF", "/docs/"] {
        server.client.get(path).await.problem("not-found");
    }
}
