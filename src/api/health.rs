//! `/healthz`: whether the database answers with a schema that fits. How old the data is stands in the
//! body and not in the status: old data is no reason to restart a server.

use axum::extract;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::State;
use crate::db::{health, migrate};

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Health {
    /// ok, or failing
    pub status: &'static str,
    /// What is wrong and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    pub version: &'static str,
    /// When the newest price was observed; null where there is none.
    #[schema(required, format = DateTime)]
    pub newest_price: Option<String>,
    /// Seconds since then.
    #[schema(required)]
    pub age_s: Option<i64>,
    /// Whether that is longer ago than the server's `--stale-after`.
    pub stale: bool,
}

/// Whether the server can answer
#[utoipa::path(get, path = "/healthz", tag = "service", responses(
    (status = 200, description = "the database answers and its schema fits", body = Health),
    (status = 500, description = "it does not", body = Health),
))]
pub async fn healthz(extract::State(state): extract::State<State>) -> Response {
    // By connections of its own: that others wait for slow answers is no reason to restart a server.
    let look = state.urgent().read(|conn| {
        migrate::fits(conn)?;
        Ok(health::newest_price(conn)?)
    });
    let (status, word, message, newest) = match look.await {
        Ok(seen) => (StatusCode::OK, "ok", None, seen.value),
        Err(err) => (StatusCode::INTERNAL_SERVER_ERROR, "failing", Some(err.body().message), None),
    };
    let age_s = newest.map(|at| (chrono::Utc::now().timestamp_millis() - at.millis()) / 1000);
    let health = Health {
        status: word,
        message,
        version: env!("CARGO_PKG_VERSION"),
        newest_price: newest.map(|at| at.rfc3339()),
        age_s,
        stale: age_s.is_none_or(|age| age > state.options().stale_after.as_secs() as i64),
    };
    let body = serde_json::to_vec(&health).unwrap_or_default();
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}
