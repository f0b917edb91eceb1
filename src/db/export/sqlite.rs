//! SQLite: statements on the handle below diesel's connection, each along one stretch of a key, so that
//! nothing is ever sorted and a row is only stepped over once.

use rusqlite::types::ValueRef;
use rusqlite::{Connection as Raw, Row, params_from_iter};

use super::{About, Asset, DOING, Gather, ReadError, Selection, Table, unreadable};
use crate::db::conn::Connection;
use crate::db::error::DbError;
use crate::db::sqlite_raw;
use crate::domain::rows::{Cell, Field, Kind, Rows};

/// All rows of some coins.
pub fn of_assets(
    conn: &Raw,
    selection: &Selection,
    assets: &[Asset],
    gather: &mut Gather<'_, '_>,
) -> Result<(), ReadError> {
    let table = selection.table;
    let (from, to) = selection.bounds();
    let timeframes = if table.has_timeframes() { selection.timeframe_names() } else { vec![""] };
    let of_timeframe = if table.has_timeframes() { "AND timeframe = ?5" } else { "" };
    let time = table.time();
    let read = format!(
        "SELECT {}, run_id FROM {} WHERE asset_id = ?1 AND vs_currency = ?2 {of_timeframe} \
         AND {time} >= ?3 AND {time} < ?4 ORDER BY {time}",
        names(table),
        table.table()
    );
    let next = format!("SELECT MIN(vs_currency) FROM {} WHERE asset_id = ?1 AND vs_currency > ?2", table.table());
    let mut read = conn.prepare_cached(&read).map_err(failed)?;
    let mut next = conn.prepare_cached(&next).map_err(failed)?;
    let mut times = Times::default();
    for asset in assets {
        let mut vs = String::new();
        loop {
            let found: Option<String> = next.query_row((asset.id, &vs), |row| row.get(0)).map_err(failed)?;
            let Some(found) = found else { break };
            vs = found;
            if !selection.vs.is_empty() && !selection.vs.contains(&vs) {
                continue;
            }
            for timeframe in &timeframes {
                let places = if table.has_timeframes() { 5 } else { 4 };
                for (at, value) in
                    [&asset.id as &dyn rusqlite::ToSql, &vs, &from, &to, timeframe].into_iter().take(places).enumerate()
                {
                    read.raw_bind_parameter(at + 1, value).map_err(failed)?;
                }
                let mut rows = read.raw_query();
                while let Some(row) = rows.next().map_err(failed)? {
                    take(&mut gather.rows, table, Some(asset), row, &mut times)?;
                    gather.hand_over_if_full()?;
                }
            }
        }
    }
    Ok(())
}

/// All rows of pairs.
pub fn of_pairs(conn: &Raw, selection: &Selection, gather: &mut Gather<'_, '_>) -> Result<(), ReadError> {
    let table = selection.table;
    let (from, to) = selection.bounds();
    let time = table.time();
    let mut values = vec![from, to];
    // With a plus in front a condition never leads away from the key, and so from the order.
    let mut condition = format!("+{time} >= ?1 AND +{time} < ?2");
    let mut among = |name: &str, wanted: Vec<String>| {
        if !wanted.is_empty() {
            let places = vec!["?"; wanted.len()].join(",");
            condition.push_str(&format!(" AND +{name} IN ({places})"));
            values.extend(wanted);
        }
    };
    among("source", selection.source.iter().cloned().collect());
    among("pair", selection.pairs.clone());
    if table.has_timeframes() {
        among("timeframe", selection.timeframe_names().into_iter().map(str::to_owned).collect());
    }
    let read = format!(
        "SELECT {}, 0 FROM {} WHERE {condition} ORDER BY {}",
        names(table),
        table.table(),
        table.key().join(", ")
    );
    let mut read = conn.prepare(&read).map_err(failed)?;
    let mut rows = read.query(params_from_iter(values)).map_err(failed)?;
    let mut times = Times::default();
    while let Some(row) = rows.next().map_err(failed)? {
        take(&mut gather.rows, table, None, row, &mut times)?;
        gather.hand_over_if_full()?;
    }
    Ok(())
}

/// The rows that a run was the last to change.
pub fn of_run(
    conn: &Raw,
    other: &mut Connection,
    selection: &Selection,
    run_id: i64,
    about: &mut About<'_>,
    gather: &mut Gather<'_, '_>,
) -> Result<(), ReadError> {
    let table = selection.table;
    let (from, to) = selection.bounds();
    let time = table.time();
    let read = format!(
        "SELECT {}, run_id, asset_id FROM {} WHERE run_id = ?1 AND +{time} >= ?2 AND +{time} < ?3 \
         ORDER BY asset_id, {}",
        names(table),
        table.table(),
        table.key().join(", ")
    );
    let timeframes = selection.timeframe_names();
    let mut read = conn.prepare_cached(&read).map_err(failed)?;
    let mut rows = read.query((run_id, from, to)).map_err(failed)?;
    let mut times = Times::default();
    while let Some(row) = rows.next().map_err(failed)? {
        let text = |at: usize| row.get_ref(at).ok().and_then(|value| value.as_str().ok());
        if !selection.vs.is_empty() && !text(0).is_some_and(|vs| selection.vs.iter().any(|wanted| wanted == vs)) {
            continue;
        }
        if table.has_timeframes() && !text(1).is_some_and(|name| timeframes.contains(&name)) {
            continue;
        }
        let id: i64 = row.get(table.own().len() + 1).map_err(failed)?;
        let Some(asset) = about.get(other, id)? else { continue };
        take(&mut gather.rows, table, Some(asset), row, &mut times)?;
        gather.hand_over_if_full()?;
    }
    Ok(())
}

fn names(table: Table) -> String {
    table.own().iter().map(|field| field.name).collect::<Vec<_>>().join(", ")
}

/// Takes in a row: what is told of the coin, the table's own columns, and the run behind them.
fn take(rows: &mut Rows, table: Table, asset: Option<&Asset>, row: &Row<'_>, times: &mut Times) -> Result<(), DbError> {
    let mut column = 0;
    if let Some(asset) = asset {
        for text in [&asset.source, &asset.source_id, &asset.symbol] {
            if !rows.push(column, Cell::Text(text)) {
                return Err(unreadable(&table.fields()[column]));
            }
            column += 1;
        }
    }
    for (at, field) in table.own().iter().enumerate() {
        let value = row.get_ref(at).map_err(failed)?;
        let cell = cell(field, value, times).ok_or_else(|| unreadable(field))?;
        if !rows.push(column + at, cell) {
            return Err(unreadable(field));
        }
    }
    rows.end_row(row.get(table.own().len()).map_err(failed)?);
    Ok(())
}

fn cell<'a>(field: &Field, value: ValueRef<'a>, times: &mut Times) -> Option<Cell<'a>> {
    Some(match (field.kind, value) {
        (_, ValueRef::Null) => Cell::Null,
        (Kind::Text, ValueRef::Text(text)) => Cell::Text(std::str::from_utf8(text).ok()?),
        (Kind::Int, ValueRef::Integer(number)) => Cell::Int(number),
        (Kind::Bool, ValueRef::Integer(number)) => Cell::Bool(number != 0),
        (Kind::Double, ValueRef::Real(number)) => Cell::Double(number),
        (Kind::Double, ValueRef::Integer(number)) => Cell::Double(number as f64),
        (Kind::Millis, ValueRef::Text(text)) => Cell::Int(times.micros(text)?.div_euclid(1000)),
        (Kind::Micros, ValueRef::Text(text)) => Cell::Int(times.micros(text)?),
        _ => return None,
    })
}

/// Reads times of fixed width. Most are of the same day as the one before, and a calendar is slow.
#[derive(Default)]
struct Times {
    day: [u8; 10],
    day_us: i64,
}

impl Times {
    /// `YYYY-MM-DD HH:MM:SS`, and a fraction if there is one, as microseconds since 1970.
    fn micros(&mut self, text: &[u8]) -> Option<i64> {
        let (day, rest) = text.split_first_chunk::<10>()?;
        if *day != self.day {
            let date = std::str::from_utf8(day).ok()?.parse::<chrono::NaiveDate>().ok()?;
            self.day_us = date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros();
            self.day = *day;
        }
        let number = |from: usize| {
            let tens = rest.get(from)?.wrapping_sub(b'0');
            let ones = rest.get(from + 1)?.wrapping_sub(b'0');
            (tens < 10 && ones < 10).then(|| i64::from(tens) * 10 + i64::from(ones))
        };
        let seconds = number(1)? * 3_600 + number(4)? * 60 + number(7)?;
        let mut fraction = 0;
        match rest.get(9..) {
            None | Some([]) => {}
            Some([b'.', digits @ ..]) if (1..=6).contains(&digits.len()) => {
                for at in 0..6 {
                    let digit = digits.get(at).copied().unwrap_or(b'0').wrapping_sub(b'0');
                    if digit > 9 {
                        return None;
                    }
                    fraction = fraction * 10 + i64::from(digit);
                }
            }
            Some(_) => return None,
        }
        Some(self.day_us + seconds * 1_000_000 + fraction)
    }
}

fn failed(err: rusqlite::Error) -> DbError {
    sqlite_raw::failed(DOING, &err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Micros, Stamp};

    #[test]
    fn times_are_read_as_they_are_written() {
        let mut times = Times::default();
        for micros in [0, 1, 1_779_180_477_580_123, 253_402_300_799_999_999, 951_782_400_000_000] {
            let text = Micros::from_micros(micros).unwrap().to_string();
            assert_eq!(times.micros(text.as_bytes()), Some(micros), "{text}");
            let millis = Stamp::from_millis(micros / 1000).unwrap().to_string();
            assert_eq!(times.micros(millis.as_bytes()), Some(micros / 1000 * 1000), "{millis}");
        }
        assert_eq!(times.micros(b"2026-05-19 08:47:57"), Some(1_779_180_477_000_000));
        for wrong in ["", "2026-05-19", "2026-13-19 08:47:57.000", "2026-05-19 08:4x:57.000", "2026-05-19 08:47:57.0a0"]
        {
            assert_eq!(times.micros(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
