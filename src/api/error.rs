//! The one shape of an error, and which status it has.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::db::DbError;
use crate::db::pool::MaybeDb;

/// Why a request was not answered as asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApiError {
    /// 400
    #[error("{parameter}: {why}")]
    BadParameter { parameter: &'static str, why: String },
    /// 400: a name that several coins have, none of them ranked.
    #[error("{parameter}: several coins match; name one by its id")]
    Ambiguous { parameter: &'static str, candidates: Vec<Candidate> },
    /// 404
    #[error("there is nothing at {0}; /docs lists what there is")]
    UnknownPath(String),
    /// 405
    #[error("{0} is not possible here; all of it is read with GET")]
    Method(String),
    /// 429
    #[error("too many requests; try again in {retry_s} s")]
    TooMany { retry_s: u64 },
    /// 500
    #[error("{0}")]
    Database(Arc<DbError>),
    /// 500
    #[error("the request failed inside the server; its log tells more")]
    Broken,
    /// 503
    #[error("all connections to the database are busy; try again in a moment")]
    Busy,
}

/// A coin that a name may mean.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Candidate {
    /// The source's own id.
    pub id: String,
    pub source: String,
    pub name: String,
    pub symbol: String,
}

/// The body of every answer that is an error.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ErrorBody {
    /// The HTTP status.
    #[schema(example = 400)]
    pub status: u16,
    /// A word for programs: bad_parameter, ambiguous, not_found, method_not_allowed, too_many_requests,
    /// database_error, internal_error, busy.
    #[schema(example = "bad_parameter")]
    pub error: &'static str,
    /// What failed, on what input, and what to do.
    pub message: String,
    /// Which parameter is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<&'static str>,
    /// Coins that the name may mean.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
}

/// What a question may be answered with besides its own answer.
#[derive(utoipa::IntoResponses)]
#[allow(dead_code)]
pub enum Faults {
    #[response(status = 304, description = "unchanged since the answer with this ETag")]
    Unchanged,
    #[response(status = 400, description = "a parameter can't be used, or a name means several coins")]
    Parameter(ErrorBody),
    #[response(status = 429, description = "more requests than `--rate-limit` allows")]
    TooMany(ErrorBody),
    #[response(status = 500, description = "the database failed")]
    Database(ErrorBody),
    #[response(status = 503, description = "too busy")]
    Busy(ErrorBody),
}

/// A parameter that can't be used.
pub fn bad(parameter: &'static str, why: impl Into<String>) -> ApiError {
    ApiError::BadParameter { parameter, why: why.into() }
}

impl ApiError {
    pub fn status(&self) -> StatusCode {
        match self {
            ApiError::BadParameter { .. } | ApiError::Ambiguous { .. } => StatusCode::BAD_REQUEST,
            ApiError::UnknownPath(_) => StatusCode::NOT_FOUND,
            ApiError::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            ApiError::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            ApiError::Database(_) | ApiError::Broken => StatusCode::INTERNAL_SERVER_ERROR,
            ApiError::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn word(&self) -> &'static str {
        match self {
            ApiError::BadParameter { .. } => "bad_parameter",
            ApiError::Ambiguous { .. } => "ambiguous",
            ApiError::UnknownPath(_) => "not_found",
            ApiError::Method(_) => "method_not_allowed",
            ApiError::TooMany { .. } => "too_many_requests",
            ApiError::Database(_) => "database_error",
            ApiError::Broken => "internal_error",
            ApiError::Busy => "busy",
        }
    }

    /// The message for whoever asked: where the database is, is for the log.
    fn told(&self) -> String {
        let ApiError::Database(err) = self else { return self.to_string() };
        match &**err {
            DbError::Unreachable { .. } => "the database can't be reached; the server's log tells more",
            DbError::Refused { .. } => "the database refuses the server; its log tells more",
            DbError::Missing { .. } => "the database does not exist; run `coinetl db-setup`",
            DbError::File { .. } => "the database's file can't be opened; the server's log tells more",
            _ => return self.to_string(),
        }
        .to_owned()
    }

    /// Tells the log, now and then, of a database that fails.
    fn log(&self) {
        static TOLD: Mutex<Option<Instant>> = Mutex::new(None);
        let ApiError::Database(err) = self else { return };
        let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|at| at.elapsed() > Duration::from_secs(10)) {
            *told = Some(Instant::now());
            log::warn!("{err}");
        }
    }

    pub fn body(&self) -> ErrorBody {
        let (parameter, candidates) = match self {
            ApiError::BadParameter { parameter, .. } => (Some(*parameter), Vec::new()),
            ApiError::Ambiguous { parameter, candidates } => (Some(*parameter), candidates.clone()),
            _ => (None, Vec::new()),
        };
        ErrorBody { status: self.status().as_u16(), error: self.word(), message: self.told(), parameter, candidates }
    }
}

impl From<DbError> for ApiError {
    fn from(err: DbError) -> Self {
        ApiError::Database(Arc::new(err))
    }
}

impl MaybeDb for ApiError {
    fn is_gone(&self) -> bool {
        matches!(self, ApiError::Database(err) if err.is_gone())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        // Two strings and a few coins always make JSON.
        let body = serde_json::to_vec(&self.body()).unwrap_or_default();
        let mut response = (self.status(), [(header::CONTENT_TYPE, "application/json")], body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match &self {
            ApiError::TooMany { retry_s } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(*retry_s));
            }
            ApiError::Busy => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(1));
            }
            ApiError::Method(_) => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            _ => {}
        }
        response
    }
}

pub async fn unknown_path(uri: Uri) -> ApiError {
    ApiError::UnknownPath(uri.path().to_owned())
}
