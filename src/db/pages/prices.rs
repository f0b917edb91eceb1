//! Observations, and the newest of each coin.

use diesel::sql_types::{BigInt, Double, Integer, Nullable, Timestamp};

use super::{Part, stamp};
use crate::db::conn::Connection;
use crate::db::error::DbError;
use crate::db::sql::sql;
use crate::db::url::Backend;
use crate::domain::Stamp;

const DOING: &str = "reading prices";
const COLUMNS: &str = "p.asset_id, p.observed_at, p.price, p.volume_24h, p.base_volume_24h, p.market_cap, \
                       p.circulating_supply, p.total_supply, p.market_cap_rank, p.change_1h, p.change_24h, \
                       p.change_7d, p.change_30d, p.run_id";

/// A row of `prices`.
#[derive(Debug, Clone, PartialEq, diesel::QueryableByName)]
pub struct Price {
    #[diesel(sql_type = BigInt)]
    pub asset_id: i64,
    #[diesel(sql_type = Timestamp)]
    observed_at: chrono::NaiveDateTime,
    #[diesel(sql_type = Nullable<Double>)]
    pub price: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    pub volume_24h: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    pub base_volume_24h: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    pub market_cap: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    pub circulating_supply: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    pub total_supply: Option<f64>,
    #[diesel(sql_type = Nullable<Integer>)]
    pub market_cap_rank: Option<i32>,
    #[diesel(sql_type = Nullable<Double>)]
    pub change_1h: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    pub change_24h: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    pub change_7d: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    pub change_30d: Option<f64>,
    #[diesel(sql_type = BigInt)]
    pub run_id: i64,
}

impl Price {
    pub fn observed_at(&self) -> Stamp {
        stamp(self.observed_at)
    }
}

/// Prices of a coin in a currency.
pub fn of_coin(conn: &mut Connection, asset_id: i64, vs_currency: &str, part: &Part) -> Result<Vec<Price>, DbError> {
    let which = part.text(conn.backend(), "p.observed_at");
    let read = sql(format!("SELECT {COLUMNS} FROM prices p WHERE p.asset_id = ? AND p.vs_currency = ?{which}"));
    part.bind(read.bind(asset_id).bind(vs_currency)).load(conn, DOING)
}

/// The newest price of each coin of a source from one id of ours to another, both included, in their order.
pub fn newest(
    conn: &mut Connection,
    source: &str,
    vs_currency: &str,
    first: i64,
    last: i64,
) -> Result<Vec<Price>, DbError> {
    let backend = conn.backend();
    let newest = |selected: &str| {
        format!(
            "(SELECT {selected} FROM prices q WHERE q.asset_id = a.id AND q.vs_currency = ? \
             ORDER BY q.observed_at DESC LIMIT 1)"
        )
    };
    let these = "a.id >= ? AND a.id <= ? AND a.source = ? ORDER BY a.id";
    let read = match backend {
        // As in the view latest_prices.
        Backend::Postgres => {
            sql(format!("SELECT {COLUMNS} FROM assets a CROSS JOIN LATERAL {} p WHERE {these}", newest("q.*")))
                .bind(vs_currency)
        }
        Backend::Sqlite | Backend::Mysql => {
            let join = match backend {
                Backend::Sqlite => "CROSS JOIN prices p",
                _ => "STRAIGHT_JOIN prices p FORCE INDEX (PRIMARY)",
            };
            sql(format!(
                "SELECT {COLUMNS} FROM assets a {join} ON p.asset_id = a.id AND p.vs_currency = ? \
                 AND p.observed_at = {} WHERE {these}",
                newest("q.observed_at")
            ))
            .bind(vs_currency)
            .bind(vs_currency)
        }
    };
    read.bind(first).bind(last).bind(source).load(conn, DOING)
}
