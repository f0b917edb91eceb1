//! One coin in CoinMarketCap's shapes: fields, their order, and how the vendor rounds.

use super::super::clock::write_time;
use super::super::json::{integer, key, plain_number, plain_string, rounded};
use super::super::market::hash::{between, mix};
use super::super::market::{Coin, DAY, Market, Order, Quote, Sorted, Ticker};
use super::Version;
use super::conversion::Conversion;
use super::fields::{Aux, Field, Kind};
use super::ids;
use super::labels;

/// What can be wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoilt {
    NotARecord,
    IdAbsent,
    IdNull,
    IdText,
    IdFraction,
    IdLong,
    NameNull,
    SymbolNumber,
    QuoteAbsent,
    QuoteEmpty,
    QuoteOther,
    PriceText,
    PriceInfinite,
    PriceObject,
    CapText,
    TimeText,
}

pub const SPOILT: [Spoilt; 16] = [
    Spoilt::PriceText,
    Spoilt::IdNull,
    Spoilt::QuoteAbsent,
    Spoilt::NotARecord,
    Spoilt::QuoteOther,
    Spoilt::IdAbsent,
    Spoilt::PriceInfinite,
    Spoilt::PriceObject,
    Spoilt::TimeText,
    Spoilt::IdLong,
    Spoilt::SymbolNumber,
    Spoilt::CapText,
    Spoilt::IdText,
    Spoilt::NameNull,
    Spoilt::IdFraction,
    Spoilt::QuoteEmpty,
];

/// Writes records of listings and quotes.
pub struct Recorder<'a> {
    pub market: &'a Market,
    pub at: i64,
    pub version: Version,
    pub kind: Kind,
    pub aux: Aux,
    pub conversion: Conversion,
    ranks: std::sync::Arc<Sorted>,
    /// The market cap of all coins together.
    total_cap: f64,
}

impl<'a> Recorder<'a> {
    pub fn new(
        market: &'a Market,
        at: i64,
        version: Version,
        kind: Kind,
        aux: Aux,
        conversion: Conversion,
    ) -> Recorder<'a> {
        let ranks = market.sorted(Order::MarketCap, at);
        let total_cap = ranks.total * conversion.currency.rate(at);
        Recorder { market, at, version, kind, aux, conversion, ranks, total_cap }
    }

    /// Appends one record.
    pub fn coin(&self, out: &mut Vec<u8>, coin: &Coin, spoilt: Option<Spoilt>) {
        if spoilt == Some(Spoilt::NotARecord) {
            out.extend_from_slice(b"null");
            return;
        }
        let ticker = self.market.ticker(coin, self.at);
        let quote = ticker.quote(self.conversion.currency);
        let bits = self.market.labels(coin);
        out.push(b'{');
        names(out, self.market, coin, spoilt);
        if self.aux.has(Field::NumMarketPairs) {
            key(out, "num_market_pairs");
            integer(out, pairs(&quote, bits));
        }
        if self.aux.has(Field::DateAdded) {
            key(out, "date_added");
            time(out, Some(self.market.first_seen(coin)));
        }
        if self.aux.has(Field::Tags) {
            key(out, "tags");
            labels::tags(out, bits, self.kind == Kind::Quotes && self.version != Version::V1);
        }
        self.supplies(out, &quote);
        if self.aux.has(Field::IsActive) {
            out.extend_from_slice(b",\"is_active\":1");
        }
        key(out, "infinite_supply");
        let infinite = quote.max.is_none() && bits.is_multiple_of(4);
        out.extend_from_slice(if infinite { b"true" } else { b"false" });
        if self.aux.has(Field::IsMarketCapIncludedInCalc) {
            key(out, "is_market_cap_included_in_calc");
            integer(out, i64::from(quote.ranked));
        }
        if self.aux.has(Field::Platform) {
            key(out, "platform");
            labels::platform(out, self.market, coin);
        }
        if self.aux.has(Field::CmcRank) {
            key(out, "cmc_rank");
            match self.ranks.position(coin.slot) {
                Some(rank) => integer(out, i64::from(rank)),
                None => out.extend_from_slice(b"null"),
            }
        }
        if self.aux.has(Field::IsFiat) {
            out.extend_from_slice(b",\"is_fiat\":0");
        }
        let reported = self_reported(&quote, bits);
        number(out, "self_reported_circulating_supply", reported);
        number(out, "self_reported_market_cap", reported.zip(quote.price).map(|(supply, price)| supply * price));
        let tvl = quote.market_cap.filter(|cap| *cap > 0.0 && bits % 14 == 3);
        let tvl = tvl.map(|cap| cap / between(bits, 0.2, 4.0));
        number(out, "tvl_ratio", tvl.zip(quote.market_cap).map(|(tvl, cap)| rounded(cap / tvl, 8)));
        key(out, "last_updated");
        updated(out, &quote, spoilt);
        if spoilt != Some(Spoilt::QuoteAbsent) {
            key(out, "quote");
            self.quotes(out, &ticker, &quote, tvl, spoilt);
        }
        out.push(b'}');
    }

    fn supplies(&self, out: &mut Vec<u8>, quote: &Quote) {
        // A supply that nobody checked counts as none; the project's own figure stands elsewhere.
        let circulating = if quote.ranked { quote.circulating } else { Some(0.0) };
        let fields = [
            (Field::MaxSupply, "max_supply", quote.max),
            (Field::CirculatingSupply, "circulating_supply", circulating),
            (Field::TotalSupply, "total_supply", quote.total.or(quote.circulating)),
        ];
        for (field, name, supply) in fields {
            if self.aux.has(field) {
                number(out, name, supply);
            }
        }
    }

    /// A map by symbol, or in version 3 an array.
    fn quotes(&self, out: &mut Vec<u8>, ticker: &Ticker, quote: &Quote, tvl: Option<f64>, spoilt: Option<Spoilt>) {
        let array = self.version == Version::V3;
        let (open, close) = if array { (b'[', b']') } else { (b'{', b'}') };
        out.push(open);
        if spoilt != Some(Spoilt::QuoteEmpty) {
            let (id, symbol) = match spoilt {
                Some(Spoilt::QuoteOther) => (9_999, "XTS"),
                _ => (self.conversion.id, self.conversion.symbol),
            };
            if array {
                out.push(b'{');
                key(out, "id");
                integer(out, i64::from(id));
                key(out, "symbol");
                plain_string(out, symbol);
            } else {
                key(out, symbol);
                out.push(b'{');
            }
            self.figures(out, ticker, quote, tvl, spoilt);
            out.push(b'}');
        }
        out.push(close);
    }

    fn figures(&self, out: &mut Vec<u8>, ticker: &Ticker, quote: &Quote, tvl: Option<f64>, spoilt: Option<Spoilt>) {
        const WINDOWS: [(&str, i64); 6] = [
            ("percent_change_1h", DAY / 24),
            ("percent_change_24h", DAY),
            ("percent_change_7d", 7 * DAY),
            ("percent_change_30d", 30 * DAY),
            ("percent_change_60d", 60 * DAY),
            ("percent_change_90d", 90 * DAY),
        ];
        key(out, "price");
        match spoilt {
            Some(Spoilt::PriceText) => out.extend_from_slice(b"\"NaN\""),
            Some(Spoilt::PriceInfinite) => out.extend_from_slice(b"1e999"),
            Some(Spoilt::PriceObject) => out.extend_from_slice(b"{\"USD\":1}"),
            _ => value(out, quote.price),
        }
        number(out, "volume_24h", quote.volume);
        number(out, "volume_change_24h", ticker.volume_change(DAY).map(|change| rounded(change, 4)));
        for (field, window) in WINDOWS {
            let change = ticker.change(self.conversion.currency, window);
            number(out, field, change.map(|change| rounded(change, 8)));
        }
        // Unknown is 0 here, never null.
        let cap = quote.market_cap.filter(|_| quote.ranked).unwrap_or(0.0);
        key(out, "market_cap");
        match spoilt {
            Some(Spoilt::CapText) => out.extend_from_slice(b"\"unknown\""),
            _ => plain_number(out, cap),
        }
        number(out, "market_cap_dominance", Some(rounded(100.0 * cap / self.total_cap.max(1.0), 4)));
        let supply = quote.max.or(quote.total).or(quote.circulating);
        let diluted = supply.zip(quote.price).map_or(0.0, |(supply, price)| supply * price);
        number(out, "fully_diluted_market_cap", Some(rounded(diluted, 2)));
        self.more_figures(out, quote, cap);
        number(out, "tvl", tvl);
        key(out, "last_updated");
        updated(out, quote, spoilt);
    }

    /// Those that have to be asked for.
    fn more_figures(&self, out: &mut Vec<u8>, quote: &Quote, cap: f64) {
        let day = quote.volume.unwrap_or(0.0);
        let bits = mix(cap.to_bits(), 0, 0);
        let (week, month) = (day * between(bits, 5.0, 9.0), day * between(bits << 7, 20.0, 40.0));
        let reported = between(bits << 13, 1.0, 6.0);
        let total = quote.total.zip(quote.price).map_or(0.0, |(supply, price)| supply * price);
        for (field, name, figure) in [
            (Field::MarketCapByTotalSupply, "market_cap_by_total_supply", total),
            (Field::Volume24hReported, "volume_24h_reported", day * reported),
            (Field::Volume7d, "volume_7d", week),
            (Field::Volume7dReported, "volume_7d_reported", week * reported),
            (Field::Volume30d, "volume_30d", month),
            (Field::Volume30dReported, "volume_30d_reported", month * reported),
        ] {
            if self.aux.has(field) {
                number(out, name, Some(figure));
            }
        }
    }
}

/// Appends id, name, symbol and slug.
pub fn names(out: &mut Vec<u8>, market: &Market, coin: &Coin, spoilt: Option<Spoilt>) {
    let id = ids::of(market, coin);
    match spoilt {
        Some(Spoilt::IdAbsent) => {}
        Some(Spoilt::IdNull) => out.extend_from_slice(b"\"id\":null"),
        Some(Spoilt::IdText) => out.extend_from_slice(b"\"id\":\"none\""),
        Some(Spoilt::IdFraction) => out.extend_from_slice(b"\"id\":1.5"),
        Some(Spoilt::IdLong) => out.extend_from_slice(b"\"id\":123456789012345678901234567890"),
        _ => {
            key(out, "id");
            integer(out, id as i64);
        }
    }
    key(out, "name");
    match spoilt {
        Some(Spoilt::NameNull) => out.extend_from_slice(b"null"),
        _ => plain_string(out, &market.name(coin)),
    }
    key(out, "symbol");
    match spoilt {
        // As was seen of the coin whose symbol is 42.
        Some(Spoilt::SymbolNumber) => out.extend_from_slice(b"42"),
        _ => plain_string(out, &symbol(market, coin)),
    }
    key(out, "slug");
    plain_string(out, &slug(market, coin));
}

/// In upper case, except where the coin's own spelling is a mixed one, and for one in a hundred.
pub fn symbol(market: &Market, coin: &Coin) -> String {
    let symbol = market.symbol(coin);
    let mixed = symbol != symbol.to_lowercase();
    let kept = !market.is_known(coin.slot) && market.labels(coin).is_multiple_of(100);
    if mixed || kept { symbol } else { symbol.to_uppercase() }
}

/// The coin's name in addresses.
pub fn slug(market: &Market, coin: &Coin) -> String {
    market.id(coin).to_lowercase().replace(' ', "-")
}

/// Appends a member that is a number or null.
pub fn number(out: &mut Vec<u8>, field: &str, figure: Option<f64>) {
    key(out, field);
    value(out, figure);
}

/// Appends a time or null.
pub fn time(out: &mut Vec<u8>, at: Option<i64>) {
    match at {
        None => out.extend_from_slice(b"null"),
        Some(at) => {
            out.push(b'"');
            write_time(out, at);
            out.push(b'"');
        }
    }
}

fn value(out: &mut Vec<u8>, figure: Option<f64>) {
    match figure {
        Some(figure) => plain_number(out, figure),
        None => out.extend_from_slice(b"null"),
    }
}

fn updated(out: &mut Vec<u8>, quote: &Quote, spoilt: Option<Spoilt>) {
    match spoilt {
        Some(Spoilt::TimeText) => plain_string(out, "yesterday"),
        _ => time(out, quote.last_updated),
    }
}

fn pairs(quote: &Quote, bits: u64) -> i64 {
    let volume = quote.volume.unwrap_or(0.0);
    1 + (volume.max(1.0).log10() * between(bits, 0.5, 40.0)) as i64
}

/// The supply that the project itself tells: of coins without a checked one, and some others.
fn self_reported(quote: &Quote, bits: u64) -> Option<f64> {
    let told = quote.circulating.filter(|supply| *supply > 0.0).or(quote.total);
    told.filter(|_| !quote.ranked || bits % 20 < 7)
}
