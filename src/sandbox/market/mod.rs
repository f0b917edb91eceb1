//! The generated market: which coins exist at a moment, and what they are worth.
//!
//! Everything is a pure function of the seed, the number of assets and the time. A market has as
//! many slots as assets, and each slot holds exactly one coin at every moment; when the coin of a
//! slot changes, one coin vanished and another appeared. Nothing here knows a vendor.

use std::collections::HashMap;
use std::fmt::Write as _;

pub mod currency;
pub mod hash;
mod history;
mod known;
mod orders;
mod past;
mod quotes;
pub mod ticks;
mod words;

pub use currency::Currency;
pub use orders::{Order, Sorted};
pub use past::{Mark, Step};
pub use quotes::{DAY, Quote, Ticker};

use hash::{between, mix};
use known::{Figures, KNOWN};
use orders::Orders;

const HOUR: i64 = 3_600_000;
/// Generations are counted from 2020-01-01, so that their numbers stay short.
const EPOCH: i64 = 1_577_836_800_000;

/// What a hash is asked about; each question gets its own number, so that no two traits of a
/// coin depend on each other by accident.
#[derive(Clone, Copy)]
enum Ask {
    ListOrder = 1,
    Churn,
    ChurnPeriod,
    ChurnPhase,
    ChurnReturns,
    Rename,
    RenamePeriod,
    RenamePhase,
    Words,
    Spelling,
    Symbol,
    Decoration,
    WithoutMarket,
    Position,
    Figures,
    Wave,
    Noise,
    Cap,
    Supply,
    MaxSupply,
    Period,
    Phase,
    Volume,
    Ath,
    Roi,
    Nulls,
    Platforms,
    Image,
    FirstSeen,
    Labels,
}

/// A market; cheap to make, holding nothing but the cached orders of its coins.
#[derive(Debug)]
pub struct Market {
    seed: u64,
    assets: u32,
    list_step: u64,
    known: HashMap<&'static str, u32>,
    orders: Orders,
}

/// A coin: the holder of a slot at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coin {
    pub slot: u32,
    /// Counts the different coins of this slot; part of the coin's identity.
    pub generation: u32,
    /// How often it was renamed; not part of the identity.
    variant: u32,
    /// When the coin appeared in its slot, in milliseconds since 1970.
    born: i64,
}

impl Market {
    pub fn new(seed: u64, assets: u32) -> Market {
        Market {
            seed,
            assets,
            list_step: coprime_step(mix(seed, Ask::ListOrder as u64, 0), u64::from(assets)),
            known: (0u32..).zip(&KNOWN).take(assets as usize).map(|(slot, known)| (known.id, slot)).collect(),
            orders: Orders::default(),
        }
    }

    pub fn assets(&self) -> u32 {
        self.assets
    }

    /// The coin that holds a slot at a moment.
    pub fn coin(&self, slot: u32, at: i64) -> Coin {
        let mut coin = Coin { slot, generation: 0, variant: self.rename_clock(slot, at), born: EPOCH };
        if let Some(clock) = self.churn_clock(slot) {
            let (turns, since) = clock.read(at);
            coin.born = since;
            // Half of them swap between two coins for ever: coins that come back.
            coin.generation = if self.ask(Ask::ChurnReturns, slot, 0).is_multiple_of(2) { turns % 2 } else { turns };
        }
        coin
    }

    /// The n-th coin of a list of all: in an order that is neither by id nor by rank.
    pub fn listed(&self, n: u32, at: i64) -> Coin {
        let (n, assets) = (u64::from(n), u64::from(self.assets));
        let slot = (n * self.list_step + self.list_step / 2) % assets;
        self.coin(slot as u32, at)
    }

    /// Whether a slot holds one of the coins that every market begins with.
    pub fn is_known(&self, slot: u32) -> bool {
        (slot as usize) < KNOWN.len()
    }

    /// Bits for whatever else a vendor tells of a coin, which no figure depends on.
    pub fn labels(&self, coin: &Coin) -> u64 {
        self.ask(Ask::Labels, coin.slot, coin.generation)
    }

    /// Whether markets are known for a coin. The rest is listed and has no figures anywhere.
    pub fn has_market(&self, slot: u32) -> bool {
        self.is_known(slot) || !self.ask(Ask::WithoutMarket, slot, 0).is_multiple_of(1_000)
    }

    /// The coin with an id, if it exists at that moment. Ids are exact: `Bitcoin` is no coin.
    pub fn find(&self, id: &str, at: i64) -> Option<Coin> {
        let slot = match self.known.get(id) {
            Some(&slot) => slot,
            None => self.slot_of_generated(id)?,
        };
        let coin = self.coin(slot, at);
        (self.id(&coin) == id).then_some(coin)
    }

    /// The coin's id, unique at every moment and over time, also without regard to case.
    pub fn id(&self, coin: &Coin) -> String {
        if let Some(known) = KNOWN.get(coin.slot as usize) {
            return known.id.to_owned();
        }
        let (first, second, third) = self.words(coin);
        let mut id = format!("{first}-{second}");
        if !third.0.is_empty() {
            id.push('-');
            id.push_str(third.0);
        }
        if coin.generation > 0 {
            // Like the vendor's `pepe-2`. Writing to a String cannot fail.
            let _ = write!(id, "-{}", coin.generation + 1);
        }
        match self.ask(Ask::Spelling, coin.slot, 0) % 2_000 {
            0..6 => id = id.replace('-', "_"),
            6 => id[..first.len()].make_ascii_uppercase(),
            7 => id = id.replacen('-', " ", 1),
            _ => {}
        }
        id
    }

    /// The coin's symbol; many coins share theirs.
    pub fn symbol(&self, coin: &Coin) -> String {
        if let Some(known) = KNOWN.get(coin.slot as usize) {
            return known.symbol.to_owned();
        }
        let (first, second, third) = self.words(coin);
        let bits = self.ask(Ask::Symbol, coin.slot, coin.generation);
        let mut symbol = match (third.2.strip_prefix('!'), bits % 100) {
            (Some(bridged), _) => bridged.to_owned(),
            (_, 0..10) => words::SHARED[(bits >> 8) as usize % words::SHARED.len()].to_owned(),
            (_, 10..14) => second.to_owned(),
            (_, 14..17) => first.to_owned(),
            (_, 17..50) => format!("{}{}{}", &first[..1], second, third.2),
            _ => format!("{}{}{}", &first[..2], &second[..2], third.2),
        };
        match (bits >> 32) % 4_000 {
            0..12 => symbol.make_ascii_uppercase(),
            12..40 => symbol.insert(0, '$'),
            40 => symbol.clear(),
            41 => symbol.push('ō'),
            42 => symbol.push('🚀'),
            _ => {}
        }
        if coin.variant % 3 == 2 {
            symbol.push('2');
        }
        symbol
    }

    /// The coin's name as people write it, with all the characters that they put in.
    pub fn name(&self, coin: &Coin) -> String {
        let mut name = match KNOWN.get(coin.slot as usize) {
            Some(known) => known.name.to_owned(),
            None => self.generated_name(coin),
        };
        match coin.variant % 3 {
            1 => name.push_str(" (Rebranded)"),
            2 => name.push_str(" V2"),
            _ => {}
        }
        name
    }

    /// Number and version of the coin's picture.
    pub fn image(&self, coin: &Coin) -> (u32, i64) {
        let bits = self.ask(Ask::Image, coin.slot, coin.generation);
        (coin.slot + 1, 1_547_000_000 + (bits % 230_000_000) as i64)
    }

    /// Chains on which the coin lives, with its address there: none for about one in nine, a
    /// null or empty address for a few.
    pub fn platforms(&self, coin: &Coin) -> Vec<(&'static str, Option<String>)> {
        const CHAINS: [&str; 8] =
            ["solana", "ethereum", "binance-smart-chain", "base", "polygon-pos", "arbitrum-one", "avalanche", "tron"];
        let bits = self.ask(Ask::Platforms, coin.slot, coin.generation);
        let count = match bits % 100 {
            0..11 => 0,
            11..85 => 1,
            85..96 => 2,
            _ => 5,
        };
        if coin.slot == 0 {
            return Vec::new();
        }
        (0..count)
            .map(|n| {
                let chain = CHAINS[((bits >> 8) as usize + n) % CHAINS.len()];
                let address = match mix(bits, n as u64, 1) % 1_000 {
                    0 => None,
                    1..15 => Some(String::new()),
                    _ => {
                        let (high, low) = (mix(bits, n as u64, 2), mix(bits, n as u64, 3));
                        let mid = mix(bits, n as u64, 4) as u32;
                        Some(format!("0x{high:016x}{low:016x}{mid:08x}"))
                    }
                };
                (chain, address)
            })
            .collect()
    }

    /// The next moment after `at` at which some slot gets another coin.
    fn next_churn(&self, at: i64) -> i64 {
        (0..self.assets)
            .filter_map(|slot| self.churn_clock(slot))
            .map(|clock| clock.read(at).1 + clock.period)
            .min()
            .unwrap_or(i64::MAX)
    }

    fn ask(&self, question: Ask, slot: u32, generation: u32) -> u64 {
        let what = (u64::from(generation) << 32) | u64::from(slot);
        mix(self.seed, question as u64, what)
    }

    /// One slot in 44 gets another coin every 150 to 250 hours: two swaps an hour at 17,600.
    fn churn_clock(&self, slot: u32) -> Option<Turns> {
        let churns = !self.is_known(slot) && self.ask(Ask::Churn, slot, 0).is_multiple_of(44);
        churns.then(|| self.turns(slot, Ask::ChurnPeriod, Ask::ChurnPhase))
    }

    /// One slot in 88 gives its coin another name as often: one rename an hour at 17,600.
    fn rename_clock(&self, slot: u32, at: i64) -> u32 {
        if !self.is_renamed(slot) {
            return 0;
        }
        let clock = self.turns(slot, Ask::RenamePeriod, Ask::RenamePhase);
        clock.read(at).0
    }

    fn is_renamed(&self, slot: u32) -> bool {
        !self.is_known(slot) && self.ask(Ask::Rename, slot, 0).is_multiple_of(88)
    }

    fn turns(&self, slot: u32, period: Ask, phase: Ask) -> Turns {
        let hours = between(self.ask(period, slot, 0), 150.0, 250.0);
        let period = (hours * HOUR as f64) as i64;
        Turns { period, phase: (self.ask(phase, slot, 0) % period as u64) as i64 }
    }

    fn words(&self, coin: &Coin) -> (&'static str, &'static str, &'static Third) {
        let n = self.shuffle(coin.slot, coin.generation);
        (words::FIRST[(n >> 13) as usize & 127], words::SECOND[(n >> 6) as usize & 127], &words::THIRD[n as usize & 63])
    }

    /// Takes a generated id apart. Spelling is not checked here: the caller compares.
    fn slot_of_generated(&self, id: &str) -> Option<u32> {
        let plain = id.to_ascii_lowercase().replace(['_', ' '], "-");
        let mut parts = plain.splitn(3, '-');
        let (first, second) = (parts.next()?, parts.next()?);
        let mut rest = parts.next().unwrap_or("");
        let mut generation = 0;
        let tail = rest.rsplit('-').next().unwrap_or("");
        if let Ok(number) = tail.parse::<u32>() {
            generation = number.checked_sub(1)?;
            rest = rest[..rest.len() - tail.len()].trim_end_matches('-');
        }
        let first = words::FIRST.iter().position(|word| *word == first)?;
        let second = words::SECOND.iter().position(|word| *word == second)?;
        let third = words::THIRD.iter().position(|word| word.0 == rest)?;
        let slot = self.unshuffle((first << 13 | second << 6 | third) as u32, generation);
        (slot < self.assets).then_some(slot)
    }

    /// A one-to-one mapping of the 2^20 slots onto the 2^20 combinations of words, another one
    /// for each generation (a Feistel network of four rounds over two halves of ten bits).
    fn shuffle(&self, slot: u32, generation: u32) -> u32 {
        let (mut left, mut right) = (slot >> 10 & 1023, slot & 1023);
        for round in 0..4 {
            (left, right) = (right, left ^ self.scramble(right, round, generation));
        }
        left << 10 | right
    }

    fn unshuffle(&self, words: u32, generation: u32) -> u32 {
        let (mut left, mut right) = (words >> 10 & 1023, words & 1023);
        for round in (0..4).rev() {
            (left, right) = (right ^ self.scramble(left, round, generation), left);
        }
        left << 10 | right
    }

    fn scramble(&self, half: u32, round: u32, generation: u32) -> u32 {
        (self.ask(Ask::Words, half << 2 | round, generation) & 1023) as u32
    }

    fn generated_name(&self, coin: &Coin) -> String {
        let (first, second, third) = self.words(coin);
        let mut name = capitalized(first);
        let bits = self.ask(Ask::Decoration, coin.slot, coin.generation);
        name.push_str(if bits.is_multiple_of(5) { "" } else { " " });
        name.push_str(&capitalized(second));
        name.push_str(third.1);
        match (bits >> 16) % 1_000 {
            0 => name.push_str(" 🟥🟩"),
            1 => name.insert(1, '\u{200b}'),
            2 => name.insert_str(0, "صباح "),
            3 => name.push('\u{a0}'),
            4 => name.push(' '),
            5 => name = format!("\"{name}\""),
            6 => name = name.replace(' ', "\\"),
            7 => name.push_str(", Ltd."),
            8 => name.push_str(" 100%"),
            9 => name.push_str(" 币"),
            10 => name.push('\u{301}'),
            11 => name.push_str(" Мoon"),
            12 => name.insert(0, '@'),
            13 => name = name.to_uppercase(),
            14 => name = name.to_lowercase(),
            15..40 => name = capitalized(second),
            _ => {}
        }
        name
    }

    fn figures(&self, coin: &Coin) -> Figures {
        if let Some(known) = KNOWN.get(coin.slot as usize) {
            return known.figures;
        }
        match self.ask(Ask::Figures, coin.slot, coin.generation) % 10_000 {
            0..1_000 => Figures::Unranked,
            1_000..1_040 => Figures::Nothing,
            1_040..1_100 => Figures::Restless,
            1_100..1_102 => Figures::Timeless,
            1_102..1_106 => Figures::Zero,
            _ => Figures::Generated,
        }
    }
}

type Third = (&'static str, &'static str, &'static str);

/// A clock that turns every `period` milliseconds.
struct Turns {
    period: i64,
    phase: i64,
}

impl Turns {
    /// How often it has turned by `at`, and when it last did.
    fn read(&self, at: i64) -> (u32, i64) {
        let turns = (at - EPOCH + self.phase).div_euclid(self.period).max(0);
        let since = EPOCH - self.phase + turns * self.period;
        (u32::try_from(turns).unwrap_or(u32::MAX - 1), since)
    }
}

/// A step that visits all of `0..count` in an order that looks like none.
fn coprime_step(bits: u64, count: u64) -> u64 {
    let gcd = |mut a: u64, mut b: u64| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let start = (count as f64 * (0.55 + 0.2 * hash::unit(bits))) as u64;
    (start.max(1)..).find(|&step| gcd(step, count) == 1).unwrap_or(1)
}

fn capitalized(word: &str) -> String {
    let mut word = word.to_owned();
    if let Some(first) = word.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    word
}

#[cfg(test)]
mod tests;
