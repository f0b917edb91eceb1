//! Bid and ask of a pair.

use diesel::sql_types::{Double, Text, Timestamp};

use super::{Newest, bucket, millis, piece};
use crate::db::conn::Connection;
use crate::db::error::DbError;
use crate::db::sql::{Sql, sql};
use crate::db::url::Backend;
use crate::domain::chart::QuotePoint;
use crate::domain::{Range, Stamp, Timeframe};

const DOING: &str = "reading quotes for a chart";
/// Windows of quotes, shortest first.
const WINDOWS: [Timeframe; 3] = [Timeframe::M1, Timeframe::M5, Timeframe::H1];
/// Shorter than this, windows would be too coarse.
const FOR_WINDOWS_MS: i64 = 2 * 3_600_000;

#[derive(diesel::QueryableByName)]
struct QuoteRow {
    #[diesel(sql_type = Timestamp)]
    at: chrono::NaiveDateTime,
    #[diesel(sql_type = Double)]
    bid: f64,
    #[diesel(sql_type = Double)]
    ask: f64,
    #[diesel(sql_type = Double)]
    mid: f64,
    #[diesel(sql_type = Double)]
    spread: f64,
}

#[derive(diesel::QueryableByName)]
struct FoldedQuotes {
    #[diesel(sql_type = Timestamp)]
    first_at: chrono::NaiveDateTime,
    #[diesel(sql_type = Timestamp)]
    last_at: chrono::NaiveDateTime,
    #[diesel(sql_type = Double)]
    low_bid: f64,
    #[diesel(sql_type = Double)]
    high_bid: f64,
    #[diesel(sql_type = Double)]
    low_ask: f64,
    #[diesel(sql_type = Double)]
    high_ask: f64,
    #[diesel(sql_type = Double)]
    low_mid: f64,
    #[diesel(sql_type = Double)]
    high_mid: f64,
    #[diesel(sql_type = Double)]
    low_spread: f64,
    #[diesel(sql_type = Double)]
    high_spread: f64,
}

#[derive(diesel::QueryableByName)]
struct WindowRow {
    #[diesel(sql_type = Timestamp)]
    at: chrono::NaiveDateTime,
    #[diesel(sql_type = Double)]
    open_mid: f64,
    #[diesel(sql_type = Double)]
    high_mid: f64,
    #[diesel(sql_type = Double)]
    low_mid: f64,
    #[diesel(sql_type = Double)]
    close_mid: f64,
    #[diesel(sql_type = Double)]
    mean_spread: f64,
    #[diesel(sql_type = Double)]
    max_spread: f64,
}

fn at(backend: Backend) -> &'static str {
    if backend == Backend::Postgres { "CAST(? AS timestamp(6))" } else { "?" }
}

fn bound(sql: Sql, range: Range) -> Sql {
    // As wide as the column: SQLite compares text.
    let text = |stamp: Stamp| format!("{stamp}000");
    sql.bind(text(range.from)).bind(text(range.to))
}

/// A pair's quotes, in the order of time: at most `most` points (eight at least). Of hours with more than
/// that it is windows of quotes, which know no bid and ask but the extremes: those are no numbers then.
pub fn quotes(
    conn: &mut Connection,
    source: &str,
    pair: &str,
    range: Range,
    most: usize,
) -> Result<Vec<QuotePoint>, DbError> {
    let (at, most) = (at(conn.backend()), most.max(8));
    // Without statistics SQLite takes two equalities of the key for better than the index of times, and reads
    // all that there is of the pair; a plus keeps it from that.
    let plus = if conn.backend() == Backend::Sqlite { "+" } else { "" };
    let within = format!("{plus}source = ? AND {plus}pair = ? AND observed_at >= {at} AND observed_at < {at}");
    let of_pair = |text: String| bound(sql(text).bind(source).bind(pair), range);
    let read = format!(
        "SELECT observed_at AS at, bid, ask, mid_price AS mid, spread FROM crypto_metrics WHERE {within} \
         ORDER BY observed_at, sequence LIMIT {}",
        most + 1
    );
    if range.to.millis() - range.from.millis() >= FOR_WINDOWS_MS {
        let windows = windows(conn, source, pair, range, most)?;
        if !windows.is_empty() {
            return Ok(windows);
        }
    }
    let rows = of_pair(read).load::<QuoteRow>(conn, DOING)?;
    if rows.len() <= most {
        let point = |QuoteRow { at, bid, ask, mid, spread }| QuotePoint { at: millis(at), bid, ask, mid, spread };
        return Ok(rows.into_iter().map(point).collect());
    }
    let bucket = bucket(conn.backend(), "observed_at", range.from, piece(range, most / 2));
    let folded = format!(
        "SELECT MIN(observed_at) AS first_at, MAX(observed_at) AS last_at, MIN(bid) AS low_bid, MAX(bid) AS high_bid, \
         MIN(ask) AS low_ask, MAX(ask) AS high_ask, MIN(mid_price) AS low_mid, MAX(mid_price) AS high_mid, \
         MIN(spread) AS low_spread, MAX(spread) AS high_spread FROM crypto_metrics WHERE {within} GROUP BY {bucket} \
         ORDER BY first_at"
    );
    let rows = of_pair(folded).load::<FoldedQuotes>(conn, DOING)?;
    let two = |row: FoldedQuotes| {
        let low = QuotePoint {
            at: millis(row.first_at),
            bid: row.low_bid,
            ask: row.low_ask,
            mid: row.low_mid,
            spread: row.low_spread,
        };
        let high = QuotePoint {
            at: millis(row.last_at),
            bid: row.high_bid,
            ask: row.high_ask,
            mid: row.high_mid,
            spread: row.high_spread,
        };
        [low, high]
    };
    Ok(rows.into_iter().flat_map(two).collect())
}

/// Two points of each window: its lowest and its highest mid, in the order that its open and close tell, with
/// the mean and the largest spread.
fn windows(
    conn: &mut Connection,
    source: &str,
    pair: &str,
    range: Range,
    most: usize,
) -> Result<Vec<QuotePoint>, DbError> {
    let at = at(conn.backend());
    let fits = |timeframe: &Timeframe| range.candles(*timeframe) * 2 <= most as i64;
    let timeframe = WINDOWS.into_iter().find(fits).unwrap_or(Timeframe::H1);
    // Too many even of hours: the newest.
    let read = format!(
        "SELECT window_start AS at, open_mid, high_mid, low_mid, close_mid, mean_spread, max_spread FROM quote_windows \
         WHERE source = ? AND pair = ? AND timeframe = ? AND window_start >= {at} AND window_start < {at} \
         ORDER BY window_start DESC LIMIT {}",
        most / 2
    );
    let read = bound(sql(read).bind(source).bind(pair).bind(timeframe.name()), range);
    let mut rows = read.load::<WindowRow>(conn, DOING)?;
    rows.reverse();
    let two = |row: WindowRow| {
        let (first, second) =
            if row.open_mid <= row.close_mid { (row.low_mid, row.high_mid) } else { (row.high_mid, row.low_mid) };
        let start = millis(row.at);
        let point = |at: i64, mid: f64, spread: f64| QuotePoint { at, bid: f64::NAN, ask: f64::NAN, mid, spread };
        let half = timeframe.millis() / 2;
        [point(start, first, row.mean_spread), point(start + half, second, row.max_spread)]
    };
    Ok(rows.into_iter().flat_map(two).collect())
}

/// When quotes of a pair are missing within a range, and why: the newest two hundred outages.
pub fn outages(conn: &mut Connection, source: &str, pair: &str, range: Range) -> Result<Vec<(Range, String)>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Timestamp)]
        from_time: chrono::NaiveDateTime,
        #[diesel(sql_type = Timestamp)]
        to_time: chrono::NaiveDateTime,
        #[diesel(sql_type = Text)]
        reason: String,
    }
    let at = at(conn.backend());
    let read = format!(
        "SELECT from_time, to_time, reason FROM quote_outages WHERE source = ? AND pair = ? AND to_time >= {at} \
         AND from_time < {at} ORDER BY from_time DESC LIMIT 200"
    );
    let mut rows = bound(sql(read).bind(source).bind(pair), range).load::<Row>(conn, "reading outages for a chart")?;
    rows.reverse();
    // Stored ones were checked. One of less than a millisecond is an instant here.
    let moment = |at: chrono::NaiveDateTime| Stamp::FIRST.plus(millis(at));
    let outage = |row: Row| (Range { from: moment(row.from_time), to: moment(row.to_time) }, row.reason);
    Ok(rows.into_iter().map(outage).collect())
}

/// The time of a pair's newest quote: of the quotes, or, where these are gone, of the windows.
pub fn newest_quote(conn: &mut Connection, source: &str, pair: &str) -> Result<Option<Stamp>, DbError> {
    // By the key: the highest sequence is the newest, or nearly so.
    let read =
        "SELECT observed_at AS newest FROM crypto_metrics WHERE source = ? AND pair = ? ORDER BY sequence DESC LIMIT 1";
    let newest = Newest::stamp(sql(read).bind(source).bind(pair).first(conn, DOING)?)?;
    if newest.is_some() {
        return Ok(newest);
    }
    let read = "SELECT window_start AS newest FROM quote_windows WHERE source = ? AND pair = ? AND timeframe = '1m' \
                ORDER BY window_start DESC LIMIT 1";
    Newest::stamp(sql(read).bind(source).bind(pair).first(conn, DOING)?)
}

/// The pairs that there are quotes or windows of: source and name, in their order, a thousand at most.
pub fn pairs(conn: &mut Connection, source: Option<&str>) -> Result<Vec<(String, String)>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        source: String,
        #[diesel(sql_type = Text)]
        pair: String,
    }
    // Sessions are few; a million quotes are not looked at for a list of names.
    let of_source = if source.is_some() { " WHERE source = ?" } else { "" };
    let mut read =
        sql(format!("SELECT DISTINCT source, pair FROM quote_sessions{of_source} ORDER BY source, pair LIMIT 1000"));
    if let Some(source) = source {
        read = read.bind(source);
    }
    Ok(read.load::<Row>(conn, "reading the pairs")?.into_iter().map(|row| (row.source, row.pair)).collect())
}
