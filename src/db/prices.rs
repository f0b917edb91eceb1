//! The price sink: observations into the table `prices`.
//!
//! Same key and other numbers: the new ones stay and `run_id` tells the run that changed them. Same
//! numbers: nothing is written. A column that the answer did not carry is left alone. The hours of what
//! changed are marked for the rollup (see [`marks`]).

use std::sync::Arc;

pub use super::bulk::Stored;
use super::bulk::{self, Cells, Row, Table};
use super::error::DbError;
use super::rollup::marks;
use super::session::Batch;
use crate::domain::{Carried, Column, Figures, Stamp};

/// An observation of a stored coin.
#[derive(Debug, Clone, PartialEq)]
pub struct PriceRow {
    pub asset_id: i64,
    pub vs_currency: Arc<str>,
    pub observed_at: Stamp,
    pub figures: Figures,
}

const TABLE: Table = Table {
    name: "prices",
    #[cfg(any(feature = "mysql", feature = "postgres"))]
    stage: "price_stage",
    key: &["asset_id", "vs_currency", "observed_at"],
    figures: &NAMES,
    guard: None,
    doing: "storing prices",
    #[cfg(feature = "postgres")]
    copy: bulk::postgres::copy!("prices", "price_stage"),
};

const NAMES: [&str; Column::COUNT] = {
    let (mut names, mut at) = ([""; Column::COUNT], 0);
    while at < Column::COUNT {
        names[at] = Column::ALL[at].name();
        at += 1;
    }
    names
};

impl PriceRow {
    fn key(&self) -> (i64, &str, Stamp) {
        (self.asset_id, &self.vs_currency, self.observed_at)
    }
}

impl Row for PriceRow {
    fn key(&self, out: &mut impl Cells) {
        out.int(Some(self.asset_id));
        out.text(&self.vs_currency);
        out.stamp(self.observed_at);
    }

    fn figures(&self, out: &mut impl Cells) {
        for column in Column::ALL {
            let value = self.figures.get(column);
            match column {
                Column::MarketCapRank => out.small(value.map(|rank| rank as i32)),
                _ => out.double(value),
            }
        }
    }
}

/// Stores a batch. Rows may come in any order; of two with the same key the later one counts.
pub fn upsert(batch: &mut Batch<'_>, rows: &mut Vec<PriceRow>) -> Result<Stored, DbError> {
    // A file's rows mostly are in order already.
    if !rows.is_sorted_by(|a, b| a.key() < b.key()) {
        rows.sort_by(|a, b| a.key().cmp(&b.key()));
        keep_last_of_each_key(rows);
    }
    let mut stored = Stored::default();
    let mut kinds: Vec<Carried> = rows.iter().map(|row| row.figures.carried()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for carried in kinds {
        let part: Vec<&PriceRow> = rows.iter().filter(|row| row.figures.carried() == carried).collect();
        let set: Vec<&str> = carried.columns().map(Column::name).collect();
        let part_stored = bulk::upsert(batch, &TABLE, &set, &part)?;
        if part_stored.changed() && (carried.has(Column::Price) || carried.has(Column::MarketCap)) {
            marks::mark(batch, part.iter().map(|row| (&*row.vs_currency, row.asset_id, row.observed_at)))?;
        }
        stored.add(part_stored);
    }
    Ok(stored)
}

fn keep_last_of_each_key(rows: &mut Vec<PriceRow>) {
    // The sort is stable, so the last of equal keys is the newest.
    rows.reverse();
    rows.dedup_by(|a, b| a.key() == b.key());
    rows.reverse();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(asset_id: i64, millis: i64, price: f64) -> PriceRow {
        let mut figures = Figures::default();
        figures.set(Column::Price, Some(price)).unwrap();
        PriceRow { asset_id, vs_currency: "usd".into(), observed_at: Stamp::from_millis(millis).unwrap(), figures }
    }

    #[test]
    fn the_later_of_two_equal_keys_counts() {
        let mut rows = vec![row(2, 5, 1.0), row(1, 5, 2.0), row(2, 5, 3.0), row(2, 4, 4.0)];
        rows.sort_by(|a, b| a.key().cmp(&b.key()));
        keep_last_of_each_key(&mut rows);
        assert_eq!(rows, [row(1, 5, 2.0), row(2, 4, 4.0), row(2, 5, 3.0)]);
    }
}
