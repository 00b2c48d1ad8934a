//! Whether the API description knows of an answer.

use std::sync::LazyLock;

use serde_json::Value;
use utoipa::OpenApi;
use web_server::routes::openapi::ApiDoc;

/// The API description.
pub static DESCRIPTION: LazyLock<Value> = LazyLock::new(|| serde_json::to_value(ApiDoc::openapi()).unwrap());

/// Fails the test when a route has answered with a status, or a type of content, that it does not document.
pub fn assert_documented(method: &str, path: &str, status: u16, content_type: &str) {
    if (method, status) == ("OPTIONS", 200) {
        // What a browser asks before it lets a page call is answered before any route.
        return;
    }
    let path = path.split('?').next().unwrap();
    let items = DESCRIPTION["paths"].as_object().unwrap();
    let Some((template, item)) = items.iter().find(|(template, _)| matches(template, path)) else {
        assert_eq!(status, 404, "{method} {path} is no route");
        return;
    };
    let Some(operation) = item.get(method.to_lowercase().replace("head", "get")) else {
        assert_eq!(status, 405, "{template} has no {method}");
        return;
    };
    let response = &operation["responses"][status.to_string()];
    assert!(response.is_object(), "{method} {template} does not document {status}");
    if let (Some(content), "application/json" | "application/problem+json") =
        (response["content"].as_object(), content_type)
    {
        assert!(content.contains_key(content_type), "{method} {template} {status} does not document {content_type}");
    }
}

fn matches(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(path).all(|(part, given)| *part == given || (part.starts_with('{') && !given.is_empty()))
}
