//! Candles of a coin.

use diesel::sql_types::{BigInt, Bool, Double, Nullable, Text, Timestamp};

use super::{Part, stamp};
use crate::db::conn::Connection;
use crate::db::error::DbError;
use crate::db::sql::sql;
use crate::domain::{Stamp, Timeframe};

/// A row of `candles`.
#[derive(Debug, Clone, PartialEq, diesel::QueryableByName)]
pub struct Candle {
    #[diesel(sql_type = Timestamp)]
    open_time: chrono::NaiveDateTime,
    #[diesel(sql_type = Double)]
    pub open: f64,
    #[diesel(sql_type = Double)]
    pub high: f64,
    #[diesel(sql_type = Double)]
    pub low: f64,
    #[diesel(sql_type = Double)]
    pub close: f64,
    #[diesel(sql_type = Nullable<Double>)]
    pub volume: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    pub base_volume: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    pub market_cap: Option<f64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub samples: Option<i64>,
    #[diesel(sql_type = Text)]
    pub origin: String,
    #[diesel(sql_type = Bool)]
    pub is_final: bool,
    #[diesel(sql_type = BigInt)]
    pub run_id: i64,
}

impl Candle {
    pub fn open_time(&self) -> Stamp {
        stamp(self.open_time)
    }
}

pub fn of_coin(
    conn: &mut Connection,
    asset_id: i64,
    vs_currency: &str,
    timeframe: Timeframe,
    part: &Part,
) -> Result<Vec<Candle>, DbError> {
    let which = part.text(conn.backend(), "c.open_time");
    let read = sql(format!(
        "SELECT c.open_time, c.open, c.high, c.low, c.close, c.volume, c.base_volume, c.market_cap, c.samples, \
         c.origin, c.final AS is_final, c.run_id FROM candles c \
         WHERE c.asset_id = ? AND c.vs_currency = ? AND c.timeframe = ?{which}"
    ));
    part.bind(read.bind(asset_id).bind(vs_currency).bind(timeframe.name())).load(conn, "reading candles")
}
