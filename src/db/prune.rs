//! Deletes observations that are folded into candles or windows, and nothing else.
//!
//! A price is folded when a final rollup candle covers its moment, every timeframe that is kept up to date
//! has its final candle there, and its hour is not marked to be folded again; a quote when windows of all
//! three lengths do. The newest price of a coin and currency stays, however old: it is what the coin is
//! worth as far as anybody knows, and the next run would only store it again.

use diesel::sql_types::{BigInt, Nullable, Timestamp};

use super::conn::Connection;
use super::error::DbError;
use super::rollup::state;
use super::session::Batch;
use super::sql::sql;
use super::url::Backend;
use crate::domain::{Stamp, Timeframe};

/// Timeframes of candles, with their lengths in seconds.
const TIMEFRAMES: [(&str, i64); 6] =
    [("1h", 3_600), ("1d", 86_400), ("1m", 60), ("5m", 300), ("15m", 900), ("6h", 21_600)];
/// Those of windows of quotes.
const WINDOWS: [(&str, i64); 3] = [("1m", 60), ("5m", 300), ("1h", 3_600)];

#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

/// The beginning of the interval of so many seconds that a moment is in.
fn floor(backend: Backend, moment: &str, seconds: i64, fraction: &str) -> String {
    match backend {
        Backend::Sqlite => {
            format!(
                "strftime('%Y-%m-%d %H:%M:%S.{fraction}', (unixepoch({moment}) / {seconds}) * {seconds}, 'unixepoch')"
            )
        }
        Backend::Mysql => format!(
            "TIMESTAMPADD(SECOND, FLOOR(TIMESTAMPDIFF(SECOND, '1970-01-01', {moment}) / {seconds}) * {seconds}, \
             '1970-01-01')"
        ),
        Backend::Postgres => format!("date_bin('{seconds} seconds', {moment}, TIMESTAMP '1970-01-01')"),
    }
}

fn before(backend: Backend) -> &'static str {
    if backend == Backend::Postgres { "CAST(? AS timestamp)" } else { "?" }
}

/// The highest id of an asset of a source, or of all sources.
pub fn highest_asset(conn: &mut Connection) -> Result<i64, DbError> {
    let read = "SELECT COALESCE(MAX(id), 0) AS n FROM assets";
    Ok(sql(read).first::<Number>(conn, "reading the highest coin id")?.map_or(0, |row| row.n))
}

/// Makes what this connection reads in a transaction be of one moment, whatever it waits for: PostgreSQL
/// would otherwise delete a price that is restated meanwhile without seeing the mark that came with it.
/// A batch that meets such a price is a conflict, and tried again.
pub fn read_at_one_moment(conn: &mut Connection) -> Result<(), DbError> {
    if conn.backend() == Backend::Postgres {
        sql("SET default_transaction_isolation = 'repeatable read'").execute(conn, "preparing the connection")?;
    }
    Ok(())
}

/// Timeframes that are still to be folded of everything: no price may go before they are.
pub fn building(conn: &mut Connection) -> Result<Vec<Timeframe>, DbError> {
    let kept = state::kept(conn)?;
    Ok(kept.into_iter().filter(|kept| kept.built.is_some()).map(|kept| kept.timeframe).collect())
}

/// Deletes what is folded of the prices of the assets with ids from `first` to `last`; nothing while a
/// timeframe is still to be folded of them.
pub fn prices(
    batch: &mut Batch<'_>,
    source: Option<&str>,
    first: i64,
    last: i64,
    cutoff: Stamp,
) -> Result<usize, DbError> {
    let backend = batch.conn.backend();
    let kept = state::kept(batch.conn)?;
    if kept.iter().any(|kept| kept.built.is_some()) {
        return Ok(0);
    }
    // One lookup by the whole key for each timeframe, the likeliest first: a single one for all of them
    // would walk through all candles of the coin, for each of its prices.
    let has_final = |name: &str, seconds: i64, of: &str| {
        let open = floor(backend, "p.observed_at", seconds, "000");
        format!(
            "EXISTS (SELECT 1 FROM candles c WHERE c.asset_id = p.asset_id AND c.vs_currency = p.vs_currency \
             AND c.timeframe = '{name}' AND c.open_time = {open} AND c.final = TRUE{of})"
        )
    };
    let covered: Vec<String> =
        TIMEFRAMES.iter().map(|(name, seconds)| has_final(name, *seconds, " AND c.origin = 'rollup'")).collect();
    let all_kept: String = kept
        .iter()
        .map(|kept| format!(" AND {}", has_final(kept.timeframe.name(), kept.timeframe.seconds(), "")))
        .collect();
    // What came late, and awaits folding, is not in its candle yet.
    let awaits = format!(
        "EXISTS (SELECT 1 FROM rollup_pending m WHERE m.hour = {} AND m.vs_currency = p.vs_currency \
         AND p.asset_id BETWEEN m.first_asset AND m.last_asset)",
        floor(backend, "p.observed_at", 3_600, "000")
    );
    let folded = format!(
        "p.asset_id BETWEEN ? AND ? AND p.observed_at < {} AND p.observed_at < n.newest{} AND ({}){all_kept} AND NOT {awaits}",
        before(backend),
        if source.is_some() { " AND p.asset_id IN (SELECT id FROM assets WHERE source = ?)" } else { "" },
        covered.join(" OR ")
    );
    let newest = "(SELECT asset_id, vs_currency, MAX(observed_at) AS newest FROM prices \
                  WHERE asset_id BETWEEN ? AND ? GROUP BY asset_id, vs_currency)";
    let same = "n.asset_id = p.asset_id AND n.vs_currency = p.vs_currency";
    let delete = match backend {
        // A statement can't read the table it deletes from, but a derived table of it.
        Backend::Mysql => format!("DELETE p FROM prices p JOIN {newest} n ON {same} WHERE {folded}"),
        Backend::Postgres => format!("DELETE FROM prices p USING {newest} n WHERE {same} AND {folded}"),
        Backend::Sqlite => format!(
            "DELETE FROM prices WHERE (asset_id, vs_currency, observed_at) IN (\
             SELECT p.asset_id, p.vs_currency, p.observed_at FROM prices p JOIN {newest} n ON {same} WHERE {folded})"
        ),
    };
    let delete = sql(delete).bind(first).bind(last).bind(first).bind(last).bind(cutoff.text().as_str());
    let delete = if let Some(source) = source { delete.bind(source) } else { delete };
    let deleted = delete.execute(batch.conn, "deleting folded prices")?;
    if deleted > 0 {
        record(batch, source, first, last, cutoff)?;
    }
    Ok(deleted)
}

/// Remembers before which moment the observations of these assets' sources are gone.
fn record(batch: &mut Batch<'_>, source: Option<&str>, first: i64, last: i64, cutoff: Stamp) -> Result<(), DbError> {
    let backend = batch.conn.backend();
    let later = state::later(backend);
    let insert = format!(
        "INSERT INTO pruned (source, before_time) SELECT DISTINCT source, {} FROM assets WHERE id BETWEEN ? AND ?{} {later}",
        backend.stamp(),
        if source.is_some() { " AND source = ?" } else { "" }
    );
    let insert = sql(insert).bind(cutoff.text().as_str()).bind(first).bind(last);
    let insert = if let Some(source) = source { insert.bind(source) } else { insert };
    insert.execute(batch.conn, "remembering what is pruned").map(|_| ())
}

/// The first quote before the cutoff, or the first of those from a moment on; to the millisecond.
pub fn first_quote(
    conn: &mut Connection,
    source: Option<&str>,
    from: Option<Stamp>,
    cutoff: Stamp,
) -> Result<Option<Stamp>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct First {
        #[diesel(sql_type = Nullable<Timestamp>)]
        first: Option<chrono::NaiveDateTime>,
    }
    let before = before(conn.backend());
    let read = format!(
        "SELECT MIN(observed_at) AS first FROM crypto_metrics WHERE observed_at < {before}{}{}",
        if from.is_some() { format!(" AND observed_at >= {before}") } else { String::new() },
        if source.is_some() { " AND source = ?" } else { "" }
    );
    let mut read = sql(read).bind(cutoff.text().as_str());
    if let Some(from) = from {
        read = read.bind(from.text().as_str());
    }
    if let Some(source) = source {
        read = read.bind(source);
    }
    let first = read.first::<First>(conn, "looking for the oldest quote")?.and_then(|row| row.first);
    Ok(first.and_then(|first| Stamp::from_datetime(first.and_utc()).ok()))
}

/// Deletes what is folded of the quotes of a span of time. The newest of each session stays: its
/// extremes go on.
pub fn quotes(batch: &mut Batch<'_>, source: Option<&str>, from: Stamp, end: Stamp) -> Result<usize, DbError> {
    let backend = batch.conn.backend();
    let covered: Vec<String> = WINDOWS
        .iter()
        .map(|(name, seconds)| {
            let start = floor(backend, "p.observed_at", *seconds, "000000");
            format!(
                "EXISTS (SELECT 1 FROM quote_windows w WHERE w.source = p.source AND w.pair = p.pair \
                 AND w.timeframe = '{name}' AND w.window_start = {start})"
            )
        })
        .collect();
    let folded = format!(
        "p.observed_at >= {0} AND p.observed_at < {0} AND p.sequence < n.newest{1} AND {2}",
        before(backend),
        if source.is_some() { " AND p.source = ?" } else { "" },
        covered.join(" AND ")
    );
    let newest = "(SELECT source, pair, session, MAX(sequence) AS newest FROM crypto_metrics \
                  GROUP BY source, pair, session)";
    let same = "n.source = p.source AND n.pair = p.pair AND n.session = p.session";
    let delete = match backend {
        Backend::Mysql => format!("DELETE p FROM crypto_metrics p JOIN {newest} n ON {same} WHERE {folded}"),
        Backend::Postgres => format!("DELETE FROM crypto_metrics p USING {newest} n WHERE {same} AND {folded}"),
        Backend::Sqlite => format!(
            "DELETE FROM crypto_metrics WHERE (source, pair, sequence) IN (\
             SELECT p.source, p.pair, p.sequence FROM crypto_metrics p JOIN {newest} n ON {same} WHERE {folded})"
        ),
    };
    // SQLite compares texts: a cutoff to the millisecond sorts right among microseconds.
    let delete = sql(delete).bind(from.text().as_str()).bind(end.text().as_str());
    let delete = if let Some(source) = source { delete.bind(source) } else { delete };
    delete.execute(batch.conn, "deleting folded quotes")
}

/// How many observations of a table are older than the cutoff.
pub fn count_older(conn: &mut Connection, what: What, source: Option<&str>, cutoff: Stamp) -> Result<i64, DbError> {
    let of_source = match (what, source) {
        (_, None) => "",
        (What::Prices, Some(_)) => " AND asset_id IN (SELECT id FROM assets WHERE source = ?)",
        (What::Quotes, Some(_)) => " AND source = ?",
    };
    let read =
        format!("SELECT COUNT(*) AS n FROM {} WHERE observed_at < {}{of_source}", what.table(), before(conn.backend()));
    let read = sql(read).bind(cutoff.text().as_str());
    let read = if let Some(source) = source { read.bind(source) } else { read };
    Ok(read.first::<Number>(conn, "counting old observations")?.map_or(0, |row| row.n))
}

/// Which observations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Prices,
    Quotes,
}

impl What {
    fn table(self) -> &'static str {
        match self {
            What::Prices => "prices",
            What::Quotes => "crypto_metrics",
        }
    }
}
