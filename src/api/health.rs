//! `/healthz`: whether the database answers with a schema that fits. How old the data is stands in the
//! body and not in the status: old data is no reason to restart a server.

use axum::extract;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::State;
use crate::db::migrate;

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Health {
    /// ok, or failing
    pub status: &'static str,
    /// What is wrong and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    pub version: &'static str,
}

/// Whether the server can answer
#[utoipa::path(get, path = "/healthz", tag = "service", responses(
    (status = 200, description = "the database answers and its schema fits", body = Health),
    (status = 500, description = "it does not", body = Health),
))]
pub async fn healthz(extract::State(state): extract::State<State>) -> Response {
    let fits = state.reader().read(|conn| Ok(migrate::fits(conn)?)).await;
    let (status, word, message) = match fits {
        Ok(_) => (StatusCode::OK, "ok", None),
        Err(err) => (StatusCode::INTERNAL_SERVER_ERROR, "failing", Some(err.to_string())),
    };
    let health = Health { status: word, message, version: env!("CARGO_PKG_VERSION") };
    let body = serde_json::to_vec(&health).unwrap_or_default();
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}
