//! `/gaps`: what is missing of the past.

use axum::extract;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;

use super::coins::chosen;
use super::error::{ApiError, Faults, bad};
use super::page::{Page, Paging};

use super::query::{Ask, Asked, Query};
use super::reply::Draft;
use super::state::State;
use crate::db::gaps::{self, Found, Selection};
use crate::db::version::Version;
use crate::db::{Connection, clock};
use crate::domain::{Range, Stamp, State as Told, Timeframe};

/// Parts of coins that one request looks through. The page may be short then; `next` goes on.
const PARTS: usize = 8;
/// What may be asked for at once where everything is expected: candles of each coin.
const MOST_CANDLES: i64 = 600_000;

#[derive(Debug, Clone, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct GapsAsk {
    /// A coin by symbol, name or the source's own id; without it all of the source.
    #[param(example = "btc", min_length = 1, max_length = 60, pattern = "^[A-Za-z0-9_ -]+$")]
    id: Option<String>,
    /// Only candles of this length.
    #[param(inline, value_type = Option<super::candles::Length>)]
    timeframe: Option<Timeframe>,
    /// From this time or UTC day on; with `timeframe` everything from there on is expected, asked for or not.
    #[param(value_type = Option<String>, format = Date, example = "2026-11-01")]
    from: Option<Stamp>,
    /// Before this time or UTC day; only with `from`.
    #[param(value_type = Option<String>, format = Date, example = "2026-12-01")]
    to: Option<Stamp>,
    /// Only this state; without it all but full.
    #[param(inline, value_type = Option<GapState>)]
    state: Option<Told>,
    /// Only this quote currency.
    #[param(value_type = Option<String>, example = "usd", pattern = "^[A-Za-z0-9_-]{1,32}$")]
    vs: Option<String>,
    /// Whose coins; without it those of the source that the server was started with.
    #[param(example = "coingecko", min_length = 1, max_length = 60, pattern = "^[A-Za-z0-9_-]+$")]
    source: Option<String>,
    /// Rows of a page, at most.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 1000, default = 100)]
    limit: Paging,
    /// `next` of the page before.
    #[param(value_type = Option<String>, pattern = "^([0-9a-f]{2}){9,}$")]
    #[allow(dead_code)]
    cursor: (),
}

#[derive(Debug, utoipa::ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code)]
pub enum GapState {
    Full,
    Empty,
    Missing,
    Unreachable,
}

impl Ask for GapsAsk {
    const NAMES: &'static [&'static str] =
        &["id", "timeframe", "from", "to", "state", "vs", "source", "limit", "cursor"];

    fn read(query: &Query) -> Result<Self, ApiError> {
        let (id, source, vs) = (query.name("id")?, query.name("source")?, query.currency("vs")?);
        let timeframe = query.timeframe("timeframe")?;
        let (from, to) = (query.moment("from")?, query.moment("to")?);
        if to.is_some() && from.is_none() {
            return Err(bad("from", "it is missing; to goes with it"));
        }
        let state = query.word("state", &Told::ALL.map(|state| (state.name(), state)))?;
        let list = format!("gaps {id:?} {timeframe:?} {from:?} {to:?} {state:?} {vs:?} {source:?}");
        let limit = Paging::read(query, list)?;
        Ok(GapsAsk { id, timeframe, from, to, state, vs, source, limit, cursor: () })
    }
}

/// An interval of a coin's candles, and what became of it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Gap {
    pub source: String,
    /// The source's own id.
    pub asset: String,
    pub vs_currency: String,
    pub timeframe: &'static str,
    #[schema(format = DateTime)]
    pub from: String,
    /// Not included.
    #[schema(format = DateTime)]
    pub to: String,
    /// full, empty, missing or unreachable
    #[schema(example = "missing")]
    pub state: &'static str,
    #[schema(required)]
    pub reason: Option<String>,
}

/// What is missing of the past; a page may hold fewer rows than its limit while there are more
#[utoipa::path(get, path = "/gaps", tag = "series", params(GapsAsk), responses(
    (status = 200, description = "a page of intervals; empty where nothing is missing", body = Page<Gap>),
    Faults,
))]
pub async fn gaps(
    extract::State(state): extract::State<State>,
    Asked(ask): Asked<GapsAsk>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let after = ask.limit.after(place)?;
    let key = format!("gaps {ask:?}");
    let own = state.clone();
    state.reply(&headers, key, move |conn, version| find(&own, conn, version, &ask, after)).await
}

/// Behind a coin, and behind so many rows of the next one.
type Place = (i64, usize);

fn place(key: &str) -> Option<Place> {
    let (asset_id, rows) = key.split_once(' ')?;
    Some((asset_id.parse().ok()?, rows.parse().ok()?))
}

/// What to look at; `None` where that is no time.
fn selection(ask: &GapsAsk, source: &str, now: Stamp) -> Result<Option<Selection>, ApiError> {
    let within = match ask.from {
        None => None,
        Some(from) => {
            let timeframe = ask.timeframe.unwrap_or(Timeframe::M1);
            let to = ask.to.unwrap_or(now).min(now);
            let range = Range::new(timeframe.ceil(from), timeframe.floor(to));
            let Some(range) = range else { return Ok(None) };
            if ask.timeframe.is_some() && range.candles(timeframe) > MOST_CANDLES {
                let most = MOST_CANDLES;
                return Err(bad(
                    "from",
                    format!("from there on more than {most} candles are expected; give a later time"),
                ));
            }
            Some(range)
        }
    };
    let all_within = ask.timeframe.is_some() && within.is_some();
    let mut vs_currencies: Vec<String> = ask.vs.iter().cloned().collect();
    if all_within && vs_currencies.is_empty() {
        vs_currencies.push("usd".to_owned());
    }
    let sources = vec![source.to_owned()];
    Ok(Some(Selection { sources, vs_currencies, timeframe: ask.timeframe, within, all_within, points: Vec::new() }))
}

fn find(
    state: &State,
    conn: &mut Connection,
    version: Version,
    ask: &GapsAsk,
    after: Option<Place>,
) -> Result<Draft, ApiError> {
    let source = state.source_at(conn, version, ask.source.as_deref())?;
    let now = clock::now(conn)?;
    let Some(selection) = selection(ask, &source, now)? else {
        // No whole candle lies in there that is over.
        return Draft::json(&Page::<Gap>::new(Vec::new(), None, Some(now), vec![source]), Some(now));
    };
    let ids = match &ask.id {
        None => None,
        Some(id) => {
            let coins = state.coins(conn, version, &source)?;
            let coin = chosen(conn, &coins, &source, "id", id)?;
            Some(coin.map(|chosen| chosen.coin.id).into_iter().collect::<Vec<_>>())
        }
    };
    let (mut from, mut skip) = after.unwrap_or((0, 0));
    let mut rows: Vec<Gap> = Vec::new();
    let limit = ask.limit.limit as usize;
    let mut next = None;
    for looked in 1.. {
        let part = gaps::next_part(conn, &selection, ids.as_deref(), from, now)?;
        // Series of a coin stand together.
        for of_coin in part.found.chunk_by(|a, b| a.asset_id == b.asset_id) {
            let all: Vec<Gap> = of_coin.iter().flat_map(|found| of_series(found, ask.state)).collect();
            let room = limit - rows.len();
            let new: Vec<Gap> = all.iter().skip(skip).take(room).cloned().collect();
            let seen = skip + new.len();
            rows.extend(new);
            if seen < all.len() {
                next = Some(format!("{from} {seen}"));
                break;
            }
            (from, skip) = (of_coin[0].asset_id, 0);
        }
        match part.next {
            _ if next.is_some() => break,
            None => break,
            Some(after) => from = after,
        }
        if rows.len() == limit || looked == PARTS {
            next = Some(format!("{from} 0"));
            break;
        }
    }
    let next = next.map(|key| ask.limit.cursor(&key));
    Draft::json(&Page::new(rows, next, Some(now), vec![source]), Some(now))
}

fn of_series(found: &Found, wanted: Option<Told>) -> Vec<Gap> {
    let gap = |range: Range, state: Told, reason: Option<&String>| Gap {
        source: found.source.clone(),
        asset: found.source_id.clone(),
        vs_currency: found.vs_currency.to_string(),
        timeframe: found.timeframe.name(),
        from: range.from.rfc3339(),
        to: range.to.rfc3339(),
        state: state.name(),
        reason: reason.cloned(),
    };
    let whole = found.whole.iter().filter(|_| wanted == Some(Told::Full)).map(|range| gap(*range, Told::Full, None));
    let holes = found.holes.iter().filter(|span| wanted.is_none_or(|wanted| span.state == wanted));
    whole.chain(holes.map(|span| gap(span.range, span.state, span.reason.as_ref()))).collect()
}
