//! `/dashboard`: what coins were worth on a day, and how that changed.

use std::cmp::Ordering;
use std::collections::HashMap;

use axum::extract;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;

use super::coins::{Other, chosen, others};
use super::convert::Rates;
use super::error::{ApiError, Faults, bad};

use super::query::{Ask, Asked, Query, checked_name};
use super::reply::Draft;
use super::state::State;
use crate::db::Connection;
use crate::db::coins::{Coin, Coins};
use crate::db::days::{self, DAY_MS, Which};
use crate::db::version::Version;
use crate::domain::Stamp;

/// Names in one request.
const MOST_IDS: usize = 250;
const MOST_ROWS: i64 = 1_000_000;

#[derive(Debug, Clone, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DashboardAsk {
    /// `all`, or coins by symbol, name or the source's own id, separated by commas, whatever the case. Those
    /// that are not stored are left out.
    #[param(value_type = Option<String>, example = "btc,aave", default = "all", min_length = 1, pattern = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,60}(,[A-Za-z0-9][A-Za-z0-9_.-]{0,60}){0,9}$")]
    id: Option<Vec<String>>,
    /// A UTC day; without it the newest that any of the coins has a price on.
    #[param(value_type = Option<String>, example = "2021-11-09", format = Date)]
    date: Option<Option<Stamp>>,
    /// What rows are sorted by. Rows without it come last; equal ones in the order in which the coins were stored.
    #[param(inline, value_type = Option<OrderBy>)]
    order_by: OrderBy,
    /// Which way.
    #[param(inline, value_type = Option<OrderType>)]
    order_type: OrderType,
    /// The currency in which prices were stored.
    #[param(value_type = Option<String>, example = "usd", default = "usd", pattern = "^[A-Za-z0-9_-]{1,32}$")]
    vs: String,
    /// The currency to convert amounts into, by the newest rate of the source before each price and no more
    /// than 24 hours older; null where there is none. Changes are those of the converted prices.
    #[param(value_type = Option<String>, example = "eur", pattern = "^[A-Za-z0-9_-]{1,32}$")]
    r#in: Option<String>,
    /// Whose coins; without it those of the source that the server was started with.
    #[param(value_type = Option<String>, example = "coingecko", min_length = 1, max_length = 60, pattern = "^[A-Za-z0-9_-]+$")]
    source: Option<String>,
    /// The first so many rows.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 1_000_000)]
    limit: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, utoipa::ToSchema)]
#[schema(default = "crypto")]
pub enum OrderBy {
    #[schema(rename = "crypto")]
    Crypto,
    #[schema(rename = "price")]
    Price,
    #[schema(rename = "24h")]
    Day,
    #[schema(rename = "7d")]
    Week,
    #[schema(rename = "1m")]
    Month,
    #[schema(rename = "24h-volume")]
    Volume,
    #[schema(rename = "market_cap")]
    MarketCap,
}

#[derive(Debug, Clone, Copy, PartialEq, utoipa::ToSchema)]
#[schema(default = "desc")]
pub enum OrderType {
    #[schema(rename = "asc")]
    Asc,
    #[schema(rename = "desc")]
    Desc,
}

const ORDERS: [(&str, OrderBy); 7] = [
    ("crypto", OrderBy::Crypto),
    ("price", OrderBy::Price),
    ("24h", OrderBy::Day),
    ("7d", OrderBy::Week),
    ("1m", OrderBy::Month),
    ("24h-volume", OrderBy::Volume),
    ("market_cap", OrderBy::MarketCap),
];

impl Ask for DashboardAsk {
    const NAMES: &'static [&'static str] = &["id", "date", "order_by", "order_type", "vs", "in", "source", "limit"];

    fn read(query: &Query) -> Result<Self, ApiError> {
        let id = query.get("id").filter(|text| !text.eq_ignore_ascii_case("all")).map(ids).transpose()?;
        Ok(DashboardAsk {
            id,
            date: query.day("date")?,
            order_by: query.word("order_by", &ORDERS)?.unwrap_or(OrderBy::Crypto),
            order_type: query
                .word("order_type", &[("asc", OrderType::Asc), ("desc", OrderType::Desc)])?
                .unwrap_or(OrderType::Desc),
            vs: query.currency("vs")?.unwrap_or_else(|| "usd".to_owned()),
            r#in: query.currency("in")?,
            source: query.name("source")?,
            limit: query.number("limit", 1, MOST_ROWS)?,
        })
    }
}

fn ids(text: &str) -> Result<Vec<String>, ApiError> {
    let ids: Vec<&str> = text.split(',').map(|id| id.trim_matches(' ')).collect();
    if ids.len() > MOST_IDS {
        return Err(bad(
            "id",
            format!("{} names are more than {MOST_IDS}; use all, or ask again for the rest", ids.len()),
        ));
    }
    if ids.iter().any(|id| id.is_empty()) {
        return Err(bad("id", "between two commas is no name; give all, or names such as btc,aave"));
    }
    ids.into_iter().map(|id| checked_name("id", id)).collect()
}

/// A coin on a day.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = DashboardRow)]
pub struct Row<'a> {
    /// The coin's name.
    #[schema(example = "Bitcoin")]
    crypto: &'a str,
    /// In upper case.
    #[schema(example = "BTC")]
    symbol: &'a str,
    #[schema(example = "coingecko")]
    source: &'a str,
    /// The source's own id.
    #[schema(example = "bitcoin")]
    id: &'a str,
    /// The close of the day's candle, else the last price of the day; null only where it can't be converted.
    #[schema(required, example = 64039.5)]
    price: Option<f64>,
    /// Percent against the price of the day before; null where there is none.
    #[serde(rename = "24h")]
    #[schema(required, example = -1.25)]
    day: Option<f64>,
    /// Percent against 7 days before.
    #[serde(rename = "7d")]
    #[schema(required, example = 3.5)]
    week: Option<f64>,
    /// Percent against 30 days before.
    #[serde(rename = "1m")]
    #[schema(required, example = 12.0)]
    month: Option<f64>,
    /// The volume of 24 hours that was told last on that day, else that of the day's final candle.
    #[serde(rename = "24h-volume")]
    #[schema(required)]
    volume: Option<f64>,
    /// Told last on that day.
    #[schema(required)]
    market_cap: Option<f64>,
    /// When the price was observed; for the close of a day that is over, the end of the day.
    #[schema(format = DateTime, example = "2026-11-09T10:00:00.000Z")]
    as_of: String,
    /// With `in`: the time of the rate; null where none was needed or there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    rate_time: Option<Option<String>>,
    /// Other coins that the given name may mean.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    also: Vec<Other>,
}

/// Prices and changes of coins on a day
#[utoipa::path(get, path = "/dashboard", tag = "coins", params(DashboardAsk), responses(
    (status = 200, description = "a row for each coin that has a price on that day", body = Vec<Row<'_>>),
    (status = 204, description = "nothing is stored of these coins for that day"),
    Faults,
))]
pub async fn dashboard(
    extract::State(state): extract::State<State>,
    Asked(ask): Asked<DashboardAsk>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let key = format!("dashboard {ask:?}");
    let own = state.clone();
    state.reply(&headers, key, move |conn, version| find(&own, conn, version, &ask)).await
}

fn find(state: &State, conn: &mut Connection, version: Version, ask: &DashboardAsk) -> Result<Draft, ApiError> {
    let source = state.source_at(conn, version, ask.source.as_deref())?;
    let coins = state.coins(conn, version, &source)?;
    let mut also: HashMap<i64, Vec<Coin>> = HashMap::new();
    let mut chosen_ids = Vec::new();
    if let Some(names) = &ask.id {
        for name in names {
            let Some(found) = chosen(conn, &coins, &source, "id", name)? else { continue };
            if !chosen_ids.contains(&found.coin.id) {
                chosen_ids.push(found.coin.id);
                also.insert(found.coin.id, found.also);
            }
        }
    } else if coins.all().len() <= days::FEW {
        chosen_ids = coins.all().iter().map(|coin| coin.id).collect();
    }
    let which = match (&ask.id, chosen_ids.is_empty()) {
        (Some(_), true) => return Ok(Draft::none()),
        (None, true) if coins.all().is_empty() => return Ok(Draft::none()),
        (None, true) => Which::All(&source),
        (_, false) => Which::These(&chosen_ids),
    };
    let day = match ask.date {
        Some(day) => day,
        None => days::newest(conn, &ask.vs, which)?,
    };
    let Some(day) = day else { return Ok(Draft::none()) };
    let prices = Prices { vs: &ask.vs, r#in: ask.r#in.as_deref(), source: &source, which, day };
    let mut rows = prices.rows(conn, &coins)?;
    if rows.is_empty() {
        return Ok(Draft::none());
    }
    sort(&mut rows, ask.order_by, ask.order_type);
    rows.truncate(ask.limit.map_or(usize::MAX, |limit| limit as usize));
    let as_of = rows.iter().map(|row| row.at).max();
    let rows: Vec<Row<'_>> = rows.into_iter().map(|row| row.shown(&source, &mut also, ask.r#in.is_some())).collect();
    Draft::json(&rows, as_of)
}

/// A row while it is put together.
struct Found<'a> {
    coin: &'a Coin,
    price: Option<f64>,
    /// Against 1, 7 and 30 days before.
    changes: [Option<f64>; 3],
    volume: Option<f64>,
    market_cap: Option<f64>,
    at: Stamp,
    rate_time: Option<Stamp>,
}

/// Days before that prices are compared with.
const BEFORE: [i64; 3] = [1, 7, 30];

struct Prices<'a> {
    vs: &'a str,
    r#in: Option<&'a str>,
    source: &'a str,
    which: Which<'a>,
    day: Stamp,
}

impl Prices<'_> {
    /// In the order of the coins.
    fn rows<'c>(&self, conn: &mut Connection, coins: &'c Coins) -> Result<Vec<Found<'c>>, ApiError> {
        let mut rates = Rates::new(conn, self.source, self.vs, self.r#in)?;
        // Candles of other sources may be among them.
        let of_day = days::day(conn, self.vs, self.which, self.day)?;
        let mut of_day: Vec<_> =
            of_day.into_iter().filter_map(|of| coins.place(of.asset_id).map(|at| (at, of))).collect();
        // As many as are asked for, and not as there are coins: most questions are about one.
        of_day.sort_unstable_by_key(|(place, _)| *place);
        let mut rows: Vec<Found<'c>> = Vec::with_capacity(of_day.len());
        for (place, of) in &of_day {
            let rate = rates.at(conn, of.at)?;
            rows.push(Found {
                coin: &coins.all()[*place],
                price: rate.of(Some(of.price)),
                changes: [None; 3],
                volume: rate.of(of.volume_24h),
                market_cap: rate.of(of.market_cap),
                at: of.at,
                rate_time: rate.time,
            });
        }
        if of_day.is_empty() {
            return Ok(Vec::new());
        }
        let wanted: Vec<i64> = of_day.iter().map(|(_, of)| of.asset_id).collect();
        // Before 1970 is nothing.
        let before = BEFORE.map(|days| Stamp::from_millis(self.day.millis() - days * DAY_MS));
        let before: Vec<Stamp> = before.into_iter().map_while(Result::ok).collect();
        for (place, earlier) in days::earlier(conn, self.vs, self.which, &before, &wanted)? {
            let Ok(at) = rows.binary_search_by_key(&earlier.asset_id, |row| row.coin.id) else { continue };
            let row = &mut rows[at];
            let then = rates.at(conn, earlier.at)?.of(Some(earlier.price));
            row.changes[place] = row.price.zip(then).and_then(|(now, then)| change(now, then));
        }
        Ok(rows)
    }
}

/// How much more one price is than another, in percent.
fn change(now: f64, then: f64) -> Option<f64> {
    let percent = (now - then) / then * 100.0;
    percent.is_finite().then_some(percent)
}

fn sort(rows: &mut [Found<'_>], by: OrderBy, order: OrderType) {
    let directed = |ordering: Ordering| if order == OrderType::Desc { ordering.reverse() } else { ordering };
    if by == OrderBy::Crypto {
        rows.sort_by(|a, b| directed(a.coin.name.cmp(&b.coin.name)));
        return;
    }
    let key = |row: &Found<'_>| match by {
        OrderBy::Crypto | OrderBy::Price => row.price,
        OrderBy::Day => row.changes[0],
        OrderBy::Week => row.changes[1],
        OrderBy::Month => row.changes[2],
        OrderBy::Volume => row.volume,
        OrderBy::MarketCap => row.market_cap,
    };
    rows.sort_by(|a, b| match (key(a), key(b)) {
        (Some(a), Some(b)) => directed(a.partial_cmp(&b).unwrap_or(Ordering::Equal)),
        // Whatever the direction.
        (a, b) => a.is_none().cmp(&b.is_none()),
    });
}

impl<'c> Found<'c> {
    fn shown<'a>(self, source: &'a str, also: &mut HashMap<i64, Vec<Coin>>, converted: bool) -> Row<'a>
    where
        'c: 'a,
    {
        Row {
            crypto: &self.coin.name,
            symbol: &self.coin.symbol,
            source,
            id: &self.coin.source_id,
            price: self.price,
            day: self.changes[0],
            week: self.changes[1],
            month: self.changes[2],
            volume: self.volume,
            market_cap: self.market_cap,
            as_of: self.at.rfc3339(),
            rate_time: converted.then(|| self.rate_time.map(Stamp::rfc3339)),
            also: also.remove(&self.coin.id).map(others).unwrap_or_default(),
        }
    }
}
