//! `/v1/cryptocurrency/map`: every coin with its id, also those without a market.

use std::sync::Arc;

use super::super::answer::{Answer, Content};
use super::super::faults::Spoiler;
use super::super::json::{integer, key, plain_string};
use super::super::market::{Coin, Currency, Market, Order, Sorted};
use super::fields::{Aux, Field, Kind};
use super::parameters::Parameters;
use super::record::{SPOILT, Spoilt, names, time};
use super::{Request, ids};

/// Lists up to this long are made whole, longer ones while they are sent.
const WHOLE_LIST: usize = 100_000;
const PER_PIECE: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listed {
    Active,
    Inactive,
    Untracked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Id,
    Rank,
}

/// Answers; the map costs nothing.
pub fn answer(request: &Request<'_>) -> Result<Answer, Answer> {
    let served = ["listing_status", "start", "limit", "sort", "aux"];
    let parameters = Parameters::new(request.query, request.envelope, &served, &["symbol"])?;
    let words = [("active", Listed::Active), ("inactive", Listed::Inactive), ("untracked", Listed::Untracked)];
    let listed = parameters.choice("listing_status", &words)?;
    let sort = parameters.choice("sort", &[("id", Sort::Id), ("cmc_rank", Sort::Rank)])?;
    let start = parameters.number("start", usize::MAX)?.unwrap_or(1);
    let limit = parameters.number("limit", 5_000)?.unwrap_or(usize::MAX);
    let aux = Aux::new(Kind::Map, parameters.text("aux")).map_err(|word| parameters.invalid("aux", word))?;

    let list = List {
        market: Arc::clone(request.market),
        ranks: request.market.sorted(Order::MarketCap, request.at),
        at: request.at,
        aux,
        inactive: listed == Listed::Inactive,
    };
    let slots = match listed {
        // The vendor knows of coins that it does not follow. Nothing here is like that.
        Listed::Untracked => Vec::new(),
        _ => list.sorted(sort),
    };
    let slots: Vec<u32> = slots.into_iter().skip(start - 1).take(limit).collect();
    let spoiler = Spoiler::new(request.struck, slots.len());
    let (mut opening, closing) = (request.envelope.opening(0, None), request.envelope.closing(0, None));
    opening.push(b'[');
    let count = slots.len();
    let pieces = (0..count.div_ceil(PER_PIECE).max(1)).map(move |piece| {
        let first = piece * PER_PIECE;
        let end = count.min(first + PER_PIECE);
        let mut out = if piece == 0 { opening.clone() } else { Vec::with_capacity(300 * PER_PIECE) };
        for (n, &slot) in slots.iter().enumerate().take(end).skip(first) {
            if n > 0 {
                out.push(b',');
            }
            list.record(&mut out, slot, spoiler.and_then(|spoiler| spoiler.of(n, &SPOILT)));
        }
        if end == count {
            out.push(b']');
            out.extend_from_slice(&closing);
        }
        out
    });
    let content = match count {
        0..=WHOLE_LIST => Content::Whole(pieces.flatten().collect()),
        _ => Content::Pieces(Box::new(pieces)),
    };
    Ok(Answer { content, ..request.envelope.answer(b"", 0, None) })
}

struct List {
    market: Arc<Market>,
    ranks: Arc<Sorted>,
    at: i64,
    aux: Aux,
    inactive: bool,
}

impl List {
    /// The slots whose coins are listed.
    fn sorted(&self, sort: Sort) -> Vec<u32> {
        let mut keyed: Vec<(u64, u32)> = (0..self.market.assets())
            .filter_map(|slot| {
                let (coin, _) = self.coin(slot)?;
                let rank = self.ranks.position(slot).filter(|_| !self.inactive);
                let place = match sort {
                    Sort::Id => None,
                    Sort::Rank => Some(rank.map_or(u64::from(u32::MAX), u64::from)),
                };
                Some((place.unwrap_or_else(|| ids::of(&self.market, &coin)), slot))
            })
            .collect();
        keyed.sort_unstable();
        keyed.into_iter().map(|(_, slot)| slot).collect()
    }

    /// The coin of a slot, or the one that was there before, with the time when it left.
    fn coin(&self, slot: u32) -> Option<(Coin, Option<i64>)> {
        match self.inactive {
            false => Some((self.market.coin(slot, self.at), None)),
            true => self.market.gone(slot, self.at).map(|gone| (gone.coin, Some(gone.left))),
        }
    }

    fn record(&self, out: &mut Vec<u8>, slot: u32, spoilt: Option<Spoilt>) {
        let coin = self.coin(slot).filter(|_| spoilt != Some(Spoilt::NotARecord));
        let Some((coin, left)) = coin else {
            out.extend_from_slice(b"null");
            return;
        };
        let has_market = self.market.has_market(slot);
        out.push(b'{');
        names(out, &self.market, &coin, spoilt);
        key(out, "rank");
        match self.ranks.position(slot).filter(|_| left.is_none()) {
            Some(rank) => integer(out, i64::from(rank)),
            None => out.extend_from_slice(b"null"),
        }
        if self.aux.has(Field::IsActive) {
            key(out, "is_active");
            integer(out, i64::from(left.is_none()));
        }
        if self.aux.has(Field::Status) {
            key(out, "status");
            plain_string(out, if left.is_none() { "active" } else { "inactive" });
        }
        if self.aux.has(Field::FirstHistoricalData) {
            key(out, "first_historical_data");
            time(out, has_market.then(|| self.market.first_seen(&coin)));
        }
        if self.aux.has(Field::LastHistoricalData) {
            key(out, "last_historical_data");
            let last = match left {
                Some(left) => Some(left),
                None => self.market.ticker(&coin, self.at).quote(Currency::dollar()).last_updated,
            };
            time(out, last.filter(|_| has_market));
        }
        if self.aux.has(Field::Platform) {
            key(out, "platform");
            super::labels::platform(out, &self.market, &coin);
        }
        out.push(b'}');
    }
}
