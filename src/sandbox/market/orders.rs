//! The coins in the orders in which they can be asked for.
//!
//! Ranks are those of the beginning of the minute: sorting a million coins takes longer than
//! answering, and the vendor's ranks are not of this second either.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Coin, Currency, DAY, Market};

const MINUTE: i64 = 60_000;

/// What to sort by. The other direction is the same order read backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Largest market cap first; coins without a rank after all others.
    MarketCap,
    /// Largest volume first.
    Volume,
    /// Smallest id first, byte by byte.
    Id,
    /// Dearest first, in dollars.
    Price,
    /// Largest circulating supply first.
    Circulating,
    /// The latest to appear first.
    Newest,
    /// By name, without regard to case.
    Name,
    /// By symbol, without regard to case.
    Symbol,
    /// The largest gain of an hour first; coins without one after all others.
    HourGain,
    /// The same over a day.
    DayGain,
    /// The same over a week.
    WeekGain,
}

/// How many orders there are.
const ORDERS: usize = Order::WeekGain as usize + 1;

/// The slots of all coins that have a market, sorted.
#[derive(Debug)]
pub struct Sorted {
    pub slots: Vec<u32>,
    /// Place of each slot, from 1; 0 without a market. Known of the market-cap order alone.
    places: Vec<u32>,
    /// How many of the places are ranks.
    ranked: u32,
    /// The sum of what was sorted by, where it is a sum of money: in dollars.
    pub total: f64,
    from: i64,
    until: i64,
}

impl Sorted {
    /// The market-cap rank of a slot.
    pub fn place(&self, slot: u32) -> Option<u32> {
        self.position(slot).filter(|&place| place <= self.ranked)
    }

    /// The place of a slot among all that have a market: the rank, continued where there is none.
    pub fn position(&self, slot: u32) -> Option<u32> {
        match self.places.get(slot as usize) {
            None | Some(0) => None,
            Some(&place) => Some(place),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Orders {
    cached: [Mutex<Option<Arc<Sorted>>>; ORDERS],
}

impl Market {
    /// The coins in an order; made when it is first asked for, and again when it is out of date.
    pub fn sorted(&self, order: Order, at: i64) -> Arc<Sorted> {
        let cell = &self.orders.cached[order as usize];
        // Held while sorting, so that requests at the same moment do not all sort.
        let mut cached = cell.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sorted) = cached.as_ref()
            && (sorted.from..sorted.until).contains(&at)
        {
            return Arc::clone(sorted);
        }
        *cached = None;
        let sorted = Arc::new(match order {
            Order::Id => self.sort_by_id(at),
            Order::Name => self.sort_by_text(at, |coin| self.name(coin)),
            Order::Symbol => self.sort_by_text(at, |coin| self.symbol(coin)),
            _ => self.sort_by_figure(order, at),
        });
        *cached = Some(Arc::clone(&sorted));
        sorted
    }

    fn sort_by_figure(&self, order: Order, at: i64) -> Sorted {
        let from = at.div_euclid(MINUTE) * MINUTE;
        let mut keyed: Vec<(f64, u32)> = (0..self.assets)
            .filter(|&slot| self.has_market(slot))
            .map(|slot| (self.key(order, &self.coin(slot, from), from), slot))
            .collect();
        keyed.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));

        let mut places = Vec::new();
        if order == Order::MarketCap {
            places = vec![0; self.assets as usize];
            for (place, &(_, slot)) in (1..).zip(&keyed) {
                places[slot as usize] = place;
            }
        }
        // Keys of coins without a rank are below zero.
        let ranked = keyed.partition_point(|(key, _)| *key >= 0.0);
        Sorted {
            total: keyed[..ranked].iter().map(|(key, _)| key).sum(),
            slots: keyed.into_iter().map(|(_, slot)| slot).collect(),
            places,
            ranked: ranked as u32,
            from,
            until: from + MINUTE,
        }
    }

    fn key(&self, order: Order, coin: &Coin, at: i64) -> f64 {
        let gain = |window| self.ticker(coin, at).change(Currency::dollar(), window).unwrap_or(f64::NEG_INFINITY);
        match order {
            Order::MarketCap | Order::Id | Order::Name | Order::Symbol => self.cap_key(coin, at),
            Order::Volume => self.volume_key(coin, at),
            Order::Price => self.ticker(coin, at).price_at(Currency::dollar(), 0).unwrap_or(-1.0),
            Order::Circulating => {
                // What nobody believes counts as nothing.
                let quote = self.ticker(coin, at).quote(Currency::dollar());
                quote.circulating.filter(|_| quote.ranked).unwrap_or(0.0)
            }
            Order::Newest => self.first_seen(coin) as f64,
            Order::HourGain => gain(DAY / 24),
            Order::DayGain => gain(DAY),
            Order::WeekGain => gain(7 * DAY),
        }
    }

    fn sort_by_text(&self, at: i64, text: impl Fn(&Coin) -> String) -> Sorted {
        let from = at.div_euclid(MINUTE) * MINUTE;
        let mut keyed: Vec<(String, u32)> = (0..self.assets)
            .filter(|&slot| self.has_market(slot))
            .map(|slot| (text(&self.coin(slot, from)).to_lowercase(), slot))
            .collect();
        keyed.sort_unstable();
        Sorted {
            slots: keyed.into_iter().map(|(_, slot)| slot).collect(),
            places: Vec::new(),
            ranked: 0,
            total: 0.0,
            from,
            until: from + MINUTE,
        }
    }

    fn sort_by_id(&self, at: i64) -> Sorted {
        // Sorting by the first 32 bytes needs 36 MB for a million coins, sorting strings three
        // times that; ids that agree in all 32 are spelt out again.
        let mut keyed: Vec<([u8; 32], u32)> = (0..self.assets)
            .filter(|&slot| self.has_market(slot))
            .map(|slot| {
                let id = self.id(&self.coin(slot, at));
                let mut key = [0; 32];
                let head = id.len().min(32);
                key[..head].copy_from_slice(&id.as_bytes()[..head]);
                (key, slot)
            })
            .collect();
        let id_of = |slot| self.id(&self.coin(slot, at));
        keyed.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| id_of(a.1).cmp(&id_of(b.1))));
        Sorted {
            slots: keyed.into_iter().map(|(_, slot)| slot).collect(),
            places: Vec::new(),
            ranked: 0,
            total: 0.0,
            from: at,
            until: self.next_churn(at),
        }
    }

    /// Sorts chosen coins as `sorted` would.
    pub fn sort_chosen(&self, order: Order, at: i64, chosen: &mut [Coin]) {
        match order {
            Order::Id => chosen.sort_by_cached_key(|coin| self.id(coin)),
            _ => {
                let from = at.div_euclid(MINUTE) * MINUTE;
                chosen.sort_by(|a, b| {
                    let key = |coin| self.key(order, coin, from);
                    key(b).total_cmp(&key(a)).then(a.slot.cmp(&b.slot))
                });
            }
        }
    }
}
