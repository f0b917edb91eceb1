//! What can go wrong between us and a vendor, in the words of somebody who can act on it.

use std::time::Duration;

use super::records::ArrayError;

/// A failed call, after its retries where those make sense.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("{url} can't be reached ({why}); check the network, a proxy or COINGECKO_API_URL, and try again later")]
    Unreachable { url: String, why: String },
    #[error(
        "the source limits us (HTTP {status}{}): {message}; call less often (COINETL_CALLS_PER_MINUTE) or use a key with a larger plan",
        told(.retry_after)
    )]
    Limited { status: u16, message: String, retry_after: Option<Duration> },
    #[error("the source has trouble of its own (HTTP {status}): {message}; try again later")]
    Server { status: u16, message: String },
    #[error(
        "the answer to {endpoint} can't be used: {why}; try again later, and look at what sits between you and the source if it stays so"
    )]
    Malformed { endpoint: String, why: String },
    #[error("the answer to {endpoint} is larger than {limit} bytes, so it was dropped; check COINGECKO_API_URL")]
    TooLarge { endpoint: String, limit: usize },
    #[error("the source does not accept the key (HTTP {status}{}): {message}; {remedy}", coded(.code))]
    Unauthorized { status: u16, code: Option<i64>, message: String, remedy: &'static str },
    #[error("the plan does not cover {endpoint} (HTTP {status}{}): {message}; use a key with a larger plan", coded(.code))]
    Plan { endpoint: String, status: u16, code: Option<i64>, message: String },
    #[error("the source blocks us (HTTP 403): {message}; wait, use a key, or ask from another address")]
    Blocked { message: String },
    #[error("the source has no {endpoint} (HTTP {status}): {message}; check COINGECKO_API_URL")]
    NotFound { endpoint: String, status: u16, message: String },
    #[error("the source refuses the request to {endpoint} (HTTP {status}): {message}; check the arguments")]
    Refused { endpoint: String, status: u16, message: String },
    #[error("the answer to {endpoint} comes from {got}, but this run stores {expected}; check COINGECKO_API_URL")]
    OtherSource { endpoint: String, expected: String, got: String },
    #[error("the HTTP client can't start: {0}; install the system's CA certificates (package ca-certificates)")]
    Client(String),
    #[error("a call could not be counted")]
    Gate(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl SourceError {
    /// Whether the same call may work in a moment.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            SourceError::Unreachable { .. }
                | SourceError::Limited { .. }
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
