//! Observations of a coin: price, market cap, volume, supply.

use super::{FoldedRow, Newest, ValueRow, also_bound, also_within, at, bound, bucket, candles, millis, piece};
use crate::db::conn::Connection;
use crate::db::error::DbError;
use crate::db::sql::sql;
use crate::domain::chart::Point;
use crate::domain::{Range, Stamp};

const DOING: &str = "reading prices for a chart";

/// A column of `prices`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    Price,
    Volume24h,
    MarketCap,
    CirculatingSupply,
    TotalSupply,
}

impl Figure {
    fn column(self) -> &'static str {
        match self {
            Figure::Price => "price",
            Figure::Volume24h => "volume_24h",
            Figure::MarketCap => "market_cap",
            Figure::CirculatingSupply => "circulating_supply",
            Figure::TotalSupply => "total_supply",
        }
    }
}

/// What was observed of a coin, in the order of time: at most `most` points (eight at least).
pub fn prices(
    conn: &mut Connection,
    asset_id: i64,
    vs_currency: &str,
    figure: Figure,
    range: Range,
    most: usize,
) -> Result<Vec<Point>, DbError> {
    let backend = conn.backend();
    let (at, column, most) = (at(backend), figure.column(), most.max(8));
    let within = format!(
        "asset_id = ? AND vs_currency = ? AND observed_at >= {at} AND observed_at < {at} AND {column} IS NOT NULL"
    );
    let read = format!(
        "SELECT observed_at AS at, {column} AS value FROM prices WHERE {within} ORDER BY observed_at LIMIT {}",
        most + 1
    );
    let rows = bound(sql(read).bind(asset_id).bind(vs_currency), range).load::<ValueRow>(conn, DOING)?;
    if rows.len() <= most {
        return Ok(rows.into_iter().map(|row| Point { at: millis(row.at), value: row.value }).collect());
    }
    // Rows are more by far than what a year of minutes comes to: fold where they are.
    let (first, last) =
        (rows.first().map(|row| millis(row.at)).unwrap_or_default(), newest_in(conn, asset_id, vs_currency, range)?);
    let filled =
        Range { from: Stamp::from_millis(first).unwrap_or(range.from), to: last.map_or(range.to, |last| last.plus(1)) };
    let bucket = bucket(conn.backend(), "observed_at", filled.from, piece(filled, most / 4));
    let folded = format!(
        "SELECT g.first_at, f.{column} AS first_value, g.low, g.high, g.last_at, l.{column} AS last_value FROM \
         (SELECT {bucket} AS piece, MIN(observed_at) AS first_at, MAX(observed_at) AS last_at, MIN({column}) AS low, \
         MAX({column}) AS high FROM prices WHERE {within} GROUP BY {bucket}) g \
         JOIN prices f ON f.asset_id = ? AND f.vs_currency = ? AND f.observed_at = g.first_at{} \
         JOIN prices l ON l.asset_id = ? AND l.vs_currency = ? AND l.observed_at = g.last_at{} ORDER BY g.first_at",
        also_within(backend, "f.observed_at"),
        also_within(backend, "l.observed_at")
    );
    let mut read = bound(sql(folded).bind(asset_id).bind(vs_currency), filled);
    for _ in 0..2 {
        read = also_bound(read.bind(asset_id).bind(vs_currency), backend, filled);
    }
    Ok(unfolded(read.load::<FoldedRow>(conn, DOING)?))
}

/// Four points of each length of time: that the two extremes are drawn in its middle moves them by less
/// than a pixel.
fn unfolded(rows: Vec<FoldedRow>) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::with_capacity(rows.len() * 4);
    for row in rows {
        let (first, last) = (millis(row.first_at), millis(row.last_at));
        let middle = first + (last - first) / 2;
        let (second, third) = if row.first_value <= row.last_value { (row.low, row.high) } else { (row.high, row.low) };
        let four = [(first, row.first_value), (middle, second), (middle, third), (last, row.last_value)];
        for (at, value) in four {
            let point = Point { at, value };
            if points.last() != Some(&point) {
                points.push(point);
            }
        }
    }
    points
}

/// A coin's price over time, of whatever there is: observations, and before the first of them (which may
/// have been pruned, or never been there, as of an imported file) the closes of candles, none after `now`.
pub fn line(
    conn: &mut Connection,
    asset_id: i64,
    vs_currency: &str,
    range: Range,
    most: usize,
    now: Stamp,
) -> Result<Vec<Point>, DbError> {
    let observed = prices(conn, asset_id, vs_currency, Figure::Price, range, most)?;
    let first = observed.first().map(|point| point.at);
    let older = first.map_or(Some(range), |first| Range::new(range.from, Stamp::from_millis(first).ok()?));
    let Some(older) = older else { return Ok(observed) };
    let closes = candles::closes(conn, asset_id, vs_currency, older, most, now)?;
    // A candle closes at its end, which may be behind what was observed first.
    let before = |point: &Point| first.is_none_or(|first| point.at < first);
    let mut points: Vec<Point> = closes.points.into_iter().filter(before).collect();
    points.extend(observed);
    Ok(points)
}

fn newest_in(conn: &mut Connection, asset_id: i64, vs_currency: &str, range: Range) -> Result<Option<Stamp>, DbError> {
    let at = at(conn.backend());
    let read = format!(
        "SELECT observed_at AS newest FROM prices WHERE asset_id = ? AND vs_currency = ? AND observed_at >= {at} \
         AND observed_at < {at} ORDER BY observed_at DESC LIMIT 1"
    );
    Newest::stamp(bound(sql(read).bind(asset_id).bind(vs_currency), range).first(conn, DOING)?)
}

/// The time of a coin's newest observation.
pub fn newest_price(conn: &mut Connection, asset_id: i64, vs_currency: &str) -> Result<Option<Stamp>, DbError> {
    newest_in(conn, asset_id, vs_currency, Range { from: Stamp::FIRST, to: Stamp::LAST })
}
