//! What `/metrics` tells of the database: counts and times by source, nothing of single rows.
//!
//! [`Few::read`] looks at small tables and is cheap at any size of the data. [`Data::read`] goes along the keys of the
//! prices, coin by coin; its result changes only with the version of the data.

use chrono::NaiveDateTime;
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamp};

use super::conn::Connection;
use super::error::DbError;
use super::sql::sql;
use super::url::Backend;

/// Read from small tables.
#[derive(Debug, Clone)]
pub struct Few {
    pub runs: Vec<Runs>,
    pub offsets: Vec<Offset>,
    pub dead_letters: Vec<DeadLetters>,
}

/// Runs of one command and source that ended, or go on, with one status.
#[derive(Debug, Clone, diesel::QueryableByName)]
pub struct Runs {
    #[diesel(sql_type = Text)]
    pub command: String,
    #[diesel(sql_type = Text)]
    pub source: String,
    #[diesel(sql_type = Text)]
    pub status: String,
    #[diesel(sql_type = BigInt)]
    pub runs: i64,
    /// `None` while none of them ended.
    #[diesel(sql_type = Nullable<Timestamp>)]
    pub last_end: Option<NaiveDateTime>,
    #[diesel(sql_type = BigInt)]
    pub calls: i64,
    #[diesel(sql_type = BigInt)]
    pub credits: i64,
    #[diesel(sql_type = BigInt)]
    pub written: i64,
    #[diesel(sql_type = BigInt)]
    pub rejected: i64,
}

/// Where a consumer group stands in a partition.
#[derive(Debug, Clone, diesel::QueryableByName)]
pub struct Offset {
    #[diesel(sql_type = Text)]
    pub consumer_group: String,
    #[diesel(sql_type = Text)]
    pub topic: String,
    #[diesel(sql_type = BigInt)]
    pub part: i64,
    #[diesel(sql_type = BigInt)]
    pub next_offset: i64,
}

#[derive(Debug, Clone, diesel::QueryableByName)]
pub struct DeadLetters {
    #[diesel(sql_type = Text)]
    pub source: String,
    #[diesel(sql_type = BigInt)]
    pub letters: i64,
}

/// Read along the data.
#[derive(Debug, Clone)]
pub struct Data {
    pub assets: Vec<Assets>,
    pub prices: Vec<NewestPrice>,
    pub quotes: Vec<NewestQuote>,
    pub gaps: Vec<Gaps>,
    /// Hours of coins whose observations await folding, as `rollup_pending` counts them.
    pub pending: i64,
}

#[derive(Debug, Clone, diesel::QueryableByName)]
pub struct Assets {
    #[diesel(sql_type = Text)]
    pub source: String,
    #[diesel(sql_type = Bool)]
    pub active: bool,
    #[diesel(sql_type = BigInt)]
    pub assets: i64,
}

/// The newest observation of any coin of a source.
#[derive(Debug, Clone, diesel::QueryableByName)]
pub struct NewestPrice {
    #[diesel(sql_type = Text)]
    pub source: String,
    #[diesel(sql_type = Timestamp)]
    pub observed_at: NaiveDateTime,
}

#[derive(Debug, Clone, diesel::QueryableByName)]
pub struct NewestQuote {
    #[diesel(sql_type = Text)]
    pub source: String,
    #[diesel(sql_type = Text)]
    pub pair: String,
    /// `None` when all of them are pruned.
    #[diesel(sql_type = Nullable<Timestamp>)]
    pub observed_at: Option<NaiveDateTime>,
}

/// Intervals that were asked for and are not stored: `empty`, `missing` or `unreachable`.
#[derive(Debug, Clone, diesel::QueryableByName)]
pub struct Gaps {
    #[diesel(sql_type = Text)]
    pub source: String,
    #[diesel(sql_type = Text)]
    pub timeframe: String,
    #[diesel(sql_type = Text)]
    pub state: String,
    #[diesel(sql_type = BigInt)]
    pub intervals: i64,
}

#[derive(diesel::QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

impl Few {
    pub fn read(conn: &mut Connection) -> Result<Few, DbError> {
        let number = number(conn.backend());
        let sum = |column: &str| format!("CAST(COALESCE(SUM({column}), 0) AS {number})");
        let runs = sql(format!(
            "SELECT command, source, status, COUNT(*) AS runs, MAX(finished_at) AS last_end, {} AS calls, {} AS credits, \
             {} AS written, {} AS rejected FROM runs GROUP BY command, source, status ORDER BY command, source, status",
            sum("calls"),
            sum("credits"),
            sum("rows_written"),
            sum("rows_rejected"),
        ));
        let offsets = sql(format!(
            "SELECT consumer_group, topic, CAST(partition_id AS {number}) AS part, next_offset FROM stream_offsets \
             ORDER BY consumer_group, topic, partition_id"
        ));
        let letters = sql("SELECT source, COUNT(*) AS letters FROM dead_letters GROUP BY source ORDER BY source");
        let doing = "reading figures of runs";
        Ok(Few {
            runs: runs.load(conn, doing)?,
            offsets: offsets.load(conn, doing)?,
            dead_letters: letters.load(conn, doing)?,
        })
    }
}

impl Data {
    pub fn read(conn: &mut Connection) -> Result<Data, DbError> {
        let doing = "reading figures of the data";
        let pending = sql("SELECT COUNT(*) AS n FROM rollup_pending").first::<Count>(conn, doing)?;
        Ok(Data {
            assets: sql(
                "SELECT source, active, COUNT(*) AS assets FROM assets GROUP BY source, active ORDER BY source, active",
            )
            .load(conn, doing)?,
            prices: sql(
                "SELECT source, MAX(observed_at) AS observed_at FROM latest_prices GROUP BY source ORDER BY source",
            )
            .load(conn, doing)?,
            quotes: sql("SELECT s.source, s.pair, (SELECT m.observed_at FROM crypto_metrics m \
                 WHERE m.source = s.source AND m.pair = s.pair ORDER BY m.sequence DESC LIMIT 1) AS observed_at \
                 FROM (SELECT DISTINCT source, pair FROM quote_sessions) s ORDER BY s.source, s.pair")
            .load(conn, doing)?,
            gaps: sql("SELECT a.source, c.timeframe, c.state, COUNT(*) AS intervals FROM coverage c \
                 JOIN assets a ON a.id = c.asset_id WHERE c.state <> 'full' \
                 GROUP BY a.source, c.timeframe, c.state ORDER BY a.source, c.timeframe, c.state")
            .load(conn, doing)?,
            pending: pending.map_or(0, |count| count.n),
        })
    }
}

/// The type to cast a sum to, which is a decimal otherwise.
fn number(backend: Backend) -> &'static str {
    match backend {
        Backend::Sqlite => "INTEGER",
        Backend::Mysql => "SIGNED",
        Backend::Postgres => "BIGINT",
    }
}
