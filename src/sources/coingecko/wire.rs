//! CoinGecko's JSON as it really comes: every field may be absent, null, or of another type.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};

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

/// A JSON value of any type; numbers as the nearest double, which `float_roundtrip` makes exact.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Field {
    #[default]
    Absent,
    Null,
    Number(f64),
    Text(String),
    /// A type that no field of ours has, by its name.
    Other(&'static str),
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Field, E> {
        Ok(Field::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
        Ok(Field::Other("a boolean"))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Field, E> {
        Ok(Field::Number(value as f64))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Field, E> {
        Ok(Field::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Field, E> {
        Ok(Field::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Field, E> {
        Ok(Field::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Other("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Other("an object"))
    }
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
