//! `/quotes`: best bids and asks of a pair, or the windows that they were folded into.

use axum::extract;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;

use super::error::{ApiError, Faults, bad};
use super::page::{Page, Paging, time_key};

use super::query::{Ask, Asked, Query};
use super::reply::Draft;
use super::state::State;
use crate::db::Connection;
use crate::db::pages::{Part, quotes};
use crate::domain::{Micros, Stamp};

#[derive(Debug, Clone, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct QuotesAsk {
    /// A trading pair as the source names it.
    #[param(example = "BTC-USD", min_length = 1, max_length = 60, pattern = "^[A-Za-z0-9-]+$")]
    pair: String,
    /// Instead of quotes the windows of this length that they were folded into.
    #[param(inline, value_type = Option<WindowLength>)]
    window: Option<&'static str>,
    /// Windows that begin at this time or UTC day or later; only with `window`. Quotes go by their sequence.
    #[param(value_type = Option<String>, format = Date, example = "2026-11-01")]
    from: Option<Stamp>,
    /// Windows that begin before this time or UTC day; only with `window`.
    #[param(value_type = Option<String>, format = Date, example = "2026-12-01")]
    to: Option<Stamp>,
    /// By sequence, or by the beginning of the window.
    #[param(inline, value_type = Option<super::dashboard::OrderType>)]
    order: bool,
    /// Whose quotes; without it coinbase's, or those of its sandbox.
    #[param(example = "coinbase", min_length = 1, max_length = 60, pattern = "^[A-Za-z0-9_-]+$")]
    source: Option<String>,
    /// Rows of a page.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 1000, default = 100)]
    limit: Paging,
    /// `next` of the page before.
    #[param(value_type = Option<String>, pattern = "^([0-9a-f]{2}){9,}$")]
    #[allow(dead_code)]
    cursor: (),
}

/// Lengths of windows, for the document.
#[derive(Debug, utoipa::ToSchema)]
#[allow(dead_code)]
pub enum WindowLength {
    #[schema(rename = "1m")]
    M1,
    #[schema(rename = "5m")]
    M5,
    #[schema(rename = "1h")]
    H1,
}

const WINDOWS: [(&str, &str); 3] = [("1m", "1m"), ("5m", "5m"), ("1h", "1h")];

impl Ask for QuotesAsk {
    const NAMES: &'static [&'static str] = &["pair", "window", "from", "to", "order", "source", "limit", "cursor"];

    fn read(query: &Query) -> Result<Self, ApiError> {
        let Some(pair) = query.name("pair")? else {
            return Err(bad("pair", "it is missing; name one, such as pair=BTC-USD"));
        };
        let window = query.word("window", &WINDOWS)?;
        let (from, to) = (query.moment("from")?, query.moment("to")?);
        if window.is_none() && (from.is_some() || to.is_some()) {
            let why =
                "it is missing; from and to are those of windows, such as window=1m, and quotes go by their sequence";
            return Err(bad("window", why));
        }
        let (order, source) = (query.descending("order")?.unwrap_or(true), query.name("source")?);
        let limit = Paging::read(query, format!("quotes {pair:?} {window:?} {from:?} {to:?} {order} {source:?}"))?;
        Ok(QuotesAsk { pair, window, from, to, order, source, limit, cursor: () })
    }
}

/// A best bid and ask, or a window of them.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum QuoteRow {
    Quote(Quote),
    Window(Window),
}

/// A best bid and ask of a pair, with the extremes of its session so far.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Quote {
    pub source: String,
    pub pair: String,
    pub sequence: i64,
    /// To the microsecond.
    #[schema(format = DateTime)]
    pub observed_at: String,
    pub bid: f64,
    pub ask: f64,
    pub mid_price: f64,
    pub spread: f64,
    pub highest_bid: f64,
    pub lowest_ask: f64,
    pub max_spread: f64,
    pub session: String,
}

/// Quotes of a pair over an interval, by the time of the quotes.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Window {
    pub source: String,
    pub pair: String,
    pub timeframe: &'static str,
    #[schema(format = DateTime)]
    pub window_start: String,
    /// How many.
    pub quotes: i64,
    pub open_mid: f64,
    pub high_mid: f64,
    pub low_mid: f64,
    pub close_mid: f64,
    pub highest_bid: f64,
    pub lowest_ask: f64,
    pub mean_spread: f64,
    pub max_spread: f64,
}

/// Best bids and asks of a pair, or windows of them
#[utoipa::path(get, path = "/quotes", tag = "series", params(QuotesAsk), responses(
    (status = 200, description = "a page of quotes or windows; empty where there are none", body = Page<QuoteRow>),
    Faults,
))]
pub async fn quotes(
    extract::State(state): extract::State<State>,
    Asked(ask): Asked<QuotesAsk>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (mut after_time, mut after_sequence) = (None, None);
    match ask.window {
        Some(_) => after_time = ask.limit.after(time_key)?,
        None => after_sequence = ask.limit.after(|key| key.parse::<i64>().ok())?,
    }
    let key = format!("quotes {ask:?}");
    state
        .reply(&headers, key, move |conn, _| {
            let source = match &ask.source {
                Some(source) => source.clone(),
                None => {
                    let usual = ["coinbase".to_owned(), "sandbox-coinbase".to_owned()];
                    quotes::meant_source(conn, &usual)?.unwrap_or_else(|| usual[0].clone())
                }
            };
            match ask.window {
                Some(length) => windows(conn, &ask, source, length, after_time),
                None => of_pair(conn, &ask, source, after_sequence),
            }
        })
        .await
}

fn millis(at: Micros) -> Option<Stamp> {
    Stamp::from_millis(at.micros().div_euclid(1000)).ok()
}

fn of_pair(conn: &mut Connection, ask: &QuotesAsk, source: String, after: Option<i64>) -> Result<Draft, ApiError> {
    let mut rows = quotes::of_pair(conn, &source, &ask.pair, after, ask.order, ask.limit.limit + 1)?;
    let next = ask.limit.cut(&mut rows, |row| row.sequence.to_string());
    let as_of = rows.iter().map(quotes::Quote::observed_at).max().and_then(millis);
    let shown = |row: quotes::Quote| {
        QuoteRow::Quote(Quote {
            source: source.clone(),
            pair: ask.pair.clone(),
            sequence: row.sequence,
            observed_at: row.observed_at().rfc3339(),
            bid: row.bid,
            ask: row.ask,
            mid_price: row.mid_price,
            spread: row.spread,
            highest_bid: row.highest_bid,
            lowest_ask: row.lowest_ask,
            max_spread: row.max_spread,
            session: row.session,
        })
    };
    let data = rows.into_iter().map(shown).collect();
    let mut page = Page::new(data, next, as_of, vec![source.clone()]);
    page.is_final = true;
    Draft::json(&page, as_of)
}

fn windows(
    conn: &mut Connection,
    ask: &QuotesAsk,
    source: String,
    length: &'static str,
    after: Option<Stamp>,
) -> Result<Draft, ApiError> {
    let part = Part { from: ask.from, to: ask.to, after, descending: ask.order, limit: ask.limit.limit + 1 };
    let mut rows = quotes::windows(conn, &source, &ask.pair, length, &part)?;
    let next = ask.limit.cut(&mut rows, |row| row.window_start().text().as_str()[..23].to_owned());
    let as_of = rows.iter().map(quotes::Window::window_start).max().and_then(millis);
    let shown = |row: quotes::Window| {
        QuoteRow::Window(Window {
            source: source.clone(),
            pair: ask.pair.clone(),
            timeframe: length,
            window_start: row.window_start().rfc3339(),
            quotes: row.quotes,
            open_mid: row.open_mid,
            high_mid: row.high_mid,
            low_mid: row.low_mid,
            close_mid: row.close_mid,
            highest_bid: row.highest_bid,
            lowest_ask: row.lowest_ask,
            mean_spread: row.mean_spread,
            max_spread: row.max_spread,
        })
    };
    let data = rows.into_iter().map(shown).collect();
    // Late quotes are folded in whenever they come: nothing of it is final.
    let page = Page::new(data, next, as_of, vec![source.clone()]);
    Draft::json(&page, as_of)
}
