//! Quotes as rows, and what is known of a pair.

use std::collections::HashSet;

use diesel::sql_types::{BigInt, Double, Nullable};

#[cfg(feature = "mysql")]
use crate::db::bulk::Cells;
#[cfg(feature = "mysql")]
use crate::db::bulk::mysql::{self, Lines};
#[cfg(feature = "postgres")]
use crate::db::bulk::postgres::{CopyInto, copy_into};
use crate::db::conn::Connection;
use crate::db::error::DbError;
#[cfg(feature = "postgres")]
use crate::db::error::Doing;
#[cfg(feature = "postgres")]
use crate::db::pg_copy::CopyBuffer;
use crate::db::session::Batch;
use crate::db::sql::{places, sql};
use crate::db::sqlite_raw;
use crate::db::url::Backend;
use crate::domain::Quote;
use crate::domain::quote::{Extremes, Figures};

/// Rows or values a statement.
const CHUNK: usize = 1_000;

#[cfg(feature = "postgres")]
struct Quotes;

#[cfg(feature = "postgres")]
impl CopyInto for Quotes {
    const TABLE: &'static str = TABLE;
}

/// The highest sequence stored of a pair.
pub fn last_sequence(conn: &mut Connection, source: &str, pair: &str) -> Result<Option<i64>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<BigInt>)]
        last: Option<i64>,
    }
    let read = "SELECT MAX(sequence) AS last FROM crypto_metrics WHERE source = ? AND pair = ?";
    let row = sql(read).bind(source).bind(pair).first::<Row>(conn, "reading the newest quote")?;
    Ok(row.and_then(|row| row.last))
}

/// Which of these sequences of a pair are stored.
pub fn stored_sequences(
    conn: &mut Connection,
    source: &str,
    pair: &str,
    sequences: &[i64],
) -> Result<HashSet<i64>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        sequence: i64,
    }
    let mut stored = HashSet::new();
    for chunk in sequences.chunks(CHUNK) {
        let read = format!(
            "SELECT sequence FROM crypto_metrics WHERE source = ? AND pair = ? AND sequence IN {}",
            places(1, chunk.len())
        );
        let rows = sql(read)
            .bind(source)
            .bind(pair)
            .bind_all(chunk.iter().copied())
            .load::<Row>(conn, "looking for quotes")?;
        stored.extend(rows.into_iter().map(|row| row.sequence));
    }
    Ok(stored)
}

/// The extremes of a session so far.
pub fn extremes(conn: &mut Connection, source: &str, pair: &str, session: &str) -> Result<Option<Extremes>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Double)]
        highest_bid: f64,
        #[diesel(sql_type = Double)]
        lowest_ask: f64,
        #[diesel(sql_type = Double)]
        max_spread: f64,
    }
    let read =
        "SELECT highest_bid, lowest_ask, max_spread FROM quote_sessions WHERE source = ? AND pair = ? AND session = ?";
    let row = sql(read).bind(source).bind(pair).bind(session).first::<Row>(conn, "reading a session's extremes")?;
    Ok(row.map(|row| Extremes { highest_bid: row.highest_bid, lowest_ask: row.lowest_ask, max_spread: row.max_spread }))
}

/// Keeps the extremes of a session, where none that are stored go further.
pub fn save_extremes(
    batch: &mut Batch<'_>,
    source: &str,
    pair: &str,
    session: &str,
    extremes: &Extremes,
) -> Result<(), DbError> {
    // Merged in the database: somebody else may have stored some meanwhile.
    let set = |most: &str, least: &str, new: &dyn Fn(&str) -> String| {
        let column = |of: &str, name: &str| format!("{name} = {of}(quote_sessions.{name}, {})", new(name));
        [column(most, "highest_bid"), column(least, "lowest_ask"), column(most, "max_spread")].join(", ")
    };
    let excluded = |name: &str| format!("excluded.{name}");
    let conflict = "ON CONFLICT (source, pair, session) DO UPDATE SET";
    let tail = match batch.conn.backend() {
        Backend::Mysql => {
            format!("ON DUPLICATE KEY UPDATE {}", set("GREATEST", "LEAST", &|name| format!("VALUES({name})")))
        }
        Backend::Sqlite => format!("{conflict} {}", set("MAX", "MIN", &excluded)),
        Backend::Postgres => format!("{conflict} {}", set("GREATEST", "LEAST", &excluded)),
    };
    let insert = "INSERT INTO quote_sessions (source, pair, session, highest_bid, lowest_ask, max_spread) VALUES (?, ?, ?, ?, ?, ?)";
    sql(format!("{insert} {tail}"))
        .bind(source)
        .bind(pair)
        .bind(session)
        .bind(extremes.highest_bid)
        .bind(extremes.lowest_ask)
        .bind(extremes.max_spread)
        .execute(batch.conn, "keeping a session's extremes")
        .map(|_| ())
}

/// A quote with everything that is worked out of it.
pub struct QuoteRow<'a> {
    pub quote: &'a Quote,
    pub figures: Figures,
    pub extremes: Extremes,
}

const DOING: &str = "storing quotes";
const TABLE: &str = "crypto_metrics";
const COLUMNS: &str = "source, pair, sequence, observed_at, bid, ask, mid_price, spread, highest_bid, lowest_ask, \
                       max_spread, session";

impl QuoteRow<'_> {
    /// The numbers in the order of the columns.
    fn doubles(&self) -> [f64; 7] {
        let (figures, extremes) = (&self.figures, &self.extremes);
        [
            figures.bid,
            figures.ask,
            figures.mid,
            figures.spread,
            extremes.highest_bid,
            extremes.lowest_ask,
            extremes.max_spread,
        ]
    }
}

/// Adds quotes, none of which is stored. Rows of one pair should stand together, by their sequences:
/// they go to one place of the table then.
pub fn insert_quotes(batch: &mut Batch<'_>, rows: &[QuoteRow<'_>]) -> Result<(), DbError> {
    if let Some(raw) = batch.raw {
        return insert_raw(raw.connection(), rows).map_err(|err| sqlite_raw::failed(DOING, &err));
    }
    #[cfg(feature = "postgres")]
    if let Connection::Postgres(conn) = &mut *batch.conn {
        return copy(conn, rows);
    }
    #[cfg(feature = "mysql")]
    if load(batch, rows)? {
        return Ok(());
    }
    for rows in rows.chunks(CHUNK) {
        let mut insert = sql(format!("INSERT INTO {TABLE} ({COLUMNS}) VALUES {}", places(rows.len(), 12)));
        for row in rows {
            insert = insert
                .bind(&*row.quote.source)
                .bind(&*row.quote.pair)
                .bind(row.quote.sequence)
                .bind(row.quote.observed_at.text().as_str())
                .bind_all(row.doubles())
                .bind(&*row.quote.session);
        }
        insert.execute(batch.conn, DOING)?;
    }
    Ok(())
}

/// By `LOAD DATA LOCAL`; false where it can't be, or is not worth it.
#[cfg(feature = "mysql")]
fn load(batch: &mut Batch<'_>, rows: &[QuoteRow<'_>]) -> Result<bool, DbError> {
    if rows.len() < mysql::LOAD_FROM {
        return Ok(false);
    }
    let lines = || {
        let mut lines = Lines::for_rows(rows.len());
        for row in rows {
            lines.text(&row.quote.source);
            lines.text(&row.quote.pair);
            lines.int(Some(row.quote.sequence));
            lines.cell(Some(row.quote.observed_at.text().as_str().as_bytes()));
            row.doubles().iter().for_each(|number| lines.double(Some(*number)));
            lines.text(&row.quote.session);
            lines.end_line();
        }
        lines
    };
    match mysql::load_lines(batch, TABLE, COLUMNS, lines, DOING)? {
        None => Ok(false),
        Some(loaded) if loaded == rows.len() => Ok(true),
        // Left out without a word; the batch looks again what is stored.
        Some(loaded) => {
            Err(DbError::Duplicate(format!("{DOING}: {} of {} are stored by now", rows.len() - loaded, rows.len())))
        }
    }
}

fn insert_raw(conn: &rusqlite::Connection, rows: &[QuoteRow<'_>]) -> rusqlite::Result<()> {
    let mut insert =
        conn.prepare_cached(&format!("INSERT INTO {TABLE} ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"))?;
    for row in rows {
        insert.raw_bind_parameter(1, &*row.quote.source)?;
        insert.raw_bind_parameter(2, &*row.quote.pair)?;
        insert.raw_bind_parameter(3, row.quote.sequence)?;
        insert.raw_bind_parameter(4, row.quote.observed_at.text().as_str())?;
        for (at, number) in row.doubles().into_iter().enumerate() {
            insert.raw_bind_parameter(5 + at, number)?;
        }
        insert.raw_bind_parameter(12, &*row.quote.session)?;
        insert.raw_execute()?;
    }
    Ok(())
}

#[cfg(feature = "postgres")]
fn copy(conn: &mut diesel::PgConnection, rows: &[QuoteRow<'_>]) -> Result<(), DbError> {
    let mut buffer = CopyBuffer::with_capacity(rows.len() * 180);
    for row in rows {
        buffer.row(12);
        buffer.field(row.quote.source.as_bytes());
        buffer.field(row.quote.pair.as_bytes());
        buffer.field(&row.quote.sequence.to_be_bytes());
        buffer.micros(row.quote.observed_at.micros());
        row.doubles().iter().for_each(|number| buffer.field(&number.to_be_bytes()));
        buffer.field(row.quote.session.as_bytes());
    }
    copy_into::<Quotes>(conn, &buffer.end()).doing(DOING).map(|_| ())
}
