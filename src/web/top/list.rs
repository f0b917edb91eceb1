//! The coins, which of them are listed and in which order.

use super::super::choice::Shown;
use super::wanted::{Column, Wanted};
use crate::api::ApiError;
use crate::db::coins::folded;
use crate::db::dashboard::market::Coin;
use crate::db::{Connection, series};
use crate::domain::Stamp;

/// Rows of a page.
pub const PAGE: usize = 100;

/// A coin, and what is shown of it.
pub struct Row<'a> {
    pub coin: &'a Coin,
    pub shown: Option<Shown<'a>>,
}

impl Row<'_> {
    pub fn latest<T>(&self, get: impl Fn(&Shown<'_>) -> Option<T>) -> Option<T> {
        self.shown.as_ref().and_then(get)
    }

    pub fn number(&self, column: Column) -> Option<f64> {
        self.latest(|shown| match column {
            Column::Price => shown.price(),
            Column::Hour => shown.latest.change_1h,
            Column::Day => shown.latest.change_24h,
            Column::Week => shown.latest.change_7d,
            Column::Month => shown.latest.change_30d,
            Column::Volume => shown.volume(),
            Column::Cap => shown.cap(),
            Column::Rank => shown.latest.rank.map(|rank| rank as f64),
            Column::Name | Column::Symbol => None,
        })
    }

    pub fn rank(&self) -> Option<i64> {
        self.latest(|shown| shown.latest.rank)
    }
}

/// The largest first: by rank, and those without one by market cap, then by volume.
pub fn by_size(a: &Row<'_>, b: &Row<'_>) -> std::cmp::Ordering {
    let place = |row: &Row<'_>| row.rank().unwrap_or(i64::MAX);
    let falling = |column: Column| {
        let value = |row: &Row<'_>| row.number(column).unwrap_or(-1.0);
        value(b).total_cmp(&value(a))
    };
    place(a).cmp(&place(b)).then_with(|| falling(Column::Cap)).then_with(|| falling(Column::Volume))
}

fn sort(rows: &mut [Row<'_>], column: Column, rising: bool) {
    match column {
        Column::Rank => rows.sort_by(by_size),
        Column::Name => rows.sort_by_cached_key(|row| (row.coin.name.to_lowercase(), row.coin.asset_id)),
        Column::Symbol => rows.sort_by_cached_key(|row| (row.coin.symbol.clone(), row.coin.asset_id)),
        column => {
            let signed = |row: &Row<'_>| row.number(column).map(|value| if rising { value } else { -value });
            // What is not known comes last either way.
            rows.sort_by(|a, b| match (signed(a), signed(b)) {
                (Some(a), Some(b)) => a.total_cmp(&b),
                (a, b) => b.is_some().cmp(&a.is_some()),
            });
            return;
        }
    }
    if !rising {
        rows.reverse();
    }
}

/// What is listed, in order.
pub fn list<'a>(rows: Vec<Row<'a>>, wanted: &Wanted) -> Vec<Row<'a>> {
    let mut rows = rows;
    match wanted.search.as_str() {
        // Whoever looks for a coin by name wants to find it, whatever is known of it.
        "" => rows.retain(|row| row.coin.active && row.shown.is_some()),
        search => {
            let search = folded(search);
            let mut found: Vec<(u8, Row<'a>)> =
                rows.into_iter().filter_map(|row| Some((row.coin.fits(&search)?, row))).collect();
            found.sort_by_key(|(fit, _)| *fit);
            rows = found.into_iter().map(|(_, row)| row).collect();
        }
    }
    if let Some(column) = wanted.sort {
        sort(&mut rows, column, wanted.rising.unwrap_or(column.is_rising()));
    }
    rows
}

pub type Sparks = std::collections::HashMap<i64, Vec<f64>>;

pub fn sparks(conn: &mut Connection, rows: &[Row<'_>], now: Stamp) -> Result<Sparks, ApiError> {
    let mut sparks = Sparks::new();
    let mut by_currency: Vec<(&str, Vec<i64>)> = Vec::new();
    for row in rows {
        let Some(shown) = &row.shown else { continue };
        let currency = &*shown.latest.vs_currency;
        match by_currency.iter_mut().find(|(held, _)| *held == currency) {
            Some((_, ids)) => ids.push(row.coin.asset_id),
            None => by_currency.push((currency, vec![row.coin.asset_id])),
        }
    }
    for (currency, ids) in by_currency {
        sparks.extend(series::sparks(conn, &ids, currency, now)?);
    }
    Ok(sparks)
}
