//! What CoinGecko's error answers mean.

use super::URL_SETTING;
use super::wire::ErrorBody;
use crate::sources::error::SourceError;
use crate::sources::{Told, message};

/// Whether a body with HTTP 200 is an error all the same.
pub fn is_told(body: &[u8]) -> bool {
    ErrorBody::read(body).is_some()
}

pub fn explain(answer: &Told<'_>) -> SourceError {
    let told = ErrorBody::read(answer.body).unwrap_or_default();
    let message = message::line(told.message.clone(), answer.body);
    let endpoint = answer.endpoint.to_owned();
    // An error told inside HTTP 200 carries its HTTP status as the code.
    let status = match (answer.status, told.code) {
        (200, Some(code @ 400..=599)) => code as u16,
        (200, Some(10_002 | 10_005 | 10_010 | 10_011 | 10_012)) => 401,
        (status, _) => status,
    };
    let (status, code) = (status, told.code.filter(|code| *code >= 10_000));
    match (status, code) {
        (_, Some(10_005 | 10_012)) => SourceError::Plan { endpoint, status, code, message },
        (_, Some(10_010)) => SourceError::Unauthorized {
            status,
            code,
            message,
            remedy: "this is a pro key at the public host: set it as COINGECKO_PRO_API_KEY and leave COINGECKO_API_URL unset",
        },
        (_, Some(10_011)) => SourceError::Unauthorized {
            status,
            code,
            message,
            remedy: "this is a demo key at the pro host: set it as COINGECKO_DEMO_API_KEY and leave COINGECKO_API_URL unset",
        },
        (401, _) | (_, Some(10_002)) => SourceError::Unauthorized {
            status,
            code,
            message,
            remedy: "set a valid COINGECKO_DEMO_API_KEY or COINGECKO_PRO_API_KEY, or none",
        },
        (200, _) => SourceError::Malformed { endpoint, why: format!("an object instead of an array: {message}") },
        (status, _) => SourceError::of_status(answer, status, message, URL_SETTING),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn check(status: u16, body: &str, expected: &str) -> SourceError {
        let retry_after = Some(Duration::from_secs(53));
        let answer = Told { endpoint: "coins/markets", status, retry_after, body: body.as_bytes() };
        let err = explain(&answer);
        assert!(err.to_string().contains(expected), "{err}");
        err
    }

    #[test]
    fn each_answer_becomes_one_sentence_with_a_remedy() {
        let limited = check(
            429,
            r#"{"status":{"error_code":429,"error_message":"You've exceeded the Rate Limit."}}"#,
            "(HTTP 429, retry after 53 s): You've exceeded the Rate Limit; call less often",
        );
        assert!(limited.is_transient() && !limited.ends_the_run());
        check(200, r#"{"status":{"error_code":429,"error_message":"x"}}"#, "the source limits us (HTTP 429");
        check(401, r#"{"status":{"error_code":10002,"error_message":"API Key Missing"}}"#, "COINGECKO_DEMO_API_KEY");
        check(400, r#"{"error_code":10010,"status":{"error_message":"change root"}}"#, "pro key at the public host");
        check(400, r#"{"error_code":10011,"status":{"error_message":"change root"}}"#, "demo key at the pro host");
        check(401, r#"{"error":{"status":{"error_code":10012,"error_message":"365"}}}"#, "larger plan");
        let server = check(500, r#"{"status":500,"error":"Internal Server Error"}"#, "trouble of its own (HTTP 500)");
        assert!(server.is_transient());
        let refused = check(422, r#"{"error":"Missing parameter ids"}"#, "refuses the request");
        assert!(!refused.is_transient());
        let blocked = check(
            403,
            "<html><body>Sorry,\n you have been <b>blocked</b></body></html>",
            "Sorry, you have been blocked",
        );
        assert!(!blocked.is_transient() && blocked.ends_the_run());
        check(404, r#"{"error":"Incorrect path"}"#, "has no coins/markets");
        check(503, "", "no reason given");
        assert!(check(200, r#"{"gecko_says":"hi"}"#, "an object instead of an array").is_transient());
    }
}
