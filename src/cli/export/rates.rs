//! `--in`: amounts in another currency, by the newest rate at or before their row's time.

use std::collections::HashMap;

use crate::db::export::{Snapshot, Table};
use crate::db::fx::{self, Conversion};
use crate::db::{DatabaseUrl, DbError};
use crate::domain::Stamp;
use crate::domain::rows::{Cell, Field, Kind, Rows};
use crate::exit::UsageError;
use crate::sources::whose_rates;

/// Columns that are amounts of `vs_currency`.
const AMOUNTS: [&str; 8] = ["price", "volume_24h", "market_cap", "open", "high", "low", "close", "volume"];

/// The columns of converted rows: an amount can be unknown, and the rate is told.
pub fn fields(table: Table) -> Vec<Field> {
    let of_table = table.fields().iter().map(|field| match AMOUNTS.contains(&field.name) {
        true => Field { nullable: true, ..*field },
        false => *field,
    });
    let of_rate = [
        Field::new("in_currency", Kind::Text),
        Field::nullable("rate", Kind::Double),
        Field::nullable("rate_time", Kind::Millis),
    ];
    of_table.chain(of_rate).collect()
}

/// Converts rows of a table, in any number.
pub struct Rates {
    snapshot: Snapshot,
    table: Table,
    fields: Vec<Field>,
    currency: String,
    by_source: HashMap<String, Conversion>,
    /// Rows for which there was no rate.
    without: u64,
}

impl Rates {
    /// Refuses a currency that nothing is known of, where something is known of others.
    pub fn new(url: &DatabaseUrl, table: Table, currency: &str) -> anyhow::Result<Rates> {
        let mut snapshot = Snapshot::take(url)?;
        if let Some(known) = fx::known_instead_of(snapshot.conn(), currency)? {
            let why = format!(
                "--in {currency:?}: nothing is stored in it, and no rate of it; there are rates of {}",
                known.join(", ")
            );
            return Err(UsageError(why).into());
        }
        Ok(Rates {
            snapshot,
            without: 0,
            table,
            fields: fields(table),
            currency: currency.to_owned(),
            by_source: HashMap::new(),
        })
    }

    /// Rows that have no amounts for want of a rate, so far.
    pub fn without(&self) -> u64 {
        self.without
    }

    pub fn convert(&mut self, rows: &Rows) -> Result<Rows, DbError> {
        let mut out = Rows::new(&self.fields);
        let at = |name: &str| self.table.at(name).unwrap_or_default();
        let (source_at, vs_at, time_at) = (at("source"), at("vs_currency"), at(self.table.time()));
        let is_amount: Vec<bool> = self.table.fields().iter().map(|field| AMOUNTS.contains(&field.name)).collect();
        let misfit =
            || DbError::Query { doing: "converting prices", why: "a column is not what it should be".to_owned() };
        for row in 0..rows.len() {
            let (Cell::Text(source), Cell::Text(vs), Cell::Int(time)) =
                (rows.cell(source_at, row), rows.cell(vs_at, row), rows.cell(time_at, row))
            else {
                return Err(misfit());
            };
            let time = Stamp::from_millis(time).map_err(|_| misfit())?;
            let conn = self.snapshot.conn();
            let conversion = match self.by_source.get_mut(source) {
                Some(conversion) => conversion,
                None => {
                    let rates_of = fx::rates_of(conn, source, &whose_rates(source))?;
                    let conversion = Conversion::new(&rates_of, &self.currency);
                    self.by_source.entry(source.to_owned()).or_insert(conversion)
                }
            };
            let dated = conversion.dated_factor(conn, vs, time)?;
            self.without += u64::from(dated.is_none());
            let mut fits = true;
            for (column, is_amount) in is_amount.iter().enumerate() {
                let cell = match (rows.cell(column, row), is_amount) {
                    (Cell::Double(amount), true) => {
                        let converted = dated.and_then(|(factor, _)| factor.apply(amount));
                        converted.map_or(Cell::Null, Cell::Double)
                    }
                    (cell, _) => cell,
                };
                fits &= out.push(column, cell);
            }
            let (rate, rate_time) = match dated {
                Some((factor, at)) => (
                    factor.apply(1.0).map_or(Cell::Null, Cell::Double),
                    at.map_or(Cell::Null, |at| Cell::Int(at.millis())),
                ),
                None => (Cell::Null, Cell::Null),
            };
            let behind = is_amount.len();
            fits &= out.push(behind, Cell::Text(&self.currency));
            fits &= out.push(behind + 1, rate);
            fits &= out.push(behind + 2, rate_time);
            out.end_row(rows.runs[row]);
            if !fits {
                return Err(misfit());
            }
        }
        Ok(out)
    }
}
