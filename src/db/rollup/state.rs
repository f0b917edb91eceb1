//! Which timeframes are kept up to date, how far they are, and which candles are still open.

use std::collections::BTreeSet;

use diesel::sql_types::{BigInt, Nullable, Text, Timestamp};
use roaring::RoaringTreemap;

use crate::db::candles::CandleRow;
use crate::db::conn::Connection;
use crate::db::error::DbError;
use crate::db::session::Batch;
use crate::db::sql::sql;
use crate::db::url::Backend;
use crate::domain::{Stamp, Timeframe};

const IDS_A_PAGE: i64 = 50_000;

/// A timeframe that every rollup keeps up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub timeframe: Timeframe,
    /// While it is folded of everything: the last coin that is done, 0 for none.
    pub built: Option<i64>,
}

/// The timeframes that are kept up to date, the shortest first.
pub fn kept(conn: &mut Connection) -> Result<Vec<Kept>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        timeframe: String,
        #[diesel(sql_type = Nullable<BigInt>)]
        built_asset: Option<i64>,
    }
    let doing = "reading which timeframes are rolled up";
    let rows = sql("SELECT timeframe, built_asset FROM rollup_timeframes").load::<Row>(conn, doing)?;
    let kept = rows.into_iter().map(|row| {
        let timeframe = row.timeframe.parse().map_err(|err| DbError::Query { doing, why: format!("{err}") })?;
        Ok(Kept { timeframe, built: row.built_asset })
    });
    let mut kept: Vec<Kept> = kept.collect::<Result<_, DbError>>()?;
    kept.sort_by_key(|kept| kept.timeframe);
    Ok(kept)
}

/// Remembers how far some timeframes are; `None` when they are folded of everything.
pub fn save(batch: &mut Batch<'_>, timeframes: &[Timeframe], built: Option<i64>) -> Result<(), DbError> {
    let tail = match batch.conn.backend() {
        Backend::Mysql => "ON DUPLICATE KEY UPDATE built_asset = VALUES(built_asset)",
        Backend::Sqlite | Backend::Postgres => {
            "ON CONFLICT (timeframe) DO UPDATE SET built_asset = excluded.built_asset"
        }
    };
    let insert = format!("INSERT INTO rollup_timeframes (timeframe, built_asset) VALUES (?, ?) {tail}");
    for timeframe in timeframes {
        sql(insert.as_str())
            .bind(timeframe.name())
            .bind(crate::db::sql::Value::MaybeInt(built))
            .execute(batch.conn, "remembering what is rolled up")?;
    }
    Ok(())
}

/// An interval that is not over.
pub type Open = (Timeframe, Stamp);

/// Remembers intervals whose candles are to be made final once they are over.
pub fn add_open(batch: &mut Batch<'_>, open: &BTreeSet<Open>) -> Result<(), DbError> {
    let (verb, tail) = match batch.conn.backend() {
        Backend::Mysql => ("INSERT IGNORE", ""),
        Backend::Sqlite | Backend::Postgres => ("INSERT", " ON CONFLICT DO NOTHING"),
    };
    let at = batch.conn.backend().stamp();
    let insert = format!("{verb} INTO rollup_open (timeframe, open_time) VALUES (?, {at}){tail}");
    for (timeframe, open_time) in open {
        sql(insert.as_str())
            .bind(timeframe.name())
            .bind(open_time.text().as_str())
            .execute(batch.conn, "remembering what is not over")?;
    }
    Ok(())
}

/// The intervals that were not over, by their ends.
pub fn open(conn: &mut Connection) -> Result<Vec<Open>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        timeframe: String,
        #[diesel(sql_type = Timestamp)]
        open_time: chrono::NaiveDateTime,
    }
    let rows = sql("SELECT timeframe, open_time FROM rollup_open").load::<Row>(conn, "reading what is not over")?;
    let open = |row: Row| Some((row.timeframe.parse().ok()?, Stamp::from_datetime(row.open_time.and_utc()).ok()?));
    let mut open: Vec<Open> = rows.into_iter().filter_map(open).collect();
    open.sort_by_key(|(timeframe, open_time)| (timeframe.end(*open_time), *timeframe));
    Ok(open)
}

/// Makes the candles of an interval that is over final; how many.
pub fn close(batch: &mut Batch<'_>, (timeframe, open_time): Open) -> Result<usize, DbError> {
    let at = batch.conn.backend().stamp();
    let doing = "making candles final";
    let made = sql(format!(
        "UPDATE candles SET final = TRUE, run_id = ? \
         WHERE open_time = {at} AND timeframe = ? AND origin = 'rollup' AND final = FALSE"
    ))
    .bind(batch.run_id)
    .bind(open_time.text().as_str())
    .bind(timeframe.name())
    .execute(batch.conn, doing)?;
    sql(format!("DELETE FROM rollup_open WHERE timeframe = ? AND open_time = {at}"))
        .bind(timeframe.name())
        .bind(open_time.text().as_str())
        .execute(batch.conn, doing)?;
    Ok(made)
}

/// Deletes candles that were folded here; how many.
pub fn delete(batch: &mut Batch<'_>, rows: &[CandleRow]) -> Result<usize, DbError> {
    let at = batch.conn.backend().stamp();
    let delete = format!(
        "DELETE FROM candles WHERE asset_id = ? AND vs_currency = ? AND timeframe = ? AND open_time = {at} \
         AND origin = 'rollup'"
    );
    rows.iter().try_fold(0, |deleted, row| {
        let one = sql(delete.as_str())
            .bind(row.asset_id)
            .bind(&*row.vs_currency)
            .bind(row.candle.timeframe.name())
            .bind(row.candle.open_time.text().as_str())
            .execute(batch.conn, "deleting candles of nothing")?;
        Ok(deleted + one)
    })
}

/// Remembers that of a source's observations before a moment not all are here: what was folded of them
/// stays as it is.
pub fn remember_gone(batch: &mut Batch<'_>, source: &str, before: Stamp) -> Result<(), DbError> {
    let at = batch.conn.backend().stamp();
    let insert = format!("INSERT INTO pruned (source, before_time) VALUES (?, {at}) {}", later(batch.conn.backend()));
    let insert = sql(insert).bind(source).bind(before.text().as_str());
    insert.execute(batch.conn, "remembering what is pruned").map(|_| ())
}

/// Of two moments of a source the later one stays.
pub fn later(backend: Backend) -> &'static str {
    match backend {
        Backend::Mysql => "ON DUPLICATE KEY UPDATE before_time = GREATEST(before_time, VALUES(before_time))",
        Backend::Sqlite | Backend::Postgres => {
            "ON CONFLICT (source) DO UPDATE SET before_time = excluded.before_time \
             WHERE excluded.before_time > pruned.before_time"
        }
    }
}

/// Before which moment the observations of which coins are pruned: a bit for each coin.
#[derive(Default)]
pub struct Pruned(Vec<(String, Stamp, RoaringTreemap)>);

impl Pruned {
    /// Brings it up to date with what `prune` did.
    pub fn refresh(&mut self, conn: &mut Connection) -> Result<(), DbError> {
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            source: String,
            #[diesel(sql_type = Timestamp)]
            before_time: chrono::NaiveDateTime,
        }
        for row in sql("SELECT source, before_time FROM pruned").load::<Row>(conn, "reading what is pruned")? {
            let Ok(before) = Stamp::from_datetime(row.before_time.and_utc()) else { continue };
            match self.0.iter_mut().find(|(source, ..)| *source == row.source) {
                Some((_, known, _)) if *known == before => {}
                Some((_, known, ids)) => (*known, *ids) = (before, coins_of(conn, &row.source)?),
                None => {
                    let ids = coins_of(conn, &row.source)?;
                    self.0.push((row.source, before, ids));
                }
            }
        }
        Ok(())
    }

    /// Whether any coin's observations of this moment are gone.
    pub fn reaches(&self, moment: Stamp) -> bool {
        self.0.iter().any(|(_, before, _)| moment < *before)
    }

    pub fn before(&self, asset_id: i64) -> Option<Stamp> {
        self.0.iter().find(|(.., ids)| ids.contains(asset_id as u64)).map(|(_, before, _)| *before)
    }
}

/// Whether a longer candle was folded of more than is left of its time in prices or in candles of this
/// timeframe: what is left of an interval in it is then not all that there was.
pub fn longer_knows_more(
    conn: &mut Connection,
    asset_id: i64,
    vs_currency: &str,
    timeframe: Timeframe,
    open_time: Stamp,
) -> Result<bool, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Number {
        #[diesel(sql_type = BigInt)]
        n: i64,
    }
    let (at, doing) = (conn.backend().stamp(), "looking for longer candles");
    let int = if conn.backend() == Backend::Mysql { "SIGNED" } else { "BIGINT" };
    let folded = format!("SELECT CAST(COALESCE(SUM(samples), 0) AS {int}) AS n FROM candles");
    let of_coin = "asset_id = ? AND vs_currency = ?";
    let mut number = |query: String, texts: Vec<String>| {
        let query = sql(query).bind(asset_id).bind(vs_currency).bind_all(texts);
        Ok::<i64, DbError>(query.first::<Number>(conn, doing)?.map_or(0, |row| row.n))
    };
    for longer in Timeframe::ALL.into_iter().filter(|longer| *longer > timeframe) {
        let open = longer.floor(open_time);
        let (from, to) = (open.text().as_str().to_owned(), longer.end(open).text().as_str().to_owned());
        let knows = number(
            format!(
                "{folded} WHERE {of_coin} AND timeframe = ? AND open_time = {at} AND origin = 'rollup' AND final = TRUE"
            ),
            vec![longer.name().to_owned(), from.clone()],
        )?;
        if knows == 0 {
            continue;
        }
        let left = number(
            format!(
                "SELECT COUNT(*) AS n FROM prices WHERE {of_coin} AND observed_at >= {at} AND observed_at < {at} \
                 AND price IS NOT NULL"
            ),
            vec![from.clone(), to.clone()],
        )?;
        if knows <= left {
            continue;
        }
        let told = number(
            format!("{folded} WHERE {of_coin} AND timeframe = ? AND open_time >= {at} AND open_time < {at}"),
            vec![timeframe.name().to_owned(), from, to],
        )?;
        if knows > told {
            return Ok(true);
        }
    }
    Ok(false)
}

fn coins_of(conn: &mut Connection, source: &str) -> Result<RoaringTreemap, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Id {
        #[diesel(sql_type = BigInt)]
        id: i64,
    }
    let (mut ids, mut after) = (RoaringTreemap::new(), 0);
    loop {
        let page = sql("SELECT id FROM assets WHERE source = ? AND id > ? ORDER BY id LIMIT ?")
            .bind(source)
            .bind(after)
            .bind(IDS_A_PAGE)
            .load::<Id>(conn, "reading a source's coins")?;
        let Some(last) = page.last() else { return Ok(ids) };
        after = last.id;
        ids.extend(page.into_iter().map(|id| id.id as u64));
    }
}

/// Whose coin it is, and what its source calls it.
pub fn coin(conn: &mut Connection, asset_id: i64) -> Result<(String, String), DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        source: String,
        #[diesel(sql_type = Text)]
        source_id: String,
    }
    let read = sql("SELECT source, source_id FROM assets WHERE id = ?").bind(asset_id);
    let row = read.first::<Row>(conn, "looking up a coin")?;
    Ok(row.map_or_else(|| ("?".to_owned(), asset_id.to_string()), |row| (row.source, row.source_id)))
}
