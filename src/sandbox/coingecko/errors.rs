//! CoinGecko's errors, in the shapes that were recorded of it.

use super::super::answer::Answer;
use super::super::clock::write_time;
use super::super::faults::{self, FaultKind};
use super::super::json;

/// The vendor's error with a code of its own beside the HTTP status.
pub fn coded(status: u16, code: i64, now: i64, message: &str) -> Answer {
    let mut body = b"{\"timestamp\":\"".to_vec();
    write_time(&mut body, now);
    body.extend_from_slice(b"\",\"error_code\":");
    json::integer(&mut body, code);
    body.extend_from_slice(b",\"status\":{\"error_message\":");
    json::string(&mut body, message);
    body.extend_from_slice(b"}}");
    Answer::error(status, body)
}

/// Too many calls, with a status that need not say so.
pub fn limited(status: u16) -> Answer {
    const LIMIT: &str = r#"{"status":{"error_code":429,"error_message":"You've exceeded the Rate Limit. Please visit https://www.coingecko.com/en/api/pricing to subscribe to our API plans for higher rate limits."}}"#;
    Answer::error(status, LIMIT)
}

/// The answers of faults that need nothing of the real answer.
pub fn canned(kind: FaultKind) -> Option<Answer> {
    let answer = match kind {
        FaultKind::TooMany => Answer { retry_after: Some(1), ..limited(429) },
        FaultKind::TooManyBare | FaultKind::Spent => limited(429),
        FaultKind::ErrorIn200 => limited(200),
        FaultKind::Internal => Answer::error(500, r#"{"status":500,"error":"Internal Server Error"}"#),
        FaultKind::Html => faults::html(),
        FaultKind::Empty => Answer::json(b"[]".to_vec(), "public, max-age=30"),
        _ => return None,
    };
    Some(answer)
}
