//! The pieces that candles are folded of, read in the order of coin, currency and time, a page at a
//! time.
//!
//! A page goes on behind the key of the last one: first with the same coin and currency, then with the
//! coin's next currencies, then with the next coins. Each of these is a walk along the table's key,
//! which a comparison of whole keys is not for every planner.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use super::records::{Group, Names, load, load_below};
use super::{Feed, Point};
use crate::db::candles::CandleRow;
use crate::db::conn::Opened;
use crate::db::error::DbError;
use crate::db::sql::{Sql, sql};
use crate::db::sqlite_raw::RawSqlite;
use crate::db::url::Backend;
use crate::domain::{Stamp, Timeframe};

const POINTS_A_PAGE: i64 = 20_000;
const CANDLES_A_PAGE: i64 = 2_000;
/// Coins, currencies and timeframes with candles that are looked up at a time.
const GROUPS_A_PAGE: i64 = 5_000;

/// A connection that feeds share.
pub type Reader = RefCell<Opened>;

/// Coins of one currency, and a span of time.
#[derive(Debug, Clone)]
pub struct Span {
    pub first: i64,
    /// Included.
    pub last: i64,
    pub vs_currency: Arc<str>,
    pub from: Stamp,
    /// Not included.
    pub to: Stamp,
}

/// The shortest real candles among some timeframes, if there are any.
#[cfg(feature = "postgres")]
pub fn shortest_real(reader: &Reader, among: &[Timeframe]) -> Result<Option<Timeframe>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::Text)]
        timeframe: String,
    }
    if among.is_empty() {
        return Ok(None);
    }
    let among: Vec<String> = among.iter().map(|timeframe| format!("'{timeframe}'")).collect();
    let select = format!(
        "SELECT DISTINCT timeframe FROM candles WHERE timeframe IN ({}) AND origin <> 'rollup'",
        among.join(", ")
    );
    let rows = sql(select).load::<Row>(&mut reader.borrow_mut().conn, "looking for real candles")?;
    Ok(rows.into_iter().filter_map(|row| row.timeframe.parse().ok()).min())
}

/// Observations with a price, in order.
pub struct Points<'a> {
    reader: &'a Reader,
    span: Option<Span>,
    walk: Walk,
    page: std::vec::IntoIter<Point>,
    names: Names,
    /// How many were read.
    pub count: usize,
}

/// Where the next page begins.
enum Walk {
    /// With the coins behind this one.
    Coins(i64),
    /// With the currencies of a coin behind this one.
    Currencies(i64, Arc<str>),
    /// With the moments of a coin and currency behind this one.
    Moments(i64, Arc<str>, Stamp),
    End,
}

impl<'a> Points<'a> {
    /// Those of all coins behind one.
    pub fn of_all(reader: &'a Reader, after_asset: i64) -> Self {
        Points {
            reader,
            span: None,
            walk: Walk::Coins(after_asset),
            page: Vec::new().into_iter(),
            names: Names::default(),
            count: 0,
        }
    }

    pub fn of(reader: &'a Reader, span: Span) -> Self {
        let walk = Walk::Coins(span.first - 1);
        let page = Vec::new().into_iter();
        Points { reader, span: Some(span), walk, page, names: Names::default(), count: 0 }
    }

    /// The next of them, some 20,000; `None` at the end.
    pub fn page(&mut self) -> Result<Option<Vec<Point>>, DbError> {
        let opened = &mut *self.reader.borrow_mut();
        loop {
            let Some(select) = self.select(opened.conn.backend()) else { return Ok(None) };
            let names = &mut self.names;
            let page: Vec<Point> = load(opened, select, names)?;
            let is_full = page.len() as i64 == POINTS_A_PAGE;
            let last = page.last().map(|point| (point.asset_id, point.vs_currency.clone(), point.at));
            self.walk = match (std::mem::replace(&mut self.walk, Walk::End), last) {
                (_, Some((asset_id, vs_currency, at))) if is_full => Walk::Moments(asset_id, vs_currency, at),
                (Walk::Moments(asset_id, ..), _) if self.span.is_some() => Walk::Coins(asset_id),
                (Walk::Moments(asset_id, vs_currency, _), _) => Walk::Currencies(asset_id, vs_currency),
                (Walk::Currencies(asset_id, _), _) => Walk::Coins(asset_id),
                (Walk::Coins(_) | Walk::End, _) => Walk::End,
            };
            if !page.is_empty() {
                self.count += page.len();
                return Ok(Some(page));
            }
        }
    }

    fn select(&self, backend: Backend) -> Option<Sql> {
        let at = backend.stamp();
        const COLUMNS: &str = "p.asset_id, p.vs_currency, p.observed_at AS moment, p.price, p.market_cap";
        const ORDER: &str = "ORDER BY p.asset_id, p.vs_currency, p.observed_at LIMIT ?";
        let key = if backend == Backend::Mysql { " FORCE INDEX (PRIMARY)" } else { "" };
        let from = format!("SELECT {COLUMNS} FROM prices p{key} WHERE p.price IS NOT NULL AND");
        let select = match (&self.walk, &self.span) {
            (Walk::End, _) => return None,
            (Walk::Moments(asset_id, vs_currency, moment), span) => {
                let until = if span.is_some() { format!(" AND p.observed_at < {at}") } else { String::new() };
                let select =
                    sql(format!("{from} p.asset_id = ? AND p.vs_currency = ? AND p.observed_at > {at}{until} {ORDER}"));
                let select = select.bind(*asset_id).bind(&**vs_currency).bind(moment.text().as_str());
                match span {
                    Some(span) => select.bind(span.to.text().as_str()),
                    None => select,
                }
            }
            (Walk::Currencies(asset_id, vs_currency), _) => {
                sql(format!("{from} p.asset_id = ? AND p.vs_currency > ? {ORDER}")).bind(*asset_id).bind(&**vs_currency)
            }
            (Walk::Coins(asset_id), None) => sql(format!("{from} p.asset_id > ? {ORDER}")).bind(*asset_id),
            (Walk::Coins(asset_id), Some(span)) => {
                let which = format!(
                    "p.asset_id = a.id AND p.vs_currency = ? AND p.observed_at >= {at} AND p.observed_at < {at} \
                     AND p.price IS NOT NULL"
                );
                let select = format!(
                    "SELECT {COLUMNS} FROM {} WHERE a.id > ? AND a.id <= ? ORDER BY a.id, p.observed_at LIMIT ?",
                    of_each_coin(backend, "prices", &which, "p.observed_at")
                );
                sql(select)
                    .bind(&*span.vs_currency)
                    .bind(span.from.text().as_str())
                    .bind(span.to.text().as_str())
                    .bind(*asset_id)
                    .bind(span.last)
            }
        };
        Some(select.bind(POINTS_A_PAGE))
    }
}

impl Feed<Point> for Points<'_> {
    fn next(&mut self) -> Result<Option<Point>, DbError> {
        if self.page.len() == 0
            && let Some(page) = self.page()?
        {
            self.page = page.into_iter();
        }
        Ok(Iterator::next(&mut self.page))
    }
}

/// The rows `p` of a table for each coin `a`, by its key: a walk for each coin, whatever the planner
/// thinks of it, because the rows of a span lie apart.
fn of_each_coin(backend: Backend, table: &str, which: &str, order: &str) -> String {
    match backend {
        Backend::Sqlite => format!("assets a CROSS JOIN {table} p ON {which}"),
        Backend::Mysql => format!("assets a STRAIGHT_JOIN {table} p FORCE INDEX (PRIMARY) ON {which}"),
        Backend::Postgres => {
            format!("assets a CROSS JOIN LATERAL (SELECT * FROM {table} p WHERE {which} ORDER BY {order}) p")
        }
    }
}

const CANDLE: &str = "p.asset_id, p.vs_currency, p.timeframe, p.open_time AS moment, p.open, p.high, p.low, p.close, \
                      p.volume, p.base_volume, p.market_cap, p.samples, p.origin, p.final AS is_final";

/// The candles of a span: real ones as pieces, and of those that were folded here the ones that may be
/// touched, in order.
///
/// `pieces` and `folded` are timeframes, the folded ones with the time that they are wanted from. SQLite
/// reads them on the handle that is going to write, if it is told: there a transaction that writes sees
/// what is committed, and the pages that it changes are those that were just read.
pub fn candles(
    reader: &Reader,
    writer: Option<&RawSqlite>,
    span: &Span,
    pieces: &[Timeframe],
    folded: &[(Timeframe, Stamp, Stamp)],
) -> Result<Vec<CandleRow>, DbError> {
    let opened = &mut *reader.borrow_mut();
    let backend = opened.conn.backend();
    let at = backend.stamp();
    let mut all: Vec<Timeframe> =
        pieces.iter().copied().chain(folded.iter().map(|(timeframe, ..)| *timeframe)).collect();
    all.sort();
    all.dedup();
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let touched: Vec<String> = folded
        .iter()
        .map(|(timeframe, ..)| format!("(p.timeframe = '{timeframe}' AND p.open_time >= {at} AND p.open_time < {at})"))
        .collect();
    let which = format!(
        "p.asset_id = a.id AND p.vs_currency = ? AND p.timeframe IN ({}) AND p.open_time >= {at} AND p.open_time < {at} \
         AND (p.origin <> 'rollup'{}{})",
        all.iter().map(|timeframe| format!("'{timeframe}'")).collect::<Vec<_>>().join(", "),
        if touched.is_empty() { "" } else { " OR " },
        touched.join(" OR ")
    );
    let select = format!(
        "SELECT {CANDLE} FROM {} WHERE a.id >= ? AND a.id <= ?",
        of_each_coin(backend, "candles", &which, "p.timeframe, p.open_time")
    );
    let mut select = sql(select).bind(&*span.vs_currency).bind(span.from.text().as_str()).bind(span.to.text().as_str());
    for (_, from, to) in folded {
        select = select.bind(from.text().as_str()).bind(to.text().as_str());
    }
    let (select, mut names) = (select.bind(span.first).bind(span.last), Names::of(&span.vs_currency));
    let mut candles: Vec<CandleRow> = match writer {
        Some(writer) => load_below(writer.connection(), select, &mut names)?,
        None => load(opened, select, &mut names)?,
    };
    candles.sort_by_key(|row| (row.asset_id, row.candle.open_time, std::cmp::Reverse(row.candle.timeframe)));
    Ok(candles)
}

/// All candles of some timeframes of the coins behind one, in order: a stream for each coin, currency
/// and timeframe that has any, and the streams of a coin and currency side by side.
pub struct Candles<'a> {
    reader: &'a Reader,
    timeframes: Vec<Timeframe>,
    after_asset: Option<i64>,
    groups: VecDeque<(i64, Arc<str>, Timeframe)>,
    streams: Vec<Stream>,
    names: Names,
}

/// Candles of one coin, currency and timeframe.
struct Stream {
    timeframe: Timeframe,
    after: Option<Stamp>,
    page: VecDeque<CandleRow>,
}

impl<'a> Candles<'a> {
    pub fn of_all(reader: &'a Reader, timeframes: &[Timeframe], after_asset: i64) -> Self {
        Candles {
            reader,
            timeframes: timeframes.to_vec(),
            after_asset: Some(after_asset),
            groups: VecDeque::new(),
            streams: Vec::new(),
            names: Names::default(),
        }
    }

    /// Looks up the next coins with candles.
    fn look_up(&mut self) -> Result<(), DbError> {
        let Some(after) = self.after_asset else { return Ok(()) };
        let opened = &mut *self.reader.borrow_mut();
        let among: Vec<String> = self.timeframes.iter().map(|timeframe| format!("'{timeframe}'")).collect();
        let mut limit = GROUPS_A_PAGE;
        loop {
            let select = format!(
                "SELECT DISTINCT asset_id, vs_currency, timeframe FROM candles WHERE asset_id > ? AND timeframe IN ({}) \
                 ORDER BY asset_id, vs_currency, timeframe LIMIT ?",
                among.join(", ")
            );
            let mut groups: VecDeque<Group> =
                load::<Group>(opened, sql(select).bind(after).bind(limit), &mut self.names)?.into();
            let last = groups.back().map(|group| group.0);
            if (groups.len() as i64) < limit {
                self.after_asset = None;
            } else {
                // The last coin may have more: it comes with the next page.
                while groups.back().map(|group| group.0) == last {
                    groups.pop_back();
                }
                if groups.is_empty() {
                    limit *= 4;
                    continue;
                }
                self.after_asset = groups.back().map(|group| group.0);
            }
            self.groups = groups.into_iter().map(|Group(id, vs, timeframe)| (id, vs, timeframe)).collect();
            return Ok(());
        }
    }
}

impl Stream {
    fn fill(
        &mut self,
        reader: &Reader,
        names: &mut Names,
        asset_id: i64,
        vs_currency: &Arc<str>,
    ) -> Result<(), DbError> {
        let Some(after) = self.after.take() else { return Ok(()) };
        let opened = &mut *reader.borrow_mut();
        let at = opened.conn.backend().stamp();
        let select = sql(format!(
            "SELECT {CANDLE} FROM candles p WHERE p.asset_id = ? AND p.vs_currency = ? AND p.timeframe = ? \
             AND p.open_time >= {at} ORDER BY p.open_time LIMIT ?"
        ));
        let select = select
            .bind(asset_id)
            .bind(&**vs_currency)
            .bind(self.timeframe.name())
            .bind(after.text().as_str())
            .bind(CANDLES_A_PAGE);
        self.page = load::<CandleRow>(opened, select, names)?.into();
        if self.page.len() as i64 == CANDLES_A_PAGE {
            self.after = self.page.back().map(|row| row.candle.open_time.plus(1));
        }
        Ok(())
    }
}

impl Feed<CandleRow> for Candles<'_> {
    fn next(&mut self) -> Result<Option<CandleRow>, DbError> {
        loop {
            let first = self
                .streams
                .iter()
                .enumerate()
                .filter_map(|(at, stream)| Some((stream.page.front()?.candle.open_time, at)))
                // Streams stand with the longest timeframe first.
                .min();
            if let Some((_, at)) = first {
                let stream = &mut self.streams[at];
                let row = stream.page.pop_front();
                if stream.page.is_empty()
                    && let Some(row) = &row
                {
                    stream.fill(self.reader, &mut self.names, row.asset_id, &row.vs_currency)?;
                }
                return Ok(row);
            }
            self.streams.clear();
            if self.groups.is_empty() {
                self.look_up()?;
            }
            let Some((asset_id, vs_currency, _)) = self.groups.front().cloned() else { return Ok(None) };
            while let Some((id, vs, timeframe)) = self.groups.front()
                && *id == asset_id
                && *vs == vs_currency
            {
                let after = Some(Stamp::default());
                let mut stream = Stream { timeframe: *timeframe, after, page: VecDeque::new() };
                stream.fill(self.reader, &mut self.names, asset_id, &vs_currency)?;
                self.streams.push(stream);
                self.groups.pop_front();
            }
            self.streams.sort_by_key(|stream| std::cmp::Reverse(stream.timeframe));
        }
    }
}
