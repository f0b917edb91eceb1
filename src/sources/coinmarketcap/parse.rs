//! CoinMarketCap's records into ours. Pure: bytes in, a coin or prices or the reason why not.

use std::sync::Arc;

use super::wire::{KeyInfo, Listed, Mapped, Quote};
use crate::domain::{Account, Coin, Column, Figures, PricePoint, Reject, Stamp};
use crate::sources::Points;
use crate::sources::field::{self, Field, coin, id_of_broken};

/// A record of `/v1/cryptocurrency/map`; `None` for a coin that is not active.
pub fn asset(record: &[u8]) -> Result<Option<Coin>, Reject> {
    let reject = |source_id, reason| field::reject(record, source_id, reason);
    let broken = |err: serde_json::Error| reject(id_of_broken(record), err.to_string());
    let mapped: Mapped = serde_json::from_slice(record).map_err(broken)?;
    if mapped.is_active.whole() == Some(0) {
        return Ok(None);
    }
    coin(mapped.id, mapped.symbol, mapped.name).map(Some).map_err(|(id, reason)| reject(id, reason))
}

/// A coin of a listing or of quotes, which may stand behind its id or symbol as a key, and there in
/// an array of all coins of that symbol.
pub fn prices(record: &[u8], vs_currencies: &[Arc<str>], points: Points<'_>) {
    let (key, value) = match field::keyed(record) {
        Some((key, value)) => (Some(key), value),
        None => (None, record),
    };
    // An id in place of a coin is that coin's: it is not asked for again.
    let is_id = |key: &String| key.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(id) = key.filter(|key| value.trim_ascii() == b"null" && is_id(key)) {
        for at in 0..vs_currencies.len() {
            points(at, Err(field::reject(record, Some(id.clone()), "it is null instead of a coin".to_owned())));
        }
        return;
    }
    if value.trim_ascii_start().starts_with(b"[")
        && let Ok(coins) = serde_json::from_slice::<Vec<&serde_json::value::RawValue>>(value)
    {
        for coin in coins {
            of_coin(coin.get().as_bytes(), vs_currencies, points);
        }
        return;
    }
    of_coin(value, vs_currencies, points);
}

fn of_coin(record: &[u8], vs_currencies: &[Arc<str>], points: Points<'_>) {
    let mut reject = |source_id: Option<String>, reason: String| {
        for at in 0..vs_currencies.len() {
            points(at, Err(field::reject(record, source_id.clone(), reason.clone())));
        }
    };
    let mut listed: Listed = match serde_json::from_slice(record) {
        Ok(listed) => listed,
        Err(err) => return reject(id_of_broken(record), err.to_string()),
    };
    let take = std::mem::take;
    let coin = match coin(take(&mut listed.id), take(&mut listed.symbol), take(&mut listed.name)) {
        Ok(coin) => coin,
        Err((id, reason)) => return reject(id, reason),
    };
    for (at, vs_currency) in vs_currencies.iter().enumerate() {
        let told = quote(&listed, vs_currency).and_then(|quote| point(&listed, quote));
        points(
            at,
            match told {
                Ok((observed_at, figures)) => {
                    Ok(PricePoint { coin: coin.clone(), vs_currency: vs_currency.clone(), observed_at, figures })
                }
                Err(reason) => Err(field::reject(record, Some(coin.source_id.clone()), reason)),
            },
        );
    }
}

fn quote<'a>(listed: &'a Listed, vs_currency: &str) -> Result<&'a Quote, String> {
    let is_it =
        |quote: &&Quote| matches!(&quote.symbol, Field::Text(symbol) if symbol.eq_ignore_ascii_case(vs_currency));
    listed.quote.0.iter().find(is_it).ok_or_else(|| format!("it has no quote in {vs_currency}"))
}

fn point(listed: &Listed, quote: &Quote) -> Result<(Option<Stamp>, Figures), String> {
    // The quote's own time; a coin's may be of another currency's quote.
    let observed_at = match quote.last_updated.stamp("last_updated")? {
        Some(stamp) => Some(stamp),
        None => listed.last_updated.stamp("last_updated")?,
    };
    let mut figures = Figures::default();
    for (column, field) in [
        (Column::Price, &quote.price),
        (Column::Volume24h, &quote.volume_24h),
        (Column::MarketCap, &quote.market_cap),
        (Column::CirculatingSupply, &listed.circulating_supply),
        (Column::TotalSupply, &listed.total_supply),
        (Column::MarketCapRank, &listed.cmc_rank),
        (Column::Change1h, &quote.percent_change_1h),
        (Column::Change24h, &quote.percent_change_24h),
        (Column::Change7d, &quote.percent_change_7d),
        (Column::Change30d, &quote.percent_change_30d),
    ] {
        field.figure(column, &mut figures)?;
    }
    Ok((observed_at, figures))
}

/// The answer of `/v1/key/info`.
pub fn account(record: &[u8]) -> Option<Account> {
    let (_, body) = field::keyed(record)?;
    let KeyInfo { data } = serde_json::from_slice(body).ok()?;
    let account = Account {
        credits_per_month: data.plan.credit_limit_monthly.whole(),
        credits_used: data.usage.current_month.credits_used.whole(),
        calls_per_minute: data.plan.rate_limit_minute.whole(),
        resets_at: data.plan.credit_limit_monthly_reset_timestamp.stamp("reset").ok().flatten(),
    };
    (account != Account::default()).then_some(account)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(record: &str, vs: &[&str]) -> Vec<Result<PricePoint, Reject>> {
        let vs: Vec<Arc<str>> = vs.iter().map(|vs| Arc::from(*vs)).collect();
        let mut points = Vec::new();
        prices(record.as_bytes(), &vs, &mut |_, point| points.push(point));
        points
    }

    const QUOTE: &str = r#"{"price":8.622024843438671e-07,"volume_24h":1,"market_cap":0,"percent_change_24h":-1.5,"last_updated":"2025-02-08T21:22:00.000Z"}"#;

    #[test]
    fn every_version_of_the_shape_is_the_same_price() {
        let coin = |quote: &str| {
            format!(r#"{{"id":1,"name":"Bitcoin","symbol":"BTC","cmc_rank":1,"total_supply":null,"quote":{quote}}}"#)
        };
        let in_map = coin(&format!(r#"{{"USD":{QUOTE}}}"#));
        let in_array =
            coin(&format!(r#"[{{"id":2790,"symbol":"EUR"}},{}]"#, QUOTE.replace('{', r#"{"id":2781,"symbol":"USD","#)));
        for record in [&in_map, &in_array, &format!(r#""1": {in_map}"#), &format!(r#""BTC":[{in_array}]"#)] {
            let points = read(record, &["usd"]);
            assert_eq!(points.len(), 1, "{record}");
            let point = points[0].as_ref().unwrap();
            assert_eq!((point.coin.source_id.as_str(), point.coin.symbol.as_deref()), ("1", Some("BTC")));
            assert_eq!(point.figures.get(Column::Price), Some(8.622024843438671e-07));
            assert_eq!(
                (point.figures.get(Column::MarketCap), point.figures.get(Column::MarketCapRank)),
                (Some(0.0), Some(1.0))
            );
            assert!(point.figures.carried().has(Column::TotalSupply) && !point.figures.carried().has(Column::Change7d));
            assert_eq!(point.observed_at.unwrap().to_string(), "2025-02-08 21:22:00.000");
        }
    }

    #[test]
    fn an_unusable_record_says_why_and_which_coin() {
        for (record, id, reason) in [
            (r#"{"id":7,"quote":{"EUR":{"price":1}}}"#, Some("7"), "no quote in usd"),
            (r#"{"id":7,"quote":[]}"#, Some("7"), "no quote in usd"),
            (r#"{"id":7}"#, Some("7"), "no quote in usd"),
            (r#"{"id":7,"quote":{"USD":{"price":NaN}}}"#, Some("7"), "expected value"),
            (r#"{"id":7,"quote":{"USD":{"price":{}}}}"#, Some("7"), "price is an object"),
            (r#"{"id":7,"quote":{"USD":{"price":1,"last_updated":"soon"}}}"#, Some("7"), "RFC 3339"),
            (r#"{"id":null,"quote":{"USD":{"price":1}}}"#, None, "id is missing"),
            (r#""7":null"#, Some("7"), "null instead"),
            (r#""Throttled""#, None, "invalid type"),
            ("null", None, "invalid type"),
        ] {
            let points = read(record, &["usd"]);
            let reject = points[0].as_ref().unwrap_err();
            assert_eq!(reject.source_id.as_deref(), id, "{record}");
            assert!(reject.reason.contains(reason), "{record}: {}", reject.reason);
        }
    }

    #[test]
    fn an_inactive_coin_is_none() {
        assert_eq!(asset(br#"{"id":3,"symbol":"X","name":"X","is_active":0}"#).unwrap(), None);
        let active = asset(br#"{"id":825,"symbol":"USDT","name":"Tether USDt","is_active":1}"#).unwrap().unwrap();
        assert_eq!((active.source_id.as_str(), active.name.as_deref()), ("825", Some("Tether USDt")));
    }

    #[test]
    fn the_plan_of_a_key_is_read() {
        let told = account(br#""info":{"data":{"plan":{"credit_limit_monthly":15000,"credit_limit_monthly_reset":"In 4 days","credit_limit_monthly_reset_timestamp":"2026-12-01T00:00:00.000Z","rate_limit_minute":30},"usage":{"current_minute":{"requests_made":1,"requests_left":29},"current_day":{"credits_used":5,"credits_left":null},"current_month":{"credits_used":314,"credits_left":14686}}},"status":{"error_code":0}}"#).unwrap();
        assert_eq!(
            (told.credits_per_month, told.credits_used, told.calls_per_minute),
            (Some(15_000), Some(314), Some(30))
        );
        assert_eq!(told.resets_at.unwrap().to_string(), "2026-12-01 00:00:00.000");
    }
}
