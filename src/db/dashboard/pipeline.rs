//! How the runs do.

use diesel::sql_types::{BigInt, Nullable, Text, Timestamp};

use super::{at, stamp};
use crate::db::conn::Connection;
use crate::db::error::DbError;
use crate::db::gaps::{self, Found, Selection};
use crate::db::sql::sql;
use crate::domain::{Range, Stamp, Timeframe};

#[derive(Debug, Clone)]
pub struct Run {
    pub id: i64,
    pub command: String,
    pub source: String,
    pub started_at: Stamp,
    pub finished_at: Option<Stamp>,
    pub status: String,
    pub calls: i64,
    pub credits: i64,
    pub rows_written: i64,
    pub rows_rejected: i64,
    pub rows_absent: i64,
    pub error: Option<String>,
}

#[derive(diesel::QueryableByName)]
struct RunRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    command: String,
    #[diesel(sql_type = Text)]
    source: String,
    #[diesel(sql_type = Timestamp)]
    started_at: chrono::NaiveDateTime,
    #[diesel(sql_type = Nullable<Timestamp>)]
    finished_at: Option<chrono::NaiveDateTime>,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = BigInt)]
    calls: i64,
    #[diesel(sql_type = BigInt)]
    credits: i64,
    #[diesel(sql_type = BigInt)]
    rows_written: i64,
    #[diesel(sql_type = BigInt)]
    rows_rejected: i64,
    #[diesel(sql_type = BigInt)]
    rows_absent: i64,
    #[diesel(sql_type = Nullable<Text>)]
    error: Option<String>,
}

const DOING: &str = "reading the last runs";

/// The newest runs, newest first.
pub fn runs(conn: &mut Connection, limit: i64) -> Result<Vec<Run>, DbError> {
    let rows = sql("SELECT id, command, source, started_at, finished_at, status, calls, credits, rows_written, \
                    rows_rejected, rows_absent, error FROM runs ORDER BY id DESC LIMIT ?")
    .bind(limit)
    .load::<RunRow>(conn, DOING)?;
    let run = |row: RunRow| {
        Ok(Run {
            id: row.id,
            command: row.command,
            source: row.source,
            started_at: stamp(DOING, row.started_at)?,
            finished_at: row.finished_at.map(|at| stamp(DOING, at)).transpose()?,
            status: row.status,
            calls: row.calls,
            credits: row.credits,
            rows_written: row.rows_written,
            rows_rejected: row.rows_rejected,
            rows_absent: row.rows_absent,
            error: row.error,
        })
    };
    rows.into_iter().map(run).collect()
}

/// Sources that runs since a time were about.
pub fn sources_since(conn: &mut Connection, since: Stamp) -> Result<Vec<String>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        source: String,
    }
    let read = format!("SELECT DISTINCT source FROM runs WHERE started_at >= {} ORDER BY source", at(conn));
    let rows = sql(read).bind(since.to_string()).load::<Row>(conn, "reading whose runs there were")?;
    Ok(rows.into_iter().map(|row| row.source).collect())
}

/// Sources whose history comes as points that are folded here.
const POINTS: [&str; 4] = ["coingecko", "coinmarketcap", "sandbox-coingecko", "sandbox-coinmarketcap"];

/// What is missing of some coins (our ids) within a time. At most twenty coins are asked about at once.
pub fn gaps(conn: &mut Connection, asset_ids: &[i64], within: Range, now: Stamp) -> Result<Vec<Found>, DbError> {
    let points = POINTS.iter().flat_map(|name| Timeframe::ALL.map(|timeframe| ((*name).to_owned(), timeframe)));
    let selection = Selection {
        sources: Vec::new(),
        vs_currencies: Vec::new(),
        timeframe: None,
        within: Some(within),
        all_within: false,
        points: points.collect(),
    };
    let mut found = Vec::new();
    let mut after = 0;
    loop {
        let part = gaps::next_part(conn, &selection, Some(asset_ids), after, now)?;
        found.extend(part.found);
        match part.next {
            Some(next) => after = next,
            None => return Ok(found),
        }
    }
}
