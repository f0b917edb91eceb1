//! The coins of a source as people ask for them: by symbol, by name or by the source's own id.
//!
//! Kept in memory under the version of the data, because every question about coins needs them and they
//! hardly change; and because the three databases agree on bytes only, not on what differs in case.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

use super::assets;
use super::conn::Connection;
use super::error::DbError;
use super::sql::{places, sql, stored as stamp};
use super::version::Version;
use crate::domain::Stamp;

/// Sources that are kept at once, and coins of each: some megabytes. More are read each time.
const MOST_SOURCES: usize = 4;
const MOST_COINS: usize = 50_000;
/// A rank counts for so long while other things are observed of the coin.
const RANKED_FOR: chrono::TimeDelta = chrono::TimeDelta::days(1);
/// A rank that was told so much before another coin's comes behind it.
const BEHIND: chrono::TimeDelta = chrono::TimeDelta::days(7);
/// Somebody's own SQL has no run that would tell of it.
const KEPT_FOR: Duration = Duration::from_secs(15);

/// A coin with its labels for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coin {
    pub id: i64,
    pub source_id: String,
    /// In upper case.
    pub symbol: String,
    /// Where the source told none, the symbol; where it told neither, its id.
    pub name: String,
    pub active: bool,
    pub first_seen_at: Stamp,
    /// When the labels were stored.
    pub updated_at: Stamp,
}

/// The coins of a source in the order of our ids.
#[derive(Debug, Default)]
pub struct Coins {
    coins: Vec<Coin>,
    /// Hashes of folded symbols, names and ids, sorted, with the place of the coin.
    labels: Vec<(u64, u32)>,
}

/// What is compared where case makes no difference. There and back: of ß and ẞ the upper case is SS, and Σ
/// has two lower cases.
pub fn folded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.to_lowercase().to_uppercase().to_lowercase().replace('ς', "σ")
}

impl Coins {
    pub fn load(conn: &mut Connection, source: &str) -> Result<Coins, DbError> {
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = BigInt)]
            id: i64,
            #[diesel(sql_type = Text)]
            source_id: String,
            #[diesel(sql_type = Text)]
            symbol: String,
            #[diesel(sql_type = Text)]
            name: String,
            #[diesel(sql_type = Bool)]
            active: bool,
            #[diesel(sql_type = Timestamp)]
            first_seen_at: chrono::NaiveDateTime,
            #[diesel(sql_type = Timestamp)]
            updated_at: chrono::NaiveDateTime,
        }
        let read = "SELECT id, source_id, symbol, name, active, first_seen_at, updated_at FROM assets WHERE source = ?";
        let rows = sql(read).bind(source).load::<Row>(conn, "reading the coins of a source")?;
        let coins = rows.into_iter().map(|row| {
            let symbol = row.symbol.to_uppercase();
            let name = match (row.name.is_empty(), symbol.is_empty()) {
                (false, _) => row.name,
                (true, false) => symbol.clone(),
                (true, true) => row.source_id.clone(),
            };
            let (first_seen_at, updated_at) = (stamp(row.first_seen_at), stamp(row.updated_at));
            Coin { id: row.id, source_id: row.source_id, symbol, name, active: row.active, first_seen_at, updated_at }
        });
        Ok(Coins::new(coins.collect()))
    }

    fn new(mut coins: Vec<Coin>) -> Coins {
        coins.sort_by_key(|coin| coin.id);
        let mut labels = Vec::with_capacity(coins.len() * 3);
        for (place, coin) in coins.iter().enumerate() {
            for label in [&coin.symbol, &coin.name, &coin.source_id] {
                if !label.is_empty() {
                    labels.push((xxh3_64(folded(label).as_bytes()), place as u32));
                }
            }
        }
        labels.sort_unstable();
        labels.dedup();
        Coins { coins, labels }
    }

    pub fn all(&self) -> &[Coin] {
        &self.coins
    }

    /// The place of a coin by our id.
    pub fn place(&self, id: i64) -> Option<usize> {
        // Ids are given out one after the other, so this is where it stands at most times.
        let guess = usize::try_from(id.checked_sub(self.coins.first()?.id)?).ok()?;
        match self.coins.get(guess) {
            Some(coin) if coin.id == id => Some(guess),
            _ => self.coins.binary_search_by_key(&id, |coin| coin.id).ok(),
        }
    }

    /// Coins with this symbol, name or id, whatever the case.
    pub fn matching(&self, text: &str) -> Vec<&Coin> {
        let wanted = folded(text);
        let hash = xxh3_64(wanted.as_bytes());
        let from = self.labels.partition_point(|(label, _)| *label < hash);
        let same_hash = self.labels[from..].iter().take_while(|(label, _)| *label == hash);
        let coins = same_hash.filter_map(|(_, place)| self.coins.get(*place as usize));
        coins.filter(|coin| [&coin.symbol, &coin.name, &coin.source_id].iter().any(|l| folded(l) == wanted)).collect()
    }
}

/// Which coin a text means.
#[derive(Debug, Clone, PartialEq)]
pub enum Meant {
    Nobody,
    /// This one, with the others that it may also mean, best rank first.
    This {
        coin: Coin,
        rank: Option<i64>,
        also: Vec<Coin>,
    },
    /// Several that are listed alike, and none has a rank.
    Any(Vec<Coin>),
}

/// The matching coin with the best market-cap rank: an active one where there is one, ranked or not. The rank
/// of an only one is looked up where `rank` says so.
pub fn meant(conn: &mut Connection, coins: &Coins, text: &str, rank: bool) -> Result<Meant, DbError> {
    let matching: Vec<Coin> = coins.matching(text).into_iter().cloned().collect();
    if matching.is_empty() {
        return Ok(Meant::Nobody);
    }
    let ranks = if rank || matching.len() > 1 { ranks(conn, &matching)? } else { HashMap::new() };
    let newest = ranks.values().map(|(told, _)| *told).max();
    // A source that went on without a coin ranks it no more.
    let is_old = |id: i64| ranks.get(&id).zip(newest).is_some_and(|((told, _), newest)| newest - *told > BEHIND);
    let mut ranked: Vec<(Option<i64>, Coin)> =
        matching.into_iter().map(|coin| (ranks.get(&coin.id).map(|(_, rank)| *rank), coin)).collect();
    ranked.sort_by_key(|(rank, coin)| (!coin.active, rank.is_none(), is_old(coin.id), *rank, coin.id));
    if ranked.len() > 1 && ranked[0].0.is_none() {
        // Its own id, letter by letter, is nobody else's.
        match ranked.iter().position(|(_, coin)| coin.source_id == text) {
            Some(place) => ranked[..=place].rotate_right(1),
            // The only active one.
            None if ranked[0].1.active && !ranked[1].1.active => {}
            None => return Ok(Meant::Any(ranked.into_iter().map(|(_, coin)| coin).collect())),
        }
    }
    let (rank, coin) = ranked.remove(0);
    Ok(Meant::This { coin, rank, also: ranked.into_iter().map(|(_, coin)| coin).collect() })
}

/// The newest rank of each coin and when it was told, whatever the currency it was told with. One from before
/// the last day on which anything was observed of the coin is nobody's any more; points of charts carry none,
/// so the newest row alone doesn't tell.
fn ranks(conn: &mut Connection, coins: &[Coin]) -> Result<HashMap<i64, (chrono::NaiveDateTime, i64)>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        asset_id: i64,
        #[diesel(sql_type = Nullable<Integer>)]
        standing: Option<i32>,
        #[diesel(sql_type = Nullable<Timestamp>)]
        told: Option<chrono::NaiveDateTime>,
        #[diesel(sql_type = Nullable<Timestamp>)]
        seen: Option<chrono::NaiveDateTime>,
    }
    let newest = |column: &str, which: &str| {
        format!(
            "(SELECT q.{column} FROM prices q WHERE q.asset_id = held.asset_id AND q.vs_currency = held.vs_currency \
             {which}ORDER BY q.observed_at DESC LIMIT 1)"
        )
    };
    let ranked = "AND q.market_cap_rank IS NOT NULL ";
    let mut best: HashMap<i64, (chrono::NaiveDateTime, i64)> = HashMap::new();
    let mut newest_of: HashMap<i64, chrono::NaiveDateTime> = HashMap::new();
    for chunk in coins.chunks(100) {
        let these = places(1, chunk.len());
        // From currency to currency of a coin along the key, as in the view latest_prices.
        let next = |more: &str| {
            format!("(SELECT q.vs_currency FROM prices q WHERE q.asset_id = {more} ORDER BY q.vs_currency LIMIT 1)")
        };
        let read = format!(
            "WITH RECURSIVE held (asset_id, vs_currency) AS (SELECT a.id, {} FROM assets a WHERE a.id IN {these} \
             UNION ALL SELECT h.asset_id, {} FROM held h WHERE h.vs_currency IS NOT NULL) \
             SELECT held.asset_id, {} AS standing, {} AS told, {} AS seen FROM held WHERE held.vs_currency IS NOT NULL",
            next("a.id"),
            next("h.asset_id AND q.vs_currency > h.vs_currency"),
            newest("market_cap_rank", ranked),
            newest("observed_at", ranked),
            newest("observed_at", ""),
        );
        let rows = sql(read).bind_all(chunk.iter().map(|coin| coin.id)).load::<Row>(conn, "reading ranks")?;
        for row in rows {
            let newest = row.seen.max(newest_of.get(&row.asset_id).copied());
            newest_of.extend(newest.map(|newest| (row.asset_id, newest)));
            let (Some(rank), Some(told)) = (row.standing, row.told) else { continue };
            let known = best.entry(row.asset_id).or_insert((told, i64::from(rank)));
            if told > known.0 {
                *known = (told, i64::from(rank));
            }
        }
    }
    let is_of_now =
        |id: &i64, told: chrono::NaiveDateTime| newest_of.get(id).is_none_or(|seen| *seen - told <= RANKED_FOR);
    best.retain(|id, (told, _)| is_of_now(id, *told));
    Ok(best)
}

/// The coins of the sources that were asked for last, and the source that is meant where none is named.
#[derive(Debug, Default)]
pub struct Catalogues {
    coins: Mutex<HashMap<String, Kept<Arc<Coins>>>>,
    meant: Mutex<Option<Kept<String>>>,
}

#[derive(Debug)]
struct Kept<T> {
    version: Version,
    since: Instant,
    value: T,
}

impl<T: Clone> Kept<T> {
    fn new(version: Version, value: T) -> Self {
        Kept { version, since: Instant::now(), value }
    }

    fn of(&self, version: Version) -> Option<T> {
        (self.version == version && self.since.elapsed() < KEPT_FOR).then(|| self.value.clone())
    }
}

impl Catalogues {
    pub fn get(&self, conn: &mut Connection, version: Version, source: &str) -> Result<Arc<Coins>, DbError> {
        let known = lock(&self.coins).get(source).and_then(|kept| kept.of(version));
        if let Some(known) = known {
            return Ok(known);
        }
        let coins = Arc::new(Coins::load(conn, source)?);
        if !coins.all().is_empty() && coins.all().len() <= MOST_COINS {
            let mut kept = lock(&self.coins);
            if kept.len() >= MOST_SOURCES {
                kept.clear();
            }
            kept.insert(source.to_owned(), Kept::new(version, coins.clone()));
        }
        Ok(coins)
    }

    /// As [`assets::meant_source`].
    pub fn meant_source(
        &self,
        conn: &mut Connection,
        version: Version,
        preferred: &[String],
    ) -> Result<String, DbError> {
        let known = lock(&self.meant).as_ref().and_then(|kept| kept.of(version));
        if let Some(known) = known {
            return Ok(known);
        }
        let meant = assets::meant_source(conn, preferred)?;
        *lock(&self.meant) = Some(Kept::new(version, meant.clone()));
        Ok(meant)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coin(id: i64, source_id: &str, symbol: &str, name: &str) -> Coin {
        let (source_id, symbol, name) = (source_id.to_owned(), symbol.to_owned(), name.to_owned());
        Coin {
            id,
            source_id,
            symbol,
            name,
            active: true,
            first_seen_at: Stamp::default(),
            updated_at: Stamp::default(),
        }
    }

    #[test]
    fn coins_are_found_by_any_label_in_any_case() {
        let coins = Coins::new(vec![
            coin(9, "bitcoin-2", "BTC", "Bitcoin Two"),
            coin(3, "bitcoin", "BTC", "Bitcoin"),
            coin(4, "élan", "ÉLAN", "Élan"),
            coin(5, "sharp-s", &"straße".to_uppercase(), "Straße"),
            coin(6, "sigma", "ΣΑΣ", "Sum"),
            coin(7, "dotted", "İX", "Dotted"),
        ]);
        let ids = |text: &str| coins.matching(text).iter().map(|coin| coin.id).collect::<Vec<_>>();
        assert_eq!(ids("btc"), [3, 9]);
        assert_eq!(ids("BITCOIN"), [3]);
        assert_eq!(ids("bitcoin two"), [9]);
        assert_eq!(ids("ÉLAN"), [4]);
        assert_eq!(ids(""), [0; 0]);
        for text in ["straße", "STRASSE", "Strasse", "STRAẞE", "sharp-S"] {
            assert_eq!(ids(text), [5], "{text}");
        }
        for text in ["ΣΑΣ", "σασ", "σας"] {
            assert_eq!(ids(text), [6], "{text}");
        }
        assert_eq!(ids(&"İX".to_lowercase()), [7]);
        assert_eq!([3, 4, 9, 8, -1, i64::MAX].map(|id| coins.place(id)), [Some(0), Some(1), Some(5), None, None, None]);
    }
}
