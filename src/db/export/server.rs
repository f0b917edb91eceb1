//! MySQL and PostgreSQL: pages, each going on behind the key of the row before it.
//!
//! Rows of coins come by the coin's id, and are wanted by its name: so many coins are read at once that
//! their rows fit into a page, and put into order here. Sorting is not left to the server, which would
//! sort the whole table.

use std::collections::HashMap;
use std::ops::Range;

use super::{About, Asset, Gather, ReadError, Selection, Table, no_handle, unreadable};
use crate::db::any::AnyConnection;
use crate::db::conn::Connection;
use crate::db::error::DbError;
use crate::db::url::Backend;
use crate::domain::rows::{Cell, Field, Kind, Rows};
use crate::domain::{Micros, Stamp};

/// Rows a page: a few MB.
const PAGE: usize = 30_000;
/// Coins read at once, to begin with and at most.
const FIRST_GROUP: usize = 64;
const LARGEST_GROUP: usize = 500;

/// All rows of some coins.
pub fn of_assets(
    conn: &mut Connection,
    selection: &Selection,
    assets: &[Asset],
    gather: &mut Gather<'_, '_>,
) -> Result<(), ReadError> {
    let (mut at, mut size) = (0, FIRST_GROUP);
    while at < assets.len() {
        let group = &assets[at..assets.len().min(at + size)];
        let ids = group.iter().map(|asset| asset.id.to_string()).collect::<Vec<_>>().join(",");
        let which = format!("asset_id IN ({ids})");
        let mut page = Page::read(conn, selection, &which, None)?;
        if page.is_full() && group.len() > 1 {
            size = (group.len() / 4).max(1);
            continue;
        }
        let ranges = page.ranges();
        for asset in group {
            for row in ranges.get(&asset.id).cloned().unwrap_or_default() {
                page.hand(row, Some(asset), gather)?;
            }
        }
        while let [asset] = group
            && page.is_full()
        {
            page = Page::read(conn, selection, &which, page.last())?;
            for row in 0..page.rows.len() {
                page.hand(row, Some(asset), gather)?;
            }
        }
        if page.rows.len() < PAGE / 4 {
            size = (size * 2).min(LARGEST_GROUP);
        }
        at += group.len();
    }
    Ok(())
}

/// All rows of pairs.
pub fn of_pairs(conn: &mut Connection, selection: &Selection, gather: &mut Gather<'_, '_>) -> Result<(), ReadError> {
    let mut page = Page::read(conn, selection, "1 = 1", None)?;
    loop {
        for row in 0..page.rows.len() {
            page.hand(row, None, gather)?;
        }
        if !page.is_full() {
            return Ok(());
        }
        page = Page::read(conn, selection, "1 = 1", page.last())?;
    }
}

/// The rows that a run was the last to change.
pub fn of_run(
    conn: &mut Connection,
    selection: &Selection,
    run_id: i64,
    about: &mut About<'_>,
    gather: &mut Gather<'_, '_>,
) -> Result<(), ReadError> {
    let which = format!("run_id = {run_id}");
    let mut page = Page::read(conn, selection, &which, None)?;
    loop {
        for row in 0..page.rows.len() {
            if let Some(asset) = about.get(conn, page.assets[row])? {
                page.hand(row, Some(asset), gather)?;
            }
        }
        if !page.is_full() {
            return Ok(());
        }
        page = Page::read(conn, selection, &which, page.last())?;
    }
}

/// Rows of the table's own columns, and whose they are.
struct Page {
    table: Table,
    rows: Rows,
    assets: Vec<i64>,
}

/// A value of a key, to go on behind it.
enum Part {
    Text(String),
    Int(i64),
    /// As text.
    Time(String),
}

impl Page {
    fn is_full(&self) -> bool {
        self.rows.len() >= PAGE
    }

    /// Where each coin's rows are.
    fn ranges(&self) -> HashMap<i64, Range<usize>> {
        let mut ranges: HashMap<i64, Range<usize>> = HashMap::new();
        for (row, asset) in self.assets.iter().enumerate() {
            ranges.entry(*asset).or_insert(row..row).end = row + 1;
        }
        ranges
    }

    fn hand(&self, row: usize, asset: Option<&Asset>, gather: &mut Gather<'_, '_>) -> Result<(), ReadError> {
        let fields = self.table.fields();
        let mut column = 0;
        if let Some(asset) = asset {
            for text in [&asset.source, &asset.source_id, &asset.symbol] {
                if !gather.rows.push(column, Cell::Text(text)) {
                    return Err(unreadable(&fields[column]).into());
                }
                column += 1;
            }
        }
        for at in 0..self.rows.columns.len() {
            if !gather.rows.push(column + at, self.rows.cell(at, row)) {
                return Err(unreadable(&fields[column + at]).into());
            }
        }
        gather.rows.end_row(self.rows.runs[row]);
        gather.hand_over_if_full()
    }

    /// The key of the last row.
    fn last(&self) -> Option<Vec<Part>> {
        let row = self.rows.len().checked_sub(1)?;
        let mut key = Vec::new();
        if self.table.is_of_coins() {
            key.push(Part::Int(self.assets[row]));
        }
        let own = self.table.own();
        for name in self.table.key() {
            let at = own.iter().position(|field| field.name == *name)?;
            key.push(match (own[at].kind, self.rows.cell(at, row)) {
                (Kind::Millis, Cell::Int(millis)) => Part::Time(Stamp::from_millis(millis).ok()?.to_string()),
                (Kind::Micros, Cell::Int(micros)) => Part::Time(Micros::from_micros(micros).ok()?.to_string()),
                (_, Cell::Int(number)) => Part::Int(number),
                (_, Cell::Text(text)) => Part::Text(text.to_owned()),
                _ => return None,
            });
        }
        Some(key)
    }

    fn read(
        conn: &mut Connection,
        selection: &Selection,
        which: &str,
        after: Option<Vec<Part>>,
    ) -> Result<Page, DbError> {
        let table = selection.table;
        let backend = conn.backend();
        let moment = if backend == Backend::Postgres { "CAST(? AS timestamp)" } else { "?" };
        let mut columns: Vec<String> = table.own().iter().map(|field| expression(backend, field)).collect();
        let mut key: Vec<&str> = table.key().to_vec();
        if table.is_of_coins() {
            columns.extend(["run_id".to_owned(), "asset_id".to_owned()]);
            key.insert(0, "asset_id");
        }
        let (from, to) = selection.bounds();
        let time = table.time();
        let mut condition = format!("{which} AND {time} >= {moment} AND {time} < {moment}");
        let mut values = vec![Part::Time(from), Part::Time(to)];
        let mut among = |name: &str, wanted: Vec<String>| {
            if !wanted.is_empty() {
                let places = vec!["?"; wanted.len()].join(",");
                condition.push_str(&format!(" AND {name} IN ({places})"));
                values.extend(wanted.into_iter().map(Part::Text));
            }
        };
        if table.is_of_coins() {
            among("vs_currency", selection.vs.clone());
        } else {
            among("source", selection.source.iter().cloned().collect());
            among("pair", selection.pairs.clone());
        }
        if table.has_timeframes() && !selection.timeframes.is_empty() {
            among("timeframe", selection.timeframe_names().into_iter().map(str::to_owned).collect());
        }
        if let Some(after) = after {
            // Written out, because not every planner finds its way from a comparison of whole rows to
            // the index.
            let place = |part: &Part| if matches!(part, Part::Time(_)) { moment } else { "?" };
            let mut alternatives = Vec::new();
            for last in 0..key.len() {
                let mut parts: Vec<String> =
                    (0..last).map(|at| format!("{} = {}", key[at], place(&after[at]))).collect();
                parts.push(format!("{} > {}", key[last], place(&after[last])));
                alternatives.push(format!("({})", parts.join(" AND ")));
            }
            condition.push_str(&format!(" AND {} >= {} AND ({})", key[0], place(&after[0]), alternatives.join(" OR ")));
            values.push(after[0].copy());
            for last in 0..key.len() {
                values.extend(after[..=last].iter().map(Part::copy));
            }
        }
        let text = format!(
            "SELECT {} FROM {} WHERE {condition} ORDER BY {} LIMIT {PAGE}",
            columns.join(", "),
            table.table(),
            key.join(", ")
        );
        match conn {
            #[cfg(feature = "mysql")]
            AnyConnection::Mysql(conn) => mysql::load(conn, table, &text, values),
            #[cfg(feature = "postgres")]
            AnyConnection::Postgres(conn) => postgres::load(conn, table, &text, values),
            AnyConnection::Sqlite(_) => Err(no_handle()),
        }
    }
}

impl Part {
    fn copy(&self) -> Part {
        match self {
            Part::Text(text) => Part::Text(text.clone()),
            Part::Int(number) => Part::Int(*number),
            Part::Time(text) => Part::Time(text.clone()),
        }
    }
}

/// A column as text, double or BIGINT: times in microseconds, truths as 0 and 1.
fn expression(backend: Backend, field: &Field) -> String {
    let name = field.name;
    match (backend, field.kind) {
        (_, Kind::Text | Kind::Double) => name.to_owned(),
        (Backend::Mysql, Kind::Int | Kind::Bool) => format!("CAST({name} AS SIGNED)"),
        (Backend::Mysql, Kind::Millis | Kind::Micros) => {
            format!("CAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', {name}) AS SIGNED)")
        }
        (_, Kind::Int) => format!("CAST({name} AS BIGINT)"),
        (_, Kind::Bool) => format!("CAST(CASE WHEN {name} THEN 1 ELSE 0 END AS BIGINT)"),
        // Eight bytes on the wire, as they are.
        (_, Kind::Millis | Kind::Micros) => name.to_owned(),
    }
}

/// Runs a page's statement on a connection of one kind; `read` has a function for each kind of value.
macro_rules! load {
    ($name:ident, $connection:ty, $backend:ty, $read:ident) => {
        mod $name {
            use diesel::connection::{DefaultLoadingMode, LoadConnection};
            use diesel::row::{Field as _, Row};
            use diesel::sql_types::{BigInt, Text};

            use super::{Page, Part, $read as read};
            use crate::db::error::{DbError, Doing};
            use crate::db::export::{DOING, Table, unreadable};
            use crate::domain::rows::{Cell, Kind, Rows};

            pub fn load(conn: &mut $connection, table: Table, text: &str, values: Vec<Part>) -> Result<Page, DbError> {
                let mut query = diesel::sql_query(read::statement(text)).into_boxed::<$backend>();
                for value in values {
                    query = match value {
                        Part::Text(text) | Part::Time(text) => query.bind::<Text, _>(text),
                        Part::Int(number) => query.bind::<BigInt, _>(number),
                    };
                }
                let own = table.own();
                let mut page = Page { table, rows: Rows::new(own), assets: Vec::new() };
                let found = LoadConnection::<DefaultLoadingMode>::load(conn, query).doing(DOING)?;
                for row in found {
                    let row = row.doing(DOING)?;
                    for (at, field) in own.iter().enumerate() {
                        let found = Row::get(&row, at).ok_or_else(|| unreadable(field))?;
                        let cell = match (found.value(), field.kind) {
                            (None, _) => Some(Cell::Null),
                            (Some(value), Kind::Text) => std::str::from_utf8(value.as_bytes()).ok().map(Cell::Text),
                            (Some(value), Kind::Double) => read::double(value).map(Cell::Double),
                            (Some(value), Kind::Int) => read::number(value).map(Cell::Int),
                            (Some(value), Kind::Bool) => read::number(value).map(|truth| Cell::Bool(truth != 0)),
                            (Some(value), Kind::Micros) => read::micros(value).map(Cell::Int),
                            (Some(value), Kind::Millis) => {
                                read::micros(value).map(|micros| Cell::Int(micros.div_euclid(1000)))
                            }
                        };
                        if !cell.is_some_and(|cell| page.rows.push(at, cell)) {
                            return Err(unreadable(field));
                        }
                    }
                    if !table.is_of_coins() {
                        page.rows.end_row(0);
                        continue;
                    }
                    let whole = |at: usize| {
                        let found = Row::get(&row, at)?;
                        read::number(found.value()?)
                    };
                    let (Some(run_id), Some(asset)) = (whole(own.len()), whole(own.len() + 1)) else {
                        return Err(unreadable(&own[0]));
                    };
                    page.rows.end_row(run_id);
                    page.assets.push(asset);
                }
                Ok(page)
            }
        }
    };
}

#[cfg(feature = "mysql")]
load!(mysql, diesel::MysqlConnection, diesel::mysql::Mysql, read_mysql);
#[cfg(feature = "postgres")]
load!(postgres, diesel::PgConnection, diesel::pg::Pg, read_postgres);

#[cfg(feature = "mysql")]
mod read_mysql {
    use diesel::deserialize::FromSql;
    use diesel::mysql::{Mysql, MysqlValue};
    use diesel::sql_types::{BigInt, Double};

    pub fn statement(text: &str) -> String {
        text.to_owned()
    }

    pub fn number(value: MysqlValue<'_>) -> Option<i64> {
        <i64 as FromSql<BigInt, Mysql>>::from_sql(value).ok()
    }

    pub fn double(value: MysqlValue<'_>) -> Option<f64> {
        <f64 as FromSql<Double, Mysql>>::from_sql(value).ok()
    }

    pub fn micros(value: MysqlValue<'_>) -> Option<i64> {
        number(value)
    }
}

#[cfg(feature = "postgres")]
mod read_postgres {
    use diesel::pg::PgValue;

    /// Days from 1970, where our times begin, to 2000, where PostgreSQL's do, in microseconds.
    const EPOCH_2000_US: i64 = 946_684_800_000_000;

    pub fn statement(text: &str) -> String {
        crate::db::sql::numbered(text)
    }

    pub fn number(value: PgValue<'_>) -> Option<i64> {
        value.as_bytes().try_into().ok().map(i64::from_be_bytes)
    }

    pub fn double(value: PgValue<'_>) -> Option<f64> {
        value.as_bytes().try_into().ok().map(f64::from_be_bytes)
    }

    pub fn micros(value: PgValue<'_>) -> Option<i64> {
        number(value).map(|micros| micros + EPOCH_2000_US)
    }
}
