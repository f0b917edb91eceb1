//! What can go wrong between us and a vendor, in the words of somebody who can act on it.

use std::time::Duration;

use super::Told;
use super::records::ArrayError;

/// A failed call, after its retries where those make sense.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("{url} can't be reached ({why}); check the network, a proxy or {setting}, and try again later")]
    Unreachable { url: String, why: String, setting: &'static str },
    #[error(
        "the source limits us (HTTP {status}{}{}): {message}; call less often (COINETL_CALLS_PER_MINUTE) or use a key with a larger plan",
        coded(.code), told(.retry_after)
    )]
    Limited {
        status: u16,
        code: Option<i64>,
        message: String,
        retry_after: Option<Duration>,
        /// Whether the limit is of a kind that passes within a run.
        passes_soon: bool,
    },
    #[error("the plan's credits are spent (HTTP {status}{}): {message}; {remedy}", coded(.code))]
    Spent { status: u16, code: Option<i64>, message: String, remedy: &'static str },
    #[error("the source has trouble of its own (HTTP {status}): {message}; try again later")]
    Server { status: u16, message: String },
    #[error(
        "the answer to {endpoint} can't be used: {why}; try again later, and look at what sits between you and the source if it stays so"
    )]
    Malformed { endpoint: String, why: String },
    #[error("the answer to {endpoint} is larger than {limit} bytes, so it was dropped; check {setting}")]
    TooLarge { endpoint: String, limit: usize, setting: &'static str },
    #[error("the source does not accept the key (HTTP {status}{}): {message}; {remedy}", coded(.code))]
    Unauthorized { status: u16, code: Option<i64>, message: String, remedy: &'static str },
    #[error("the plan does not cover {endpoint} (HTTP {status}{}): {message}; use a key with a larger plan", coded(.code))]
    Plan { endpoint: String, status: u16, code: Option<i64>, message: String },
    #[error("the source blocks us (HTTP 403): {message}; wait, use a key, or ask from another address")]
    Blocked { message: String },
    #[error("the source has no {endpoint} (HTTP {status}): {message}; check {setting}")]
    NotFound { endpoint: String, status: u16, message: String, setting: &'static str },
    #[error("the source refuses the request to {endpoint} (HTTP {status}): {message}; check the arguments")]
    Refused { endpoint: String, status: u16, message: String },
    #[error("the answer to {endpoint} comes from {got}, but this run stores {expected}; check {setting}")]
    OtherSource { endpoint: String, expected: String, got: String, setting: &'static str },
    #[error("the HTTP client can't start: {0}; install the system's CA certificates (package ca-certificates)")]
    Client(String),
    #[error("{0}")]
    Gate(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl SourceError {
    /// What a status means where the vendor has no code of its own for it.
    pub fn of_status(told: &Told<'_>, status: u16, message: String, setting: &'static str) -> Self {
        let endpoint = told.endpoint.to_owned();
        match status {
            429 => {
                SourceError::Limited { status, code: None, message, retry_after: told.retry_after, passes_soon: true }
            }
            403 => SourceError::Blocked { message },
            300..=399 => {
                let message = "it sends us to another address, where no key of yours goes".to_owned();
                SourceError::NotFound { endpoint, status, message, setting }
            }
            404 | 410 => SourceError::NotFound { endpoint, status, message, setting },
            408 | 500.. => SourceError::Server { status, message },
            200 => SourceError::Malformed { endpoint, why: format!("not the records asked for: {message}") },
            _ => SourceError::Refused { endpoint, status, message },
        }
    }

    /// Whether the same call may work in a moment.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            SourceError::Unreachable { .. }
                | SourceError::Limited { passes_soon: true, .. }
                | SourceError::Server { .. }
                | SourceError::Malformed { .. }
        )
    }

    /// Whether every other call of this run would fail the same way, so that asking on only
    /// costs calls.
    pub fn ends_the_run(&self) -> bool {
        matches!(
            self,
            SourceError::Unauthorized { .. }
                | SourceError::Limited { passes_soon: false, .. }
                | SourceError::Spent { .. }
                | SourceError::Plan { .. }
                | SourceError::Blocked { .. }
                | SourceError::NotFound { .. }
                | SourceError::OtherSource { .. }
                | SourceError::Client(_)
                | SourceError::Gate(_)
        )
    }

    pub fn malformed(endpoint: &str, why: ArrayError) -> Self {
        SourceError::Malformed { endpoint: endpoint.to_owned(), why: why.to_string() }
    }
}

fn told(retry_after: &Option<Duration>) -> String {
    retry_after.map_or(String::new(), |wait| format!(", retry after {} s", wait.as_secs()))
}

fn coded(code: &Option<i64>) -> String {
    code.map_or(String::new(), |code| format!(", code {code}"))
}
