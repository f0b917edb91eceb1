//! Coinbase's JSON as it really comes, and what its errors mean.

use serde::Deserialize;

use crate::sources::error::SourceError;
use crate::sources::field::Field;
use crate::sources::{Told, message};

/// A record of `/products`, as far as it is used.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Product {
    pub base_currency: Field,
    pub quote_currency: Field,
    pub status: Field,
    pub trading_disabled: Field,
}

/// The message of an error body: `{"message": "…"}`.
pub fn message(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Error {
        message: String,
    }
    serde_json::from_slice::<Error>(body).ok().map(|error| error.message)
}

pub fn explain(told: &Told<'_>, setting: &'static str) -> SourceError {
    let line = message::line(message(told.body), told.body);
    // Inside HTTP 200 nothing tells what kind of error it is: trouble of the vendor's own.
    let status = if told.status == 200 { 500 } else { told.status };
    match status {
        401 => SourceError::Blocked { message: line },
        _ => SourceError::of_status(told, status, line, setting),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        let check = |status: u16, body: &str, transient: bool, words: &str| {
            let told = Told { endpoint: "products", status, retry_after: None, body: body.as_bytes() };
            let err = explain(&told, "COINBASE_API_URL");
            assert_eq!(err.is_transient(), transient, "{err}");
            assert!(err.to_string().contains(words), "{err}");
        };
        check(
            429,
            r#"{"message":"Public rate limit exceeded"}"#,
            true,
            "limits us (HTTP 429): Public rate limit exceeded",
        );
        check(404, r#"{"message":"NotFound"}"#, false, "check COINBASE_API_URL");
        check(400, r#"{"message":"Unsupported granularity"}"#, false, "Unsupported granularity");
        check(403, "<html>blocked</html>", false, "blocks us");
        check(503, "", true, "no reason given");
        check(200, r#"{"message":"Internal server error"}"#, true, "Internal server error");
    }
}
