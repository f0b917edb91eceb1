//! The coins in the orders in which they can be asked for.
//!
//! Ranks are those of the beginning of the minute: sorting a million coins takes longer than
//! answering, and the vendor's ranks are not of this second either.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Coin, Market};

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
}

/// The slots of all coins that have a market, sorted.
#[derive(Debug)]
pub struct Sorted {
    pub slots: Vec<u32>,
    /// Place of each slot, from 1; 0 without a market, or without a rank.
    places: Vec<u32>,
    from: i64,
    until: i64,
}

impl Sorted {
    /// The market-cap rank of a slot.
    pub fn place(&self, slot: u32) -> Option<u32> {
        match self.places.get(slot as usize) {
            None | Some(0) => None,
            Some(&place) => Some(place),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Orders {
    cached: [Mutex<Option<Arc<Sorted>>>; 3],
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
            Order::MarketCap | Order::Volume => self.sort_by_figure(order, at),
        });
        *cached = Some(Arc::clone(&sorted));
        sorted
    }

    fn sort_by_figure(&self, order: Order, at: i64) -> Sorted {
        let from = at.div_euclid(MINUTE) * MINUTE;
        let mut keyed: Vec<(f64, u32)> = (0..self.assets)
            .filter(|&slot| self.has_market(slot))
            .map(|slot| {
                let coin = self.coin(slot, from);
                let key = match order {
                    Order::Volume => self.volume_key(&coin, from),
                    _ => self.cap_key(&coin, from),
                };
                (key, slot)
            })
            .collect();
        keyed.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));

        let mut places = vec![0; self.assets as usize];
        for (place, &(key, slot)) in (1..).zip(&keyed) {
            // Keys of coins without a rank are below zero.
            if key >= 0.0 {
                places[slot as usize] = place;
            }
        }
        Sorted { slots: keyed.into_iter().map(|(_, slot)| slot).collect(), places, from, until: from + MINUTE }
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
            from: at,
            until: self.next_churn(at),
        }
    }

    /// Sorts chosen coins as `sorted` would.
    pub fn sort_chosen(&self, order: Order, at: i64, chosen: &mut [Coin]) {
        match order {
            Order::Id => chosen.sort_by_cached_key(|coin| self.id(coin)),
            Order::MarketCap | Order::Volume => {
                let from = at.div_euclid(MINUTE) * MINUTE;
                chosen.sort_by(|a, b| {
                    let key = |coin| match order {
                        Order::Volume => self.volume_key(coin, from),
                        _ => self.cap_key(coin, from),
                    };
                    key(b).total_cmp(&key(a)).then(a.slot.cmp(&b.slot))
                });
            }
        }
    }
}
