//! What is missing of the past: what is expected, less what is stored.
//!
//! Expected is what `coverage` tells of, or an interval that somebody asks about; stored are final
//! candles of any origin. Read coin by coin in the order of their ids, a part at a time.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::sql_types::{BigInt, Nullable, Text, Timestamp};

use super::conn::Connection;
use super::coverage::{moment, stamp, stamp_place};
use super::error::DbError;
use super::sql::{Sql, places, sql};
use super::url::Backend;
use crate::domain::coverage::{join, lay, without};
use crate::domain::{Range, Span, Stamp, State, Timeframe};

const DOING: &str = "looking for what is missing";
/// Coins of a part: what is known of each may be a row for every hour of years.
const PART: i64 = 20;

/// Why a candle is missing whose observations are stored.
const AWAITS_FOLDING: &str = "its prices are stored and not folded yet: run `coinetl candles rollup";
const WAS_STORED: &str = "it was stored once, and is not there any more";
const NEVER_ASKED: &str = "it was never asked for";

/// Whether a candle is missing that no source has to be asked for.
pub fn awaits_folding(span: &Span) -> bool {
    span.reason.as_deref().is_some_and(|reason| reason.starts_with(AWAITS_FOLDING))
}

/// Whether nothing is recorded of an interval that is missing.
pub fn was_never_asked(span: &Span) -> bool {
    span.reason.as_deref() == Some(NEVER_ASKED)
}

/// What to look at.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Names under which data is stored; empty = all.
    pub sources: Vec<String>,
    /// Empty = all that are covered; where an interval is asked about, at least one.
    pub vs_currencies: Vec<String>,
    pub timeframe: Option<Timeframe>,
    pub within: Option<Range>,
    /// Everything within is expected, whether it was asked for or not.
    pub all_within: bool,
    /// Timeframes that the source has as points, which are folded here: (source, timeframe).
    pub points: Vec<(String, Timeframe)>,
}

/// What became of the expected part of a coin's past.
#[derive(Debug, Clone)]
pub struct Found {
    pub asset_id: i64,
    pub source: String,
    pub source_id: String,
    pub vs_currency: Arc<str>,
    pub timeframe: Timeframe,
    /// Stored: expected intervals that are whole, and how many candles there are in all.
    pub whole: Vec<Range>,
    pub candles: i64,
    /// Not stored, and why: in the order of time.
    pub holes: Vec<Span>,
}

pub struct Part {
    pub found: Vec<Found>,
    /// Where the next part begins; `None` when there is none.
    pub next: Option<i64>,
}

/// The part behind a coin's id. `ids` = only these.
pub fn next_part(
    conn: &mut Connection,
    selection: &Selection,
    ids: Option<&[i64]>,
    after: i64,
    now: Stamp,
) -> Result<Part, DbError> {
    let coins = coins(conn, selection, ids, after)?;
    let next = coins.last().map(|coin| coin.id).filter(|_| coins.len() as i64 == PART);
    if coins.is_empty() {
        return Ok(Part { found: Vec::new(), next: None });
    }
    let mut series: Vec<(Key, Vec<Span>)> = expected(conn, selection, &coins, now)?.into_iter().collect();
    series.sort_by(|a, b| a.0.cmp(&b.0));
    let mut stored: HashMap<Key, Vec<Range>> = HashMap::new();
    for timeframe in Timeframe::ALL {
        let wanted: Vec<&(Key, Vec<Span>)> = series.iter().filter(|(key, _)| key.2 == timeframe).collect();
        if let Some(hull) = hull(wanted.iter().flat_map(|(_, spans)| spans)) {
            let mut ids: Vec<i64> = wanted.iter().map(|(key, _)| key.0).collect();
            ids.dedup();
            islands(conn, &ids, timeframe, hull, &mut stored)?;
        }
    }
    let mut found = Vec::new();
    for (key, spans) in series {
        let Some(coin) = coins.iter().find(|coin| coin.id == key.0) else { continue };
        let candles = stored.remove(&key).unwrap_or_default();
        let is_points =
            selection.points.iter().any(|(source, timeframe)| *source == coin.source && *timeframe == key.2);
        let mut one = split(coin, &key, &spans, &candles);
        if is_points {
            explain_points(conn, &key, &mut one.holes)?;
        }
        found.push(one);
    }
    Ok(Part { found, next })
}

type Key = (i64, Arc<str>, Timeframe);

#[derive(diesel::QueryableByName)]
struct CoinRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    source: String,
    #[diesel(sql_type = Text)]
    source_id: String,
}

fn coins(
    conn: &mut Connection,
    selection: &Selection,
    ids: Option<&[i64]>,
    after: i64,
) -> Result<Vec<CoinRow>, DbError> {
    let sources = match selection.sources.len() {
        0 => String::new(),
        many => format!(" AND source IN {}", places(1, many)),
    };
    let which = match (ids, selection.all_within) {
        (Some([]), _) => return Ok(Vec::new()),
        (Some(_), _) => String::new(),
        (None, true) => " AND active = TRUE".to_owned(),
        (None, false) => " AND EXISTS (SELECT 1 FROM coverage c WHERE c.asset_id = assets.id)".to_owned(),
    };
    let next_ids: Vec<i64> = match ids {
        None => Vec::new(),
        Some(ids) => {
            let mut ids: Vec<i64> = ids.iter().copied().filter(|id| *id > after).collect();
            ids.sort_unstable();
            ids.truncate(PART as usize);
            if ids.is_empty() {
                return Ok(Vec::new());
            }
            ids
        }
    };
    let these = if next_ids.is_empty() { String::new() } else { format!(" AND id IN {}", places(1, next_ids.len())) };
    sql(format!(
        "SELECT id, source, source_id FROM assets WHERE id > ?{sources}{which}{these} ORDER BY id LIMIT {PART}"
    ))
    .bind(after)
    .bind_all(selection.sources.iter().map(String::as_str))
    .bind_all(next_ids)
    .load(conn, DOING)
}

/// What is known, and what else is expected, of each coin, currency and timeframe.
fn expected(
    conn: &mut Connection,
    selection: &Selection,
    coins: &[CoinRow],
    now: Stamp,
) -> Result<HashMap<Key, Vec<Span>>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        asset_id: i64,
        #[diesel(sql_type = Text)]
        vs_currency: String,
        #[diesel(sql_type = Text)]
        timeframe: String,
        #[diesel(sql_type = Timestamp)]
        from_time: chrono::NaiveDateTime,
        #[diesel(sql_type = Timestamp)]
        to_time: chrono::NaiveDateTime,
        #[diesel(sql_type = Text)]
        state: String,
        #[diesel(sql_type = Nullable<Text>)]
        reason: Option<String>,
    }
    let mut text = format!(
        "SELECT asset_id, vs_currency, timeframe, from_time, to_time, state, reason FROM coverage WHERE asset_id IN {}",
        places(1, coins.len())
    );
    let at = stamp_place(conn.backend());
    if !selection.vs_currencies.is_empty() {
        text += &format!(" AND vs_currency IN {}", places(1, selection.vs_currencies.len()));
    }
    if selection.timeframe.is_some() {
        text += " AND timeframe = ?";
    }
    if selection.within.is_some() {
        text += &format!(" AND from_time < {at} AND to_time > {at}");
    }
    let mut read = sql(text + " ORDER BY asset_id, vs_currency, timeframe, from_time")
        .bind_all(coins.iter().map(|coin| coin.id))
        .bind_all(selection.vs_currencies.iter().map(String::as_str));
    if let Some(timeframe) = selection.timeframe {
        read = read.bind(timeframe.name());
    }
    if let Some(within) = selection.within {
        read = read.bind(stamp(within.to)).bind(stamp(within.from));
    }
    let mut known: HashMap<Key, Vec<Span>> = HashMap::new();
    for row in read.load::<Row>(conn, DOING)? {
        let (Ok(timeframe), Ok(state)) = (row.timeframe.parse::<Timeframe>(), row.state.parse()) else { continue };
        let range = moment(row.from_time).zip(moment(row.to_time)).and_then(|(from, to)| Range::new(from, to));
        let range = match (range, selection.within) {
            // Whole candles of this length.
            (Some(range), Some(within)) => {
                Range::new(timeframe.ceil(within.from), timeframe.ceil(within.to)).and_then(|within| range.and(within))
            }
            (range, _) => range,
        };
        let Some(range) = range else { continue };
        let key = (row.asset_id, Arc::from(row.vs_currency), timeframe);
        known.entry(key).or_default().push(Span { range, state, reason: row.reason });
    }
    if let (true, Some(within), Some(timeframe)) = (selection.all_within, selection.within, selection.timeframe) {
        let over = Range::new(within.from, within.to.min(timeframe.floor(now)));
        for coin in coins {
            for vs_currency in &selection.vs_currencies {
                let spans = known.entry((coin.id, Arc::from(vs_currency.as_str()), timeframe)).or_default();
                let rest = over.map(|over| without(over, spans.iter().map(|span| span.range).collect::<Vec<_>>()));
                let unasked = |range| Span { range, state: State::Missing, reason: Some(NEVER_ASKED.to_owned()) };
                spans.extend(rest.into_iter().flatten().map(unasked));
                spans.sort_by_key(|span| span.range);
            }
        }
    }
    Ok(known)
}

fn hull<'a>(spans: impl Iterator<Item = &'a Span>) -> Option<Range> {
    let hull = |hull: Option<Range>, span: &Span| match hull {
        None => Some(span.range),
        Some(hull) => Some(Range { from: hull.from.min(span.range.from), to: hull.to.max(span.range.to) }),
    };
    spans.fold(None, hull)
}

/// Stored final candles, as intervals without a hole: the database folds them, so that a year of
/// candles is one row.
fn islands(
    conn: &mut Connection,
    asset_ids: &[i64],
    timeframe: Timeframe,
    within: Range,
    stored: &mut HashMap<Key, Vec<Range>>,
) -> Result<(), DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        asset_id: i64,
        #[diesel(sql_type = Text)]
        vs_currency: String,
        #[diesel(sql_type = Timestamp)]
        first_open: chrono::NaiveDateTime,
        #[diesel(sql_type = Timestamp)]
        last_open: chrono::NaiveDateTime,
    }
    let at = stamp_place(conn.backend());
    let seconds = seconds_of(conn.backend(), "open_time");
    let length = timeframe.seconds();
    let rows = bound(
        sql(format!(
            "SELECT asset_id, vs_currency, MIN(open_time) AS first_open, MAX(open_time) AS last_open FROM (\
             SELECT asset_id, vs_currency, open_time, {seconds} - {length} * \
             ROW_NUMBER() OVER (PARTITION BY asset_id, vs_currency ORDER BY open_time) AS island FROM candles \
             WHERE asset_id IN {} AND timeframe = ? AND open_time >= {at} AND open_time < {at} AND final = TRUE) f \
             GROUP BY asset_id, vs_currency, island ORDER BY asset_id, vs_currency, first_open",
            places(1, asset_ids.len())
        )),
        asset_ids,
    )
    .bind(timeframe.name())
    .bind(stamp(within.from))
    .bind(stamp(within.to))
    .load::<Row>(conn, DOING)?;
    for row in rows {
        let range = moment(row.first_open)
            .zip(moment(row.last_open))
            .and_then(|(first, last)| Range::new(first, timeframe.end(last)));
        let key = (row.asset_id, Arc::from(row.vs_currency), timeframe);
        stored.entry(key).or_default().extend(range);
    }
    Ok(())
}

fn bound(sql: Sql, asset_ids: &[i64]) -> Sql {
    sql.bind_all(asset_ids.iter().copied())
}

/// Whole seconds since 1970 of a column that is a time.
fn seconds_of(backend: Backend, column: &str) -> String {
    match backend {
        Backend::Sqlite => format!("unixepoch({column})"),
        Backend::Mysql => format!("TIMESTAMPDIFF(SECOND, '1970-01-01 00:00:00', {column})"),
        Backend::Postgres => format!("CAST(FLOOR(EXTRACT(EPOCH FROM {column})) AS BIGINT)"),
    }
}

/// Lays what is stored over what is expected.
fn split(coin: &CoinRow, key: &Key, spans: &[Span], stored: &[Range]) -> Found {
    let timeframe = key.2;
    let (mut whole, mut holes, mut candles) = (Vec::new(), Vec::new(), 0);
    // Neighbours with different words on them are one expected interval.
    let mut expected: Vec<(Range, bool)> = Vec::new();
    for span in spans {
        let taken: Vec<Range> = stored.iter().filter_map(|range| range.and(span.range)).collect();
        candles += taken.iter().map(|range| range.candles(timeframe)).sum::<i64>();
        let left = without(span.range, taken);
        match expected.last_mut() {
            Some((last, is_whole)) if last.to == span.range.from => {
                (last.to, *is_whole) = (span.range.to, *is_whole && left.is_empty());
            }
            _ => expected.push((span.range, left.is_empty())),
        }
        for range in left {
            let (state, reason) = match span.state {
                State::Full => (State::Missing, Some(WAS_STORED.to_owned())),
                state => (state, span.reason.clone()),
            };
            holes.push(Span { range, state, reason });
        }
    }
    whole.extend(expected.into_iter().filter(|(_, is_whole)| *is_whole).map(|(range, _)| range));
    let (source, source_id) = (coin.source.clone(), coin.source_id.clone());
    let (asset_id, vs_currency) = (key.0, key.1.clone());
    Found { asset_id, source, source_id, vs_currency, timeframe, whole, candles, holes: join(holes) }
}

/// Names the command that folds them: without a length it folds only the usual ones.
fn awaiting(timeframe: Timeframe) -> String {
    format!("{AWAITS_FOLDING} --timeframe {timeframe}`")
}

/// Of a source that has points, a candle that is not there may only have to be folded.
fn explain_points(conn: &mut Connection, key: &Key, holes: &mut Vec<Span>) -> Result<(), DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        bucket: i64,
    }
    let (asset_id, vs_currency, timeframe) = key;
    let lost = |span: &&Span| span.reason.as_deref() == Some(WAS_STORED);
    let Some(hull) = hull(holes.iter().filter(lost)) else { return Ok(()) };
    let (at, length) = (stamp_place(conn.backend()), timeframe.seconds());
    let seconds = seconds_of(conn.backend(), "observed_at");
    let bucket = match conn.backend() {
        Backend::Mysql => format!("{seconds} DIV {length}"),
        Backend::Sqlite | Backend::Postgres => format!("{seconds} / {length}"),
    };
    let rows = sql(format!(
        "SELECT DISTINCT {bucket} AS bucket FROM prices WHERE asset_id = ? AND vs_currency = ? \
         AND observed_at >= {at} AND observed_at < {at} AND price IS NOT NULL ORDER BY bucket"
    ))
    .bind(*asset_id)
    .bind(&**vs_currency)
    .bind(stamp(hull.from))
    .bind(stamp(hull.to))
    .load::<Row>(conn, DOING)?;
    // One after the other they are few intervals.
    let mut observed: Vec<Range> = Vec::new();
    for Row { bucket } in rows {
        let from = Stamp::FIRST.plus(bucket * timeframe.millis());
        match observed.last_mut() {
            Some(last) if last.to == from => last.to = timeframe.end(from),
            _ => observed.push(Range { from, to: timeframe.end(from) }),
        }
    }
    let mut explained = std::mem::take(holes);
    for range in observed {
        let parts: Vec<Range> = explained.iter().filter(lost).filter_map(|span| span.range.and(range)).collect();
        for range in parts {
            let reason = Some(awaiting(*timeframe));
            explained = lay(explained, Span { range, state: State::Missing, reason });
        }
    }
    *holes = explained;
    Ok(())
}
