//! What currencies are worth, by what Bitcoin costs in each: one call for all of them.
//!
//! The list of currencies is built in. Asking the vendor for it would be a second call, and its list
//! changes by a currency in years. One that it drops is left out of the answer without a word, and one
//! that a run asks prices in (`--vs`) is always added, so the list being old breaks nothing.

use std::collections::HashMap;
use std::sync::Arc;

use super::{PRICE, get};
use crate::domain::rate::USD;
use crate::domain::{Column, Figures, Rate, Rates, Reject, Stamp};
use crate::sources::field::{self, Field, keyed};
use crate::sources::{Request, Shape};

/// The coin that has a price in every currency.
const COIN: &str = "bitcoin";
/// `/simple/supported_vs_currencies`, as of September 2026.
const CURRENCIES: [&str; 63] = [
    "btc", "eth", "ltc", "bch", "bnb", "eos", "xrp", "xlm", "link", "dot", "yfi", "sol", "usd", "aed", "ars", "aud",
    "bdt", "bhd", "bmd", "brl", "cad", "chf", "clp", "cny", "czk", "dkk", "eur", "gbp", "gel", "hkd", "huf", "idr",
    "ils", "inr", "jpy", "krw", "kwd", "lkr", "mmk", "mxn", "myr", "ngn", "nok", "nzd", "php", "pkr", "pln", "rub",
    "sar", "sek", "sgd", "thb", "try", "twd", "uah", "vef", "vnd", "zar", "xdr", "xag", "xau", "bits", "sats",
];

/// The built-in currencies, and what else is asked for.
fn currencies(more: &[Arc<str>]) -> Vec<Arc<str>> {
    let unknown = more.iter().filter(|vs| !CURRENCIES.contains(&&***vs));
    CURRENCIES.iter().map(|code| Arc::from(*code)).chain(unknown.cloned()).collect()
}

pub fn request(vs_currencies: &[Arc<str>]) -> Request {
    // Letters, digits and dashes only: nothing to encode, and bare commas.
    let list = currencies(vs_currencies).join(",");
    let target = format!("/simple/price?ids={COIN}&vs_currencies={list}&include_last_updated_at=true&precision=full");
    get(PRICE, target, Shape::Map)
}

/// A record of the answer: the coin with its price in each currency. A currency that it lacks, or has as
/// null, is one without a rate now.
pub fn read(record: &[u8], vs_currencies: &[Arc<str>]) -> Result<Rates, Reject> {
    let reject = |reason: String| field::reject(record, Some(COIN.to_owned()), reason);
    let coin = keyed(record).filter(|(id, _)| id == COIN);
    let (_, value) = coin.ok_or_else(|| reject(format!("not {COIN} with its prices")))?;
    let mut told: HashMap<String, Field> = serde_json::from_slice(value).map_err(|err| reject(err.to_string()))?;
    let observed_at = moment(&told).map_err(reject)?;
    let usd = told.get(USD).map_or(Ok(None), price).map_err(reject)?;
    let usd = usd.ok_or_else(|| reject("no price in usd, which the others are held against".to_owned()))?;
    let mut rates = Rates { observed_at, ..Rates::default() };
    for currency in currencies(vs_currencies) {
        let Some(field) = told.remove(&*currency) else { continue };
        let rate = price(&field)
            .and_then(|price| price.map(|price| Rate::of_prices(currency.clone(), price, usd)).transpose());
        match rate {
            Ok(rate) => rates.rates.extend(rate),
            Err(reason) => rates.rejected.push(reject(format!("the rate of {currency}: {reason}"))),
        }
    }
    Ok(rates)
}

/// Seconds since 1970; the field of this name alone is told so.
fn moment(told: &HashMap<String, Field>) -> Result<Option<Stamp>, String> {
    let name = "last_updated_at";
    match told.get(name) {
        None | Some(Field::Absent | Field::Null) => Ok(None),
        Some(field) => {
            let seconds = field.whole().ok_or_else(|| format!("{name} is no whole number of seconds"))?;
            let at = Stamp::from_millis(seconds.saturating_mul(1_000)).map_err(|err| format!("{name} is {err}"))?;
            Ok(Some(at))
        }
    }
}

fn price(field: &Field) -> Result<Option<f64>, String> {
    let mut figures = Figures::default();
    field.figure(Column::Price, &mut figures)?;
    Ok(figures.get(Column::Price))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(json: &str) -> Result<Rates, Reject> {
        read(format!("\"bitcoin\":{json}").as_bytes(), &[Arc::from("eur"), Arc::from("clam")])
    }

    fn rates(json: &str) -> Vec<(String, f64)> {
        told(json).unwrap().rates.into_iter().map(|rate| (rate.currency.to_string(), rate.per_usd)).collect()
    }

    #[test]
    fn a_rate_is_the_price_over_that_in_dollars() {
        let json =
            r#"{"eur":54181.5,"usd":62999,"btc":1.0,"usd_market_cap":5,"clam":3.1e4,"last_updated_at":1783584000}"#;
        let expected =
            [("btc", 1.0 / 62_999.0), ("usd", 1.0), ("eur", 54_181.5 / 62_999.0), ("clam", 3.1e4 / 62_999.0)];
        assert_eq!(rates(json), expected.map(|(code, rate)| (code.to_owned(), rate)));
        assert_eq!(told(json).unwrap().observed_at, Some(Stamp::parse("2026-07-09T08:00:00Z").unwrap()));
        assert_eq!(told(r#"{"usd":1}"#).unwrap().observed_at, None);
    }

    #[test]
    fn one_currency_that_cant_be_used_costs_itself() {
        let read = told(r#"{"usd":62999,"eur":"NaN","gbp":0,"jpy":null,"chf":-5,"cad":{},"aud":90000}"#).unwrap();
        assert_eq!(read.rates.iter().map(|rate| &*rate.currency).collect::<Vec<_>>(), ["usd", "aud"]);
        let reasons: Vec<&str> = read.rejected.iter().map(|reject| reject.reason.as_str()).collect();
        assert_eq!(reasons.len(), 4, "{reasons:?}");
        assert!(reasons[0].contains("cad") && reasons[2].contains("the rate of eur: price is not a finite number"));
    }

    #[test]
    fn without_the_dollar_there_are_no_rates() {
        for (json, reason) in [
            ("{}", "no price in usd"),
            (r#"{"eur":1}"#, "no price in usd"),
            (r#"{"usd":null,"eur":1}"#, "no price in usd"),
            (r#"{"usd":"much","eur":1}"#, "price is not a number"),
            (r#"{"usd":NaN}"#, "expected value"),
            (r#"{"usd":1,"last_updated_at":"soon"}"#, "no whole number of seconds"),
            (r#"{"usd":1,"last_updated_at":-5}"#, "outside the years"),
            ("17", "invalid type"),
        ] {
            let reject = told(json).unwrap_err();
            assert!(reject.reason.contains(reason), "{json}: {}", reject.reason);
            assert!(reject.payload.ends_with(json));
        }
    }

    #[test]
    fn a_dollar_of_nothing_rejects_each_rate() {
        assert!(rates(r#"{"usd":0,"eur":1}"#).is_empty());
    }

    #[test]
    fn every_currency_is_asked_for_once() {
        let request = request(&[Arc::from("eur"), Arc::from("clam")]);
        let list = request.target.split(['=', '&']).nth(3).unwrap();
        let mut codes: Vec<&str> = list.split(',').collect();
        assert_eq!((codes.len(), codes[63]), (64, "clam"));
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), 64);
        assert_eq!(request.credits, 1);
    }
}
