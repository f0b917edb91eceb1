//! `/candles`: candles of a coin.

use axum::extract;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;

use super::coins::chosen;
use super::convert::{Converted, Rates};
use super::error::{ApiError, Faults, bad};
use super::page::{Page, Paging, time_key};

use super::query::{Ask, Asked, Query};
use super::reply::Draft;
use super::state::State;
use crate::db::Connection;
use crate::db::pages::{Part, candles};
use crate::db::version::Version;
use crate::domain::{Stamp, Timeframe};

#[derive(Debug, Clone, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CandlesAsk {
    /// A coin by symbol, name or the source's own id.
    #[param(example = "btc", min_length = 1, max_length = 60, pattern = "^[A-Za-z0-9_ -]+$")]
    id: String,
    /// How long a candle is.
    #[param(inline, value_type = Option<Length>)]
    timeframe: Timeframe,
    /// Candles that open at this time or UTC day or later.
    #[param(value_type = Option<String>, format = Date, example = "2026-11-01")]
    from: Option<Stamp>,
    /// Candles that open before this time or UTC day.
    #[param(value_type = Option<String>, format = Date, example = "2026-12-01")]
    to: Option<Stamp>,
    /// By the time of opening.
    #[param(inline, value_type = Option<super::dashboard::OrderType>)]
    order: bool,
    /// The currency in which candles were stored.
    #[param(value_type = Option<String>, example = "usd", default = "usd", pattern = "^[A-Za-z0-9_-]{1,32}$")]
    vs: String,
    /// The currency to convert amounts into, by the rate at the opening; adds `in_currency`, `rate` and `rate_time`.
    #[param(value_type = Option<String>, example = "eur", pattern = "^[A-Za-z0-9_-]{1,32}$")]
    r#in: Option<String>,
    /// Whose candles; without it those of the source that the server was started with.
    #[param(example = "coingecko", min_length = 1, max_length = 60, pattern = "^[A-Za-z0-9_-]+$")]
    source: Option<String>,
    /// Rows of a page.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 1000, default = 100)]
    limit: Paging,
    /// `next` of the page before.
    #[param(value_type = Option<String>, pattern = "^([0-9a-f]{2}){9,}$")]
    #[allow(dead_code)]
    cursor: (),
}

/// Lengths of candles, for the document.
#[derive(Debug, utoipa::ToSchema)]
#[schema(as = Timeframe, default = "1d")]
#[allow(dead_code)]
pub enum Length {
    #[schema(rename = "1m")]
    M1,
    #[schema(rename = "5m")]
    M5,
    #[schema(rename = "15m")]
    M15,
    #[schema(rename = "1h")]
    H1,
    #[schema(rename = "6h")]
    H6,
    #[schema(rename = "1d")]
    D1,
}

impl Ask for CandlesAsk {
    const NAMES: &'static [&'static str] =
        &["id", "timeframe", "from", "to", "order", "vs", "in", "source", "limit", "cursor"];

    fn read(query: &Query) -> Result<Self, ApiError> {
        let (id, source) = (query.name("id")?, query.name("source")?);
        let Some(id) = id else { return Err(bad("id", "it is missing; name a coin, such as id=btc")) };
        let timeframe = query.timeframe("timeframe")?.unwrap_or(Timeframe::D1);
        let (from, to) = (query.moment("from")?, query.moment("to")?);
        let order = query.descending("order")?.unwrap_or(true);
        let vs = query.currency("vs")?.unwrap_or_else(|| "usd".to_owned());
        let r#in = query.currency("in")?;
        let list = format!("candles {id:?} {timeframe} {from:?} {to:?} {order} {vs} {:?} {source:?}", r#in);
        let limit = Paging::read(query, list)?;
        Ok(CandlesAsk { id, timeframe, from, to, order, vs, r#in, source, limit, cursor: () })
    }
}

/// Open, high, low, close and volume of a coin over an interval.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Candle {
    #[schema(example = "coingecko")]
    pub source: String,
    /// The source's own id.
    #[schema(example = "bitcoin")]
    pub id: String,
    /// In upper case.
    #[schema(example = "BTC")]
    pub symbol: String,
    #[schema(example = "Bitcoin")]
    pub name: String,
    #[schema(example = "usd")]
    pub vs_currency: String,
    #[schema(example = "1d")]
    pub timeframe: &'static str,
    #[schema(format = DateTime)]
    pub open_time: String,
    /// The end of the interval, which is not in it.
    #[schema(format = DateTime)]
    pub end_time: String,
    /// Null, as the other amounts, only where it can't be converted.
    #[schema(required)]
    pub open: Option<f64>,
    #[schema(required)]
    pub high: Option<f64>,
    #[schema(required)]
    pub low: Option<f64>,
    #[schema(required)]
    pub close: Option<f64>,
    /// In `vs_currency`.
    #[schema(required)]
    pub volume: Option<f64>,
    /// In coins.
    #[schema(required)]
    pub base_volume: Option<f64>,
    #[schema(required)]
    pub market_cap: Option<f64>,
    /// Of how many observations it was folded.
    #[schema(required)]
    pub samples: Option<i64>,
    /// source, archive or rollup
    #[schema(example = "source")]
    pub origin: String,
    /// False while the interval is open.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// The run that stored it.
    pub run_id: i64,
    #[serde(flatten)]
    pub converted: Converted,
}

/// Candles of a coin
#[utoipa::path(get, path = "/candles", tag = "series", params(CandlesAsk), responses(
    (status = 200, description = "a page of candles; empty where there are none", body = Page<Candle>),
    Faults,
))]
pub async fn candles(
    extract::State(state): extract::State<State>,
    Asked(ask): Asked<CandlesAsk>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let after = ask.limit.after(time_key)?;
    let key = format!("candles {ask:?}");
    let own = state.clone();
    state.reply(&headers, key, move |conn, version| find(&own, conn, version, &ask, after)).await
}

fn find(
    state: &State,
    conn: &mut Connection,
    version: Version,
    ask: &CandlesAsk,
    after: Option<Stamp>,
) -> Result<Draft, ApiError> {
    let source = state.source_at(conn, version, ask.source.as_deref())?;
    let coins = state.coins(conn, version, &source)?;
    let Some(coin) = chosen(conn, &coins, &source, "id", &ask.id)?.map(|chosen| chosen.coin) else {
        return Draft::json(&Page::<Candle>::new(Vec::new(), None, None, vec![source]), None);
    };
    let part = Part { from: ask.from, to: ask.to, after, descending: ask.order, limit: ask.limit.limit + 1 };
    let mut rows = candles::of_coin(conn, coin.id, &ask.vs, ask.timeframe, &part)?;
    let next = ask.limit.cut(&mut rows, |row| row.open_time().to_string());
    // Of an open one is known when it began.
    let known = |row: &candles::Candle| if row.is_final { ask.timeframe.end(row.open_time()) } else { row.open_time() };
    let as_of = rows.iter().map(known).max();
    let is_final = rows.iter().all(|row| row.is_final);
    let mut rates = Rates::new(conn, &source, &ask.vs, ask.r#in.as_deref())?;
    let mut data = Vec::with_capacity(rows.len());
    for row in rows {
        let at = row.open_time();
        let rate = rates.at(conn, at)?;
        data.push(Candle {
            source: source.clone(),
            id: coin.source_id.clone(),
            symbol: coin.symbol.clone(),
            name: coin.name.clone(),
            vs_currency: ask.vs.clone(),
            timeframe: ask.timeframe.name(),
            open_time: at.rfc3339(),
            end_time: ask.timeframe.end(at).rfc3339(),
            open: rate.of(Some(row.open)),
            high: rate.of(Some(row.high)),
            low: rate.of(Some(row.low)),
            close: rate.of(Some(row.close)),
            volume: rate.of(row.volume),
            base_volume: row.base_volume,
            market_cap: rate.of(row.market_cap),
            samples: row.samples,
            origin: row.origin,
            is_final: row.is_final,
            run_id: row.run_id,
            converted: Converted::new(&rates, rate),
        });
    }
    let mut page = Page::new(data, next, as_of, vec![source]);
    page.is_final = is_final;
    Draft::json(&page, as_of)
}
