//! `/prices`: observations of a coin, or the newest of every coin.

use axum::extract;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;

use super::coins::chosen;
use super::convert::{Converted, Rate, Rates};
use super::error::{ApiError, Faults, bad};
use super::page::{Page, Paging, time_key};

use super::query::{Ask, Asked, Query};
use super::reply::Draft;
use super::state::State;
use crate::db::Connection;
use crate::db::coins::{Coin, Coins};
use crate::db::pages::{Part, prices};
use crate::db::version::Version;
use crate::domain::Stamp;

#[derive(Debug, Clone, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PricesAsk {
    /// A coin by symbol, name or the source's own id. Without it each coin's newest price, in the order in
    /// which the coins were stored.
    #[param(example = "btc", min_length = 1, max_length = 60, pattern = "^[A-Za-z0-9_ -]+$")]
    id: Option<String>,
    /// From this time or UTC day on; only with `id`.
    #[param(value_type = Option<String>, format = Date, example = "2026-11-01")]
    from: Option<Stamp>,
    /// Before this time or UTC day; only with `id`.
    #[param(value_type = Option<String>, format = Date, example = "2026-12-01")]
    to: Option<Stamp>,
    /// By the time of observation; only with `id`.
    #[param(inline, value_type = Option<super::dashboard::OrderType>)]
    order: bool,
    /// The currency in which prices were stored.
    #[param(value_type = Option<String>, example = "usd", default = "usd", pattern = "^[A-Za-z0-9_-]{1,32}$")]
    vs: String,
    /// The currency to convert price, volume and market cap into; adds `in_currency`, `rate` and `rate_time`.
    #[param(value_type = Option<String>, example = "eur", pattern = "^[A-Za-z0-9_-]{1,32}$")]
    r#in: Option<String>,
    /// Whose prices; without it those of the source that the server was started with.
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

impl Ask for PricesAsk {
    const NAMES: &'static [&'static str] = &["id", "from", "to", "order", "vs", "in", "source", "limit", "cursor"];

    fn read(query: &Query) -> Result<Self, ApiError> {
        let (id, source) = (query.name("id")?, query.name("source")?);
        let (from, to, order) = (query.moment("from")?, query.moment("to")?, query.descending("order")?);
        let vs = query.currency("vs")?.unwrap_or_else(|| "usd".to_owned());
        let r#in = query.currency("in")?;
        if id.is_none() && (from.is_some() || to.is_some() || order.is_some()) {
            return Err(bad("id", "it is missing; from, to and order are those of one coin, such as id=btc"));
        }
        let list = format!("prices {id:?} {from:?} {to:?} {order:?} {vs} {:?} {source:?}", r#in);
        let limit = Paging::read(query, list)?;
        Ok(PricesAsk { id, from, to, order: order.unwrap_or(true), vs, r#in, source, limit, cursor: () })
    }
}

/// An observation of a coin.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Price {
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
    /// The source's own time.
    #[schema(format = DateTime)]
    pub observed_at: String,
    #[schema(required)]
    pub price: Option<f64>,
    #[schema(required)]
    pub volume_24h: Option<f64>,
    /// In coins.
    #[schema(required)]
    pub base_volume_24h: Option<f64>,
    #[schema(required)]
    pub market_cap: Option<f64>,
    #[schema(required)]
    pub circulating_supply: Option<f64>,
    #[schema(required)]
    pub total_supply: Option<f64>,
    #[schema(required)]
    pub market_cap_rank: Option<i32>,
    /// Percent, as the source tells it, of the price in `vs_currency`.
    #[schema(required)]
    pub change_1h: Option<f64>,
    #[schema(required)]
    pub change_24h: Option<f64>,
    #[schema(required)]
    pub change_7d: Option<f64>,
    #[schema(required)]
    pub change_30d: Option<f64>,
    /// The run that stored it.
    pub run_id: i64,
    #[serde(flatten)]
    pub converted: Converted,
}

/// Observations of one coin, or the newest of every coin
#[utoipa::path(get, path = "/prices", tag = "series", params(PricesAsk), responses(
    (status = 200, description = "a page of prices; empty where there are none", body = Page<Price>),
    Faults,
))]
pub async fn prices(
    extract::State(state): extract::State<State>,
    Asked(ask): Asked<PricesAsk>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let after = match ask.id {
        Some(_) => ask.limit.after(time_key)?.map(After::Time),
        None => ask.limit.after(|key| key.parse().ok())?.map(After::Coin),
    };
    let key = format!("prices {ask:?}");
    let own = state.clone();
    state.reply(&headers, key, move |conn, version| find(&own, conn, version, &ask, after)).await
}

/// Behind what a page begins.
#[derive(Debug, Clone, Copy)]
enum After {
    Time(Stamp),
    Coin(i64),
}

fn find(
    state: &State,
    conn: &mut Connection,
    version: Version,
    ask: &PricesAsk,
    after: Option<After>,
) -> Result<Draft, ApiError> {
    let source = state.source_at(conn, version, ask.source.as_deref())?;
    let coins = state.coins(conn, version, &source)?;
    let (found, next) = match &ask.id {
        Some(id) => series(conn, &coins, &source, ask, id, after)?,
        None => newest(conn, &coins, &source, ask, after)?,
    };
    let as_of = found.iter().map(prices::Price::observed_at).max();
    let mut rates = Rates::new(conn, &source, &ask.vs, ask.r#in.as_deref())?;
    let mut data = Vec::with_capacity(found.len());
    for row in found {
        let Some(coin) = coins.place(row.asset_id).map(|place| &coins.all()[place]) else { continue };
        let rate = rates.at(conn, row.observed_at())?;
        data.push(shown(coin, &source, &ask.vs, row, rate, Converted::new(&rates, rate)));
    }
    let mut page = Page::new(data, next, as_of, vec![source]);
    // An observation is one; another run may correct it.
    page.is_final = true;
    Draft::json(&page, as_of)
}

type Found = (Vec<prices::Price>, Option<String>);

fn series(
    conn: &mut Connection,
    coins: &Coins,
    source: &str,
    ask: &PricesAsk,
    id: &str,
    after: Option<After>,
) -> Result<Found, ApiError> {
    let Some(coin) = chosen(conn, coins, source, "id", id)? else { return Ok((Vec::new(), None)) };
    let after = match after {
        Some(After::Time(after)) => Some(after),
        _ => None,
    };
    let part = Part { from: ask.from, to: ask.to, after, descending: ask.order, limit: ask.limit.limit + 1 };
    let mut rows = prices::of_coin(conn, coin.coin.id, &ask.vs, &part)?;
    let next = ask.limit.cut(&mut rows, |row| row.observed_at().to_string());
    Ok((rows, next))
}

/// Coins without a price are passed over, so it may take more than one look to fill a page.
fn newest(
    conn: &mut Connection,
    coins: &Coins,
    source: &str,
    ask: &PricesAsk,
    after: Option<After>,
) -> Result<Found, ApiError> {
    let after = match after {
        Some(After::Coin(after)) => after,
        _ => i64::MIN,
    };
    let mut left = &coins.all()[coins.all().partition_point(|coin| coin.id <= after)..];
    let one_more = ask.limit.limit as usize + 1;
    let (mut rows, mut look) = (Vec::new(), one_more);
    while rows.len() < one_more && !left.is_empty() {
        let (part, rest) = left.split_at(look.min(left.len()));
        let (Some(first), Some(last)) = (part.first(), part.last()) else { break };
        rows.extend(prices::newest(conn, source, &ask.vs, first.id, last.id)?);
        // Where few have a price, more are looked at together.
        (left, look) = (rest, (look * 4).min(5_000));
    }
    let next = ask.limit.cut(&mut rows, |row| row.asset_id.to_string());
    Ok((rows, next))
}

fn shown(coin: &Coin, source: &str, vs: &str, row: prices::Price, rate: Rate, converted: Converted) -> Price {
    Price {
        source: source.to_owned(),
        id: coin.source_id.clone(),
        symbol: coin.symbol.clone(),
        name: coin.name.clone(),
        vs_currency: vs.to_owned(),
        observed_at: row.observed_at().rfc3339(),
        price: rate.of(row.price),
        volume_24h: rate.of(row.volume_24h),
        base_volume_24h: row.base_volume_24h,
        market_cap: rate.of(row.market_cap),
        circulating_supply: row.circulating_supply,
        total_supply: row.total_supply,
        market_cap_rank: row.market_cap_rank,
        change_1h: row.change_1h,
        change_24h: row.change_24h,
        change_7d: row.change_7d,
        change_30d: row.change_30d,
        run_id: row.run_id,
        converted,
    }
}
