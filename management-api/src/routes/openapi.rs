//! The API's description, made from the code.
use axum::Json;
pub(super) async fn document() -> Json<serde_json::Value> {
    Json(serde_json::json!({}))
}
