//! Reads of the views for people.

use diesel::sql_types::{BigInt, Double, Nullable, Text};

use super::conn::Connection;
use super::error::DbError;
use super::sql::sql;

/// A row of `cap_top_10`.
#[derive(Debug, Clone, PartialEq, diesel::QueryableByName)]
pub struct TopCoin {
    #[diesel(sql_type = BigInt)]
    pub place: i64,
    #[diesel(sql_type = Text)]
    pub symbol: String,
    #[diesel(sql_type = Text)]
    pub name: String,
    #[diesel(sql_type = Nullable<Double>)]
    pub price: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    pub volume_24h: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    pub market_cap: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    pub change_24h: Option<f64>,
    #[diesel(sql_type = Text)]
    pub observed_at: String,
}

/// The ten largest coins of a source in one currency, largest first.
pub fn cap_top_10(conn: &mut Connection, source: &str, vs_currency: &str) -> Result<Vec<TopCoin>, DbError> {
    let text = match conn.backend() {
        super::Backend::Mysql => "CAST(observed_at AS CHAR)",
        super::Backend::Sqlite | super::Backend::Postgres => "CAST(observed_at AS TEXT)",
    };
    sql(format!(
        "SELECT CAST(position AS {}) AS place, symbol, name, price, volume_24h, market_cap, change_24h, {text} AS observed_at \
         FROM cap_top_10 WHERE source = ? AND vs_currency = ? ORDER BY position",
        if conn.backend() == super::Backend::Mysql { "SIGNED" } else { "BIGINT" }
    ))
    .bind(source)
    .bind(vs_currency)
    .load(conn, "reading the largest coins")
}

/// Active coins whose newest rank is up to `rank`, best first: our id and the source's. The points of a
/// chart have none, and take nobody's away.
pub fn ranked_up_to(
    conn: &mut Connection,
    source: &str,
    vs_currency: &str,
    rank: u64,
) -> Result<Vec<(i64, String)>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Ranked {
        #[diesel(sql_type = BigInt)]
        asset_id: i64,
        #[diesel(sql_type = Text)]
        source_id: String,
    }
    let rows = sql("SELECT asset_id, source_id FROM (SELECT l.asset_id, l.source_id, COALESCE(l.market_cap_rank, \
         (SELECT q.market_cap_rank FROM prices q WHERE q.asset_id = l.asset_id AND q.vs_currency = l.vs_currency \
         AND q.market_cap_rank IS NOT NULL ORDER BY q.observed_at DESC LIMIT 1)) AS standing FROM latest_prices l \
         WHERE l.source = ? AND l.vs_currency = ? AND l.active = TRUE) ranked \
         WHERE standing <= ? ORDER BY standing, asset_id")
    .bind(source)
    .bind(vs_currency)
    .bind(i64::try_from(rank).unwrap_or(i64::MAX))
    .load::<Ranked>(conn, "reading ranked coins")?;
    Ok(rows.into_iter().map(|row| (row.asset_id, row.source_id)).collect())
}
