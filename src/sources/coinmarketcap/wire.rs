//! CoinMarketCap's JSON as it really comes, and what its errors mean.

use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::sources::error::SourceError;
use crate::sources::field::Field;
use crate::sources::{Told, message};

/// A record of `/v1/cryptocurrency/map`.
#[derive(Debug, Deserialize)]
pub struct Mapped {
    #[serde(default)]
    pub id: Field,
    #[serde(default)]
    pub symbol: Field,
    #[serde(default)]
    pub name: Field,
    #[serde(default)]
    pub is_active: Field,
}

/// A coin of a listing or of quotes, as far as it is kept.
#[derive(Debug, Deserialize)]
pub struct Listed {
    #[serde(default)]
    pub id: Field,
    #[serde(default)]
    pub symbol: Field,
    #[serde(default)]
    pub name: Field,
    #[serde(default)]
    pub cmc_rank: Field,
    #[serde(default)]
    pub circulating_supply: Field,
    #[serde(default)]
    pub total_supply: Field,
    #[serde(default)]
    pub last_updated: Field,
    #[serde(default)]
    pub quote: Quotes,
}

/// A coin's figures in one currency.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Quote {
    /// Of the currency; the older versions have it as the key instead.
    pub symbol: Field,
    pub price: Field,
    pub volume_24h: Field,
    pub market_cap: Field,
    pub percent_change_1h: Field,
    pub percent_change_24h: Field,
    pub percent_change_7d: Field,
    pub percent_change_30d: Field,
    pub last_updated: Field,
}

/// Quotes by their currency: version 3 sends an array, the older ones a map.
#[derive(Debug, Default)]
pub struct Quotes(pub Vec<Quote>);

impl<'de> Deserialize<'de> for Quotes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(QuotesVisitor)
    }
}

struct QuotesVisitor;

impl<'de> Visitor<'de> for QuotesVisitor {
    type Value = Quotes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("quotes in an array or a map")
    }

    fn visit_unit<E>(self) -> Result<Quotes, E> {
        Ok(Quotes::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Quotes, A::Error> {
        let mut quotes = Vec::new();
        while let Some(quote) = seq.next_element::<Quote>()? {
            quotes.push(quote);
        }
        Ok(Quotes(quotes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Quotes, A::Error> {
        let mut quotes = Vec::new();
        while let Some(currency) = map.next_key::<String>()? {
            match map.next_value::<Option<Quote>>()? {
                Some(quote) => quotes.push(Quote { symbol: Field::Text(currency), ..quote }),
                None => continue,
            }
        }
        Ok(Quotes(quotes))
    }
}

/// The answer of `/v1/key/info`.
#[derive(Debug, Deserialize)]
pub struct KeyInfo {
    pub data: KeyData,
}

#[derive(Debug, Deserialize)]
pub struct KeyData {
    #[serde(default)]
    pub plan: KeyPlan,
    #[serde(default)]
    pub usage: KeyUsage,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct KeyPlan {
    pub credit_limit_monthly: Field,
    pub credit_limit_monthly_reset_timestamp: Field,
    pub rate_limit_minute: Field,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct KeyUsage {
    pub current_month: KeyMonth,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct KeyMonth {
    pub credits_used: Field,
}

/// What every answer says of itself.
#[derive(Debug, Deserialize)]
struct Envelope {
    status: Status,
    /// Where the whole answer is at hand.
    #[serde(default, rename = "data")]
    _data: IgnoredAny,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    /// A number, or on newer paths a text.
    error_code: Field,
    error_message: Field,
    credit_count: Field,
}

impl Status {
    fn read(body: &[u8]) -> Option<Status> {
        serde_json::from_slice::<Envelope>(body).ok().map(|envelope| envelope.status)
    }

    /// The vendor's code; `None` for success. 200 has been seen as one.
    fn code(&self) -> Option<i64> {
        match &self.error_code {
            Field::Absent | Field::Null => None,
            // What is no number is no success.
            code => Some(code.whole().unwrap_or(1)).filter(|code| !matches!(code, 0 | 200)),
        }
    }

    fn message(&self) -> Option<String> {
        self.error_message.clone().label("error_message").ok().flatten()
    }
}

/// The credits that an answer with HTTP 200 cost, or the error it really is.
pub fn accept(told: &Told<'_>, setting: &'static str) -> Result<Option<i64>, SourceError> {
    match Status::read(told.body) {
        Some(status) if status.code().is_none() => Ok(status.credit_count.whole().filter(|credits| *credits >= 0)),
        _ => Err(explain(told, setting)),
    }
}

pub fn explain(told: &Told<'_>, setting: &'static str) -> SourceError {
    let status = Status::read(told.body);
    let code = status.as_ref().and_then(Status::code);
    let message = message::line(status.and_then(|status| status.message()), told.body);
    let endpoint = told.endpoint.to_owned();
    // Where there is no code of its own, the HTTP status is repeated in its place.
    let http = match code {
        Some(code @ 400..=599) if told.status == 200 => code as u16,
        Some(1_001 | 1_002) if told.status == 200 => 401,
        Some(1_003 | 1_004) if told.status == 200 => 402,
        Some(1_005..=1_007) if told.status == 200 => 403,
        Some(1_008..=1_022) if told.status == 200 => 429,
        _ => told.status,
    };
    let code = code.filter(|code| *code >= 1_000);
    let unauthorized = |remedy| SourceError::Unauthorized { status: http, code, message: message.clone(), remedy };
    let limited = |passes_soon| SourceError::Limited {
        status: http,
        code,
        message: message.clone(),
        retry_after: told.retry_after,
        passes_soon,
    };
    match code {
        Some(1_001 | 1_002 | 1_005) => unauthorized("set a valid COINMARKETCAP_API_KEY, or none"),
        Some(1_003 | 1_004) => unauthorized("pay for the plan, or use another COINMARKETCAP_API_KEY or none"),
        Some(1_007) => unauthorized("the key was disabled: set another COINMARKETCAP_API_KEY, or none"),
        Some(1_006) => SourceError::Plan { endpoint, status: http, code, message },
        Some(1_008 | 1_011) => limited(true),
        Some(1_009) => SourceError::Spent {
            status: http,
            code,
            message,
            remedy: "go on when the day ends (00:00 UTC), run less often, or use a larger plan",
        },
        Some(1_010) => SourceError::Spent {
            status: http,
            code,
            message,
            remedy: "go on when the plan's month ends (`coinetl plan` tells when), run less often, or use a larger plan",
        },
        // 1022 has been seen without a key.
        Some(1_000..) if http == 429 => limited(false),
        _ if http == 401 => unauthorized("set a valid COINMARKETCAP_API_KEY, or none"),
        _ if http == 402 => unauthorized("pay for the plan, or use another COINMARKETCAP_API_KEY or none"),
        _ => SourceError::of_status(told, http, message, setting),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTING: &str = "COINMARKETCAP_API_URL";

    fn told(status: u16, body: &str, check: impl Fn(&SourceError) -> bool, words: &str) {
        let told = Told { endpoint: "x", status, retry_after: None, body: body.as_bytes() };
        for err in [explain(&told, SETTING), accept(&told, SETTING).unwrap_err()] {
            assert!(check(&err) && err.to_string().contains(words), "{err:?} {err}");
        }
    }

    #[test]
    fn a_limit_is_told_apart_by_its_code() {
        let body = |code: &str| format!(r#"{{"status":{{"error_code":{code},"error_message":"m","credit_count":0}}}}"#);
        for status in [429, 200] {
            for code in ["1008", "\"1011\""] {
                told(
                    status,
                    &body(code),
                    |err| err.is_transient() && !err.ends_the_run(),
                    "limits us (HTTP 429, code 10",
                );
            }
            for code in ["1009", "1010"] {
                told(status, &body(code), |err| !err.is_transient() && err.ends_the_run(), "credits are spent");
            }
            told(status, &body("1022"), |err| !err.is_transient() && err.ends_the_run(), "code 1022");
        }
    }

    #[test]
    fn each_code_has_its_remedy() {
        let body = |code: i64| format!(r#"{{"status":{{"error_code":{code},"error_message":"m"}}}}"#);
        for (status, code, words) in [
            (401, 1001, "COINMARKETCAP_API_KEY"),
            (402, 1003, "pay for the plan"),
            (403, 1006, "larger plan"),
            (403, 1007, "disabled"),
            (400, 400, "check the arguments"),
        ] {
            told(status, &body(code), |err| !err.is_transient(), words);
            told(200, &body(code), |err| !err.is_transient(), words);
        }
        told(500, &body(500), SourceError::is_transient, "trouble of its own (HTTP 500)");
        told(200, &body(500), SourceError::is_transient, "trouble of its own (HTTP 500)");
        told(502, "<html>Bad <b>Gateway</b></html>", SourceError::is_transient, "Bad Gateway");
        told(200, r#"{"status":{"error_code":"E1","error_message":"m"},"data":[]}"#, SourceError::is_transient, ": m");
        told(200, "{}", SourceError::is_transient, "not the records asked for");
    }

    #[test]
    fn success_is_a_zero_of_any_type_and_tells_its_price() {
        for (code, credits) in [("0", Some(25)), ("\"0\"", Some(25)), ("200", Some(25)), ("null", Some(25))] {
            let body =
                format!(r#"{{"status":{{"error_code":{code},"error_message":"","credit_count":25}},"data":[]}}"#);
            let told = Told { endpoint: "x", status: 200, retry_after: None, body: body.as_bytes() };
            assert_eq!(accept(&told, SETTING).unwrap(), credits, "{body}");
        }
    }
}
