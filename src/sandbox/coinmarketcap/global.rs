//! `/v1/global-metrics/quotes/latest`: the whole market in one record.

use super::super::answer::Answer;
use super::super::json::{integer, key, rounded};
use super::super::market::Order;
use super::Request;
use super::parameters::Parameters;
use super::record::{number, time};

/// As fresh as the vendor's.
const REFRESH: i64 = 300_000;

pub fn answer(request: &Request<'_>) -> Result<(Answer, u32), Answer> {
    let parameters = Parameters::new(request.query, request.envelope, &["convert", "convert_id"], &[])?;
    let conversion = parameters.conversion()?;
    let (market, at) = (request.market, request.at);
    let caps = market.sorted(Order::MarketCap, at);
    let volume = market.sorted(Order::Volume, at).total;
    let share = |id: &str| {
        let cap = market.find(id, at).and_then(|coin| market.ticker(&coin, at).quote(conversion.currency).market_cap);
        100.0 * cap.unwrap_or(0.0) / (caps.total * conversion.currency.rate(at)).max(1.0)
    };
    let (bitcoin, ethereum) = (share("bitcoin"), share("ethereum"));
    let active = caps.slots.len() as i64;
    let gone = (0..market.assets()).filter(|slot| market.gone(*slot, at).is_some()).count() as i64;
    let updated = at.div_euclid(REFRESH) * REFRESH - 1;

    let mut out = b"{".to_vec();
    for (field, count) in [
        ("active_cryptocurrencies", active),
        ("total_cryptocurrencies", i64::from(market.assets()) + gone),
        ("active_market_pairs", active * 9),
        ("active_exchanges", 785),
        ("total_exchanges", 10_023),
    ] {
        key(&mut out, field);
        integer(&mut out, count);
    }
    number(&mut out, "eth_dominance", Some(rounded(ethereum, 12)));
    number(&mut out, "btc_dominance", Some(rounded(bitcoin, 12)));
    key(&mut out, "quote");
    out.push(b'{');
    key(&mut out, conversion.symbol);
    out.push(b'{');
    let rate = conversion.currency.rate(at);
    let (cap, volume) = (caps.total * rate, volume * rate);
    for (field, figure) in [
        ("total_market_cap", cap),
        ("total_volume_24h", volume),
        ("total_volume_24h_reported", volume * 5.25),
        ("altcoin_volume_24h", volume * 0.69),
        ("altcoin_volume_24h_reported", volume * 3.97),
        ("altcoin_market_cap", cap * (1.0 - bitcoin / 100.0)),
    ] {
        number(&mut out, field, Some(figure));
    }
    for closing in [&b"}}"[..], b"}"] {
        key(&mut out, "last_updated");
        time(&mut out, Some(updated));
        out.extend_from_slice(closing);
    }
    let credits = request.credits(1, 1);
    Ok((request.envelope.answer(&out, credits, None), credits))
}
