//! A product's trades as the feed tells them: each message a pure function of the product and the
//! number of its tick.
//!
//! Prices keep close to what REST says at that moment, in whole increments. As recorded, prices
//! and the last size come without zeros at their end, the book and the volumes with them.

use std::sync::Arc;

use super::super::super::clock::write_micros;
use super::super::super::json::{integer, key};
use super::super::super::market::Market;
use super::super::super::market::hash::{bell, mix, unit};
use super::super::super::market::ticks::{Tick, Ticks};
use super::super::catalogue::{Catalogue, Product, Standing};
use super::super::figures::Figures;

/// What can be wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoilt {
    NotJson,
    NoBid,
    NoSequence,
    NoProduct,
    Crossed,
    BidNegative,
    AskZero,
    PriceText,
    UnknownType,
}

pub const SPOILT: [Spoilt; 9] = [
    Spoilt::NotJson,
    Spoilt::Crossed,
    Spoilt::NoBid,
    Spoilt::BidNegative,
    Spoilt::UnknownType,
    Spoilt::AskZero,
    Spoilt::PriceText,
    Spoilt::NoSequence,
    Spoilt::NoProduct,
];

/// Sizes of the book and volumes have so many decimals.
const FULL: usize = 8;
/// Currencies with books so deep that nothing fits between bid and ask.
const DEEPEST: u32 = 2;
const DEEP: u32 = 10;

/// The trades of one product.
pub struct Tape {
    market: Arc<Market>,
    catalogue: Arc<Catalogue>,
    /// Where the product stands in the catalogue.
    place: usize,
    ticks: Ticks,
    /// Where the product's numbers begin.
    first_sequence: i64,
    first_trade: i64,
    day: Option<Day>,
}

/// The figures of one moment, which ticks of the same millisecond share. Prices in increments.
struct Day {
    /// Milliseconds since 1970.
    at: i64,
    traded: bool,
    last: f64,
    open: u64,
    low: u64,
    high: u64,
    /// How much one trade usually is, in size increments.
    usual: f64,
    volume: String,
    month_volume: String,
}

/// What a message tells of the market, in increments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trade {
    price: u64,
    bid: u64,
    ask: u64,
    buys: bool,
}

impl Tape {
    pub fn new(market: &Arc<Market>, catalogue: &Arc<Catalogue>, place: usize, rate: f64) -> Tape {
        let bits = mix(catalogue.products[place].bits, 0xfeed, 0);
        Tape {
            market: Arc::clone(market),
            catalogue: Arc::clone(catalogue),
            place,
            ticks: Ticks::new(bits, rate),
            first_sequence: (bits % 90_000_000_000) as i64,
            first_trade: (bits >> 20) as i64 % 90_000_000,
            day: None,
        }
    }

    pub fn product(&self) -> &Product {
        &self.catalogue.products[self.place]
    }

    /// The last tick at a moment, in microseconds since 1970.
    pub fn latest(&self, at: i64) -> Option<i64> {
        self.ticks.latest(at)
    }

    /// The moment of the n-th tick.
    pub fn at(&self, n: i64) -> i64 {
        self.ticks.at(n)
    }

    /// Appends the n-th tick's message. False, and nothing appended, when the product was not
    /// traded at that moment.
    pub fn ticker(&mut self, out: &mut Vec<u8>, n: i64, spoilt: Option<Spoilt>) -> bool {
        let tick = self.ticks.tick(n);
        if !self.read(tick.at.div_euclid(1_000)).traded {
            return false;
        }
        let (Some(day), product) = (&self.day, &self.catalogue.products[self.place]) else {
            return false;
        };
        let begin = out.len();
        let trade = trade(product, day, &tick);
        let [bid, ask] = match spoilt {
            Some(Spoilt::Crossed) => [trade.ask, trade.bid],
            Some(Spoilt::AskZero) => [trade.bid, 0],
            _ => [trade.bid, trade.ask],
        };
        let places = product.price_places;

        out.extend_from_slice(match spoilt {
            Some(Spoilt::UnknownType) => b"{\"type\":\"ticker_v2\"",
            _ => b"{\"type\":\"ticker\"",
        });
        if spoilt != Some(Spoilt::NoSequence) {
            key(out, "sequence");
            integer(out, self.first_sequence + tick.sequence);
        }
        if spoilt != Some(Spoilt::NoProduct) {
            text(out, "product_id", &product.id);
        }
        match spoilt {
            Some(Spoilt::PriceText) => text(out, "price", "n/a"),
            _ => decimal(out, "price", trade.price, places, Zeros::Cut),
        }
        decimal(out, "open_24h", day.open, places, Zeros::Cut);
        text(out, "volume_24h", &day.volume);
        decimal(out, "low_24h", day.low.min(trade.price), places, Zeros::Cut);
        decimal(out, "high_24h", day.high.max(trade.price), places, Zeros::Cut);
        text(out, "volume_30d", &day.month_volume);
        if spoilt != Some(Spoilt::NoBid) {
            decimal(out, "best_bid", bid, places, Zeros::Kept);
            if spoilt == Some(Spoilt::BidNegative) {
                let digits = out.len() - written(bid, places);
                out.insert(digits, b'-');
            }
        }
        let size = |n: u64| size(product, day, mix(tick.bits, 5, n));
        decimal(out, "best_bid_size", size(0), FULL, Zeros::Kept);
        decimal(out, "best_ask", ask, places, Zeros::Kept);
        decimal(out, "best_ask_size", size(1), FULL, Zeros::Kept);
        text(out, "side", if trade.buys { "buy" } else { "sell" });
        key(out, "time");
        out.push(b'"');
        write_micros(out, tick.at);
        out.push(b'"');
        key(out, "trade_id");
        integer(out, self.first_trade + tick.trade);
        decimal(out, "last_size", size(2), FULL, Zeros::Cut);
        out.push(b'}');
        if spoilt == Some(Spoilt::NotJson) {
            let length = out.len() - begin;
            out.truncate(begin + length / 2);
        }
        true
    }

    /// Appends a heartbeat after the n-th tick; `at` is in microseconds since 1970.
    pub fn heartbeat(&mut self, out: &mut Vec<u8>, n: Option<i64>, at: i64) {
        let tick = n.filter(|_| self.read(at.div_euclid(1_000)).traded).map(|n| self.ticks.tick(n));
        out.extend_from_slice(b"{\"type\":\"heartbeat\"");
        key(out, "last_trade_id");
        integer(out, tick.map_or(0, |tick| self.first_trade + tick.trade));
        text(out, "product_id", &self.product().id);
        key(out, "sequence");
        integer(out, self.first_sequence + tick.map_or(0, |tick| tick.sequence));
        key(out, "time");
        out.push(b'"');
        write_micros(out, at);
        out.extend_from_slice(b"\"}");
    }

    /// The figures of a moment, in milliseconds since 1970.
    fn read(&mut self, at: i64) -> &Day {
        if self.day.as_ref().is_none_or(|day| day.at != at) {
            self.day = None;
        }
        let (market, product) = (&self.market, &self.catalogue.products[self.place]);
        self.day.get_or_insert_with(|| Day::new(market, product, at))
    }
}

impl Day {
    fn new(market: &Market, product: &Product, at: i64) -> Day {
        let figures = Figures::new(market, product, at).filter(|figures| figures.volume > 0.0);
        let traded = figures.is_some() && product.standing(at) == Standing::Online;
        let unit = 10f64.powi(product.price_places as i32);
        let last = figures.as_ref().map_or(0.0, |figures| figures.last);
        let [open, high, low] = figures.as_ref().and_then(|figures| figures.day).unwrap_or([last; 3]);
        let volume = figures.as_ref().map_or(0.0, |figures| figures.volume);
        let month = figures.as_ref().and_then(|figures| figures.month_volume).unwrap_or(30.0 * volume);
        let increments = |price: f64| (price * unit).round() as u64;
        Day {
            at,
            traded,
            last: last * unit,
            open: increments(open),
            low: increments(low),
            high: increments(high),
            usual: volume / 20_000.0 * 10f64.powi(product.size_places as i32),
            volume: format!("{volume:.FULL$}"),
            month_volume: format!("{month:.FULL$}"),
        }
    }
}

/// Within two ten-thousandths of the market's price. The taker bought at the ask or sold at the
/// bid, or now and then in between.
fn trade(product: &Product, day: &Day, tick: &Tick) -> Trade {
    let second = mix(product.bits, 6, tick.at.div_euclid(1_000_000) as u64);
    let noise = 3e-5 * bell(second) + 1e-5 * bell(mix(tick.bits, 6, 0));
    let spread = spread(product, day, tick);
    let middle = (day.last * (1.0 + noise)).round() as u64;
    let bid = middle.saturating_sub(spread / 2).max(1);
    let ask = bid + spread;
    let buys = tick.bits & 1 == 0;
    let price = match tick.bits >> 1 & 7 {
        0 => bid + (tick.bits >> 4) % (spread + 1),
        _ if buys => ask,
        _ => bid,
    };
    Trade { price, bid, ask, buys }
}

/// One increment for the deepest books; the wider, the smaller the coin.
fn spread(product: &Product, day: &Day, tick: &Tick) -> u64 {
    if product.slot < DEEPEST && !product.money.is_coin() {
        return 1;
    }
    let usual = match product.slot {
        0..DEEP => 0.5e-4,
        _ => 2e-4 + 28e-4 * unit(mix(product.bits, 7, 0)),
    };
    let now = 0.6 + 0.8 * unit(mix(tick.bits, 7, 0));
    (day.last * usual * now).round().max(1.0) as u64
}

/// With eight decimals, and in whole size increments.
fn size(product: &Product, day: &Day, bits: u64) -> u64 {
    // From an eighth to eight times the usual, most of them small.
    let spread = (3.0 * (2.0 * unit(bits) - 1.0)).exp2();
    let increments = (day.usual * spread).round().max(1.0) as u64;
    increments.saturating_mul(10u64.pow((FULL - product.size_places.min(FULL)) as u32))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zeros {
    Kept,
    Cut,
}

/// Appends a member with a whole number of units as a decimal string.
fn decimal(out: &mut Vec<u8>, field: &str, units: u64, places: usize, zeros: Zeros) {
    key(out, field);
    out.push(b'"');
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(units).as_bytes();
    let whole = digits.len().saturating_sub(places);
    out.extend_from_slice(if whole == 0 { b"0" } else { &digits[..whole] });
    if places > 0 {
        out.push(b'.');
        out.extend(std::iter::repeat_n(b'0', places.saturating_sub(digits.len())));
        out.extend_from_slice(&digits[whole..]);
    }
    if zeros == Zeros::Cut && places > 0 {
        while out.last() == Some(&b'0') {
            out.pop();
        }
        if out.last() == Some(&b'.') {
            out.pop();
        }
    }
    out.push(b'"');
}

/// How long a decimal with all its zeros is, with the quote behind it.
fn written(units: u64, places: usize) -> usize {
    let digits = itoa::Buffer::new().format(units).len();
    digits.max(places + 1) + usize::from(places > 0) + 1
}

/// Appends a member with a string that needs no escaping.
fn text(out: &mut Vec<u8>, field: &str, value: &str) {
    key(out, field);
    out.push(b'"');
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}
