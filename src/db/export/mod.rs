//! Everything in a table, or what some runs changed of it, as it was at one moment.
//!
//! A snapshot is one transaction that only reads: rows that others write meanwhile are not in it, and
//! nobody waits for it. Rows come in the order of `Table::order` (or of the table's own key, those of a
//! run), so many at a time, and memory does not grow with the table.

#[cfg(any(feature = "mysql", feature = "postgres"))]
mod server;
mod sqlite;
mod table;

use std::collections::{BTreeSet, HashSet};

use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Text, Timestamp};

use super::conn::{Connection, Opened};
use super::error::{DbError, Doing};
use super::migrate;
use super::sql::sql;
use super::url::{Backend, DatabaseUrl};
use crate::domain::rows::{Field, Rows};
use crate::domain::{Stamp, Timeframe};
pub use table::Table;

/// Rows handed over at a time: as many as a row group of a Parquet file has.
pub const ROWS_AT_ONCE: usize = 122_880;
/// Coins listed at a time.
const ASSETS: i64 = 1_000;
const DOING: &str = "reading rows to export";

/// Which rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    pub table: Table,
    /// All when empty, of every list.
    pub timeframes: Vec<Timeframe>,
    pub source: Option<String>,
    /// The source's ids of coins.
    pub ids: Vec<String>,
    pub pairs: Vec<String>,
    /// The so many best ranked coins of each source.
    pub top: Option<u32>,
    pub vs: Vec<String>,
    /// Half-open.
    pub from: Option<Stamp>,
    pub to: Option<Stamp>,
}

impl Selection {
    pub fn all(table: Table) -> Selection {
        Selection {
            table,
            timeframes: Vec::new(),
            source: None,
            ids: Vec::new(),
            pairs: Vec::new(),
            top: None,
            vs: Vec::new(),
            from: None,
            to: None,
        }
    }

    /// The bounds of the time column as text, which every database takes.
    fn bounds(&self) -> (String, String) {
        let text = |stamp: Option<Stamp>, open: &str| stamp.map_or(open.to_owned(), |stamp| stamp.to_string());
        (text(self.from, "1000-01-01 00:00:00.000"), text(self.to, "9999-12-31 23:59:59.999"))
    }

    /// The names of the timeframes in the order in which they sort.
    fn timeframe_names(&self) -> Vec<&'static str> {
        let mut names: Vec<&str> = self.timeframes.iter().map(|timeframe| timeframe.name()).collect();
        if names.is_empty() {
            names = Timeframe::ALL.iter().map(|timeframe| timeframe.name()).collect();
        }
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// A coin, and what its rows are headed with.
#[derive(Debug, Clone)]
struct Asset {
    id: i64,
    source: String,
    source_id: String,
    symbol: String,
}

/// Why a read ended early.
#[derive(Debug)]
pub enum ReadError {
    Database(DbError),
    /// Whoever takes the rows wants no more of them.
    Stopped,
}

impl From<DbError> for ReadError {
    fn from(err: DbError) -> Self {
        ReadError::Database(err)
    }
}

/// Takes rows; false when no more are wanted.
pub type Take<'a> = dyn FnMut(Rows) -> bool + 'a;

/// Gathers rows until there are enough to hand over.
struct Gather<'a, 'b> {
    fields: &'static [Field],
    at_once: usize,
    rows: Rows,
    take: &'a mut Take<'b>,
}

impl<'a, 'b> Gather<'a, 'b> {
    fn new(table: Table, at_once: usize, take: &'a mut Take<'b>) -> Self {
        Gather { fields: table.fields(), at_once, rows: Rows::new(table.fields()), take }
    }

    fn hand_over_if_full(&mut self) -> Result<(), ReadError> {
        if self.rows.len() < self.at_once { Ok(()) } else { self.hand_over() }
    }

    fn hand_over(&mut self) -> Result<(), ReadError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = std::mem::replace(&mut self.rows, Rows::new(self.fields));
        if (self.take)(rows) { Ok(()) } else { Err(ReadError::Stopped) }
    }
}

/// The state of all tables at one moment.
pub struct Snapshot {
    opened: Opened,
    top: Option<HashSet<i64>>,
    rows_at_once: usize,
}

impl Snapshot {
    /// Opens a connection of its own and takes the snapshot.
    pub fn take(url: &DatabaseUrl) -> Result<Snapshot, DbError> {
        let mut opened = migrate::open_current(url)?;
        let begin = match opened.conn.backend() {
            // The first read fixes what is seen. Whatever SQLite sorts goes to a file, not into memory.
            Backend::Sqlite => "PRAGMA temp_store = FILE; BEGIN; SELECT COUNT(*) FROM runs WHERE id = 0",
            Backend::Mysql => {
                "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"
            }
            Backend::Postgres => {
                "SET idle_in_transaction_session_timeout = 0; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
                 SELECT 1"
            }
        };
        if opened.conn.backend() == Backend::Mysql {
            // As for PostgreSQL above: this transaction holds no locks, and may wait for a slow disk.
            let _ = opened.conn.batch_execute("SET idle_transaction_timeout = 0");
        }
        opened.conn.batch_execute(begin).doing("taking a snapshot")?;
        Ok(Snapshot { opened, top: None, rows_at_once: ROWS_AT_ONCE })
    }

    /// For other reads of the same moment.
    pub fn conn(&mut self) -> &mut Connection {
        &mut self.opened.conn
    }

    /// How many rows are handed over at a time.
    pub fn set_rows_at_once(&mut self, rows: usize) {
        self.rows_at_once = rows;
    }

    /// Lets go of the moment: nothing more is read.
    pub fn end(&mut self) -> Result<(), DbError> {
        self.opened.conn.batch_execute("COMMIT").doing("ending a snapshot")
    }

    /// Hands over all selected rows in the order of `Table::order`.
    pub fn read(&mut self, selection: &Selection, take: &mut Take<'_>) -> Result<(), ReadError> {
        let mut gather = Gather::new(selection.table, self.rows_at_once, take);
        if selection.table.is_of_coins() {
            self.choose(selection)?;
            let mut after: Option<Asset> = None;
            loop {
                let mut assets = self.assets(selection, after.as_ref())?;
                let Some(last) = assets.last().cloned() else { break };
                assets.retain(|asset| self.is_wanted(selection, asset));
                match &self.opened.raw {
                    Some(raw) => sqlite::of_assets(raw.connection(), selection, &assets, &mut gather)?,
                    #[cfg(any(feature = "mysql", feature = "postgres"))]
                    None => server::of_assets(&mut self.opened.conn, selection, &assets, &mut gather)?,
                    #[cfg(not(any(feature = "mysql", feature = "postgres")))]
                    None => return Err(no_handle().into()),
                }
                after = Some(last);
            }
        } else {
            match &self.opened.raw {
                Some(raw) => sqlite::of_pairs(raw.connection(), selection, &mut gather)?,
                #[cfg(any(feature = "mysql", feature = "postgres"))]
                None => server::of_pairs(&mut self.opened.conn, selection, &mut gather)?,
                #[cfg(not(any(feature = "mysql", feature = "postgres")))]
                None => return Err(no_handle().into()),
            }
        }
        gather.hand_over()
    }

    /// Hands over the selected rows that a run was the last to change, in the order of the table's key.
    pub fn read_run(&mut self, selection: &Selection, run_id: i64, take: &mut Take<'_>) -> Result<(), ReadError> {
        let mut gather = Gather::new(selection.table, self.rows_at_once, take);
        self.choose(selection)?;
        let top = self.top.take();
        let Opened { raw, conn } = &mut self.opened;
        let mut about = About { top: &top, selection, newest: None };
        let read = match raw {
            Some(raw) => sqlite::of_run(raw.connection(), conn, selection, run_id, &mut about, &mut gather),
            #[cfg(any(feature = "mysql", feature = "postgres"))]
            None => server::of_run(conn, selection, run_id, &mut about, &mut gather),
            #[cfg(not(any(feature = "mysql", feature = "postgres")))]
            None => Err(no_handle().into()),
        };
        self.top = top;
        read?;
        gather.hand_over()
    }

    /// Runs that changed rows of a table, apart from those in `done` (ranges, both ends included).
    pub fn runs_but(&mut self, table: Table, done: &[(i64, i64)]) -> Result<BTreeSet<i64>, DbError> {
        let mut found = BTreeSet::new();
        let mut after = i64::MIN;
        loop {
            if let Some((_, last)) =
                done.iter().find(|(first, last)| (*first..=*last).contains(&after.saturating_add(1)))
            {
                after = *last;
            }
            let read = format!("SELECT MIN(run_id) AS n FROM {} WHERE run_id > ?", table.table());
            let next = sql(read).bind(after).first::<MaybeNumber>(self.conn(), DOING)?.and_then(|row| row.n);
            let Some(next) = next else { return Ok(found) };
            match done.iter().find(|(first, last)| (*first..=*last).contains(&next)) {
                Some((_, last)) => after = *last,
                None => {
                    found.insert(next);
                    after = next;
                }
            }
        }
    }

    /// Runs that may still change rows: they go on, or their owner could wake up.
    pub fn open_runs(&mut self) -> Result<BTreeSet<i64>, DbError> {
        let read = "SELECT r.id AS n FROM runs r WHERE r.status = 'running' \
                    OR EXISTS (SELECT 1 FROM leases l WHERE l.run_id = r.id)";
        let rows = sql(read).load::<Number>(self.conn(), "looking for running runs")?;
        Ok(rows.into_iter().map(|row| row.n).collect())
    }

    /// All other runs that are recorded.
    pub fn ended_runs(&mut self, open: &BTreeSet<i64>) -> Result<Vec<i64>, DbError> {
        let rows = sql("SELECT id AS n FROM runs").load::<Number>(self.conn(), "looking for runs that are over")?;
        Ok(rows.into_iter().map(|row| row.n).filter(|run_id| !open.contains(run_id)).collect())
    }

    /// The newest run, and when it began: by it a database is known again.
    pub fn newest_run(&mut self) -> Result<Option<(i64, Stamp)>, DbError> {
        self.run("SELECT id AS n, started_at FROM runs WHERE id = (SELECT MAX(id) FROM runs)", None)
    }

    /// When a run began, if there is one with that id.
    pub fn run_began(&mut self, run_id: i64) -> Result<Option<Stamp>, DbError> {
        Ok(self.run("SELECT id AS n, started_at FROM runs WHERE id = ?", Some(run_id))?.map(|(_, began)| began))
    }

    fn run(&mut self, read: &str, run_id: Option<i64>) -> Result<Option<(i64, Stamp)>, DbError> {
        let row = sql(read).bind_all(run_id).first::<Began>(self.conn(), "looking for a run")?;
        Ok(row.and_then(|row| Some((row.n, Stamp::from_datetime(row.started_at.and_utc()).ok()?))))
    }

    /// Of the wanted ids, those that no coin has.
    pub fn unknown_ids(&mut self, selection: &Selection) -> Result<Vec<String>, DbError> {
        let mut unknown = Vec::new();
        for id in &selection.ids {
            let of_source = if selection.source.is_some() { " AND source = ?" } else { "" };
            let read = format!("SELECT COUNT(*) AS n FROM assets WHERE source_id = ?{of_source}");
            let read = sql(read).bind(id.as_str()).bind_all(selection.source.clone());
            if read.first::<Number>(self.conn(), "looking for coins")?.is_none_or(|row| row.n == 0) {
                unknown.push(id.clone());
            }
        }
        Ok(unknown)
    }

    /// The next coins in the order of (source, source_id).
    fn assets(&mut self, selection: &Selection, after: Option<&Asset>) -> Result<Vec<Asset>, DbError> {
        let mut conditions = Vec::new();
        if selection.source.is_some() {
            conditions.push("source = ?");
        }
        if after.is_some() {
            conditions.push("source >= ? AND (source > ? OR source_id > ?)");
        }
        let condition =
            if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
        let mut read = sql(format!(
            "SELECT id, source, source_id, symbol FROM assets {condition} ORDER BY source, source_id LIMIT ?"
        ));
        read = read.bind_all(selection.source.clone());
        if let Some(after) = after {
            read = read.bind(after.source.as_str()).bind(after.source.as_str()).bind(after.source_id.as_str());
        }
        let rows = read.bind(ASSETS).load::<AssetRow>(self.conn(), "listing coins")?;
        Ok(rows.into_iter().map(AssetRow::asset).collect())
    }

    /// Looks up the best ranked coins, if only they are wanted.
    fn choose(&mut self, selection: &Selection) -> Result<(), DbError> {
        let (Some(top), None) = (selection.top, &self.top) else { return Ok(()) };
        let read = "SELECT asset_id AS n FROM (SELECT asset_id, ROW_NUMBER() OVER (PARTITION BY source \
                    ORDER BY best, asset_id) AS place FROM (SELECT asset_id, source, MIN(standing) AS best \
                    FROM (SELECT l.asset_id, l.source, COALESCE(l.market_cap_rank, (SELECT q.market_cap_rank \
                    FROM prices q WHERE q.asset_id = l.asset_id AND q.vs_currency = l.vs_currency \
                    AND q.market_cap_rank IS NOT NULL ORDER BY q.observed_at DESC LIMIT 1)) AS standing \
                    FROM latest_prices l) newest WHERE standing IS NOT NULL GROUP BY asset_id, source) ranked) placed \
                    WHERE place <= ?";
        let rows = sql(read).bind(i64::from(top)).load::<Number>(self.conn(), "looking for the best ranked coins")?;
        self.top = Some(rows.into_iter().map(|row| row.n).collect());
        Ok(())
    }

    fn is_wanted(&self, selection: &Selection, asset: &Asset) -> bool {
        is_wanted(selection, &self.top, asset)
    }
}

fn is_wanted(selection: &Selection, top: &Option<HashSet<i64>>, asset: &Asset) -> bool {
    (selection.ids.is_empty() || selection.ids.contains(&asset.source_id))
        && selection.source.as_ref().is_none_or(|source| *source == asset.source)
        && top.as_ref().is_none_or(|top| top.contains(&asset.id))
}

/// The coins of rows that come in the order of their ids.
struct About<'a> {
    top: &'a Option<HashSet<i64>>,
    selection: &'a Selection,
    newest: Option<(i64, Option<Asset>)>,
}

impl About<'_> {
    /// `None` for a coin whose rows are not wanted.
    fn get(&mut self, conn: &mut Connection, id: i64) -> Result<Option<&Asset>, DbError> {
        if self.newest.as_ref().is_none_or(|(newest, _)| *newest != id) {
            let read = "SELECT id, source, source_id, symbol FROM assets WHERE id = ?";
            let asset = sql(read).bind(id).first::<AssetRow>(conn, "looking for a coin")?.map(AssetRow::asset);
            let asset = asset.filter(|asset| is_wanted(self.selection, self.top, asset));
            self.newest = Some((id, asset));
        }
        Ok(self.newest.as_ref().and_then(|(_, asset)| asset.as_ref()))
    }
}

/// Marks that no sleeper's batch will be taken any more: the leases of runs that were given up, and gave no
/// sign of life for an hour.
pub fn fence_given_up(conn: &mut Connection) -> Result<usize, DbError> {
    let delete = format!(
        "DELETE FROM leases WHERE heartbeat_us < {} - 3600000000 \
         AND run_id IN (SELECT id FROM runs WHERE status <> 'running')",
        conn.backend().now_us()
    );
    sql(delete).execute(conn, "clearing away old leases")
}

#[allow(dead_code)]
fn no_handle() -> DbError {
    DbError::Query { doing: DOING, why: "no handle below the connection".to_owned() }
}

fn unreadable(field: &Field) -> DbError {
    DbError::Query { doing: DOING, why: format!("a {} is none", field.name) }
}

#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

#[derive(diesel::QueryableByName)]
struct MaybeNumber {
    #[diesel(sql_type = diesel::sql_types::Nullable<BigInt>)]
    n: Option<i64>,
}

#[derive(diesel::QueryableByName)]
struct Began {
    #[diesel(sql_type = BigInt)]
    n: i64,
    #[diesel(sql_type = Timestamp)]
    started_at: chrono::NaiveDateTime,
}

#[derive(diesel::QueryableByName)]
struct AssetRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    source: String,
    #[diesel(sql_type = Text)]
    source_id: String,
    #[diesel(sql_type = Text)]
    symbol: String,
}

impl AssetRow {
    fn asset(self) -> Asset {
        Asset { id: self.id, source: self.source, source_id: self.source_id, symbol: self.symbol }
    }
}
