//! CoinGecko's records into ours. Pure: bytes in, a coin or a price or the reason why not.

use std::sync::Arc;

use super::wire::{Field, ListedCoin, Market};
use crate::domain::{Coin, Column, Figures, PricePoint, Reject, Stamp};

/// A record of `/coins/list`.
pub fn asset(record: &[u8]) -> Result<Coin, Reject> {
    let reject = |source_id, reason| reject(record, source_id, reason);
    let broken = |err: serde_json::Error| reject(id_of_broken(record), err.to_string());
    let listed: ListedCoin = serde_json::from_slice(record).map_err(broken)?;
    coin(listed.id, listed.symbol, listed.name).map_err(|(id, reason)| reject(id, reason))
}

/// A record of `/coins/markets`, asked for in `vs_currency`.
pub fn price(record: &[u8], vs_currency: &Arc<str>) -> Result<PricePoint, Reject> {
    let reject = |source_id, reason| reject(record, source_id, reason);
    let broken = |err: serde_json::Error| reject(id_of_broken(record), err.to_string());
    let mut market: Market = serde_json::from_slice(record).map_err(broken)?;
    let (id, symbol, name) =
        (std::mem::take(&mut market.id), std::mem::take(&mut market.symbol), std::mem::take(&mut market.name));
    let coin = coin(id, symbol, name).map_err(|(id, reason)| reject(id, reason))?;
    let told = (|| Ok((observed_at(&market.last_updated)?, figures(&market)?)))();
    match told {
        Ok((observed_at, figures)) => Ok(PricePoint { coin, vs_currency: vs_currency.clone(), observed_at, figures }),
        Err(reason) => Err(reject(Some(coin.source_id), reason)),
    }
}

fn reject(record: &[u8], source_id: Option<String>, reason: String) -> Reject {
    Reject { source_id, payload: String::from_utf8_lossy(record).trim().to_owned(), reason }
}

/// The id of a record that is no JSON (a bare `NaN`, a number too large): a coin that is known to be
/// broken need not be asked for again. Only where the source puts it, in the first place: an "id"
/// further on may belong to something else.
fn id_of_broken(record: &[u8]) -> Option<String> {
    let first = record.trim_ascii_start().strip_prefix(b"{")?.trim_ascii_start();
    let value = first.strip_prefix(b"\"id\"")?.trim_ascii_start().strip_prefix(b":")?;
    serde_json::Deserializer::from_slice(value).into_iter::<String>().next()?.ok()
}

fn coin(id: Field, symbol: Field, name: Field) -> Result<Coin, (Option<String>, String)> {
    let source_id = text("id", id).map_err(|reason| (None, reason))?;
    let source_id = source_id.ok_or_else(|| (None, "id is missing".to_owned()))?;
    let labels = text("symbol", symbol).and_then(|symbol| Ok((symbol, text("name", name)?)));
    let (symbol, name) = labels.map_err(|reason| (Some(source_id.clone()), reason))?;
    let known = source_id.clone();
    Coin::new(source_id, symbol, name).map_err(|err| (Some(known), err.to_string()))
}

/// A label that some answers send as a number (`42` is a symbol) is that number's text.
fn text(name: &str, field: Field) -> Result<Option<String>, String> {
    match field {
        Field::Absent | Field::Null => Ok(None),
        Field::Text(text) => Ok(Some(text)),
        Field::Number(number) => Ok(Some(number.to_string())),
        Field::Other(kind) => Err(format!("{name} is {kind}, not a text")),
    }
}

fn observed_at(field: &Field) -> Result<Option<Stamp>, String> {
    match field {
        Field::Absent | Field::Null => Ok(None),
        Field::Text(text) => Stamp::parse(text).map(Some).map_err(|err| format!("last_updated is {err}")),
        Field::Number(number) => Err(format!("last_updated is a number ({number}), not a time")),
        Field::Other(kind) => Err(format!("last_updated is {kind}, not a time")),
    }
}

fn figures(market: &Market) -> Result<Figures, String> {
    // The change in the asked currency is the exact one; the plain one is rounded, but old
    // answers have only that.
    let change_24h = match &market.price_change_percentage_24h_in_currency {
        Field::Absent => &market.price_change_percentage_24h,
        exact => exact,
    };
    let mut figures = Figures::default();
    for (column, field) in [
        (Column::Price, &market.current_price),
        (Column::Volume24h, &market.total_volume),
        (Column::MarketCap, &market.market_cap),
        (Column::CirculatingSupply, &market.circulating_supply),
        (Column::TotalSupply, &market.total_supply),
        (Column::MarketCapRank, &market.market_cap_rank),
        (Column::Change1h, &market.price_change_percentage_1h_in_currency),
        (Column::Change24h, change_24h),
        (Column::Change7d, &market.price_change_percentage_7d_in_currency),
        (Column::Change30d, &market.price_change_percentage_30d_in_currency),
    ] {
        let value = match field {
            Field::Absent => continue,
            Field::Null => None,
            Field::Number(number) => Some(*number),
            Field::Text(text) => Some(number(column, text)?),
            Field::Other(kind) => return Err(format!("{} is {kind}, not a number", column.name())),
        };
        figures.set(column, value).map_err(|err| err.to_string())?;
    }
    Ok(figures)
}

fn number(column: Column, text: &str) -> Result<f64, String> {
    text.trim().parse().map_err(|_| format!("{} is not a number: {text:?}", column.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(record: &str) -> Result<PricePoint, Reject> {
        price(record.as_bytes(), &Arc::from("usd"))
    }

    #[test]
    fn numbers_come_out_bit_for_bit_whatever_their_form() {
        for (form, bits) in [
            ("64039", 64039f64),
            ("0.999105", 0.999105),
            ("4.46e-06", 4.46e-06),
            ("2.8461682e-17", 2.8461682e-17),
            ("1.1578910401623073e+59", 1.1578910401623073e59),
            ("5e-324", 5e-324),
            ("1.7976931348623157e308", f64::MAX),
            ("123456789012345678901234567890", 123456789012345678901234567890f64),
            ("\"0.1\"", 0.1),
            ("-0.0", -0.0),
        ] {
            let point = read(&format!(r#"{{"id":"a","current_price":{form},"unknown":[{{}}]}}"#)).unwrap();
            assert_eq!(point.figures.get(Column::Price).unwrap().to_bits(), bits.to_bits(), "{form}");
            assert!(!point.figures.carried().has(Column::MarketCap));
        }
    }

    #[test]
    fn null_is_carried_and_absent_is_not() {
        let point = read(r#"{"id":"a","current_price":null,"last_updated":null}"#).unwrap();
        assert_eq!(point.figures.get(Column::Price), None);
        assert!(point.figures.carried().has(Column::Price));
        assert_eq!(point.observed_at, None);
    }

    #[test]
    fn an_unusable_record_says_why_and_which_coin() {
        for (record, id, reason) in [
            (r#"{"symbol":"x"}"#, None, "id is missing"),
            (r#"{"id":null}"#, None, "id is missing"),
            (r#"{"id":""}"#, Some(""), "id is empty"),
            (r#"{"id":"a","current_price":NaN}"#, Some("a"), "expected value"),
            (r#"{"id": "a\u00e9","current_price":-Infinity}"#, Some("aé"), "invalid number"),
            (r#"{"roi":{"id":"b"},"current_price":NaN,"id":"a"}"#, None, "expected value"),
            (r#"{"id":"a","current_price":1e999}"#, Some("a"), "number out of range"),
            (r#"{"id":"a","current_price":"NaN"}"#, Some("a"), "price is not a finite number"),
            (r#"{"id":"a","current_price":"-Infinity"}"#, Some("a"), "price is not a finite number"),
            (r#"{"id":"a","current_price":"much"}"#, Some("a"), "price is not a number: \"much\""),
            (r#"{"id":"a","total_volume":{}}"#, Some("a"), "volume_24h is an object"),
            (r#"{"id":"a","market_cap_rank":1.5}"#, Some("a"), "market_cap_rank is not a whole number"),
            (r#"{"id":"a","last_updated":"soon"}"#, Some("a"), "last_updated is not an RFC 3339 time"),
            (r#"{"id":"a\u0000"}"#, Some("a\0"), "U+0000"),
            ("17", None, "invalid type"),
            ("", None, "EOF"),
        ] {
            let reject = read(record).unwrap_err();
            assert_eq!(reject.source_id.as_deref(), id, "{record}");
            assert!(reject.reason.contains(reason), "{record}: {}", reject.reason);
            assert_eq!(reject.payload, record);
        }
    }

    #[test]
    fn labels_survive() {
        let coin = asset(r#"{"id":"-10","symbol":42,"name":" \u00a0x "}"#.as_bytes()).unwrap();
        assert_eq!(coin.symbol.as_deref(), Some("42"));
        assert_eq!(coin.name.as_deref(), Some(" \u{a0}x "));
        assert_eq!(asset(br#"{"id":"a"}"#).unwrap().symbol, None);
    }
}
