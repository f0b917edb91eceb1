//! Which stored rows were sent to a topic: run by run, each with the key of the newest row that the
//! broker took.

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Double, Integer, Nullable, Text, Timestamp};

use super::candles::StoredBar;
use super::conn::Connection;
use super::error::DbError;
use super::session::Batch;
use super::sql::{Sql, sql};
use super::url::Backend;
use crate::domain::{Column, Figures, Stamp};
use crate::events::{self, About};

/// Runs looked up at a time.
const RUNS: i64 = 1_000;
/// An owner without a sign of life for so long is dead.
const DEAD_AFTER_US: i64 = 15_000_000;
/// Rows that came out of the topic do not go back into it.
const CONSUMERS: [&str; 2] = ["consume", "dead-letters replay"];

/// Which rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Prices,
    Candles,
}

impl What {
    pub fn name(self) -> &'static str {
        match self {
            What::Prices => "prices",
            What::Candles => "candles",
        }
    }

    /// What makes a row one to send.
    fn condition(self) -> &'static str {
        match self {
            What::Prices => "",
            What::Candles => " AND q.final = TRUE",
        }
    }
}

/// The key of a row: rows are sent in the order of their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    pub asset_id: i64,
    pub vs_currency: String,
    /// Empty for a price.
    pub timeframe: String,
    pub moment: Stamp,
}

/// A row to send.
pub struct Row {
    pub position: Position,
    pub key: String,
    pub payload: Vec<u8>,
}

#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

/// Runs that ended, well or not, with rows that were not all sent to the topic; the oldest first. With
/// them those whose owner gives no sign of life: `bury_silent` ends them before they are sent.
pub fn due(conn: &mut Connection, topic: &str, what: What) -> Result<Vec<i64>, DbError> {
    let read = format!(
        "SELECT r.id AS n FROM runs r WHERE r.command NOT IN (?, ?) \
         AND (r.status <> 'running' OR NOT EXISTS (SELECT 1 FROM leases l WHERE l.run_id = r.id \
              AND l.heartbeat_us > {} - ?)) \
         AND NOT EXISTS (SELECT 1 FROM publications p WHERE p.topic = ? AND p.run_id = r.id AND p.what = ? AND p.done = TRUE) \
         AND EXISTS (SELECT 1 FROM {} q WHERE q.run_id = r.id{}) ORDER BY r.id LIMIT ?",
        conn.backend().now_us(),
        what.name(),
        what.condition()
    );
    let read =
        sql(read).bind(CONSUMERS[0]).bind(CONSUMERS[1]).bind(DEAD_AFTER_US).bind(topic).bind(what.name()).bind(RUNS);
    let runs = read.load::<Number>(conn, "looking for runs to publish")?;
    Ok(runs.into_iter().map(|run| run.n).collect())
}

/// Whether a run is still said to be running.
pub fn is_running(conn: &mut Connection, run_id: i64) -> Result<bool, DbError> {
    let read = "SELECT COUNT(*) AS n FROM runs WHERE id = ? AND status = 'running'";
    let count = sql(read).bind(run_id).first::<Number>(conn, "looking at a run")?;
    Ok(count.is_some_and(|count| count.n > 0))
}

/// Ends a run whose owner gives no sign of life, so that nothing is stored under it any more: what an
/// owner that only slept has in hand is refused, and stored by its next run. False when it is alive.
pub fn bury_silent(batch: &mut Batch<'_>, run_id: i64) -> Result<bool, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Held {
        #[diesel(sql_type = Text)]
        command: String,
        #[diesel(sql_type = Text)]
        source: String,
        #[diesel(sql_type = Text)]
        token: String,
    }
    let (conn, doing) = (&mut *batch.conn, "ending a silent run");
    // By its key: a walk through all leases would wait for every owner that is at work.
    let read = "SELECT command, source, token FROM leases WHERE run_id = ?";
    if let Some(held) = sql(read).bind(run_id).first::<Held>(conn, doing)? {
        let delete = format!(
            "DELETE FROM leases WHERE command = ? AND source = ? AND token = ? AND heartbeat_us <= {} - ?",
            conn.backend().now_us()
        );
        let delete = sql(delete).bind(held.command).bind(held.source).bind(held.token).bind(DEAD_AFTER_US);
        if delete.execute(conn, doing)? == 0 {
            return Ok(false);
        }
    }
    // A run without a lease gets none any more: it begins with one.
    let update = format!(
        "UPDATE runs SET status = 'failed', finished_at = {}, error = 'the process gave no sign of life' \
         WHERE id = ? AND status = 'running'",
        conn.backend().now()
    );
    sql(update).bind(run_id).execute(conn, doing)?;
    Ok(true)
}

/// How far a run was sent.
pub fn position(conn: &mut Connection, topic: &str, run_id: i64, what: What) -> Result<Option<Position>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Stored {
        #[diesel(sql_type = BigInt)]
        asset_id: i64,
        #[diesel(sql_type = Text)]
        vs_currency: String,
        #[diesel(sql_type = Text)]
        timeframe: String,
        #[diesel(sql_type = Nullable<Timestamp>)]
        moment: Option<chrono::NaiveDateTime>,
    }
    let read =
        "SELECT asset_id, vs_currency, timeframe, moment FROM publications WHERE topic = ? AND run_id = ? AND what = ?";
    let row =
        sql(read).bind(topic).bind(run_id).bind(what.name()).first::<Stored>(conn, "reading how far was published")?;
    Ok(row.and_then(|row| {
        let moment = Stamp::from_datetime(row.moment?.and_utc()).ok()?;
        Some(Position { asset_id: row.asset_id, vs_currency: row.vs_currency, timeframe: row.timeframe, moment })
    }))
}

/// Remembers how far a run was sent, and whether that was all of it.
pub fn save(
    batch: &mut Batch<'_>,
    topic: &str,
    run_id: i64,
    what: What,
    position: Option<&Position>,
    sent: i64,
    done: bool,
) -> Result<(), DbError> {
    let backend = batch.conn.backend();
    let moment = if backend == Backend::Postgres { "CAST(? AS timestamp(3))" } else { "?" };
    let done = if done { "TRUE" } else { "FALSE" };
    let tail = match (backend, position.is_some()) {
        (Backend::Mysql, true) => {
            "ON DUPLICATE KEY UPDATE done = VALUES(done), asset_id = VALUES(asset_id), vs_currency = VALUES(vs_currency), \
             timeframe = VALUES(timeframe), moment = VALUES(moment), rows_sent = rows_sent + VALUES(rows_sent)"
        }
        (Backend::Mysql, false) => "ON DUPLICATE KEY UPDATE done = VALUES(done)",
        (_, true) => {
            "ON CONFLICT (topic, run_id, what) DO UPDATE SET done = excluded.done, asset_id = excluded.asset_id, \
             vs_currency = excluded.vs_currency, timeframe = excluded.timeframe, moment = excluded.moment, \
             rows_sent = publications.rows_sent + excluded.rows_sent"
        }
        (_, false) => "ON CONFLICT (topic, run_id, what) DO UPDATE SET done = excluded.done",
    };
    sql(format!(
        "INSERT INTO publications (topic, run_id, what, done, asset_id, vs_currency, timeframe, moment, rows_sent) \
         VALUES (?, ?, ?, {done}, ?, ?, ?, {moment}, ?) {tail}"
    ))
    .bind(topic)
    .bind(run_id)
    .bind(what.name())
    .bind(position.map_or(0, |position| position.asset_id))
    .bind(position.map_or("", |position| position.vs_currency.as_str()))
    .bind(position.map_or("", |position| position.timeframe.as_str()))
    .bind(position.map(|position| position.moment.to_string()))
    .bind(sent)
    .execute(batch.conn, "remembering what is published")
    .map(|_| ())
}

/// How many rows of a run are still to be sent.
pub fn count(conn: &mut Connection, run_id: i64, what: What, after: Option<&Position>) -> Result<i64, DbError> {
    let read = format!(
        "SELECT COUNT(*) AS n FROM {} q WHERE q.run_id = ?{}{}",
        what.name(),
        what.condition(),
        behind(conn.backend(), what, after)
    );
    let read = bind_position(sql(read).bind(run_id), what, after);
    Ok(read.first::<Number>(conn, "counting what is to be published")?.map_or(0, |row| row.n))
}

/// The next rows of a run, in the order of their keys.
pub fn rows(
    conn: &mut Connection,
    run_id: i64,
    what: What,
    after: Option<&Position>,
    limit: i64,
) -> Result<Vec<Row>, DbError> {
    let backend = conn.backend();
    let (columns, moment) = match what {
        What::Prices => (Column::ALL.map(|column| format!("q.{}", column.name())).join(", "), "observed_at"),
        What::Candles => {
            ("q.open, q.high, q.low, q.close, q.volume, q.base_volume, q.market_cap, q.samples".to_owned(), "open_time")
        }
    };
    let timeframe = if what == What::Candles { ", q.timeframe" } else { "" };
    let read = format!(
        "SELECT q.asset_id, q.vs_currency{timeframe}, q.{moment} AS moment, {columns}, a.source, a.source_id, a.symbol, a.name \
         FROM {} q JOIN assets a ON a.id = q.asset_id WHERE q.run_id = ?{}{} \
         ORDER BY q.asset_id, q.vs_currency{timeframe}, q.{moment} LIMIT ?",
        what.name(),
        what.condition(),
        behind(backend, what, after)
    );
    let read = bind_position(sql(read).bind(run_id), what, after).bind(limit);
    let doing = "reading what is to be published";
    match what {
        What::Prices => Ok(read.load::<PriceRow>(conn, doing)?.into_iter().filter_map(PriceRow::event).collect()),
        What::Candles => Ok(read.load::<CandleRow>(conn, doing)?.into_iter().filter_map(CandleRow::event).collect()),
    }
}

/// Rows behind a position. Written out, because not every planner finds its way from a comparison of
/// whole rows to the index.
fn behind(backend: Backend, what: What, after: Option<&Position>) -> String {
    if after.is_none() {
        return String::new();
    }
    let moment = if backend == Backend::Postgres { "CAST(? AS timestamp)" } else { "?" };
    let last = match what {
        What::Prices => format!("q.observed_at > {moment}"),
        What::Candles => format!("(q.timeframe > ? OR (q.timeframe = ? AND q.open_time > {moment}))"),
    };
    format!(" AND q.asset_id >= ? AND (q.asset_id > ? OR q.vs_currency > ? OR (q.vs_currency = ? AND {last}))")
}

fn bind_position(sql: Sql, what: What, after: Option<&Position>) -> Sql {
    let Some(after) = after else { return sql };
    let sql =
        sql.bind(after.asset_id).bind(after.asset_id).bind(after.vs_currency.as_str()).bind(after.vs_currency.as_str());
    let sql = match what {
        What::Prices => sql,
        What::Candles => sql.bind(after.timeframe.as_str()).bind(after.timeframe.as_str()),
    };
    sql.bind(after.moment.text().as_str())
}

#[derive(diesel::QueryableByName)]
struct PriceRow {
    #[diesel(sql_type = BigInt)]
    asset_id: i64,
    #[diesel(sql_type = Text)]
    vs_currency: String,
    #[diesel(sql_type = Timestamp)]
    moment: chrono::NaiveDateTime,
    #[diesel(sql_type = Nullable<Double>)]
    price: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    volume_24h: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    base_volume_24h: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    market_cap: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    circulating_supply: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    total_supply: Option<f64>,
    #[diesel(sql_type = Nullable<Integer>)]
    market_cap_rank: Option<i32>,
    #[diesel(sql_type = Nullable<Double>)]
    change_1h: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    change_24h: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    change_7d: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    change_30d: Option<f64>,
    #[diesel(sql_type = Text)]
    source: String,
    #[diesel(sql_type = Text)]
    source_id: String,
    #[diesel(sql_type = Text)]
    symbol: String,
    #[diesel(sql_type = Text)]
    name: String,
}

impl PriceRow {
    /// `None` for a moment that no stamp of ours can be: nothing of ours has stored it.
    fn event(self) -> Option<Row> {
        let moment = Stamp::from_datetime(self.moment.and_utc()).ok()?;
        let about = About { source: self.source, asset: self.source_id, symbol: self.symbol, name: self.name };
        let mut figures = Figures::default();
        for (column, value) in [
            (Column::Price, self.price),
            (Column::Volume24h, self.volume_24h),
            (Column::BaseVolume24h, self.base_volume_24h),
            (Column::MarketCap, self.market_cap),
            (Column::CirculatingSupply, self.circulating_supply),
            (Column::TotalSupply, self.total_supply),
            (Column::MarketCapRank, self.market_cap_rank.map(f64::from)),
            (Column::Change1h, self.change_1h),
            (Column::Change24h, self.change_24h),
            (Column::Change7d, self.change_7d),
            (Column::Change30d, self.change_30d),
        ] {
            figures.set(column, value).ok()?;
        }
        let payload = events::price(&about, &self.vs_currency, moment, &figures);
        let position =
            Position { asset_id: self.asset_id, vs_currency: self.vs_currency, timeframe: String::new(), moment };
        Some(Row { position, key: about.key(), payload })
    }
}

#[derive(diesel::QueryableByName)]
struct CandleRow {
    #[diesel(sql_type = BigInt)]
    asset_id: i64,
    #[diesel(sql_type = Text)]
    vs_currency: String,
    #[diesel(sql_type = Text)]
    timeframe: String,
    #[diesel(sql_type = Timestamp)]
    moment: chrono::NaiveDateTime,
    #[diesel(embed)]
    bar: StoredBar,
    #[diesel(sql_type = Text)]
    source: String,
    #[diesel(sql_type = Text)]
    source_id: String,
    #[diesel(sql_type = Text)]
    symbol: String,
    #[diesel(sql_type = Text)]
    name: String,
}

impl CandleRow {
    fn event(self) -> Option<Row> {
        let moment = Stamp::from_datetime(self.moment.and_utc()).ok()?;
        let about = About { source: self.source, asset: self.source_id, symbol: self.symbol, name: self.name };
        let bar = self.bar.bar();
        let timeframe = self.timeframe.parse().ok()?;
        let payload = events::candle(&about, &self.vs_currency, timeframe, moment, &bar);
        let position =
            Position { asset_id: self.asset_id, vs_currency: self.vs_currency, timeframe: self.timeframe, moment };
        Some(Row { position, key: about.key(), payload })
    }
}
