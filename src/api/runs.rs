//! `/runs`: what was executed, and how it ended.

use axum::extract;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;

use super::error::{ApiError, Faults};
use super::page::{Page, Paging};
use super::query::{Ask, Asked, Query};
use super::reply::Draft;
use super::state::State;
use crate::db::pages::runs::{self, Filter};
use crate::domain::Stamp;

#[derive(Debug, Clone, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RunsAsk {
    /// Only runs of this command.
    #[param(value_type = Option<String>, example = "prices insert", min_length = 1, max_length = 60, pattern = "^[a-z -]+$")]
    command: Option<String>,
    /// Only runs of this source.
    #[param(value_type = Option<String>, example = "coingecko", min_length = 1, max_length = 60, pattern = "^[A-Za-z0-9_-]+$")]
    source: Option<String>,
    /// Only runs that ended so, or go on.
    #[param(inline, value_type = Option<RunStatus>)]
    status: Option<&'static str>,
    /// By id, which is the order of their beginning.
    #[param(inline, value_type = Option<super::dashboard::OrderType>)]
    order: bool,
    /// Rows of a page.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 1000, default = 100)]
    limit: Paging,
    /// `next` of the page before.
    #[param(value_type = Option<String>, pattern = "^([0-9a-f]{2}){9,}$")]
    #[allow(dead_code)]
    cursor: (),
}

#[derive(Debug, utoipa::ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code)]
pub enum RunStatus {
    Running,
    Ok,
    Partial,
    Failed,
}

const STATUSES: [(&str, &str); 4] =
    [("running", "running"), ("ok", "ok"), ("partial", "partial"), ("failed", "failed")];

impl Ask for RunsAsk {
    const NAMES: &'static [&'static str] = &["command", "source", "status", "order", "limit", "cursor"];

    fn read(query: &Query) -> Result<Self, ApiError> {
        let (command, source) = (query.name("command")?, query.name("source")?);
        let (status, order) = (query.word("status", &STATUSES)?, query.descending("order")?.unwrap_or(true));
        let limit = Paging::read(query, format!("runs {command:?} {source:?} {status:?} {order}"))?;
        Ok(RunsAsk { command, source, status, order, limit, cursor: () })
    }
}

/// One execution of a command that writes.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Run {
    pub id: i64,
    #[schema(example = "prices insert")]
    pub command: String,
    pub source: String,
    #[schema(format = DateTime)]
    pub started_at: String,
    /// Null while it goes on.
    #[schema(required, format = DateTime)]
    pub finished_at: Option<String>,
    /// running, ok, partial or failed
    #[schema(example = "ok")]
    pub status: String,
    pub calls: i64,
    pub credits: i64,
    pub rows_read: i64,
    /// New and updated together.
    pub rows_written: i64,
    pub rows_updated: i64,
    pub rows_unchanged: i64,
    pub rows_rejected: i64,
    pub rows_absent: i64,
    #[schema(required)]
    pub error: Option<String>,
}

/// Runs, newest first
#[utoipa::path(get, path = "/runs", tag = "service", params(RunsAsk), responses(
    (status = 200, description = "a page of runs; empty where there are none", body = Page<Run>),
    Faults,
))]
pub async fn runs(
    extract::State(state): extract::State<State>,
    Asked(ask): Asked<RunsAsk>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let after = ask.limit.after(|key| key.parse::<i64>().ok())?;
    let key = format!("runs {ask:?}");
    let filter = Filter { command: ask.command.clone(), source: ask.source.clone(), status: ask.status };
    state
        .reply(&headers, key, move |conn, _| {
            let mut rows = runs::runs(conn, &filter, after, ask.order, ask.limit.limit + 1)?;
            let next = ask.limit.cut(&mut rows, |row| row.id.to_string());
            let as_of = rows.iter().map(|row| row.finished_at().unwrap_or(row.started_at())).max();
            let is_final = rows.iter().all(|row| row.finished_at().is_some());
            let mut sources: Vec<String> = rows.iter().map(|row| row.source.clone()).collect();
            sources.sort();
            sources.dedup();
            let shown = |row: runs::Run| Run {
                started_at: row.started_at().rfc3339(),
                finished_at: row.finished_at().map(Stamp::rfc3339),
                id: row.id,
                command: row.command,
                source: row.source,
                status: row.status,
                calls: row.calls,
                credits: row.credits,
                rows_read: row.rows_read,
                rows_written: row.rows_written,
                rows_updated: row.rows_updated,
                rows_unchanged: row.rows_unchanged,
                rows_rejected: row.rows_rejected,
                rows_absent: row.rows_absent,
                error: row.error,
            };
            let mut page = Page::new(rows.into_iter().map(shown).collect(), next, as_of, sources);
            page.is_final = is_final;
            Draft::json(&page, as_of)
        })
        .await
}
