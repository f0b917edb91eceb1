//! What CoinGecko's error answers mean.

use super::wire::ErrorBody;
use crate::sources::ErrorAnswer;
use crate::sources::error::SourceError;

/// Longest part of a foreign message that is repeated.
const MAX_MESSAGE_CHARS: usize = 300;

pub fn explain(answer: &ErrorAnswer<'_>) -> SourceError {
    let told = ErrorBody::read(answer.body).unwrap_or_default();
    let message = told.message.clone().unwrap_or_else(|| plain(answer.body));
    let message = message.replace(char::is_control, " ");
    let message: String = message.trim().trim_end_matches('.').chars().take(MAX_MESSAGE_CHARS).collect();
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
        (429, _) => SourceError::Limited { status, message, retry_after: answer.retry_after },
        (403, _) => SourceError::Blocked { message },
        (300..=399, _) => {
            let message = "it sends us to another address, where no key of yours goes".to_owned();
            SourceError::NotFound { endpoint, status, message }
        }
        (404, _) => SourceError::NotFound { endpoint, status, message },
        (408, _) | (500.., _) => SourceError::Server { status, message },
        (200, _) => SourceError::Malformed { endpoint, why: format!("an object instead of an array: {message}") },
        _ => SourceError::Refused { endpoint, status, message },
    }
}

/// A page of HTML or plain text in one line.
fn plain(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut out = String::new();
    let mut in_tag = false;
    for c in text.chars() {
        match c {
            '<' => in_tag = true,
            '>' => {
                in_tag = false;
                out.push(' ');
            }
            c if !in_tag => out.push(if c.is_control() { ' ' } else { c }),
            _ => {}
        }
    }
    let words: Vec<&str> = out.split_whitespace().collect();
    if words.is_empty() { "no reason given".to_owned() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn check(status: u16, body: &str, expected: &str) -> SourceError {
        let retry_after = Some(Duration::from_secs(53));
        let answer = ErrorAnswer { endpoint: "coins/markets", status, retry_after, body: body.as_bytes() };
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
