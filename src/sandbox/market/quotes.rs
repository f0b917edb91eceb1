//! What a coin is worth at a moment.
//!
//! The price is a closed formula of time, a sum of waves and a little noise, so that the change
//! over any window agrees with the price that was served that long ago.

use super::hash::{bell, between, mix, unit, wave};
use super::{Ask, Coin, Currency, EPOCH, Figures, HOUR, KNOWN, Market};

pub const DAY: i64 = 24 * HOUR;
const SECOND: i64 = 1_000;

/// One coin at one moment: everything needed to ask for its figures in any currency.
#[derive(Debug)]
pub struct Ticker {
    coin: Coin,
    figures: Figures,
    /// Dollars around which the price moves.
    base: f64,
    swing: f64,
    supply: f64,
    max_supply: Option<f64>,
    /// The price in dollars; asked for so often that it is worked out once.
    now: f64,
    phases: u64,
    noise: u64,
    /// The moment that was asked about.
    at: i64,
    /// The moment whose values are shown.
    valued: i64,
    /// The moment that is shown.
    updated: i64,
    nulls: u64,
    traits: [u64; 4],
}

/// A coin's figures in one currency. Money is in that currency, supplies are in coins, times in
/// milliseconds since 1970, changes in percent; nothing is rounded.
#[derive(Debug, Default)]
pub struct Quote {
    pub price: Option<f64>,
    pub market_cap: Option<f64>,
    /// Whether the market cap counts for the ranking.
    pub ranked: bool,
    pub fully_diluted: Option<f64>,
    pub volume: Option<f64>,
    pub day: Option<Day>,
    pub cap_day: Option<CapDay>,
    pub circulating: Option<f64>,
    pub total: Option<f64>,
    pub max: Option<f64>,
    pub ath: Option<(f64, i64)>,
    pub atl: Option<(f64, i64)>,
    pub roi: Option<Roi>,
    pub last_updated: Option<i64>,
    /// Some figures come rounded from their origin: they are short even at full precision.
    pub coarse: bool,
}

/// The last 24 hours of a price.
#[derive(Debug)]
pub struct Day {
    pub high: f64,
    pub low: f64,
    pub change: f64,
    pub percent: f64,
}

/// The last 24 hours of a market cap.
#[derive(Debug)]
pub struct CapDay {
    pub change: f64,
    pub percent: f64,
}

/// What became of the money of the first buyers.
#[derive(Debug)]
pub struct Roi {
    pub times: f64,
    pub currency: &'static str,
}

impl Market {
    /// A coin as it is seen at a moment.
    pub fn ticker(&self, coin: &Coin, at: i64) -> Ticker {
        let ask = |question| self.ask(question, coin.slot, coin.generation);
        let figures = self.figures(coin);
        let (base, supply, swing, max_supply) = self.scale(coin, figures);
        let (valued, updated) = self.update_times(coin, figures, at);
        let mut ticker = Ticker {
            coin: *coin,
            figures,
            base,
            swing,
            supply,
            max_supply,
            now: 0.0,
            phases: ask(Ask::Wave),
            noise: ask(Ask::Noise),
            at,
            valued,
            updated,
            nulls: ask(Ask::Nulls),
            traits: [ask(Ask::Volume), ask(Ask::Ath), ask(Ask::Roi), ask(Ask::MaxSupply)],
        };
        ticker.now = ticker.dollars(valued);
        ticker
    }

    /// What market caps are sorted by; below zero without a rank.
    pub(super) fn cap_key(&self, coin: &Coin, at: i64) -> f64 {
        let ticker = self.ticker(coin, at);
        match ticker.cap_in_dollars() {
            Some(cap) if cap > 0.0 && ticker.is_ranked() => cap,
            Some(_) => -1.0,
            None => -2.0,
        }
    }

    /// What volumes are sorted by.
    pub(super) fn volume_key(&self, coin: &Coin, at: i64) -> f64 {
        let ticker = self.ticker(coin, at);
        ticker.volume_in_dollars().unwrap_or(-1.0)
    }

    /// Base price, supply, swing and maximal supply.
    fn scale(&self, coin: &Coin, figures: Figures) -> (f64, f64, f64, Option<f64>) {
        let ask = |question| self.ask(question, coin.slot, coin.generation);
        match figures {
            Figures::Around { price, supply, max_supply, swing } => (price, supply, swing, max_supply),
            Figures::TinyPrice => (5.8e-21, 2.9e24, 0.002, None),
            Figures::HugeSupply => (4.21, 2.75e58, 0.01, None),
            Figures::Zero => (0.0, 1e9, 0.0, None),
            _ => {
                let cap = typical_cap(self.place(coin)) * (0.35 * bell(ask(Ask::Cap))).exp();
                let bits = ask(Ask::Supply);
                let power = match bits % 1_000 {
                    0 => between(bits, 18.0, 24.4),
                    1..40 => between(bits, 13.0, 17.0),
                    _ => between(bits, 6.0, 12.3),
                };
                let mut supply = 10f64.powf(power);
                if bits % 5 < 2 {
                    supply = supply.round();
                }
                let swing = between(ask(Ask::MaxSupply) << 20, 0.04, 0.4);
                let bits = ask(Ask::MaxSupply);
                let max = match bits % 100 {
                    0..44 => None,
                    44..70 => Some(supply),
                    70..72 => Some((supply * 0.6).round()),
                    _ => Some((supply * between(bits, 1.0, 4.0)).round()),
                };
                // One in sixty is a stablecoin, some of them as good as frozen.
                if (bits >> 40).is_multiple_of(60) {
                    let swing = 10f64.powf(between(bits << 4, -6.0, -3.0));
                    return (1.0, cap.round(), swing, None);
                }
                (cap / supply, supply, swing, max)
            }
        }
    }

    /// Where a coin stands in the ranking by construction: by slot, except that the odd ones
    /// among the first slots are scattered.
    fn place(&self, coin: &Coin) -> f64 {
        if coin.slot as usize >= KNOWN.len() {
            return f64::from(coin.slot);
        }
        let scattered = self.ask(Ask::Position, coin.slot, 0) % u64::from(self.assets);
        scattered.max(40) as f64
    }

    /// Of which moment the values are, and of which they say that they are. Most coins are
    /// updated every minute or so, some every few hours or days.
    fn update_times(&self, coin: &Coin, figures: Figures, at: i64) -> (i64, i64) {
        let bits = self.ask(Ask::Period, coin.slot, coin.generation);
        let seconds = match figures {
            Figures::Around { .. } => between(bits, 20.0, 60.0),
            Figures::Restless => between(bits, 300.0, 600.0),
            Figures::Stale => 20.0 * 86_400.0,
            _ => match bits % 1_000 {
                0..700 => between(bits, 45.0, 90.0),
                700..900 => between(bits, 90.0, 300.0),
                900..960 => between(bits, 300.0, 3_600.0),
                960..990 => between(bits, 3_600.0, 86_400.0),
                _ => between(bits, 86_400.0, 22.0 * 86_400.0),
            },
        };
        let period = (seconds * SECOND as f64) as i64;
        let phase = self.ask(Ask::Phase, coin.slot, coin.generation) % period as u64;
        let since = (at - EPOCH + phase as i64).rem_euclid(period);
        let updated = at - since;
        match figures {
            Figures::Stale => (updated - 2 * DAY, updated - 2 * DAY),
            Figures::Restless => (at - since % (15 * SECOND), updated),
            _ => (updated, updated),
        }
    }
}

impl Ticker {
    /// All figures in one currency.
    pub fn quote(&self, currency: &Currency) -> Quote {
        let timeless = self.figures == Figures::Timeless
            || (self.figures == Figures::Nothing && self.nulls.is_multiple_of(8))
            || (self.figures == Figures::Nothing && self.is_known());
        let last_updated = (!timeless).then_some(self.updated);
        if self.figures == Figures::Nothing {
            return Quote { last_updated, ..Quote::default() };
        }

        let rate = currency.rate(self.valued);
        let price = self.now * rate;
        let unranked = self.figures == Figures::Unranked;
        let cap = self.cap_in_dollars().unwrap_or(0.0) * rate;
        let [_, ath_bits, _, supply_bits] = self.traits;
        let total = match (supply_bits >> 8) % 100 {
            0..2 => None,
            2..27 if unranked => None,
            27..70 => Some(self.supply),
            _ => Some(self.supply * between(supply_bits, 1.0, 2.5)),
        };
        let fully_diluted = match (supply_bits >> 16) % 100 {
            _ if unranked => None,
            0..6 if !self.is_major() => None,
            _ => Some(total.unwrap_or(self.supply) * price),
        };
        let day = self.day(currency, price);
        let cap_day = match &day {
            Some(day) if !self.nulls.is_multiple_of(500) => Some(cap_day(day, cap, self.nulls)),
            _ => None,
        };
        Quote {
            price: Some(price),
            market_cap: Some(cap),
            ranked: self.is_ranked() && cap > 0.0,
            fully_diluted,
            volume: self.volume_in_dollars().map(|volume| volume * rate),
            day,
            cap_day,
            circulating: Some(if unranked { 0.0 } else { self.supply }),
            total,
            max: self.max_supply,
            ath: Some(self.extreme(currency, ath_bits, true)),
            atl: Some(self.extreme(currency, ath_bits, false)),
            roi: self.roi(),
            last_updated,
            coarse: self.nulls >> 40 & 3 == 0 || (self.figures == Figures::Zero && self.is_known()),
        }
    }

    /// The change over a window in percent; none when the coin is younger or its trade too old.
    pub fn change(&self, currency: &Currency, window: i64) -> Option<f64> {
        let age = self.at - self.updated;
        let too_old = match window {
            0..DAY => 6 * HOUR,
            DAY => DAY,
            _ => 10 * DAY,
        };
        // A few are missing for no reason that could be seen from outside.
        let missing = mix(self.nulls, window as u64, 0).is_multiple_of(150) && !self.is_major();
        if self.figures == Figures::Nothing || missing || age > too_old || self.at - self.coin.born < window {
            return None;
        }
        let now = self.now * currency.rate(self.valued);
        let then = self.dollars(self.valued - window) * currency.rate(self.valued - window);
        Some(if then == 0.0 { 0.0 } else { (now / then - 1.0) * 100.0 })
    }

    /// The price of a moment before; none for coins without a price.
    pub fn price_at(&self, currency: &Currency, before: i64) -> Option<f64> {
        let at = self.valued - before;
        (self.figures != Figures::Nothing).then(|| self.dollars(at) * currency.rate(at))
    }

    /// The price at a moment; none for coins without a price.
    pub fn price_of(&self, currency: &Currency, at: i64) -> Option<f64> {
        (self.figures != Figures::Nothing).then(|| self.dollars(at) * currency.rate(at))
    }

    fn dollars(&self, at: i64) -> f64 {
        let t = (at - EPOCH) as f64 / SECOND as f64;
        let phase = |n: u32| f64::from((self.phases >> (16 * n)) as u16) / 65_536.0;
        let moved = 0.04 * wave(t, 4_700.0, phase(0))
            + 0.2 * wave(t, 47_000.0, phase(1))
            + 1.0 * wave(t, 520_000.0, phase(2))
            + 1.6 * wave(t, 4_900_000.0, phase(3))
            + 0.01 * bell(mix(self.noise, at.div_euclid(15 * SECOND) as u64, 0));
        let price = self.base * (self.swing * moved).exp();
        if self.figures == Figures::Exploded && self.valued - at > 12 * HOUR {
            return price / 119_100.0;
        }
        price
    }

    fn cap_in_dollars(&self) -> Option<f64> {
        match self.figures {
            Figures::Nothing => None,
            Figures::Unranked | Figures::HugeSupply => Some(0.0),
            _ => Some(self.now * self.supply),
        }
    }

    /// The change of the volume over a window in percent.
    pub fn volume_change(&self, window: i64) -> Option<f64> {
        let (now, then) = (self.volume_in_dollars()?, self.volume_at(self.valued - window)?);
        Some(if then == 0.0 { 0.0 } else { (now / then - 1.0) * 100.0 })
    }

    fn volume_in_dollars(&self) -> Option<f64> {
        self.volume_at(self.valued)
    }

    fn volume_at(&self, at: i64) -> Option<f64> {
        let bits = self.traits[0];
        let t = (at - EPOCH) as f64 / SECOND as f64;
        let busy = (0.4 * wave(t, 83_000.0, unit(bits >> 8))).exp();
        let silent = bits % 100 < if self.figures == Figures::Unranked { 12 } else { 3 };
        match self.figures {
            Figures::Nothing => None,
            Figures::Around { .. } => Some(self.base * self.supply * between(bits, 0.008, 0.06) * busy),
            _ if silent => Some(0.0),
            Figures::Unranked | Figures::HugeSupply => Some(10f64.powf(between(bits, 0.0, 5.0)) * busy),
            _ => {
                let turnover = 10f64.powf(between(bits, -4.0, -0.5));
                Some(self.base * self.supply * turnover * busy)
            }
        }
    }

    fn day(&self, currency: &Currency, price: f64) -> Option<Day> {
        let percent = self.change(currency, DAY)?;
        let before = self.price_at(currency, DAY)?;
        let reach = self.swing * 0.2 * unit(self.nulls);
        let (high, low) = match self.nulls >> 20 & 127 {
            // The vendor's extremes lag behind its price now and then.
            0 => (price * 0.999_9, price.min(before) * 0.98),
            _ => (price.max(before) * (1.0 + reach), price.min(before) * (1.0 - reach)),
        };
        Some(Day { high, low, change: price - before, percent })
    }

    /// The highest or lowest price ever, beyond everything that `dollars` can return.
    fn extreme(&self, currency: &Currency, bits: u64, highest: bool) -> (f64, i64) {
        let bits = mix(bits, u64::from(highest), 0);
        let far = 3.2 * self.swing + between(bits, 0.05, 7.0) * self.swing.sqrt();
        let price = match highest {
            true => self.base * far.exp(),
            false if self.figures == Figures::Exploded => self.base / 400_000.0,
            false => self.base * (-far).exp(),
        };
        let mut at = EPOCH - 2_000 * DAY + (bits % (4_000 * DAY as u64)) as i64;
        if bits >> 60 == 0 {
            at -= at.rem_euclid(DAY);
        }
        (price * currency.mean_rate(), at)
    }

    fn roi(&self) -> Option<Roi> {
        let bits = self.traits[2];
        bits.is_multiple_of(10).then(|| Roi {
            times: between(bits, -1.0, 45.0),
            currency: ["usd", "btc", "eth"][(bits >> 8) as usize % 3],
        })
    }

    fn is_ranked(&self) -> bool {
        !matches!(self.figures, Figures::Unranked | Figures::HugeSupply | Figures::Nothing)
    }

    fn is_known(&self) -> bool {
        (self.coin.slot as usize) < KNOWN.len()
    }

    fn is_major(&self) -> bool {
        matches!(self.figures, Figures::Around { .. })
    }
}

/// The market cap that a place in the ranking usually has, in dollars.
fn typical_cap(place: f64) -> f64 {
    2.5e11 / (place + 2.0).powf(1.25) / (1.0 + (place / 3_000.0).powi(2))
}

/// Supply hardly changes in a day, so the cap moves nearly as the price does.
fn cap_day(day: &Day, cap: f64, bits: u64) -> CapDay {
    if cap == 0.0 {
        return CapDay { change: 0.0, percent: 0.0 };
    }
    let percent = day.percent + 0.004 * bell(bits);
    if (bits >> 40) % 200 == 7 {
        // A cap that did not move leaves the rounding of the vendor's subtraction: -1.4e-06 of a dollar.
        let change = -cap * f64::EPSILON * (1.0 + unit(bits >> 8));
        return CapDay { change, percent: 0.0 };
    }
    CapDay { change: cap - cap / (1.0 + percent / 100.0), percent }
}
