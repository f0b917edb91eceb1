//! All coins with their newest prices, read once for each version of the data and shared by all who look.
//!
//! `latest_prices` takes up to half a second where there are ten million prices. Sorting, searching and
//! paging are done on this list instead; it takes a few hundred bytes for each coin and currency.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use diesel::sql_types::{BigInt, Bool, Double, Nullable, Text, Timestamp};

use super::{at, stamp};
use crate::db::clock;
use crate::db::coins::folded;
use crate::db::conn::Connection;
use crate::db::error::DbError;
use crate::db::sql::{places, sql};
use crate::db::url::Backend;
use crate::db::version::Version;
use crate::domain::{Stamp, Timeframe};

/// Somebody's own SQL has no run that would tell of it.
const KEPT_FOR: Duration = Duration::from_secs(15);
/// Coins, and prices of coins, that are kept in memory: some hundred megabytes. There are not that many.
const MOST_ROWS: i64 = 500_000;

const DAY_MS: i64 = 86_400_000;

/// Everything that is listed, by source and then by our ids.
#[derive(Debug, Default)]
pub struct Market {
    pub coins: Vec<Coin>,
    pub prices: Vec<Latest>,
    /// Names that coins are stored under, in order.
    pub sources: Vec<Arc<str>>,
}

#[derive(Debug)]
pub struct Coin {
    pub asset_id: i64,
    pub source: Arc<str>,
    pub source_id: Box<str>,
    /// In upper case.
    pub symbol: Box<str>,
    pub name: Box<str>,
    pub active: bool,
    /// Name, symbol and id in lower case, to search in.
    folded: Box<str>,
    prices: std::ops::Range<u32>,
}

/// A row of `latest_prices`, or the newest daily candle of a coin that has none.
#[derive(Debug, Clone)]
pub struct Latest {
    pub vs_currency: Arc<str>,
    pub observed_at: Stamp,
    /// Of a candle, at its end or now: nothing was observed then.
    pub is_close: bool,
    pub price: Option<f64>,
    pub volume_24h: Option<f64>,
    pub market_cap: Option<f64>,
    pub circulating_supply: Option<f64>,
    pub total_supply: Option<f64>,
    pub rank: Option<i64>,
    pub change_1h: Option<f64>,
    pub change_24h: Option<f64>,
    pub change_7d: Option<f64>,
    pub change_30d: Option<f64>,
}

impl Market {
    pub fn prices(&self, coin: &Coin) -> &[Latest] {
        self.prices.get(coin.prices.start as usize..coin.prices.end as usize).unwrap_or_default()
    }

    pub fn of<'a>(&'a self, source: &'a str) -> impl Iterator<Item = &'a Coin> {
        let from = self.coins.partition_point(|coin| *coin.source < *source);
        self.coins[from..].iter().take_while(move |coin| *coin.source == *source)
    }

    pub fn find<'a>(&'a self, source: &'a str, source_id: &str) -> Option<&'a Coin> {
        self.of(source).find(|coin| *coin.source_id == *source_id)
    }

    /// Currencies that prices of a source are stored in.
    pub fn currencies(&self, source: &str) -> Vec<Arc<str>> {
        let mut found: Vec<Arc<str>> = Vec::new();
        for price in self.of(source).flat_map(|coin| self.prices(coin)) {
            if !found.contains(&price.vs_currency) {
                found.push(price.vs_currency.clone());
            }
        }
        found.sort();
        found
    }
}

impl Coin {
    /// How well it fits what somebody types: 0 = by its symbol or whole name, then beginnings, then anywhere.
    /// `wanted` is in lower case.
    pub fn fits(&self, wanted: &str) -> Option<u8> {
        if !self.folded.contains(wanted) {
            return None;
        }
        let parts = || self.folded.split('\n');
        Some(match () {
            () if parts().any(|part| part == wanted) => 0,
            () if parts().any(|part| part.starts_with(wanted)) => 1,
            () => 2,
        })
    }
}

/// The list of the newest version that anybody asked for.
#[derive(Debug, Default)]
pub struct Shared(Mutex<Option<Kept>>);

#[derive(Debug)]
struct Kept {
    version: Version,
    read_at: Instant,
    market: Arc<Market>,
}

impl Shared {
    /// The list as of the version that this connection sees. Those who ask while it is read wait for it.
    pub fn get(&self, conn: &mut Connection, version: Version) -> Result<Arc<Market>, DbError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = &*kept
            && kept.version == version
            && kept.read_at.elapsed() < KEPT_FOR
        {
            return Ok(kept.market.clone());
        }
        let read_at = Instant::now();
        let market = Arc::new(read(conn)?);
        // A reader of an older snapshot must not take the newer list away.
        if kept.as_ref().is_none_or(|kept| kept.version <= version || kept.read_at.elapsed() >= KEPT_FOR) {
            *kept = Some(Kept { version, read_at, market: market.clone() });
        }
        Ok(market)
    }
}

#[derive(diesel::QueryableByName)]
struct CoinRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    source: String,
    #[diesel(sql_type = Text)]
    source_id: String,
    #[diesel(sql_type = Text)]
    symbol: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Bool)]
    active: bool,
}

#[derive(diesel::QueryableByName)]
struct PriceRow {
    #[diesel(sql_type = BigInt)]
    asset_id: i64,
    #[diesel(sql_type = Text)]
    vs_currency: String,
    #[diesel(sql_type = Timestamp)]
    observed_at: chrono::NaiveDateTime,
    #[diesel(sql_type = Nullable<Double>)]
    price: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    volume_24h: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    market_cap: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    circulating_supply: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    total_supply: Option<f64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    place: Option<i64>,
    #[diesel(sql_type = Nullable<Double>)]
    change_1h: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    change_24h: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    change_7d: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    change_30d: Option<f64>,
}

fn read(conn: &mut Connection) -> Result<Market, DbError> {
    const DOING: &str = "reading the newest prices";
    let int = if conn.backend() == Backend::Mysql { "SIGNED" } else { "BIGINT" };
    let coins: Vec<CoinRow> = sql("SELECT id, source, source_id, symbol, name, active FROM assets ORDER BY id LIMIT ?")
        .bind(MOST_ROWS)
        .load(conn, DOING)?;
    let mut rows: Vec<PriceRow> = sql(format!(
        "SELECT asset_id, vs_currency, observed_at, price, volume_24h, market_cap, circulating_supply, total_supply, \
         CAST(market_cap_rank AS {int}) AS place, change_1h, change_24h, change_7d, change_30d FROM latest_prices LIMIT ?"
    ))
    .bind(MOST_ROWS)
    .load(conn, DOING)?;
    complete(conn, &mut rows)?;
    let priced: HashSet<i64> = rows.iter().map(|row| row.asset_id).collect();
    if coins.iter().any(|coin| !priced.contains(&coin.id)) {
        rows.extend(closes(conn)?);
    }
    rows.sort_unstable_by(|a, b| a.asset_id.cmp(&b.asset_id).then_with(|| a.vs_currency.cmp(&b.vs_currency)));
    let mut names = Names::default();
    let mut prices = Vec::with_capacity(rows.len());
    let mut ids = Vec::with_capacity(rows.len());
    for row in rows {
        ids.push(row.asset_id);
        prices.push(Latest {
            vs_currency: names.one(&row.vs_currency),
            observed_at: stamp(DOING, row.observed_at)?,
            is_close: !priced.contains(&row.asset_id),
            price: row.price,
            volume_24h: row.volume_24h,
            market_cap: row.market_cap,
            circulating_supply: row.circulating_supply,
            total_supply: row.total_supply,
            rank: row.place,
            change_1h: row.change_1h,
            change_24h: row.change_24h,
            change_7d: row.change_7d,
            change_30d: row.change_30d,
        });
    }
    let mut coins: Vec<Coin> = coins
        .into_iter()
        .map(|row| {
            let from = ids.partition_point(|id| *id < row.id);
            let to = from + ids[from..].partition_point(|id| *id == row.id);
            let symbol = row.symbol.to_uppercase();
            // Something has to be there to click on.
            let name = [&row.name, &symbol, &row.source_id].into_iter().find(|text| !text.trim().is_empty());
            let name = name.map_or("(no name)", String::as_str).into();
            Coin {
                asset_id: row.id,
                source: names.one(&row.source),
                folded: folded(&format!("{}\n{}\n{}", row.name, row.symbol, row.source_id)).into(),
                source_id: row.source_id.into(),
                symbol: symbol.into(),
                name,
                active: row.active,
                // Four thousand million of them would not be in memory.
                prices: from as u32..to as u32,
            }
        })
        .collect();
    coins.sort_unstable_by(|a, b| a.source.cmp(&b.source).then(a.asset_id.cmp(&b.asset_id)));
    let mut sources: Vec<Arc<str>> = coins.iter().map(|coin| coin.source.clone()).collect();
    sources.dedup();
    Ok(Market { coins, prices, sources })
}

/// A point of a chart may be newer than the newest observation and tell less: a coin's rank, supply and
/// changes are those of the newest row of the last day that has a rank.
fn complete(conn: &mut Connection, rows: &mut [PriceRow]) -> Result<(), DbError> {
    const DOING: &str = "reading the newest ranks";
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        asset_id: i64,
        #[diesel(sql_type = Text)]
        vs_currency: String,
        #[diesel(sql_type = Timestamp)]
        observed_at: chrono::NaiveDateTime,
        #[diesel(sql_type = Nullable<Double>)]
        circulating_supply: Option<f64>,
        #[diesel(sql_type = Nullable<Double>)]
        total_supply: Option<f64>,
        #[diesel(sql_type = BigInt)]
        place: i64,
        #[diesel(sql_type = Nullable<Double>)]
        change_1h: Option<f64>,
        #[diesel(sql_type = Nullable<Double>)]
        change_24h: Option<f64>,
        #[diesel(sql_type = Nullable<Double>)]
        change_7d: Option<f64>,
        #[diesel(sql_type = Nullable<Double>)]
        change_30d: Option<f64>,
    }
    // A source that ranks nothing has nothing to look for.
    if rows.iter().all(|row| row.place.is_none()) {
        return Ok(());
    }
    let lacking = |row: &PriceRow| row.place.is_none() && row.circulating_supply.is_none() && row.change_24h.is_none();
    let mut lacks: HashMap<&str, Vec<i64>> = HashMap::new();
    for row in rows.iter().filter(|row| lacking(row)) {
        lacks.entry(row.vs_currency.as_str()).or_default().push(row.asset_id);
    }
    let Some(newest) = rows.iter().filter(|row| lacking(row)).map(|row| row.observed_at).max() else { return Ok(()) };
    let from = stamp(DOING, newest)?.plus(-DAY_MS).to_string();
    let int = if conn.backend() == Backend::Mysql { "SIGNED" } else { "BIGINT" };
    let at = at(conn);
    let mut found: HashMap<(i64, String), Row> = HashMap::new();
    for (currency, ids) in lacks {
        for ids in ids.chunks(1_000) {
            let read = format!(
                "SELECT p.asset_id, p.vs_currency, p.observed_at, p.circulating_supply, p.total_supply, \
                 CAST(p.market_cap_rank AS {int}) AS place, p.change_1h, p.change_24h, p.change_7d, p.change_30d \
                 FROM assets a JOIN prices p ON p.asset_id = a.id AND p.vs_currency = ? \
                 AND p.observed_at = (SELECT q.observed_at FROM prices q WHERE q.asset_id = a.id \
                 AND q.vs_currency = ? AND q.observed_at >= {at} AND q.market_cap_rank IS NOT NULL \
                 ORDER BY q.observed_at DESC LIMIT 1) WHERE a.id IN {}",
                places(1, ids.len())
            );
            let read = sql(read).bind(currency).bind(currency).bind(from.as_str()).bind_all(ids.iter().copied());
            for told in read.load::<Row>(conn, DOING)? {
                found.insert((told.asset_id, told.vs_currency.clone()), told);
            }
        }
    }
    for row in rows.iter_mut().filter(|row| lacking(row)) {
        let Some(told) = found.remove(&(row.asset_id, row.vs_currency.clone())) else { continue };
        row.place = Some(told.place);
        row.circulating_supply = told.circulating_supply;
        row.total_supply = told.total_supply;
        // A change is of its moment, and a little later nearly the same.
        if row.observed_at - told.observed_at <= chrono::TimeDelta::hours(1) {
            row.change_1h = told.change_1h;
            row.change_24h = told.change_24h;
            row.change_7d = told.change_7d;
            row.change_30d = told.change_30d;
        }
    }
    Ok(())
}

/// The newest daily closes of coins without any stored price, such as those of imported files.
fn closes(conn: &mut Connection) -> Result<Vec<PriceRow>, DbError> {
    const DOING: &str = "reading the newest daily candles";
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        asset_id: i64,
        #[diesel(sql_type = Text)]
        vs_currency: String,
        #[diesel(sql_type = Timestamp)]
        open_time: chrono::NaiveDateTime,
        #[diesel(sql_type = Double)]
        close: f64,
        #[diesel(sql_type = Nullable<Double>)]
        volume: Option<f64>,
        #[diesel(sql_type = Nullable<Double>)]
        market_cap: Option<f64>,
        #[diesel(sql_type = Bool)]
        is_final: bool,
    }
    let newest = match conn.backend() {
        // With a join the planner would rather read and hash the whole table.
        Backend::Postgres => {
            "CROSS JOIN LATERAL (SELECT q.* FROM candles q WHERE q.asset_id = h.asset_id \
             AND q.vs_currency = h.vs_currency AND q.timeframe = '1d' ORDER BY q.open_time DESC LIMIT 1) c"
        }
        Backend::Sqlite | Backend::Mysql => {
            "JOIN candles c ON c.asset_id = h.asset_id AND c.vs_currency = h.vs_currency AND c.timeframe = '1d' \
             AND c.open_time = (SELECT q.open_time FROM candles q WHERE q.asset_id = h.asset_id \
             AND q.vs_currency = h.vs_currency AND q.timeframe = '1d' ORDER BY q.open_time DESC LIMIT 1)"
        }
    };
    // From currency to currency along the key. Nothing but the order makes a planner look a coin's first price
    // up, rather than read the table until there is one.
    let read = format!(
        "WITH RECURSIVE rolled (asset_id, vs_currency) AS (\
         SELECT a.id, (SELECT q.vs_currency FROM candles q WHERE q.asset_id = a.id ORDER BY q.vs_currency LIMIT 1) \
         FROM assets a WHERE (SELECT q.vs_currency FROM prices q WHERE q.asset_id = a.id \
         ORDER BY q.vs_currency LIMIT 1) IS NULL \
         UNION ALL SELECT h.asset_id, (SELECT q.vs_currency FROM candles q WHERE q.asset_id = h.asset_id \
         AND q.vs_currency > h.vs_currency ORDER BY q.vs_currency LIMIT 1) \
         FROM rolled h WHERE h.vs_currency IS NOT NULL) \
         SELECT c.asset_id, c.vs_currency, c.open_time, c.close, c.volume, c.market_cap, c.final AS is_final \
         FROM rolled h {newest} WHERE h.vs_currency IS NOT NULL LIMIT ?"
    );
    let rows: Vec<Row> = sql(read).bind(MOST_ROWS).load(conn, DOING)?;
    let now = clock::now(conn)?;
    let close = |row: Row| {
        // An open candle tells nothing of what is to come, and its volume is not that of a day.
        let end = Timeframe::D1.end(stamp(DOING, row.open_time)?).min(now);
        Ok(PriceRow {
            asset_id: row.asset_id,
            vs_currency: row.vs_currency,
            observed_at: end.naive(),
            price: Some(row.close),
            volume_24h: row.volume.filter(|_| row.is_final),
            market_cap: row.market_cap,
            circulating_supply: None,
            total_supply: None,
            place: None,
            change_1h: None,
            change_24h: None,
            change_7d: None,
            change_30d: None,
        })
    };
    rows.into_iter().map(close).collect()
}

/// Each name once.
#[derive(Default)]
struct Names(Vec<Arc<str>>);

impl Names {
    fn one(&mut self, name: &str) -> Arc<str> {
        // The newest first: rows of one kind come together, and there are few kinds.
        if let Some(known) = self.0.iter().rev().find(|known| ***known == *name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.0.push(name.clone());
        name
    }
}
