//! One coin in CoinGecko's shapes: fields, their order, and how the vendor rounds.

use super::super::clock::write_time;
use super::super::json::{float, integer, key, number, rounded, string};
use super::super::market::{Coin, Currency, DAY, Market, Quote, Sorted, Ticker};
use super::separate;

/// How prices are rounded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Precision {
    /// As the vendor does by itself: the dearer, the fewer decimals.
    Usual,
    /// To this many decimals.
    Places(i32),
    /// Not at all.
    Full,
}

/// A window of `price_change_percentage`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    pub name: &'static str,
    field: &'static str,
    length: i64,
}

macro_rules! window {
    ($name:literal, $length:expr) => {
        Window { name: $name, field: concat!("price_change_percentage_", $name, "_in_currency"), length: $length }
    };
}

pub const WINDOWS: [Window; 7] = [
    window!("1h", DAY / 24),
    window!("24h", DAY),
    window!("7d", 7 * DAY),
    window!("14d", 14 * DAY),
    window!("30d", 30 * DAY),
    window!("200d", 200 * DAY),
    window!("1y", 365 * DAY),
];

/// What can be wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoilt {
    PriceText,
    PriceInfinite,
    PriceObject,
    IdNull,
    IdNumber,
    IdAbsent,
    IdNul,
    IdLong,
    SymbolNull,
    CapTrue,
    TimeText,
    NotARecord,
}

pub const SPOILT: [Spoilt; 12] = [
    Spoilt::PriceText,
    Spoilt::IdNull,
    Spoilt::IdNumber,
    Spoilt::NotARecord,
    Spoilt::IdAbsent,
    Spoilt::PriceInfinite,
    Spoilt::PriceObject,
    Spoilt::TimeText,
    Spoilt::IdNul,
    Spoilt::IdLong,
    Spoilt::SymbolNull,
    Spoilt::CapTrue,
];

/// Appends a record of `/coins/list`.
pub fn listed(out: &mut Vec<u8>, market: &Market, coin: &Coin, with_platforms: bool, spoilt: Option<Spoilt>) {
    if spoilt == Some(Spoilt::NotARecord) {
        out.extend_from_slice(b"null");
        return;
    }
    out.push(b'{');
    labels(out, market, coin, spoilt);
    if with_platforms {
        key(out, "platforms");
        out.push(b'{');
        for (chain, address) in market.platforms(coin) {
            key(out, chain);
            match address {
                Some(address) => string(out, &address),
                None => null(out),
            }
        }
        out.push(b'}');
    }
    out.push(b'}');
}

/// Writes records of `/coins/markets`.
pub struct Recorder<'a> {
    pub market: &'a Market,
    pub ranks: &'a Sorted,
    pub currency: &'a Currency,
    pub at: i64,
    pub precision: Precision,
    pub windows: &'a [Window],
    pub sparkline: bool,
}

impl Recorder<'_> {
    /// Appends one record.
    pub fn market(&self, out: &mut Vec<u8>, coin: &Coin, spoilt: Option<Spoilt>) {
        if spoilt == Some(Spoilt::NotARecord) {
            out.extend_from_slice(b"\"Throttled\"");
            return;
        }
        let ticker = self.market.ticker(coin, self.at);
        let quote = ticker.quote(self.currency);
        let full = self.precision == Precision::Full && !quote.coarse;
        out.push(b'{');
        let id = labels(out, self.market, coin, spoilt);
        key(out, "image");
        self.image(out, coin, &id, quote.price.is_none());

        key(out, "current_price");
        match spoilt {
            Some(Spoilt::PriceText) => out.extend_from_slice(b"\"NaN\""),
            Some(Spoilt::PriceInfinite) => out.extend_from_slice(b"1e999"),
            Some(Spoilt::PriceObject) => out.extend_from_slice(b"{\"usd\":1}"),
            _ => self.price(out, quote.price, quote.coarse),
        }
        key(out, "market_cap");
        match spoilt {
            Some(Spoilt::CapTrue) => out.extend_from_slice(b"true"),
            _ => money(out, quote.market_cap, full, b"0"),
        }
        key(out, "market_cap_rank");
        match self.ranks.place(coin.slot).filter(|_| quote.ranked) {
            Some(rank) => integer(out, i64::from(rank)),
            None => null(out),
        }
        key(out, "fully_diluted_valuation");
        money(out, quote.fully_diluted, full, b"0");
        key(out, "total_volume");
        money(out, quote.volume, full, b"0.0");
        self.day(out, &quote, full);
        supplies(out, coin, &quote);
        self.extremes(out, &quote);
        self.rest(out, &ticker, &quote, spoilt);
        out.push(b'}');
    }

    fn image(&self, out: &mut Vec<u8>, coin: &Coin, id: &str, missing: bool) {
        if missing {
            string(out, "missing_large.png");
            return;
        }
        let (number, version) = self.market.image(coin);
        out.extend_from_slice(b"\"https://coin-images.coingecko.com/coins/images/");
        integer(out, i64::from(number));
        out.extend_from_slice(b"/large/");
        let plain = |byte: u8| if byte.is_ascii_alphanumeric() { byte } else { b'_' };
        out.extend(id.bytes().map(plain));
        out.extend_from_slice(b".png?");
        integer(out, version);
        out.push(b'"');
    }

    fn day(&self, out: &mut Vec<u8>, quote: &Quote, full: bool) {
        let (day, coarse) = (quote.day.as_ref(), quote.coarse);
        key(out, "high_24h");
        self.price(out, day.map(|day| day.high), coarse);
        key(out, "low_24h");
        self.price(out, day.map(|day| day.low), coarse);
        key(out, "price_change_24h");
        match day.map(|day| day.change) {
            // The vendor rounds gains and forgets to round losses.
            Some(change) if !full && change > 0.0 => number(out, usual_price(change)),
            Some(change) => float(out, change),
            None => null(out),
        }
        key(out, "price_change_percentage_24h");
        percent(out, day.map(|day| day.percent), coarse);
        let cap = quote.cap_day.as_ref();
        key(out, "market_cap_change_24h");
        match cap.map(|cap| cap.change) {
            Some(change) if !full && change > 0.0 => number(out, change.round()),
            Some(0.0) if coarse => out.push(b'0'),
            Some(change) => float(out, change),
            None => null(out),
        }
        key(out, "market_cap_change_percentage_24h");
        percent(out, cap.map(|cap| cap.percent), coarse);
    }

    fn extremes(&self, out: &mut Vec<u8>, quote: &Quote) {
        let keys = [
            (quote.ath, ["ath", "ath_change_percentage", "ath_date"]),
            (quote.atl, ["atl", "atl_change_percentage", "atl_date"]),
        ];
        for (extreme, [value, change, date]) in keys {
            key(out, value);
            self.price(out, extreme.map(|(price, _)| price), quote.coarse);
            key(out, change);
            let against = quote.price.zip(extreme);
            let change = against.map(|(price, (extreme, _))| match extreme {
                0.0 => 0.0,
                _ => (price / extreme - 1.0) * 100.0,
            });
            percent(out, change, quote.coarse);
            key(out, date);
            time(out, extreme.map(|(_, at)| at));
        }
    }

    fn rest(&self, out: &mut Vec<u8>, ticker: &Ticker, quote: &Quote, spoilt: Option<Spoilt>) {
        key(out, "roi");
        match &quote.roi {
            Some(roi) => {
                out.push(b'{');
                key(out, "times");
                float(out, roi.times);
                key(out, "currency");
                string(out, roi.currency);
                key(out, "percentage");
                float(out, roi.times * 100.0);
                out.push(b'}');
            }
            None => null(out),
        }
        key(out, "last_updated");
        match spoilt {
            Some(Spoilt::TimeText) => string(out, "yesterday"),
            _ => time(out, quote.last_updated),
        }
        if self.sparkline {
            key(out, "sparkline_in_7d");
            out.extend_from_slice(b"{\"price\":[");
            for hour in (0..168).rev() {
                if let Some(price) = ticker.price_at(self.currency, hour * DAY / 24) {
                    separate(out);
                    float(out, price);
                }
            }
            out.extend_from_slice(b"]}");
        }
        for window in self.windows {
            key(out, window.field);
            match ticker.change(self.currency, window.length) {
                Some(change) => float(out, change),
                None => null(out),
            }
        }
    }

    fn price(&self, out: &mut Vec<u8>, price: Option<f64>, coarse: bool) {
        match (price, self.precision) {
            (None, _) => null(out),
            (Some(0.0), _) => out.extend_from_slice(if coarse { b"0" } else { b"0.0" }),
            (Some(price), Precision::Full) if !coarse => float(out, price),
            (Some(price), Precision::Places(places)) => number(out, rounded(price, places)),
            (Some(price), _) => number(out, usual_price(price)),
        }
    }
}

/// What `/simple/price` is asked to add.
pub struct SimpleParts {
    pub cap: bool,
    pub volume: bool,
    pub change: bool,
    pub updated: bool,
    pub precision: Precision,
}

/// Appends a member of `/simple/price`.
pub fn simple(out: &mut Vec<u8>, market: &Market, coin: &Coin, at: i64, currencies: &[&Currency], with: &SimpleParts) {
    let ticker = market.ticker(coin, at);
    separate(out);
    string(out, &market.id(coin));
    out.extend_from_slice(b":{");
    let mut updated = None;
    for currency in currencies {
        let quote = ticker.quote(currency);
        updated = quote.last_updated;
        let code = currency.code;
        key(out, code);
        match (quote.price, with.precision) {
            (None, _) => null(out),
            (Some(price), Precision::Full) => float(out, price),
            (Some(price), Precision::Places(places)) => number(out, rounded(price, places)),
            (Some(price), Precision::Usual) => number(out, usual_price(price)),
        }
        let extras = [
            (with.cap, "_market_cap", quote.market_cap),
            (with.volume, "_24h_vol", quote.volume),
            (with.change, "_24h_change", ticker.change(currency, DAY)),
        ];
        for (wanted, suffix, value) in extras {
            if wanted {
                key(out, &format!("{code}{suffix}"));
                match value {
                    Some(value) => float(out, value),
                    None => null(out),
                }
            }
        }
    }
    if let Some(updated) = updated.filter(|_| with.updated) {
        key(out, "last_updated_at");
        integer(out, updated.div_euclid(1_000));
    }
    out.push(b'}');
}

/// Appends id, symbol and name; returns the true id.
fn labels(out: &mut Vec<u8>, market: &Market, coin: &Coin, spoilt: Option<Spoilt>) -> String {
    let id = market.id(coin);
    match spoilt {
        Some(Spoilt::IdAbsent) => {}
        Some(Spoilt::IdNull) => out.extend_from_slice(b"\"id\":null"),
        Some(Spoilt::IdNumber) => out.extend_from_slice(b"\"id\":42"),
        Some(Spoilt::IdNul) => {
            key(out, "id");
            string(out, &format!("{id}\0"));
        }
        Some(Spoilt::IdLong) => {
            key(out, "id");
            string(out, &format!("{id}{}", "-long".repeat(60)));
        }
        _ => {
            key(out, "id");
            string(out, &id);
        }
    }
    key(out, "symbol");
    match spoilt {
        Some(Spoilt::SymbolNull) => null(out),
        _ => string(out, &market.symbol(coin)),
    }
    key(out, "name");
    string(out, &market.name(coin));
    id
}

fn supplies(out: &mut Vec<u8>, coin: &Coin, quote: &Quote) {
    let fields = [("circulating_supply", quote.circulating), ("total_supply", quote.total), ("max_supply", quote.max)];
    for (field, supply) in fields {
        key(out, field);
        match supply {
            None => null(out),
            // Nearly always a float, also when it is whole.
            Some(supply) if coin.slot % 90 == 37 => number(out, supply),
            Some(supply) => float(out, supply),
        }
    }
}

/// Caps and volumes: integers, or two decimals where small; none is `zero`.
fn money(out: &mut Vec<u8>, value: Option<f64>, full: bool, zero: &[u8]) {
    match value {
        None => null(out),
        Some(value) if full => float(out, value),
        Some(0.0) => out.extend_from_slice(zero),
        Some(value) if value < 20_000.0 => float(out, rounded(value, 2)),
        Some(value) => number(out, value.round()),
    }
}

/// Percentages: five decimals; a whole one is an integer where figures are coarse.
fn percent(out: &mut Vec<u8>, value: Option<f64>, coarse: bool) {
    match value {
        None => null(out),
        Some(value) if coarse => number(out, rounded(value, 5)),
        Some(value) => float(out, rounded(value, 5)),
    }
}

fn time(out: &mut Vec<u8>, at: Option<i64>) {
    match at {
        None => null(out),
        Some(at) => {
            out.push(b'"');
            write_time(out, at);
            out.push(b'"');
        }
    }
}

fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(b"null");
}

/// The vendor's rounding of prices, read off its recorded answers.
fn usual_price(price: f64) -> f64 {
    match price.abs() {
        20_000.0.. => price.round(),
        1.1.. => rounded(price, 2),
        1.0.. => rounded(price, 3),
        0.05.. => rounded(price, 6),
        0.000_001.. => rounded(price, 8),
        0.0 => price,
        // Six digits, however far behind the point they begin.
        small => rounded(price, 5 - small.log10().floor() as i32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_rounded_as_in_recorded_answers() {
        for (exact, expected) in [
            (77_146.23, "77146"),
            (5_504.618, "5504.62"),
            (391.512_3, "391.51"),
            (1.018_6, "1.019"),
            (0.999_153_8, "0.999154"),
            (0.024_786_418_3, "0.02478642"),
            (0.000_316_291_2, "0.00031629"),
            (0.000_005_773, "5.77e-06"),
            (3.217_551_2e-7, "3.21755e-07"),
            (5.812_345_678e-21, "5.81235e-21"),
        ] {
            let mut out = Vec::new();
            number(&mut out, usual_price(exact));
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
