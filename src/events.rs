//! What travels through Kafka: one JSON object an event, its fields fixed for everybody who reads it.
//!
//! The key is `<source>:<asset id or pair>`, so that one coin's events stay in their order in one partition.

use serde::Serialize;

use crate::domain::{Bar, Column, Figures, Missed, Stamp, Ticker, Timeframe};

mod read;

pub use read::{CandleEvent, Event, PriceEvent, Reader, TOO_LATE};

pub const PRICE: &str = "coinetl.price.v1";
pub const CANDLE: &str = "coinetl.candle.v1";
pub const QUOTE: &str = "coinetl.quote.v1";
pub const OUTAGE: &str = "coinetl.outage.v1";

/// Whose event it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    pub source: String,
    /// The source's id of the coin.
    pub asset: String,
    pub symbol: String,
    pub name: String,
}

impl About {
    pub fn key(&self) -> String {
        format!("{}:{}", self.source, self.asset)
    }
}

/// A stored price as an event.
pub fn price(about: &About, vs_currency: &str, observed_at: Stamp, figures: &Figures) -> Vec<u8> {
    #[derive(Serialize)]
    struct Event<'a> {
        schema: &'a str,
        source: &'a str,
        asset: &'a str,
        symbol: &'a str,
        name: &'a str,
        vs_currency: &'a str,
        observed_at: String,
        price: Option<f64>,
        volume_24h: Option<f64>,
        base_volume_24h: Option<f64>,
        market_cap: Option<f64>,
        circulating_supply: Option<f64>,
        total_supply: Option<f64>,
        market_cap_rank: Option<i64>,
        change_1h: Option<f64>,
        change_24h: Option<f64>,
        change_7d: Option<f64>,
        change_30d: Option<f64>,
    }
    let figure = |column| figures.get(column);
    json(&Event {
        schema: PRICE,
        source: &about.source,
        asset: &about.asset,
        symbol: &about.symbol,
        name: &about.name,
        vs_currency,
        observed_at: rfc3339(observed_at),
        price: figure(Column::Price),
        volume_24h: figure(Column::Volume24h),
        base_volume_24h: figure(Column::BaseVolume24h),
        market_cap: figure(Column::MarketCap),
        circulating_supply: figure(Column::CirculatingSupply),
        total_supply: figure(Column::TotalSupply),
        market_cap_rank: figure(Column::MarketCapRank).map(|rank| rank as i64),
        change_1h: figure(Column::Change1h),
        change_24h: figure(Column::Change24h),
        change_7d: figure(Column::Change7d),
        change_30d: figure(Column::Change30d),
    })
}

/// A final candle as an event.
pub fn candle(about: &About, vs_currency: &str, timeframe: Timeframe, open_time: Stamp, bar: &Bar) -> Vec<u8> {
    #[derive(Serialize)]
    struct Event<'a> {
        schema: &'a str,
        source: &'a str,
        asset: &'a str,
        symbol: &'a str,
        name: &'a str,
        vs_currency: &'a str,
        timeframe: &'a str,
        open_time: String,
        open: f64,
        high: f64,
        low: f64,
        close: f64,
        volume: Option<f64>,
        base_volume: Option<f64>,
        market_cap: Option<f64>,
        samples: Option<i64>,
        r#final: bool,
    }
    json(&Event {
        schema: CANDLE,
        source: &about.source,
        asset: &about.asset,
        symbol: &about.symbol,
        name: &about.name,
        vs_currency,
        timeframe: timeframe.name(),
        open_time: rfc3339(open_time),
        open: bar.open,
        high: bar.high,
        low: bar.low,
        close: bar.close,
        volume: bar.volume,
        base_volume: bar.base_volume,
        market_cap: bar.market_cap,
        samples: bar.samples,
        r#final: true,
    })
}

/// The key of a pair's quotes and outages.
pub fn pair_key(source: &str, pair: &str) -> String {
    format!("{source}:{pair}")
}

/// A best bid and ask; without a session it belongs to that of its UTC day.
pub fn quote(source: &str, quote: &Ticker, session: Option<&str>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Event<'a> {
        schema: &'a str,
        source: &'a str,
        pair: &'a str,
        sequence: u64,
        observed_at: String,
        bid: &'a str,
        ask: &'a str,
        price: &'a str,
        base_volume_24h: Option<f64>,
        session: Option<&'a str>,
    }
    json(&Event {
        schema: QUOTE,
        source,
        pair: &quote.pair,
        sequence: quote.sequence,
        observed_at: quote.observed_at.rfc3339(),
        bid: &quote.bid,
        ask: &quote.ask,
        price: &quote.price,
        base_volume_24h: quote.base_volume_24h,
        session,
    })
}

/// A time of which there are no quotes.
pub fn outage(source: &str, outage: &Missed) -> Vec<u8> {
    #[derive(Serialize)]
    struct Event<'a> {
        schema: &'a str,
        source: &'a str,
        pair: &'a str,
        from_time: String,
        to_time: String,
        reason: &'a str,
    }
    json(&Event {
        schema: OUTAGE,
        source,
        pair: &outage.pair,
        from_time: outage.from.rfc3339(),
        to_time: outage.to.rfc3339(),
        reason: outage.reason,
    })
}

/// `2026-05-19T08:47:57.580Z`.
fn rfc3339(stamp: Stamp) -> String {
    let text = stamp.text();
    format!("{}Z", text.as_str().replacen(' ', "T", 1))
}

fn json(event: &impl Serialize) -> Vec<u8> {
    // Strings and finite numbers: nothing in an event can fail to be written.
    serde_json::to_vec(event).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Micros;

    #[test]
    fn a_price_carries_every_column_bit_for_bit() {
        let about =
            About {
                source: "coingecko".into(), asset: "1move token".into(), symbol: "🟥".into(), name: String::new()
            };
        let mut figures = Figures::default();
        figures.set(Column::Price, Some(5.8e-21)).unwrap();
        figures.set(Column::MarketCap, Some(1.1578910401623073e59)).unwrap();
        figures.set(Column::MarketCapRank, Some(7.0)).unwrap();
        let event = price(&about, "usd", Stamp::from_millis(1_779_180_477_580).unwrap(), &figures);
        let event: serde_json::Value = serde_json::from_slice(&event).unwrap();
        assert_eq!(about.key(), "coingecko:1move token");
        assert_eq!((&event["schema"], &event["observed_at"]), (&PRICE.into(), &"2026-05-19T08:47:57.580Z".into()));
        assert_eq!(
            (event["price"].as_f64(), event["market_cap"].as_f64()),
            (Some(5.8e-21), Some(1.1578910401623073e59))
        );
        assert_eq!((&event["market_cap_rank"], &event["volume_24h"]), (&7.into(), &serde_json::Value::Null));
        let fields = event.as_object().unwrap();
        for column in Column::ALL {
            assert!(fields.contains_key(column.name()), "{}", column.name());
        }
        assert_eq!(fields.len(), 7 + Column::COUNT);
    }

    #[test]
    fn a_quote_carries_its_decimals_as_text() {
        let observed_at = Micros::parse("2026-05-19T08:47:57.580123Z").unwrap();
        let (bid, ask, price) = ("97123.4500".to_owned(), "97123.46".to_owned(), "97123.45".to_owned());
        let pair = "BTC-USD".to_owned();
        let base_volume_24h = Some(8123.1);
        let told = Ticker { pair, sequence: 7, observed_at, bid, ask, price, base_volume_24h };
        assert_eq!(
            String::from_utf8(quote("coinbase", &told, None)).unwrap(),
            r#"{"schema":"coinetl.quote.v1","source":"coinbase","pair":"BTC-USD","sequence":7,"observed_at":"2026-05-19T08:47:57.580123Z","bid":"97123.4500","ask":"97123.46","price":"97123.45","base_volume_24h":8123.1,"session":null}"#
        );
        let hole = Missed { pair: told.pair.clone(), from: observed_at, to: observed_at, reason: "missed updates" };
        let event: serde_json::Value = serde_json::from_slice(&outage("coinbase", &hole)).unwrap();
        assert_eq!((&event["schema"], &event["reason"]), (&OUTAGE.into(), &"missed updates".into()));
        assert_eq!(event["from_time"], "2026-05-19T08:47:57.580123Z");
        assert_eq!(pair_key("coinbase", &told.pair), "coinbase:BTC-USD");
    }
}
