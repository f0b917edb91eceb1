//! CoinGecko's JSON as it really comes: every field may be absent, null, or of another type.

use serde::Deserialize;

use crate::sources::field::Field;

/// A record of `/coins/list`.
#[derive(Debug, Deserialize)]
pub struct ListedCoin {
    #[serde(default)]
    pub id: Field,
    #[serde(default)]
    pub symbol: Field,
    #[serde(default)]
    pub name: Field,
}

/// A record of `/coins/markets`, as far as it is kept.
#[derive(Debug, Deserialize)]
pub struct Market {
    #[serde(default)]
    pub id: Field,
    #[serde(default)]
    pub symbol: Field,
    #[serde(default)]
    pub name: Field,
    #[serde(default)]
    pub current_price: Field,
    #[serde(default)]
    pub market_cap: Field,
    #[serde(default)]
    pub market_cap_rank: Field,
    #[serde(default)]
    pub total_volume: Field,
    #[serde(default)]
    pub circulating_supply: Field,
    #[serde(default)]
    pub total_supply: Field,
    #[serde(default)]
    pub price_change_percentage_24h: Field,
    #[serde(default)]
    pub price_change_percentage_1h_in_currency: Field,
    #[serde(default)]
    pub price_change_percentage_24h_in_currency: Field,
    #[serde(default)]
    pub price_change_percentage_7d_in_currency: Field,
    #[serde(default)]
    pub price_change_percentage_30d_in_currency: Field,
    #[serde(default)]
    pub last_updated: Field,
}

/// The answer of `/key`. The members that begin with `api_key` are newer than the others.
#[derive(Debug, Deserialize)]
pub struct Key {
    #[serde(default)]
    pub rate_limit_request_per_minute: Field,
    #[serde(default)]
    pub monthly_call_credit: Field,
    #[serde(default)]
    pub current_total_monthly_calls: Field,
    #[serde(default)]
    pub api_key_rate_limit_request_per_minute: Field,
    #[serde(default)]
    pub api_key_monthly_call_credit: Field,
    #[serde(default)]
    pub api_key_current_total_monthly_calls: Field,
}

/// The members of an error body, wherever the shape puts them:
/// `{"error": "…"}`, `{"status": {"error_code": …, "error_message": …}}`,
/// `{"error": {"status": {…}}}`, `{"error_code": …, "status": {"error_message": …}}`,
/// `{"status": 500, "error": "…"}`.
#[derive(Debug, Default, PartialEq)]
pub struct ErrorBody {
    pub code: Option<i64>,
    pub message: Option<String>,
}

impl ErrorBody {
    /// `None` when the body is no such object: HTML, plain text, something else.
    pub fn read(body: &[u8]) -> Option<ErrorBody> {
        let value: serde_json::Value = serde_json::from_slice(body).ok()?;
        let object = value.as_object()?;
        let inner = object.get("error").filter(|error| error.is_object()).unwrap_or(&value);
        let status = inner.get("status").filter(|status| status.is_object());
        let code = [status, Some(inner), Some(&value)]
            .into_iter()
            .flatten()
            .find_map(|place| place.get("error_code").and_then(serde_json::Value::as_i64));
        let message = status
            .and_then(|status| status.get("error_message"))
            .or_else(|| inner.get("error_message"))
            .or_else(|| object.get("error"))
            .and_then(serde_json::Value::as_str)
            .map(str::to_owned);
        (code.is_some() || message.is_some()).then_some(ErrorBody { code, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_shape_tells_its_code_and_message() {
        let check = |body: &str, code: Option<i64>, message: &str| {
            let read = ErrorBody::read(body.as_bytes()).unwrap();
            assert_eq!((read.code, read.message.as_deref()), (code, Some(message)), "{body}");
        };
        check(r#"{"error":"coin not found"}"#, None, "coin not found");
        check(r#"{"status":{"error_code":429,"error_message":"slow down"}}"#, Some(429), "slow down");
        check(r#"{"error":{"status":{"error_code":10012,"error_message":"too old"}}}"#, Some(10012), "too old");
        check(r#"{"timestamp":"x","error_code":10010,"status":{"error_message":"host"}}"#, Some(10010), "host");
        check(r#"{"status":500,"error":"Internal Server Error"}"#, None, "Internal Server Error");
        assert_eq!(ErrorBody::read(b"<html>"), None);
        assert_eq!(ErrorBody::read(b"[]"), None);
        assert_eq!(ErrorBody::read(br#"{"bitcoin":{}}"#), None);
    }
}
