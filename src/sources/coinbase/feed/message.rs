//! What the feed says: text in, a message or the reason why not. Pure.

use std::cmp::Ordering;

use serde::Deserialize;
use serde_json::Value;

use crate::domain::{Micros, Ticker};

/// A decimal that is longer than this is no price.
const LONGEST: usize = 64;

#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    Ticker {
        quote: Ticker,
        trade_id: Option<u64>,
    },
    Heartbeat {
        pair: String,
        last_trade_id: u64,
    },
    /// The answer to a subscription.
    Subscribed {
        /// The pairs whose tickers come.
        pairs: Vec<String>,
        sandbox: bool,
    },
    Refused(String),
    /// Of a type that is none of ours; new ones appear at any time.
    Other,
}

/// Why a message can't be used: always the same words for the same kind of fault.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Broken(pub String);

#[derive(Debug, Deserialize)]
struct Raw {
    r#type: Option<Value>,
    product_id: Option<Value>,
    sequence: Option<Value>,
    time: Option<Value>,
    best_bid: Option<Value>,
    best_ask: Option<Value>,
    price: Option<Value>,
    volume_24h: Option<Value>,
    trade_id: Option<Value>,
    last_trade_id: Option<Value>,
    channels: Option<Value>,
    sandbox: Option<Value>,
    message: Option<Value>,
    reason: Option<Value>,
}

/// What to say to get the tickers and heartbeats of these pairs.
pub fn subscription(pairs: &[String]) -> String {
    serde_json::json!({ "type": "subscribe", "product_ids": pairs, "channels": ["ticker", "heartbeat"] }).to_string()
}

pub fn read(text: &str) -> Result<Message, Broken> {
    let raw: Raw = serde_json::from_str(text).map_err(|_| Broken("it is no JSON object".to_owned()))?;
    let Some(Value::String(kind)) = &raw.r#type else { return Err(Broken("type is missing".to_owned())) };
    match kind.as_str() {
        "ticker" => ticker(&raw),
        "heartbeat" => Ok(Message::Heartbeat {
            pair: words("product_id", &raw.product_id)?.to_owned(),
            last_trade_id: whole("last_trade_id", &raw.last_trade_id)?,
        }),
        // Channel by channel, the answers come one after the other: one without tickers is not for us.
        "subscriptions" if of_others(raw.channels.as_ref()) => Ok(Message::Other),
        "subscriptions" => Ok(Message::Subscribed {
            pairs: tickers(raw.channels.as_ref()),
            sandbox: raw.sandbox == Some(Value::Bool(true)),
        }),
        "error" => {
            let said = |value: &Option<Value>| value.as_ref().and_then(Value::as_str).map(str::to_owned);
            let words = [said(&raw.message), said(&raw.reason)].into_iter().flatten().collect::<Vec<_>>();
            Ok(Message::Refused(words.join(": ")))
        }
        _ => Ok(Message::Other),
    }
}

fn ticker(raw: &Raw) -> Result<Message, Broken> {
    let pair = words("product_id", &raw.product_id)?.to_owned();
    let sequence = whole("sequence", &raw.sequence)?;
    let time = words("time", &raw.time)?;
    let observed_at = Micros::parse(time).map_err(|_| Broken("time is no RFC 3339 time".to_owned()))?;
    let [bid, ask, price] =
        [("best_bid", &raw.best_bid), ("best_ask", &raw.best_ask), ("price", &raw.price)].map(|(n, v)| decimal(n, v));
    let (bid, ask, price) = (bid?, ask?, price?);
    if is_zero(ask) {
        return Err(Broken("best_ask is 0".to_owned()));
    }
    if compare(bid, ask) == Ordering::Greater {
        return Err(Broken("best_bid is above best_ask".to_owned()));
    }
    let base_volume_24h = match &raw.volume_24h {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.is_empty() => None,
        volume => decimal("volume_24h", volume)?.parse().ok().filter(|volume: &f64| volume.is_finite()),
    };
    // Only what tells of losses is without it.
    let trade_id = raw.trade_id.as_ref().and_then(Value::as_u64);
    let (bid, ask, price) = (bid.to_owned(), ask.to_owned(), price.to_owned());
    Ok(Message::Ticker { quote: Ticker { pair, sequence, observed_at, bid, ask, price, base_volume_24h }, trade_id })
}

/// Of channels, but not of tickers.
fn of_others(channels: Option<&Value>) -> bool {
    let channels = channels.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    !channels.is_empty() && channels.iter().all(|channel| channel["name"] != "ticker")
}

fn tickers(channels: Option<&Value>) -> Vec<String> {
    let channels = channels.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let of_tickers = channels.iter().filter(|channel| channel["name"] == "ticker");
    let products = of_tickers.filter_map(|channel| channel["product_ids"].as_array()).flatten();
    products.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn words<'a>(name: &str, value: &'a Option<Value>) -> Result<&'a str, Broken> {
    match value {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        None | Some(Value::Null | Value::String(_)) => Err(Broken(format!("{name} is missing"))),
        _ => Err(Broken(format!("{name} is not a text"))),
    }
}

fn whole(name: &str, value: &Option<Value>) -> Result<u64, Broken> {
    match value {
        None | Some(Value::Null) => Err(Broken(format!("{name} is missing"))),
        // It becomes a signed number in every database.
        Some(value) => value
            .as_u64()
            .filter(|number| i64::try_from(*number).is_ok())
            .ok_or_else(|| Broken(format!("{name} is not a whole number"))),
    }
}

/// Digits, with or without a point between them; no sign, no exponent.
fn decimal<'a>(name: &str, value: &'a Option<Value>) -> Result<&'a str, Broken> {
    let text = words(name, value)?;
    if let Some(rest) = text.strip_prefix('-')
        && is_decimal(rest)
    {
        return Err(Broken(format!("{name} is negative")));
    }
    if is_decimal(text) { Ok(text) } else { Err(Broken(format!("{name} is not a decimal number"))) }
}

fn is_decimal(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    text.len() <= LONGEST && digits(whole) && digits(fraction)
}

fn is_zero(decimal: &str) -> bool {
    decimal.bytes().all(|byte| matches!(byte, b'0' | b'.'))
}

/// Of two decimals without a sign, without the roundings of a double.
fn compare(one: &str, other: &str) -> Ordering {
    let split = |text: &str| -> (String, String) {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        (whole.trim_start_matches('0').to_owned(), fraction.trim_end_matches('0').to_owned())
    };
    let ((whole, fraction), (other_whole, other_fraction)) = (split(one), split(other));
    // Fractions without zeros at their end compare like text.
    whole.len().cmp(&other_whole.len()).then(whole.cmp(&other_whole)).then(fraction.cmp(&other_fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticker_with(changes: &[(&str, &str)]) -> String {
        let mut fields = vec![
            ("type", r#""ticker""#),
            ("sequence", "7"),
            ("product_id", r#""BTC-USD""#),
            ("price", r#""97123.45""#),
            ("best_bid", r#""97123.45""#),
            ("best_ask", r#""97123.46""#),
            ("volume_24h", r#""8123.10000000""#),
            ("time", r#""2026-05-19T08:47:57.580123Z""#),
            ("trade_id", "9"),
        ];
        for (name, value) in changes {
            fields.retain(|(known, _)| known != name);
            if !value.is_empty() {
                fields.push((name, value));
            }
        }
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", fields.join(","))
    }

    #[test]
    fn a_quote_is_kept_as_it_was_written() {
        let Ok(Message::Ticker { quote, trade_id }) = read(&ticker_with(&[("price", r#""097123.4500""#)])) else {
            panic!()
        };
        assert_eq!((quote.pair.as_str(), quote.sequence, trade_id), ("BTC-USD", 7, Some(9)));
        assert_eq!(
            (quote.bid.as_str(), quote.ask.as_str(), quote.price.as_str()),
            ("97123.45", "97123.46", "097123.4500")
        );
        assert_eq!(quote.base_volume_24h, Some(8123.1));
        // Nobody says that the first message has all of them.
        let bare = read(&ticker_with(&[("trade_id", ""), ("volume_24h", r#""""#), ("best_bid", r#""0""#)]));
        let Ok(Message::Ticker { quote, trade_id: None }) = bare else { panic!("{bare:?}") };
        assert_eq!((quote.base_volume_24h, quote.bid.as_str()), (None, "0"));
    }

    #[test]
    fn what_is_broken_says_why() {
        for (name, value, why) in [
            ("best_bid", "", "best_bid is missing"),
            ("best_bid", "97123.45", "best_bid is not a text"),
            ("best_bid", r#""-1.5""#, "best_bid is negative"),
            ("best_bid", r#""97123.460001""#, "best_bid is above best_ask"),
            ("best_bid", r#""100000""#, "best_bid is above best_ask"),
            ("best_bid", r#""NaN""#, "best_bid is not a decimal number"),
            ("best_ask", r#""0.00""#, "best_ask is 0"),
            ("best_ask", r#""1e9""#, "best_ask is not a decimal number"),
            ("price", r#""n/a""#, "price is not a decimal number"),
            ("price", r#""1.""#, "price is not a decimal number"),
            ("volume_24h", r#""many""#, "volume_24h is not a decimal number"),
            ("sequence", "", "sequence is missing"),
            ("sequence", "-1", "sequence is not a whole number"),
            ("sequence", "9223372036854775808", "sequence is not a whole number"),
            ("product_id", "", "product_id is missing"),
            ("product_id", "17", "product_id is not a text"),
            ("time", r#""today""#, "time is no RFC 3339 time"),
            ("type", "", "type is missing"),
        ] {
            assert_eq!(read(&ticker_with(&[(name, value)])), Err(Broken(why.to_owned())), "{name}: {value}");
        }
        let whole = ticker_with(&[]);
        assert_eq!(read(&whole[..whole.len() / 2]), Err(Broken("it is no JSON object".to_owned())));
        assert_eq!(read("[]"), Err(Broken("it is no JSON object".to_owned())));
        assert_eq!(read(&ticker_with(&[("type", r#""ticker_v2""#), ("best_ask", "")])), Ok(Message::Other));
    }

    #[test]
    fn decimals_compare_as_decimals() {
        for (one, other, order) in [
            ("0.1", "0.10", Ordering::Equal),
            ("010", "9.99", Ordering::Greater),
            ("0.09", "0.1", Ordering::Less),
            ("97123.450000000000000001", "97123.45", Ordering::Greater),
            ("0", "0.00000001", Ordering::Less),
        ] {
            assert_eq!(compare(one, other), order, "{one} {other}");
            assert_eq!(compare(other, one), order.reverse(), "{other} {one}");
        }
    }

    #[test]
    fn the_other_messages() {
        let subscribed = r#"{"type":"subscriptions","channels":[{"name":"ticker","product_ids":["BTC-USD","ETH-USD"]},
            {"name":"heartbeat","product_ids":["BTC-USD"]}],"sandbox":true}"#;
        let pairs = vec!["BTC-USD".to_owned(), "ETH-USD".to_owned()];
        assert_eq!(read(subscribed), Ok(Message::Subscribed { pairs: pairs.clone(), sandbox: true }));
        let beat = r#"{"type":"heartbeat","last_trade_id":0,"product_id":"BTC-USD","sequence":1,"time":"x"}"#;
        assert_eq!(read(beat), Ok(Message::Heartbeat { pair: "BTC-USD".to_owned(), last_trade_id: 0 }));
        let refused = r#"{"type":"error","message":"Failed to subscribe","reason":"X-Y is not a valid product"}"#;
        assert_eq!(read(refused), Ok(Message::Refused("Failed to subscribe: X-Y is not a valid product".to_owned())));
        let asked = subscription(&pairs);
        assert!(asked.contains(r#""product_ids":["BTC-USD","ETH-USD"]"#) && asked.contains(r#""type":"subscribe""#));
    }
}
