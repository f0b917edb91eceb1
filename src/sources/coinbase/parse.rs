//! Coinbase's records into ours. Pure: bytes in, a coin or prices or the reason why not.
//!
//! A product is a coin in a currency: `BTC-USD` is the coin `BTC` in `usd`. Its price is that of the
//! last trade, its volume is in coins; there is no time, market cap or supply.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::wire::Product;
use crate::domain::{Coin, Column, Figures, PricePoint, Reject};
use crate::sources::field::{self, Field};
use crate::sources::{Pair, Points};

/// The base currency of a product that is online; `None` of one that is not.
pub fn asset(record: &[u8]) -> Result<Option<Coin>, Reject> {
    let reject = |source_id, reason| field::reject(record, source_id, reason);
    let broken = |err: serde_json::Error| reject(field::text_of_broken(record, "base_currency"), err.to_string());
    let product: Product = serde_json::from_slice(record).map_err(broken)?;
    let online = is_online(&product);
    let base = product.base_currency;
    if online == Ok(false) {
        return Ok(None);
    }
    // The ticker is all that a product tells about its coin.
    let coin = field::coin(base.clone(), base.clone(), base)
        .map_err(|(id, reason)| reject(id, reason.replace("id is", "base_currency is")))?;
    match online {
        Ok(_) => Ok(Some(coin)),
        // Nobody knows whether it is traded: the coin stays as it is.
        Err(reason) => Err(reject(Some(coin.source_id), reason)),
    }
}

fn is_online(product: &Product) -> Result<bool, String> {
    let status = match &product.status {
        Field::Text(status) => status == "online",
        Field::Absent | Field::Null => return Err("status is missing".to_owned()),
        _ => return Err("status is not a text".to_owned()),
    };
    match &product.trading_disabled {
        Field::Flag(disabled) => Ok(status && !disabled),
        Field::Absent | Field::Null => Ok(status),
        _ if !status => Ok(false),
        _ => Err("trading_disabled is neither true nor false".to_owned()),
    }
}

/// The pair of a product that is online.
pub fn pair(record: &[u8]) -> Option<Pair> {
    let product: Product = serde_json::from_slice(record).ok()?;
    let (Field::Text(base), Field::Text(quote)) = (&product.base_currency, &product.quote_currency) else {
        return None;
    };
    is_online(&product)
        .is_ok_and(|online| online)
        .then(|| Pair { base: base.clone(), vs_currency: quote.to_ascii_lowercase() })
}

/// A product's last 24 hours, behind its id as the key. Of another currency: nothing.
pub fn prices(record: &[u8], vs_currencies: &[Arc<str>], points: Points<'_>) {
    let Some((product, value)) = field::keyed(record) else {
        return points(0, Err(field::reject(record, None, "it is no product with its figures".to_owned())));
    };
    let Some((base, quote)) = product.rsplit_once('-') else {
        let reason = format!("{product:?} is no product of the form BASE-QUOTE");
        return points(0, Err(field::reject(record, None, reason)));
    };
    let Some(at) = vs_currencies.iter().position(|vs| vs.eq_ignore_ascii_case(quote)) else { return };
    let reject = |reason| Err(field::reject(record, Some(base.to_owned()), reason));
    let text = || Field::Text(base.to_owned());
    let coin = match field::coin(text(), text(), text()) {
        Ok(coin) => coin,
        Err((_, reason)) => return points(at, reject(reason)),
    };
    let figures = match figures(value) {
        // Not traded of late: nothing is said of its price.
        Ok(None) => return,
        Ok(Some(figures)) => Ok(figures),
        Err(reason) => Err(reason),
    };
    points(
        at,
        match figures {
            Ok(figures) => Ok(PricePoint { coin, vs_currency: vs_currencies[at].clone(), observed_at: None, figures }),
            Err(reason) => reject(reason),
        },
    );
}

/// `None` where there are none of the last 24 hours.
fn figures(value: &[u8]) -> Result<Option<Figures>, String> {
    let stats: Value = serde_json::from_slice(value).map_err(|err| err.to_string())?;
    let day = match (&stats, stats.get("stats_24hour")) {
        (_, Some(Value::Null)) => return Ok(None),
        (_, Some(day)) | (day, None) => day.as_object().ok_or("it is no object with figures")?,
    };
    let field = |name: &str| day.get(name).map_or(Ok(Field::Absent), Field::deserialize);
    let read = |name: &str| field(name).map_err(|err| err.to_string());
    let (last, volume) = (read("last")?, read("volume")?);
    if last == Field::Absent && volume == Field::Absent {
        return Ok(None);
    }
    // A figure that the exchange does not have comes as an empty text.
    let known = |field: Field| if field == Field::Text(String::new()) { Field::Null } else { field };
    let (last, volume) = (known(last), known(volume));
    let mut figures = Figures::default();
    last.figure(Column::Price, &mut figures)?;
    volume.figure(Column::BaseVolume24h, &mut figures)?;
    Ok(Some(figures))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(record: &str) -> Vec<(usize, Result<PricePoint, Reject>)> {
        let mut points = Vec::new();
        prices(record.as_bytes(), &[Arc::from("usd"), Arc::from("eur")], &mut |at, point| points.push((at, point)));
        points
    }

    #[test]
    fn both_shapes_of_figures_are_the_same_price() {
        for record in [
            r#""SKL-EUR":{"stats_24hour":{"open":"1","last":"0.00001303","volume":"12345.5"},"stats_30day":{"volume":"9"}}"#,
            r#""SKL-EUR": {"open":"1","last":"0.00001303","volume":"12345.5","volume_30day":"9"}"#,
        ] {
            let points = read(record);
            let (at, point) = &points[0];
            let point = point.as_ref().unwrap();
            assert_eq!((*at, point.coin.source_id.as_str(), &*point.vs_currency), (1, "SKL", "eur"));
            assert_eq!(point.figures.get(Column::Price), Some(0.00001303));
            assert_eq!(point.figures.get(Column::BaseVolume24h), Some(12345.5));
            assert!(!point.figures.carried().has(Column::Volume24h) && point.observed_at.is_none());
        }
        let empty = read(r#""BTC-USD":{"stats_24hour":{"last":"","volume":""}}"#).remove(0).1.unwrap();
        assert_eq!((empty.figures.get(Column::Price), empty.figures.carried().has(Column::Price)), (None, true));
        assert!(read(r#""BTC-USD":{"stats_30day":{"volume":"1"}}"#).is_empty());
        assert!(read(r#""BTC-GBP":{"stats_24hour":{"last":"x"}}"#).is_empty());
    }

    #[test]
    fn an_unusable_record_says_why_and_which_coin() {
        for (record, id, reason) in [
            (r#""BTC-USD":{"stats_24hour":{"last":"much"}}"#, Some("BTC"), "price is not a number"),
            (r#""BTC-USD":{"stats_24hour":{"last":"NaN"}}"#, Some("BTC"), "not a finite number"),
            (r#""BTC-USD":null"#, Some("BTC"), "no object"),
            (r#""BTCUSD":{}"#, None, "BASE-QUOTE"),
            ("17", None, "no product"),
        ] {
            let reject = read(record).remove(0).1.unwrap_err();
            assert_eq!(reject.source_id.as_deref(), id, "{record}");
            assert!(reject.reason.contains(reason), "{record}: {}", reject.reason);
        }
    }

    #[test]
    fn only_what_can_be_traded_is_a_coin() {
        let product = |rest: &str| format!(r#"{{"id":"BTC-USD","base_currency":"BTC","quote_currency":"USD"{rest}}}"#);
        let coin = asset(product(r#","status":"online","trading_disabled":false"#).as_bytes()).unwrap().unwrap();
        assert_eq!((coin.source_id.as_str(), coin.symbol.as_deref()), ("BTC", Some("BTC")));
        for rest in [r#","status":"delisted""#, r#","status":"online","trading_disabled":true"#] {
            assert_eq!(asset(product(rest).as_bytes()).unwrap(), None);
            assert_eq!(pair(product(rest).as_bytes()), None);
        }
        // A coin that nobody can say it of is not taken for gone.
        for rest in ["", r#","status":1"#, r#","status":"online","trading_disabled":"no""#, r#","x":NaN"#] {
            assert_eq!(asset(product(rest).as_bytes()).unwrap_err().source_id.as_deref(), Some("BTC"), "{rest}");
            assert_eq!(pair(product(rest).as_bytes()), None);
        }
        assert!(
            asset(br#"{"status":"online","base_currency":null}"#)
                .unwrap_err()
                .reason
                .contains("base_currency is missing")
        );
        let traded = pair(product(r#","status":"online""#).as_bytes()).unwrap();
        assert_eq!((traded.base.as_str(), traded.vs_currency.as_str()), ("BTC", "usd"));
    }
}
