//! What a product's trading looks like at a moment, from the figures of its base coin.

use super::super::market::hash::{between, mix};
use super::super::market::{Currency, DAY, Market};
use super::catalogue::Product;

/// The last day of a product. Prices are in the quote currency, volumes in the base.
#[derive(Debug)]
pub struct Figures {
    pub last: f64,
    /// Open, high and low; none where nothing was traded for a day.
    pub day: Option<[f64; 3]>,
    pub volume: f64,
    pub month_volume: Option<f64>,
    /// Volume of trades that were asked for by message instead of the book.
    pub rfq_volume: Option<f64>,
    /// Of the last trade, in milliseconds since 1970.
    pub traded: i64,
}

impl Figures {
    /// None for coins that have no price.
    pub fn new(market: &Market, product: &Product, at: i64) -> Option<Figures> {
        let ticker = market.ticker(&market.coin(product.slot, at), at);
        let currency = Currency::find(product.money.currency)?;
        let quote = ticker.quote(currency);
        // Prices against tether are dollars divided by what a tether is worth.
        let worth = if product.money.code == "USDT" { tether(market, at) } else { 1.0 };
        let last = quote.price? / worth;
        let day = quote.day.zip(ticker.price_at(currency, DAY)).map(|(day, open)| {
            let open = open / worth;
            [open, (day.high / worth).max(last).max(open), (day.low / worth).min(last).min(open)]
        });

        let bits = mix(product.bits, 1, 0);
        let share = match product.money.code {
            "USD" => between(bits, 0.02, 0.2),
            _ => between(bits, 0.000_5, 0.02),
        };
        let traded = quote.volume.unwrap_or(0.0) / quote.price.filter(|price| *price > 0.0)?;
        let volume = if product.bits % 60 == 1 { 0.0 } else { traded * share };
        Some(Figures {
            last,
            day: day.filter(|_| volume > 0.0),
            volume,
            month_volume: (!product.bits.is_multiple_of(50)).then(|| volume * between(bits << 9, 22.0, 38.0)),
            rfq_volume: bits.is_multiple_of(3).then(|| volume * between(bits << 17, 0.0, 0.03)),
            traded: quote.last_updated.unwrap_or(at),
        })
    }
}

/// Dollars for a tether; in a market without it, one.
pub fn tether(market: &Market, at: i64) -> f64 {
    let coin = market.find("tether", at);
    let price = coin.and_then(|coin| market.ticker(&coin, at).price_at(Currency::dollar(), 0));
    price.unwrap_or(1.0)
}
