//! The pieces that candles are folded of, read in the order of coin, currency and time, a page at a
//! time.
//!
//! A page goes on behind the key of the last one: first with the same coin and currency, then with the
//! coin's next currencies, then with the next coins. Each of these is a walk along the table's key,
//! which a comparison of whole keys is not for every planner.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use diesel::sql_types::{BigInt, Bool, Double, Nullable, Text, Timestamp};

use crate::db::candles::CandleRow;
#[cfg(feature = "postgres")]
use crate::db::conn::{Absent, open};
use crate::db::conn::{ConnectionBackend, Opened};
use crate::db::error::DbError;
use crate::db::sql::{Sql, Value, sql};
use crate::db::sqlite_raw;
use crate::db::url::{Backend, DatabaseUrl};
use crate::domain::{Bar, Candle, Origin, Stamp, Timeframe};
use crate::rollup::{Feed, Point};

const POINTS_A_PAGE: i64 = 20_000;
const CANDLES_A_PAGE: i64 = 2_000;
/// Coins, currencies and timeframes with candles that are looked up at a time.
const GROUPS_A_PAGE: i64 = 5_000;
const DOING: &str = "reading what is to be folded";

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

/// Hands the observations of all coins behind one to `work`, by the database's fastest way.
pub fn with_points<R>(
    url: &DatabaseUrl,
    reader: &Reader,
    after_asset: i64,
    work: impl FnOnce(&mut dyn Feed<Point>) -> Result<R, DbError>,
) -> Result<R, DbError> {
    #[cfg(feature = "postgres")]
    if url.backend() == Backend::Postgres {
        // One that does nothing else as long as it takes.
        let mut sender = open(url, Absent::Fail)?;
        return super::stream::with_points(&mut sender, after_asset, work);
    }
    let _ = url;
    work(&mut Points::of_all(reader, after_asset))
}

/// Observations with a price, in order.
pub struct Points<'a> {
    reader: &'a Reader,
    span: Option<Span>,
    walk: Walk,
    page: VecDeque<Point>,
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
            page: VecDeque::new(),
            names: Names::default(),
            count: 0,
        }
    }

    pub fn of(reader: &'a Reader, span: Span) -> Self {
        let walk = Walk::Coins(span.first - 1);
        Points { reader, span: Some(span), walk, page: VecDeque::new(), names: Names::default(), count: 0 }
    }

    fn turn(&mut self) -> Result<(), DbError> {
        let opened = &mut *self.reader.borrow_mut();
        loop {
            let Some(select) = self.select(opened.conn.backend()) else { return Ok(()) };
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
                self.page = page.into();
                return Ok(());
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
        if self.page.is_empty() {
            self.turn()?;
        }
        Ok(self.page.pop_front())
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
/// `pieces` and `folded` are timeframes, the folded ones with the time that they are wanted from.
pub fn candles(
    reader: &Reader,
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
    let mut candles: Vec<CandleRow> =
        load(opened, select.bind(span.first).bind(span.last), &mut Names::of(&span.vs_currency))?;
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

/// A coin, a currency and a timeframe.
struct Group(i64, Arc<str>, Timeframe);

/// One text for each currency, however often it is read.
#[derive(Default)]
pub struct Names(Vec<Arc<str>>);

impl Names {
    fn of(name: &Arc<str>) -> Names {
        Names(vec![name.clone()])
    }

    pub fn get(&mut self, name: &str) -> Arc<str> {
        // The same as last time, mostly.
        if let Some(at) = self.0.iter().rposition(|known| **known == *name) {
            let last = self.0.len() - 1;
            self.0.swap(at, last);
            return self.0[last].clone();
        }
        let name: Arc<str> = name.into();
        self.0.push(name.clone());
        name
    }
}

/// What a row of a result is read as.
trait Record: Sized {
    /// The row as diesel reads it.
    type Row: diesel::QueryableByName<ConnectionBackend> + 'static;
    fn of_row(row: Self::Row, names: &mut Names) -> Option<Self>;
    fn of_sqlite(row: &rusqlite::Row<'_>, names: &mut Names) -> rusqlite::Result<Option<Self>>;
}

fn load<T: Record>(opened: &mut Opened, select: Sql, names: &mut Names) -> Result<Vec<T>, DbError> {
    let broken = || DbError::Query { doing: DOING, why: "a row of it can't be read".to_owned() };
    if opened.conn.backend() != Backend::Sqlite {
        let rows = select.load::<T::Row>(&mut opened.conn, DOING)?;
        return rows.into_iter().map(|row| T::of_row(row, names).ok_or_else(broken)).collect();
    }
    let failed = |err: rusqlite::Error| sqlite_raw::failed(DOING, &err);
    let conn = sqlite_raw::below(opened.raw.as_ref(), DOING)?;
    let (text, values) = select.into_parts();
    let mut statement = conn.prepare_cached(&text).map_err(failed)?;
    for (place, value) in values.iter().enumerate() {
        let bound = match value {
            Value::Int(value) => statement.raw_bind_parameter(place + 1, value),
            Value::MaybeInt(value) => statement.raw_bind_parameter(place + 1, value),
            Value::Double(value) => statement.raw_bind_parameter(place + 1, value),
            Value::Text(value) => statement.raw_bind_parameter(place + 1, value),
            Value::MaybeText(value) => statement.raw_bind_parameter(place + 1, value),
        };
        bound.map_err(failed)?;
    }
    let (mut rows, mut records) = (statement.raw_query(), Vec::new());
    while let Some(row) = rows.next().map_err(failed)? {
        records.push(T::of_sqlite(row, names).map_err(failed)?.ok_or_else(broken)?);
    }
    Ok(records)
}

#[derive(diesel::QueryableByName)]
struct PointRow {
    #[diesel(sql_type = BigInt)]
    asset_id: i64,
    #[diesel(sql_type = Text)]
    vs_currency: String,
    #[diesel(sql_type = Timestamp)]
    moment: chrono::NaiveDateTime,
    #[diesel(sql_type = Double)]
    price: f64,
    #[diesel(sql_type = Nullable<Double>)]
    market_cap: Option<f64>,
}

impl Record for Point {
    type Row = PointRow;

    fn of_row(row: PointRow, names: &mut Names) -> Option<Point> {
        let PointRow { asset_id, vs_currency, moment, price, market_cap } = row;
        let at = Stamp::from_datetime(moment.and_utc()).ok()?;
        Some(Point { asset_id, vs_currency: names.get(&vs_currency), at, price, market_cap })
    }

    fn of_sqlite(row: &rusqlite::Row<'_>, names: &mut Names) -> rusqlite::Result<Option<Point>> {
        let Some(at) = Stamp::of_text(row.get_ref(2)?.as_bytes()?) else { return Ok(None) };
        Ok(Some(Point {
            asset_id: row.get(0)?,
            vs_currency: names.get(row.get_ref(1)?.as_str()?),
            at,
            price: row.get(3)?,
            market_cap: row.get(4)?,
        }))
    }
}

#[derive(diesel::QueryableByName)]
struct StoredRow {
    #[diesel(sql_type = BigInt)]
    asset_id: i64,
    #[diesel(sql_type = Text)]
    vs_currency: String,
    #[diesel(sql_type = Text)]
    timeframe: String,
    #[diesel(sql_type = Timestamp)]
    moment: chrono::NaiveDateTime,
    #[diesel(sql_type = Double)]
    open: f64,
    #[diesel(sql_type = Double)]
    high: f64,
    #[diesel(sql_type = Double)]
    low: f64,
    #[diesel(sql_type = Double)]
    close: f64,
    #[diesel(sql_type = Nullable<Double>)]
    volume: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    base_volume: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    market_cap: Option<f64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    samples: Option<i64>,
    #[diesel(sql_type = Text)]
    origin: String,
    #[diesel(sql_type = Bool)]
    is_final: bool,
}

impl Record for CandleRow {
    type Row = StoredRow;

    fn of_row(row: StoredRow, names: &mut Names) -> Option<CandleRow> {
        let bar = Bar {
            open: row.open,
            high: row.high,
            low: row.low,
            close: row.close,
            volume: row.volume,
            base_volume: row.base_volume,
            market_cap: row.market_cap,
            samples: row.samples,
        };
        let candle = Candle {
            timeframe: row.timeframe.parse().ok()?,
            open_time: Stamp::from_datetime(row.moment.and_utc()).ok()?,
            bar,
            origin: Origin::of_name(&row.origin)?,
            is_final: row.is_final,
        };
        Some(CandleRow { asset_id: row.asset_id, vs_currency: names.get(&row.vs_currency), candle })
    }

    fn of_sqlite(row: &rusqlite::Row<'_>, names: &mut Names) -> rusqlite::Result<Option<CandleRow>> {
        let bar = Bar {
            open: row.get(4)?,
            high: row.get(5)?,
            low: row.get(6)?,
            close: row.get(7)?,
            volume: row.get(8)?,
            base_volume: row.get(9)?,
            market_cap: row.get(10)?,
            samples: row.get(11)?,
        };
        let timeframe = row.get_ref(2)?.as_str()?.parse();
        let open_time = Stamp::of_text(row.get_ref(3)?.as_bytes()?);
        let origin = Origin::of_name(row.get_ref(12)?.as_str()?);
        let (Ok(timeframe), Some(open_time), Some(origin)) = (timeframe, open_time, origin) else { return Ok(None) };
        let candle = Candle { timeframe, open_time, bar, origin, is_final: row.get(13)? };
        Ok(Some(CandleRow { asset_id: row.get(0)?, vs_currency: names.get(row.get_ref(1)?.as_str()?), candle }))
    }
}

#[derive(diesel::QueryableByName)]
struct GroupRow {
    #[diesel(sql_type = BigInt)]
    asset_id: i64,
    #[diesel(sql_type = Text)]
    vs_currency: String,
    #[diesel(sql_type = Text)]
    timeframe: String,
}

impl Record for Group {
    type Row = GroupRow;

    fn of_row(row: GroupRow, names: &mut Names) -> Option<Group> {
        Some(Group(row.asset_id, names.get(&row.vs_currency), row.timeframe.parse().ok()?))
    }

    fn of_sqlite(row: &rusqlite::Row<'_>, names: &mut Names) -> rusqlite::Result<Option<Group>> {
        let timeframe = row.get_ref(2)?.as_str()?.parse().ok();
        let (asset_id, vs_currency) = (row.get(0)?, names.get(row.get_ref(1)?.as_str()?));
        Ok(timeframe.map(|timeframe| Group(asset_id, vs_currency, timeframe)))
    }
}
