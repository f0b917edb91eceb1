//! Which products there are: pairs of a base currency and a quote currency.
//!
//! The bases are the market's best coins that have a plain ticker, a price that can be written
//! down, and that keep their slot and name, since a currency code stands for one coin for ever.
//! What comes and goes is the trading of their products.

use std::collections::{HashMap, HashSet};

use super::super::market::hash::mix;
use super::super::market::{Coin, Currency, DAY, Market};

/// Base currencies with an online product, in a market that has as many fit coins.
const BASES: usize = 405;
/// Further ones, of which only delisted products are left.
const FORMER: usize = 130;
/// Increments are chosen by the prices of this moment (2026-01-01), so that they stay.
const REFERENCE: i64 = 1_767_225_600_000;
/// The lowest price that gets a product, in dollars, and in a quote currency with eight decimals.
const LOWEST: f64 = 1e-7;
const LOWEST_IN_COINS: f64 = 2e-6;

/// Against what a base is traded.
#[derive(Debug)]
pub struct Money {
    pub code: &'static str,
    /// How often, below the majors: one base in so many.
    share: u64,
    /// The best so many bases all have it.
    majors: usize,
    /// In which of the market's currencies the prices are; tether's are reckoned from dollars.
    pub currency: &'static str,
}

impl Money {
    pub fn is_coin(&self) -> bool {
        matches!(self.code, "BTC" | "ETH")
    }
}

pub const MONEYS: [Money; 7] = [
    Money { code: "USD", share: 1, majors: usize::MAX, currency: "usd" },
    Money { code: "EUR", share: 8, majors: 20, currency: "eur" },
    Money { code: "USDT", share: 13, majors: 15, currency: "usd" },
    Money { code: "GBP", share: 12, majors: 12, currency: "gbp" },
    Money { code: "BTC", share: 16, majors: 20, currency: "btc" },
    Money { code: "USDC", share: 22, majors: 10, currency: "usd" },
    Money { code: "ETH", share: 90, majors: 8, currency: "eth" },
];

/// Whether a product can be traded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Online,
    /// Shown as online, and all the same not tradable.
    Disabled,
    Offline,
    Delisted,
}

/// One product.
#[derive(Debug)]
pub struct Product {
    pub id: String,
    pub base: String,
    pub money: &'static Money,
    pub slot: u32,
    /// Decimals of prices and of sizes.
    pub price_places: usize,
    pub size_places: usize,
    /// For whatever is peculiar to the product.
    pub bits: u64,
    standing: Standing,
    /// One of the few that go offline for some days and come back.
    restless: bool,
}

impl Product {
    pub fn standing(&self, at: i64) -> Standing {
        let turn = (at + (self.bits % (30 * DAY as u64)) as i64).div_euclid(6 * DAY).rem_euclid(5);
        if self.restless && turn == 0 { Standing::Offline } else { self.standing }
    }

    pub fn is_delisted(&self) -> bool {
        self.standing == Standing::Delisted
    }
}

/// All products of a market.
#[derive(Debug)]
pub struct Catalogue {
    pub products: Vec<Product>,
    by_id: HashMap<String, usize>,
}

impl Catalogue {
    pub fn new(market: &Market) -> Catalogue {
        let mut products = Vec::new();
        for (place, (base, coin)) in bases(market).into_iter().enumerate() {
            for (n, money) in (0u64..).zip(&MONEYS) {
                let bits = mix(market.labels(&coin), 0xc0b, n);
                products.extend(product(market, place, &base, &coin, money, bits));
            }
        }
        // In no order, as the vendor's.
        products.sort_by_key(|product| product.bits);
        let by_id = products.iter().enumerate().map(|(n, product)| (product.id.clone(), n)).collect();
        Catalogue { products, by_id }
    }

    pub fn find(&self, id: &str) -> Option<&Product> {
        self.place(id).map(|n| &self.products[n])
    }

    /// Where a product stands among all.
    pub fn place(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }
}

/// The base currencies, largest market cap first. A ticker that several coins share belongs to
/// the one that the market counts first.
fn bases(market: &Market) -> Vec<(String, Coin)> {
    // No coin is called as money is.
    let mut taken: HashSet<String> = ["USD", "EUR", "GBP"].map(str::to_owned).into();
    let mut bases = Vec::new();
    for slot in 0..market.assets() {
        if bases.len() == BASES + FORMER {
            break;
        }
        let coin = market.coin(slot, REFERENCE);
        let ticker = market.symbol(&coin).to_ascii_uppercase();
        let plain = (2..=8).contains(&ticker.len()) && ticker.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !plain || !market.is_steady(slot) || !market.has_market(slot) {
            continue;
        }
        let quote = market.ticker(&coin, REFERENCE).quote(Currency::dollar());
        let cap = quote.market_cap.filter(|_| quote.ranked && quote.price.is_some_and(|price| price >= LOWEST));
        if let Some(cap) = cap
            && taken.insert(ticker.clone())
        {
            bases.push((cap, ticker, coin));
        }
    }
    bases.sort_by(|a, b| b.0.total_cmp(&a.0));
    bases.into_iter().map(|(_, ticker, coin)| (ticker, coin)).collect()
}

fn product(
    market: &Market,
    place: usize,
    base: &str,
    coin: &Coin,
    money: &'static Money,
    bits: u64,
) -> Option<Product> {
    let former = place >= BASES;
    // Nothing is traded against itself, and the dollar of USDC is the dollar.
    let same = base == money.code || (base == "USDC" && money.code == "USD");
    let traded = place < money.majors || bits.is_multiple_of(money.share);
    if same || !traded || (former && money.code != "USD") {
        return None;
    }
    let currency = Currency::find(money.currency)?;
    let price = market.ticker(coin, REFERENCE).quote(currency).price?;
    if money.is_coin() && price < LOWEST_IN_COINS {
        return None;
    }
    let power = price.log10().floor() as i32;
    let merged = money.code == "USDC" && place < money.majors;
    let standing = match bits >> 20 & 63 {
        // Books against USDC were merged into those against the dollar.
        _ if former || merged => Standing::Delisted,
        _ if place < 10 => Standing::Online,
        0 | 1 => Standing::Delisted,
        2 => Standing::Offline,
        3 => Standing::Disabled,
        _ => Standing::Online,
    };
    Some(Product {
        id: format!("{base}-{}", money.code),
        base: base.to_owned(),
        money,
        slot: coin.slot,
        price_places: if money.is_coin() { 8 } else { (4 - power).clamp(2, 11) as usize },
        size_places: (power + 5).clamp(0, 8) as usize,
        bits,
        standing,
        restless: standing == Standing::Online && place >= 10 && (bits >> 30).is_multiple_of(24),
    })
}
