//! The web page at `/`: files of this program, without a step that builds them and without another host.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};
use shared::http::{Problem, kinds};

use super::conditional::{IfNoneMatch, NotModified, answer_file};

/// Scripts, styles and answers of this server alone; nothing written into the page, and no text that becomes markup.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
);
const HTML: &[u8] = include_bytes!("../page/index.html");
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// Name, type and content of what the page consists of besides.
const FILES: [(&str, &str, &[u8]); 11] = [
    ("page.css", STYLE, include_bytes!("../page/page.css")),
    ("icon.svg", IMAGE, include_bytes!("../page/icon.svg")),
    ("app.js", SCRIPT, include_bytes!("../page/app.js")),
    ("api.js", SCRIPT, include_bytes!("../page/api.js")),
    ("elements.js", SCRIPT, include_bytes!("../page/elements.js")),
    ("history.js", SCRIPT, include_bytes!("../page/history.js")),
    ("outgoing.js", SCRIPT, include_bytes!("../page/outgoing.js")),
    ("session.js", SCRIPT, include_bytes!("../page/session.js")),
    ("status.js", SCRIPT, include_bytes!("../page/status.js")),
    ("stream.js", SCRIPT, include_bytes!("../page/stream.js")),
    ("tabs.js", SCRIPT, include_bytes!("../page/tabs.js")),
];

/// The page: buy, see what was bought and what becomes of it.
#[utoipa::path(
    get, path = "/", tag = "operations", params(IfNoneMatch),
    responses((status = 200, description = "The page", content_type = "text/html", body = String), NotModified)
)]
pub(super) async fn page(asked: HeaderMap) -> Response {
    let mut response = answer_file(&asked, "text/html; charset=utf-8", HTML);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, POLICY);
    response
}

/// One file of the page.
#[utoipa::path(
    get, path = "/page/{file}", tag = "operations",
    params(("file" = String, Path, example = "page.css"), IfNoneMatch),
    responses(
        (status = 200, description = "The file", content_type = "text/javascript", body = String),
        NotModified,
        (status = 404, description = "No such file"),
    )
)]
pub(super) async fn page_file(
    file: Result<Path<String>, PathRejection>,
    asked: HeaderMap,
) -> Result<Response, Problem> {
    let found = file.ok().and_then(|Path(file)| FILES.iter().find(|(name, _, _)| *name == file));
    let (_, content_type, bytes) = found.ok_or_else(|| Problem::new(kinds::NOT_FOUND, "the page has no such file"))?;
    Ok(answer_file(&asked, content_type, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever opens the page for the first time waits for all of it.
    const BYTES_MAX: usize = 40 * 1024;

    #[test]
    fn the_whole_page_is_small() {
        let bytes = HTML.len() + FILES.iter().map(|(_, _, bytes)| bytes.len()).sum::<usize>();
        assert!(bytes <= BYTES_MAX, "{bytes} bytes");
    }
}
