//! What a coin's market cap is of all of them.

use diesel::sql_types::{Double, Nullable, Text, Timestamp};

use super::{at, millis};
use crate::db::conn::Connection;
use crate::db::error::DbError;
use crate::db::sql::{places, sql};
use crate::domain::chart::{Point, Slice};
use crate::domain::{Range, Timeframe};

const DOING: &str = "reading market caps";
/// Days at most whose market caps are summed up.
const MOST_DAYS: i64 = 30;

/// The largest coins, and what all others come to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Shares {
    pub slices: Vec<Slice>,
    pub rest: f64,
}

/// The market caps of a source's active coins by their newest prices, the `top` largest one by one. Where
/// coins are ranked, only those count: what has no rank are caps that a coin's makers tell themselves.
pub fn shares(conn: &mut Connection, source: &str, vs_currency: &str, top: usize) -> Result<Shares, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = Double)]
        market_cap: f64,
        #[diesel(sql_type = Nullable<Double>)]
        total: Option<f64>,
    }
    let read = |is_ranked: &str| {
        format!(
            "SELECT name, market_cap, total FROM (SELECT name, asset_id, market_cap, SUM(market_cap) OVER () AS total \
             FROM latest_prices WHERE source = ? AND vs_currency = ? AND active = TRUE AND market_cap > 0{is_ranked}) c \
             ORDER BY market_cap DESC, asset_id LIMIT {top}"
        )
    };
    for is_ranked in [" AND market_cap_rank IS NOT NULL", ""] {
        let rows = sql(read(is_ranked)).bind(source).bind(vs_currency).load::<Row>(conn, DOING)?;
        if !rows.is_empty() {
            let total = rows.first().and_then(|row| row.total).unwrap_or_default();
            let shown: f64 = rows.iter().map(|row| row.market_cap).sum();
            // What is left of a difference of sums is no coin.
            let rest = if total - shown > total * 1e-9 { total - shown } else { 0.0 };
            let slices = rows.into_iter().map(|row| Slice { name: row.name, value: row.market_cap }).collect();
            return Ok(Shares { slices, rest });
        }
    }
    Ok(Shares::default())
}

/// A coin's share of the market cap of all coins of its source, in percent, day by day: of up to thirty days
/// of the range, evenly. A day counts by its daily candles, which have to be there; it is a sum over all
/// coins, so whoever asks often should keep the answer.
pub fn dominance(
    conn: &mut Connection,
    source: &str,
    asset_id: i64,
    vs_currency: &str,
    range: Range,
) -> Result<Vec<Point>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Timestamp)]
        day: chrono::NaiveDateTime,
        #[diesel(sql_type = Nullable<Double>)]
        own: Option<f64>,
        #[diesel(sql_type = Nullable<Double>)]
        total: Option<f64>,
    }
    let day = Timeframe::D1;
    let (first, last) = (day.ceil(range.from), day.floor(range.to));
    let days = (last.millis() - first.millis()) / day.millis();
    if days < 0 {
        return Ok(Vec::new());
    }
    let step = (days / MOST_DAYS + 1) * day.millis();
    // From the newest back.
    let wanted: Vec<String> = (0..MOST_DAYS)
        .map(|n| last.plus(-n * step))
        .take_while(|day| *day >= first)
        .map(|day| day.to_string())
        .collect();
    let at = at(conn.backend());
    let days = places(1, wanted.len()).replace('?', at);
    let read = format!(
        "SELECT c.open_time AS day, SUM(c.market_cap) AS total, \
         SUM(CASE WHEN c.asset_id = ? THEN c.market_cap END) AS own FROM candles c JOIN assets a ON a.id = c.asset_id \
         WHERE c.open_time IN {days} AND c.timeframe = '1d' AND c.vs_currency = ? AND a.source = ? \
         GROUP BY c.open_time ORDER BY c.open_time"
    );
    let rows = sql(read).bind(asset_id).bind_all(wanted).bind(vs_currency).bind(source).load::<Row>(conn, DOING)?;
    let share = |row: Row| {
        let (own, total) = (row.own?, row.total?);
        (total > 0.0).then(|| Point { at: millis(row.day), value: own / total * 100.0 })
    };
    Ok(rows.into_iter().filter_map(share).collect())
}
