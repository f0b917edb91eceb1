//! Candles of a coin.

use super::{Newest, StickRow, also_bound, also_within, at, bound, bucket, millis};
use crate::db::conn::Connection;
use crate::db::error::DbError;
use crate::db::sql::sql;
use crate::db::url::Backend;
use crate::domain::chart::{Point, Stick};
use crate::domain::{Range, Stamp, Timeframe};

const DOING: &str = "reading candles for a chart";

/// Candles in the order of time, and how long each is.
#[derive(Debug, Clone, PartialEq)]
pub struct Sticks {
    pub sticks: Vec<Stick>,
    /// That of the timeframe, or a multiple where there were more than wanted.
    pub length_ms: i64,
}

/// The shortest timeframe of which a range has no more than `most` candles.
pub fn timeframe_for(range: Range, most: usize) -> Timeframe {
    let fits = |timeframe: &Timeframe| range.candles(*timeframe) <= most as i64;
    Timeframe::ALL.into_iter().find(fits).unwrap_or(Timeframe::D1)
}

/// A coin's candles that open within a range: at most `most`, several as one where there are more.
pub fn candles(
    conn: &mut Connection,
    asset_id: i64,
    vs_currency: &str,
    timeframe: Timeframe,
    range: Range,
    most: usize,
) -> Result<Sticks, DbError> {
    let backend = conn.backend();
    let (at, most) = (at(backend), most.max(2));
    let number = if conn.backend() == Backend::Mysql { "SIGNED" } else { "BIGINT" };
    let within =
        format!("asset_id = ? AND vs_currency = ? AND timeframe = ? AND open_time >= {at} AND open_time < {at}");
    let of_coin = |text: String| sql(text).bind(asset_id).bind(vs_currency).bind(timeframe.name());
    let read = format!(
        "SELECT open_time, open, high, low, close, volume, CAST(CASE WHEN final THEN 1 ELSE 0 END AS {number}) AS is_final \
         FROM candles WHERE {within} ORDER BY open_time LIMIT {}",
        most + 1
    );
    let rows = bound(of_coin(read), range).load::<StickRow>(conn, DOING)?;
    if rows.len() <= most {
        return Ok(Sticks { sticks: rows.into_iter().map(stick).collect(), length_ms: timeframe.millis() });
    }
    let first = rows.first().and_then(|row| Stamp::from_millis(millis(row.open_time)).ok()).unwrap_or(range.from);
    let last = newest_in(conn, asset_id, vs_currency, timeframe, range)?.unwrap_or(range.to);
    let filled = Range { from: first, to: timeframe.end(last) };
    // Whole candles, from midnight on.
    let times = filled.candles(timeframe) / most as i64 + 1;
    let length = timeframe.millis() * times;
    let bucket = bucket(conn.backend(), "open_time", Stamp::FIRST, length);
    let folded = format!(
        "SELECT g.first_at AS open_time, f.open AS open, g.high, g.low, l.close AS close, g.volume, \
         CAST(g.whole AS {number}) AS is_final FROM \
         (SELECT MIN(open_time) AS first_at, MAX(open_time) AS last_at, MAX(high) AS high, MIN(low) AS low, \
         SUM(volume) AS volume, MIN(CASE WHEN final THEN 1 ELSE 0 END) AS whole \
         FROM candles WHERE {within} GROUP BY {bucket}) g \
         JOIN candles f ON f.asset_id = ? AND f.vs_currency = ? AND f.timeframe = ? AND f.open_time = g.first_at{} \
         JOIN candles l ON l.asset_id = ? AND l.vs_currency = ? AND l.timeframe = ? AND l.open_time = g.last_at{} \
         ORDER BY g.first_at",
        also_within(backend, "f.open_time"),
        also_within(backend, "l.open_time")
    );
    let mut read = bound(of_coin(folded), filled);
    for _ in 0..2 {
        read = also_bound(read.bind(asset_id).bind(vs_currency).bind(timeframe.name()), backend, filled);
    }
    let rows = read.load::<StickRow>(conn, DOING)?;
    let from_its_beginning = |row| {
        let stick = stick(row);
        Stick { open_time: stick.open_time.div_euclid(length) * length, ..stick }
    };
    Ok(Sticks { sticks: rows.into_iter().map(from_its_beginning).collect(), length_ms: length })
}

fn stick(row: StickRow) -> Stick {
    let StickRow { open_time, open, high, low, close, volume, is_final } = row;
    Stick { open_time: millis(open_time), open, high, low, close, volume, is_final: is_final != 0 }
}

/// Closes over time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Closes {
    /// Each at the end of its candle; of one that is not over, now.
    pub points: Vec<Point>,
    /// How long a candle is; `None` where there are none.
    pub length_ms: Option<i64>,
}

/// The closes of a coin's candles, of the shortest timeframe that there is and that is not too many. `now` is
/// the database's.
pub fn closes(
    conn: &mut Connection,
    asset_id: i64,
    vs_currency: &str,
    range: Range,
    most: usize,
    now: Stamp,
) -> Result<Closes, DbError> {
    let shortest = timeframe_for(range, most);
    let longer = Timeframe::ALL.into_iter().filter(|timeframe| *timeframe >= shortest);
    let shorter = Timeframe::ALL.into_iter().rev().filter(|timeframe| *timeframe < shortest);
    for timeframe in longer.chain(shorter) {
        let Sticks { sticks, length_ms } = candles(conn, asset_id, vs_currency, timeframe, range, most)?;
        if !sticks.is_empty() {
            let end = |stick: &Stick| (stick.open_time + length_ms).min(now.millis()).max(stick.open_time);
            let close = |stick: &Stick| Point { at: end(stick), value: stick.close };
            return Ok(Closes { points: sticks.iter().map(close).collect(), length_ms: Some(length_ms) });
        }
    }
    Ok(Closes::default())
}

fn newest_in(
    conn: &mut Connection,
    asset_id: i64,
    vs_currency: &str,
    timeframe: Timeframe,
    range: Range,
) -> Result<Option<Stamp>, DbError> {
    let at = at(conn.backend());
    let read = format!(
        "SELECT open_time AS newest FROM candles WHERE asset_id = ? AND vs_currency = ? AND timeframe = ? \
         AND open_time >= {at} AND open_time < {at} ORDER BY open_time DESC LIMIT 1"
    );
    let read = sql(read).bind(asset_id).bind(vs_currency).bind(timeframe.name());
    Newest::stamp(bound(read, range).first(conn, DOING)?)
}

/// When a coin's newest candle of a timeframe opens.
pub fn newest_candle(
    conn: &mut Connection,
    asset_id: i64,
    vs_currency: &str,
    timeframe: Timeframe,
) -> Result<Option<Stamp>, DbError> {
    newest_in(conn, asset_id, vs_currency, timeframe, Range { from: Stamp::FIRST, to: Stamp::LAST })
}
