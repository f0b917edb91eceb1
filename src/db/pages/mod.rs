//! Rows a page at a time, always along a key: where one page ends, the next begins behind its last key,
//! however many rows there are before it.

pub mod candles;
pub mod prices;
pub mod quotes;
pub mod runs;

use super::sql::{Sql, stored as stamp};
use super::url::Backend;
use crate::domain::Stamp;

/// Which part of a series, and in which direction.
#[derive(Debug, Clone, Default)]
pub struct Part {
    pub from: Option<Stamp>,
    /// Not included.
    pub to: Option<Stamp>,
    /// Behind this one, in the direction of reading.
    pub after: Option<Stamp>,
    pub descending: bool,
    pub limit: i64,
}

impl Part {
    /// The conditions on a column of times, the order and the limit, to stand behind another condition.
    fn text(&self, backend: Backend, column: &str) -> String {
        let at = backend.stamp();
        let mut text = String::new();
        if self.from.is_some() {
            text += &format!(" AND {column} >= {at}");
        }
        if self.to.is_some() {
            text += &format!(" AND {column} < {at}");
        }
        let (beyond, order) = if self.descending { ("<", "DESC") } else { (">", "ASC") };
        if self.after.is_some() {
            text += &format!(" AND {column} {beyond} {at}");
        }
        text + &format!(" ORDER BY {column} {order} LIMIT ?")
    }

    fn bind(&self, sql: Sql) -> Sql {
        self.bind_as(sql, "")
    }

    /// For a column of microseconds: in SQLite times are texts, which compare by their whole width.
    fn bind_micros(&self, sql: Sql) -> Sql {
        self.bind_as(sql, "000")
    }

    fn bind_as(&self, sql: Sql, rest: &str) -> Sql {
        let times = [self.from, self.to, self.after].into_iter().flatten();
        sql.bind_all(times.map(|at| format!("{at}{rest}"))).bind(self.limit)
    }
}
