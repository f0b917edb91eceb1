//! The table `coverage`: what is known of the past of a coin's candles.
//!
//! Intervals are half-open and never overlap within (coin, currency, timeframe). A newer statement
//! replaces the part that it covers; neighbours that say the same are one row.

use std::collections::{HashMap, HashSet};

use diesel::sql_types::{BigInt, Nullable, Text, Timestamp};

use super::conn::Connection;
use super::error::DbError;
use super::session::Batch;
use super::sql::{Value, places, sql};
use super::url::Backend;
use crate::domain::coverage::lay_all;
use crate::domain::{Range, Span, Stamp, State, Timeframe};

const DOING: &str = "recording what is covered";
/// Rows in one `INSERT`.
const CHUNK: usize = 500;
/// Coins of which all rows are held at a time.
const FEW: usize = 20;

/// States what is known of an interval, in the caller's transaction. `from` and `to` are multiples of
/// the timeframe; where `from` is not before `to`, nothing is said.
#[allow(clippy::too_many_arguments)]
pub fn record(
    batch: &mut Batch<'_>,
    asset_id: i64,
    vs_currency: &str,
    timeframe: Timeframe,
    from: Stamp,
    to: Stamp,
    state: State,
    reason: Option<&str>,
) -> Result<(), DbError> {
    let Some(range) = Range::new(from, to) else { return Ok(()) };
    let span = Span { range, state, reason: reason.map(str::to_owned) };
    record_all(batch, asset_id, vs_currency, timeframe, &[span])
}

/// The same for many intervals of a coin, of two that overlap the later one counts.
pub fn record_all(
    batch: &mut Batch<'_>,
    asset_id: i64,
    vs_currency: &str,
    timeframe: Timeframe,
    spans: &[Span],
) -> Result<(), DbError> {
    let from = spans.iter().map(|span| span.range.from).min();
    let (Some(from), Some(to)) = (from, spans.iter().map(|span| span.range.to).max()) else { return Ok(()) };
    lock(batch.conn, asset_id)?;
    let at = stamp_place(batch.conn.backend());
    // Neighbours too: they may say the same.
    let read = format!(
        "SELECT asset_id, from_time, to_time, state, reason FROM coverage \
         WHERE asset_id = ? AND vs_currency = ? AND timeframe = ? AND from_time <= {at} AND to_time >= {at} \
         ORDER BY from_time{}",
        batch.conn.backend().for_update()
    );
    let key = |text: String| sql(text).bind(asset_id).bind(vs_currency).bind(timeframe.name());
    let rows = key(read).bind(stamp(to)).bind(stamp(from)).load::<Row>(batch.conn, DOING)?;
    let old: Vec<Span> = rows.into_iter().filter_map(Row::span).collect();
    let new = lay_all(old.clone(), spans);
    let (was, is): (HashSet<&Span>, HashSet<&Span>) = (old.iter().collect(), new.iter().collect());
    let gone: Vec<&Span> = old.iter().filter(|span| !is.contains(span)).collect();
    for chunk in gone.chunks(CHUNK) {
        let moments = vec![at; chunk.len()].join(",");
        let delete = format!(
            "DELETE FROM coverage WHERE asset_id = ? AND vs_currency = ? AND timeframe = ? AND from_time IN ({moments})"
        );
        key(delete).bind_all(chunk.iter().map(|span| stamp(span.range.from))).execute(batch.conn, DOING)?;
    }
    let fresh: Vec<&Span> = new.iter().filter(|span| !was.contains(span)).collect();
    for chunk in fresh.chunks(CHUNK) {
        let row = format!("(?,?,?,{at},{at},?,?,?)");
        let mut insert = sql(format!(
            "INSERT INTO coverage (asset_id, vs_currency, timeframe, from_time, to_time, state, reason, run_id) \
             VALUES {}",
            vec![row.as_str(); chunk.len()].join(",")
        ));
        for span in chunk {
            insert = insert
                .bind(asset_id)
                .bind(vs_currency)
                .bind(timeframe.name())
                .bind(stamp(span.range.from))
                .bind(stamp(span.range.to))
                .bind(span.state.name())
                .bind(Value::MaybeText(span.reason.clone()))
                .bind(batch.run_id);
        }
        insert.execute(batch.conn, DOING)?;
    }
    Ok(())
}

/// Two commands that state something of one coin do so one after the other. MySQL locks the interval
/// that it read by itself, and SQLite has one writer.
fn lock(conn: &mut Connection, asset_id: i64) -> Result<(), DbError> {
    if conn.backend() == Backend::Postgres {
        sql("SELECT 1 FROM assets WHERE id = ? FOR NO KEY UPDATE").bind(asset_id).execute(conn, DOING)?;
    }
    Ok(())
}

/// What is known of some coins within an interval: of each in the order of time.
pub fn of(
    conn: &mut Connection,
    asset_ids: &[i64],
    vs_currency: &str,
    timeframe: Timeframe,
    within: Range,
) -> Result<HashMap<i64, Vec<Span>>, DbError> {
    let mut found: HashMap<i64, Vec<Span>> = HashMap::new();
    for chunk in asset_ids.chunks(CHUNK) {
        let at = stamp_place(conn.backend());
        let rows = sql(format!(
            "SELECT asset_id, from_time, to_time, state, reason FROM coverage \
             WHERE asset_id IN {} AND vs_currency = ? AND timeframe = ? AND from_time < {at} AND to_time > {at} \
             ORDER BY asset_id, from_time",
            places(1, chunk.len())
        ))
        .bind_all(chunk.iter().copied())
        .bind(vs_currency)
        .bind(timeframe.name())
        .bind(stamp(within.to))
        .bind(stamp(within.from))
        .load::<Row>(conn, "reading what is covered")?;
        for row in rows {
            let asset_id = row.asset_id;
            found.entry(asset_id).or_default().extend(row.span());
        }
    }
    Ok(found)
}

/// What is known of a coin, as intervals: in order, neighbours joined.
#[derive(Debug, Default, PartialEq)]
pub struct Known {
    /// Nobody has to be asked about these.
    pub settled: Vec<Range>,
    /// Something is recorded of these.
    pub any: Vec<Range>,
}

/// The same as intervals only, in little memory: hours with and without a candle, one after the other, are one.
pub fn known(
    conn: &mut Connection,
    asset_ids: &[i64],
    vs_currency: &str,
    timeframe: Timeframe,
    within: Range,
    is_settled: impl Fn(&Span) -> bool,
) -> Result<HashMap<i64, Known>, DbError> {
    let join = |ranges: &mut Vec<Range>, range: Range| match ranges.last_mut() {
        Some(last) if last.to == range.from => last.to = range.to,
        _ => ranges.push(range),
    };
    let mut all: HashMap<i64, Known> = HashMap::new();
    for few in asset_ids.chunks(FEW) {
        for (asset_id, spans) in of(conn, few, vs_currency, timeframe, within)? {
            let known = all.entry(asset_id).or_default();
            for span in spans {
                join(&mut known.any, span.range);
                if is_settled(&span) {
                    join(&mut known.settled, span.range);
                }
            }
        }
    }
    Ok(all)
}

#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    asset_id: i64,
    #[diesel(sql_type = Timestamp)]
    from_time: chrono::NaiveDateTime,
    #[diesel(sql_type = Timestamp)]
    to_time: chrono::NaiveDateTime,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Nullable<Text>)]
    reason: Option<String>,
}

impl Row {
    fn span(self) -> Option<Span> {
        let range = Range::new(moment(self.from_time)?, moment(self.to_time)?)?;
        Some(Span { range, state: self.state.parse().ok()?, reason: self.reason })
    }
}

pub(super) fn moment(time: chrono::NaiveDateTime) -> Option<Stamp> {
    Stamp::from_datetime(time.and_utc()).ok()
}

pub(super) fn stamp(moment: Stamp) -> String {
    moment.text().as_str().to_owned()
}

/// A place for a moment; PostgreSQL wants to be told its type.
pub(super) fn stamp_place(backend: Backend) -> &'static str {
    if backend == Backend::Postgres { "CAST(? AS timestamp(3))" } else { "?" }
}
