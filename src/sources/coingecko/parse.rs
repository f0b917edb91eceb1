//! CoinGecko's records into ours. Pure: bytes in, a coin or a price or the reason why not.

use std::sync::Arc;

use super::wire::{Key, ListedCoin, Market};
use crate::domain::{Account, Coin, Column, Figures, PricePoint, Reject};
use crate::sources::field::{self, Field, coin, id_of_broken};

/// A record of `/coins/list`.
pub fn asset(record: &[u8]) -> Result<Coin, Reject> {
    let reject = |source_id, reason| field::reject(record, source_id, reason);
    let broken = |err: serde_json::Error| reject(id_of_broken(record), err.to_string());
    let listed: ListedCoin = serde_json::from_slice(record).map_err(broken)?;
    coin(listed.id, listed.symbol, listed.name).map_err(|(id, reason)| reject(id, reason))
}

/// A record of `/coins/markets`, asked for in `vs_currency`.
pub fn price(record: &[u8], vs_currency: &Arc<str>) -> Result<PricePoint, Reject> {
    let reject = |source_id, reason| field::reject(record, source_id, reason);
    let broken = |err: serde_json::Error| reject(id_of_broken(record), err.to_string());
    let mut market: Market = serde_json::from_slice(record).map_err(broken)?;
    let (id, symbol, name) =
        (std::mem::take(&mut market.id), std::mem::take(&mut market.symbol), std::mem::take(&mut market.name));
    let coin = coin(id, symbol, name).map_err(|(id, reason)| reject(id, reason))?;
    let told = (|| Ok((market.last_updated.stamp("last_updated")?, figures(&market)?)))();
    match told {
        Ok((observed_at, figures)) => Ok(PricePoint { coin, vs_currency: vs_currency.clone(), observed_at, figures }),
        Err(reason) => Err(reject(Some(coin.source_id), reason)),
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
        field.figure(column, &mut figures)?;
    }
    Ok(figures)
}

/// The answer of `/key`.
pub fn account(record: &[u8]) -> Option<Account> {
    let (_, body) = field::keyed(record)?;
    let told: Key = serde_json::from_slice(body).ok()?;
    // The key may be allowed less than the plan.
    let first = |one: &Field, other: &Field| one.whole().or_else(|| other.whole());
    let account = Account {
        credits_per_month: first(&told.api_key_monthly_call_credit, &told.monthly_call_credit),
        credits_used: first(&told.api_key_current_total_monthly_calls, &told.current_total_monthly_calls),
        calls_per_minute: first(&told.api_key_rate_limit_request_per_minute, &told.rate_limit_request_per_minute),
        resets_at: None,
    };
    (account != Account::default()).then_some(account)
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

    #[test]
    fn the_plan_of_a_key_is_read() {
        let told = account(br#""key":{"plan":"Analyst","rate_limit_request_per_minute":500,"monthly_call_credit":500000,"current_total_monthly_calls":1234,"current_remaining_monthly_calls":498766}"#);
        let told = told.unwrap();
        assert_eq!((told.credits_per_month, told.credits_used), (Some(500_000), Some(1_234)));
        assert_eq!(told.calls_per_minute, Some(500));
        assert_eq!(account(br#""key":{"gecko_says":"hi"}"#), None);
    }
}
