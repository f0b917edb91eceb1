//! Products and their figures in Coinbase's shapes: everything a string, prices in full increments.

use super::super::clock::write_time;
use super::super::json::{integer, key, string};
use super::super::market::hash::mix;
use super::catalogue::{Product, Standing};
use super::figures::Figures;

/// What can be wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoilt {
    NotARecord,
    IdNull,
    IdAbsent,
    IdLong,
    BaseNull,
    BaseNumber,
    StatusNumber,
    IncrementText,
}

pub const SPOILT: [Spoilt; 8] = [
    Spoilt::BaseNull,
    Spoilt::NotARecord,
    Spoilt::IdNull,
    Spoilt::StatusNumber,
    Spoilt::IdAbsent,
    Spoilt::IdLong,
    Spoilt::IncrementText,
    Spoilt::BaseNumber,
];

/// What can be wrong with figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpoiltFigures {
    NotARecord,
    LastText,
    LastNumber,
    LastObject,
    LastAbsent,
    LastHuge,
    VolumeText,
    VolumeNegative,
}

pub const SPOILT_FIGURES: [SpoiltFigures; 8] = [
    SpoiltFigures::LastText,
    SpoiltFigures::NotARecord,
    SpoiltFigures::LastObject,
    SpoiltFigures::VolumeText,
    SpoiltFigures::LastHuge,
    SpoiltFigures::LastAbsent,
    SpoiltFigures::VolumeNegative,
    SpoiltFigures::LastNumber,
];

/// Appends a record of `/products`.
pub fn product(out: &mut Vec<u8>, product: &Product, at: i64, spoilt: Option<Spoilt>) {
    if spoilt == Some(Spoilt::NotARecord) {
        out.extend_from_slice(b"null");
        return;
    }
    let standing = product.standing(at);
    out.push(b'{');
    match spoilt {
        Some(Spoilt::IdAbsent) => {}
        Some(Spoilt::IdNull) => out.extend_from_slice(b"\"id\":null"),
        Some(Spoilt::IdLong) => text(out, "id", &format!("{}{}", product.id, "X".repeat(300))),
        _ => text(out, "id", &product.id),
    }
    match spoilt {
        Some(Spoilt::BaseNull) => out.extend_from_slice(b",\"base_currency\":null"),
        Some(Spoilt::BaseNumber) => out.extend_from_slice(b",\"base_currency\":1"),
        _ => text(out, "base_currency", &product.base),
    }
    text(out, "quote_currency", product.money.code);
    let price_increment = match spoilt {
        Some(Spoilt::IncrementText) => "small".to_owned(),
        _ => increment(product.price_places),
    };
    text(out, "quote_increment", &price_increment);
    text(out, "base_increment", &increment(product.size_places));
    text(out, "display_name", &product.id);
    text(out, "min_market_funds", if product.money.is_coin() { "0.000016" } else { "1" });
    let delisted = standing == Standing::Delisted;
    let limit_only = !delisted && (product.bits >> 40) % 30 == 7;
    for (field, value) in
        [("margin_enabled", false), ("post_only", false), ("limit_only", limit_only), ("cancel_only", false)]
    {
        flag(out, field, value);
    }
    let status = match standing {
        Standing::Online | Standing::Disabled => "online",
        Standing::Offline => "offline",
        Standing::Delisted => "delisted",
    };
    match spoilt {
        Some(Spoilt::StatusNumber) => out.extend_from_slice(b",\"status\":1"),
        _ => text(out, "status", status),
    }
    text(out, "status_message", "");
    flag(out, "trading_disabled", standing != Standing::Online);
    let stable = matches!(product.base.as_str(), "USDT" | "USDC" | "DAI") && !product.money.is_coin();
    flag(out, "fx_stablecoin", stable);
    text(out, "max_slippage_percentage", "0.03000000");
    flag(out, "auction_mode", false);
    text(out, "high_bid_limit_percentage", "");
    out.push(b'}');
}

/// Appends a member of `/products/stats`.
pub fn bulk(out: &mut Vec<u8>, product: &Product, figures: &Figures, spoilt: Option<SpoiltFigures>) {
    key(out, &product.id);
    if spoilt == Some(SpoiltFigures::NotARecord) {
        out.extend_from_slice(b"\"Throttled\"");
        return;
    }
    out.extend_from_slice(b"{\"stats_24hour\":{");
    day(out, product, figures, spoilt);
    if let Some(volume) = figures.rfq_volume {
        text(out, "rfq_volume", &size(volume));
    }
    out.push(b'}');
    if let Some(volume) = figures.month_volume {
        out.extend_from_slice(b",\"stats_30day\":{");
        text(out, "volume", &size(volume));
        if figures.rfq_volume.is_some() {
            text(out, "rfq_volume", &size(volume / 100.0));
        }
        out.push(b'}');
    }
    out.push(b'}');
}

/// Appends the answer of `/products/{id}/stats`.
pub fn stats(out: &mut Vec<u8>, product: &Product, figures: &Figures, spoilt: Option<SpoiltFigures>) {
    out.push(b'{');
    day(out, product, figures, spoilt);
    if let Some(volume) = figures.month_volume {
        text(out, "volume_30day", &size(volume));
    }
    if let Some(volume) = figures.rfq_volume {
        text(out, "rfq_volume_24hour", &size(volume));
    }
    out.push(b'}');
}

/// Appends the answer of `/products/{id}/ticker`.
pub fn ticker(out: &mut Vec<u8>, product: &Product, figures: &Figures, spoilt: Option<SpoiltFigures>) {
    // In whole increments, so that the bid is below the ask however small the price is.
    let unit = 10f64.powi(product.price_places as i32);
    let bits = mix(product.bits, 2, figures.traded as u64);
    let last = (figures.last * unit).round();
    let bid = (last - (bits % 2) as f64).max(0.0);
    let ask = bid.max(last - 1.0) + 1.0 + (bits >> 8) as f64 % 3.0;
    out.push(b'{');
    text(out, "ask", &price(product, ask / unit));
    text(out, "bid", &price(product, bid / unit));
    volume(out, figures, spoilt);
    key(out, "trade_id");
    integer(out, figures.traded.div_euclid(1_000).saturating_add((product.bits % 100_000_000) as i64));
    last_price(out, "price", product, figures, spoilt);
    text(out, "size", &size(figures.volume / 10_000.0));
    key(out, "time");
    out.push(b'"');
    write_time(out, figures.traded);
    out.pop();
    // Between three and nine digits behind the second.
    let digits = format!("{:06}", bits >> 16 & 0x7_ffff);
    out.extend_from_slice(&digits.as_bytes()[..(bits >> 40) as usize % 7]);
    out.extend_from_slice(b"Z\"");
    if let Some(volume) = figures.rfq_volume {
        text(out, "rfq_volume", &size(volume));
    }
    out.push(b'}');
}

/// Appends a record of `/products/volume-summary`.
pub fn volumes(out: &mut Vec<u8>, product: &Product, figures: Option<&Figures>) {
    let told = |volume: Option<f64>| volume.map_or(String::new(), size);
    let rfq = figures.and_then(|figures| figures.rfq_volume);
    let month = figures.and_then(|figures| figures.month_volume);
    out.push(b'{');
    text(out, "id", &product.id);
    text(out, "base_currency", &product.base);
    text(out, "quote_currency", product.money.code);
    text(out, "display_name", &product.id);
    key(out, "market_types");
    out.extend_from_slice(if rfq.is_some() { b"[\"spot\",\"rfq\"]" } else { b"[\"spot\"]" });
    text(out, "spot_volume_24hour", &told(figures.map(|figures| figures.volume)));
    text(out, "spot_volume_30day", &told(month));
    text(out, "rfq_volume_24hour", &told(rfq));
    text(out, "rfq_volume_30day", &told(rfq.and(month).map(|volume| volume / 100.0)));
    text(out, "conversion_volume_24hour", "");
    text(out, "conversion_volume_30day", "");
    out.push(b'}');
}

fn day(out: &mut Vec<u8>, product: &Product, figures: &Figures, spoilt: Option<SpoiltFigures>) {
    if let Some(prices) = figures.day {
        for (field, figure) in ["open", "high", "low"].into_iter().zip(prices) {
            text(out, field, &price(product, figure));
        }
    }
    last_price(out, "last", product, figures, spoilt);
    volume(out, figures, spoilt);
}

fn last_price(out: &mut Vec<u8>, field: &str, product: &Product, figures: &Figures, spoilt: Option<SpoiltFigures>) {
    let last = price(product, figures.last);
    let wrong: &[u8] = match spoilt {
        Some(SpoiltFigures::LastAbsent) => return,
        Some(SpoiltFigures::LastText) => b"\"NaN\"",
        Some(SpoiltFigures::LastObject) => b"{}",
        Some(SpoiltFigures::LastHuge) => b"\"1e999\"",
        Some(SpoiltFigures::LastNumber) => last.as_bytes(),
        _ => return text(out, field, &last),
    };
    key(out, field);
    out.extend_from_slice(wrong);
}

fn volume(out: &mut Vec<u8>, figures: &Figures, spoilt: Option<SpoiltFigures>) {
    match spoilt {
        Some(SpoiltFigures::VolumeText) => text(out, "volume", "many"),
        Some(SpoiltFigures::VolumeNegative) => text(out, "volume", "-1"),
        _ => text(out, "volume", &size(figures.volume)),
    }
}

fn price(product: &Product, price: f64) -> String {
    format!("{price:.*}", product.price_places)
}

fn size(size: f64) -> String {
    if size == 0.0 { "0".to_owned() } else { format!("{size:.8}") }
}

/// `0.01` for two places, `1` for none.
fn increment(places: usize) -> String {
    format!("{:.*}", places, 10f64.powi(-(places as i32)))
}

fn text(out: &mut Vec<u8>, field: &str, value: &str) {
    key(out, field);
    string(out, value);
}

fn flag(out: &mut Vec<u8>, field: &str, value: bool) {
    key(out, field);
    out.extend_from_slice(if value { b"true" } else { b"false" });
}
