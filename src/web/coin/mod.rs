//! `/coins/{source}/{id}`: one coin.

mod charts;
mod day;

use std::sync::Arc;

use axum::extract;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use self::charts::Charts;
use self::day::Day;
use super::address::{self, Address};
use super::choice::{Asked, Choice, Shown, changes_words, conversion_words, currency_field};
use super::error::PageError;
use super::format;
use super::layout::{self, Shell};
use crate::api::reply::{self, Draft};
use crate::api::{ApiError, State};
use crate::db::dashboard::coin;
use crate::db::dashboard::market::{Coin, Market};
use crate::db::{Connection, clock};
use crate::domain::rate::USD;
use crate::domain::{Range, Stamp, Timeframe};
use crate::plot::Axis;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Query {
    /// Of an id that no path can hold.
    id: Option<String>,
    currency: Option<String>,
    date: Option<String>,
    period: Option<String>,
    view: Option<String>,
    timeframe: Option<String>,
    scale: Option<String>,
    from: Option<String>,
    to: Option<String>,
}

/// How much of the past a chart shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Period {
    Day,
    Week,
    Month,
    Quarter,
    Year,
    All,
}

impl Period {
    const ALL: [Period; 6] = [Period::Day, Period::Week, Period::Month, Period::Quarter, Period::Year, Period::All];

    fn word(self) -> &'static str {
        match self {
            Period::Day => "1d",
            Period::Week => "7d",
            Period::Month => "30d",
            Period::Quarter => "90d",
            Period::Year => "1y",
            Period::All => "all",
        }
    }

    fn days(self) -> Option<i64> {
        match self {
            Period::Day => Some(1),
            Period::Week => Some(7),
            Period::Month => Some(30),
            Period::Quarter => Some(90),
            Period::Year => Some(365),
            Period::All => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    Line,
    Candles,
}

/// What is asked for, in one spelling.
#[derive(Debug, Clone)]
struct Wanted {
    source: String,
    id: String,
    currency: Option<String>,
    date: Option<Result<Stamp, String>>,
    period: Period,
    view: View,
    timeframe: Option<Timeframe>,
    scale: Axis,
    /// Instead of a period.
    zoom: Option<Range>,
}

/// A zoom is no closer than this, in milliseconds.
const CLOSEST: i64 = 60_000;

impl Wanted {
    fn of(source: String, id: String, query: Query) -> Wanted {
        let time = |text: &Option<String>| {
            let millis = text.as_deref()?.parse().ok()?;
            Stamp::from_millis(millis).ok()
        };
        let zoom = match (time(&query.from), time(&query.to)) {
            (Some(from), Some(to)) => Range::new(from, to.max(from.plus(CLOSEST))),
            _ => None,
        };
        let period = query.period.and_then(|word| Period::ALL.into_iter().find(|period| period.word() == word));
        Wanted {
            source,
            id,
            currency: query.currency.filter(|currency| !currency.is_empty()).map(|currency| currency.to_lowercase()),
            date: query.date.filter(|date| !date.is_empty()).map(|date| day::parse(&date)),
            period: period.unwrap_or(Period::Month),
            view: if query.view.as_deref() == Some("candles") { View::Candles } else { View::Line },
            timeframe: query.timeframe.and_then(|word| word.parse().ok()),
            scale: if query.scale.as_deref() == Some("log") { Axis::Log } else { Axis::Linear },
            zoom,
        }
    }

    fn address(&self) -> Address {
        let date = self.date.as_ref().map(|date| match date {
            Ok(date) => format::day(*date),
            Err(text) => text.clone(),
        });
        address::coin(&self.source, &self.id)
            .maybe("currency", self.currency.as_deref())
            .maybe("date", date)
            .maybe("period", Some(self.period).filter(|period| *period != Period::Month).map(Period::word))
            .maybe("view", Some("candles").filter(|_| self.view == View::Candles))
            .maybe("timeframe", self.timeframe)
            .maybe("scale", Some("log").filter(|_| self.scale == Axis::Log))
            .maybe("from", self.zoom.map(|zoom| zoom.from.millis()))
            .maybe("to", self.zoom.map(|zoom| zoom.to.millis()))
    }
}

pub async fn page(
    extract::State(state): extract::State<State>,
    path: Result<Path<(String, String)>, PathRejection>,
    Asked(query): Asked<Query>,
    request: HeaderMap,
) -> Result<Response, PageError> {
    match path {
        Ok(Path((source, id))) => answer(state, Wanted::of(source, id, query), request).await,
        Err(err) => Err(PageError::unknown(err.body_text())),
    }
}

pub async fn page_by_query(
    extract::State(state): extract::State<State>,
    path: Result<Path<String>, PathRejection>,
    Asked(mut query): Asked<Query>,
    request: HeaderMap,
) -> Result<Response, PageError> {
    match (path, query.id.take()) {
        (Ok(Path(source)), Some(id)) => answer(state, Wanted::of(source, id, query), request).await,
        (Ok(Path(source)), None) => {
            Err(PageError::unknown(format!("which coin of {source:?}? Look for it in the list.")))
        }
        (Err(err), _) => Err(PageError::unknown(err.body_text())),
    }
}

async fn answer(state: State, wanted: Wanted, request: HeaderMap) -> Result<Response, PageError> {
    let key = format!("page:{}", wanted.address());
    let inner = state.clone();
    let unknown = format!("no coin with the id {:?} is stored under {:?}", wanted.id, wanted.source);
    let answer = state.answer_at(key, move |conn, version| {
        let market = inner.market(conn, version)?;
        let found = market.find(&wanted.source, &wanted.id);
        let coin = found.ok_or_else(|| ApiError::UnknownPath(wanted.address().to_string()))?;
        draft(&inner, conn, &market, coin, &wanted)
    });
    match answer.await {
        Ok(answer) => Ok(answer.response(&request).await),
        Err(ApiError::UnknownPath(_)) => Err(PageError::unknown(unknown)),
        Err(err) => Err(err.into()),
    }
}

fn draft(
    state: &State,
    conn: &mut Connection,
    market: &Market,
    coin: &Coin,
    wanted: &Wanted,
) -> Result<Draft, ApiError> {
    let now = clock::now(conn)?;
    let stored = coin::currencies(conn, coin.asset_id)?;
    let choice = Choice::of(conn, market.sources.clone(), wanted.source.clone(), &stored, wanted.currency.as_deref())?;
    let prices = market.prices(coin);
    let first = prices.iter().map(|latest| latest.observed_at).min().unwrap_or(now);
    let rates = choice.rates(conn, &stored, first, now)?;
    let shown = Shown::of(prices, &choice.currency, &rates);
    let day = match &wanted.date {
        Some(Ok(date)) => Some(Ok(day::find(conn, &choice, coin.asset_id, &stored, *date, now)?)),
        Some(Err(text)) => Some(Err(text.clone())),
        None => None,
    };
    let mut charts: Option<Charts> = None;
    for base in base_currencies(&stored, &choice.currency) {
        let read = Charts::read(conn, &choice, coin, base, wanted, now)?;
        // What was stored in the currency itself may have begun later than what can be converted into it.
        if read.as_ref().map_or(0, Charts::weight) > charts.as_ref().map_or(0, Charts::weight) || charts.is_none() {
            charts = read;
        }
    }
    let newest = shown.as_ref().map(|shown| shown.latest.observed_at);
    let page = Page { state, market, coin, choice: &choice, wanted, shown, day, now };
    let body = html! {
        (page.head())
        @match &charts {
            Some(charts) => (charts.markup(&choice, coin, wanted)),
            None => (layout::nothing(
                "No price is stored yet",
                html! { "The coin is listed, and no observation or candle of it is stored." },
                &["coinetl prices insert", "coinetl candles backfill --timeframe 1d --from 2026-01-01 --ids …"],
            )),
        }
        (page.facts())
    };
    let title = format!("{} ({})", coin.name, coin.symbol);
    let sources = [wanted.source.clone()];
    let shell = Shell { title: &title, here: "/", sources: &sources, retry_s: None };
    Ok(Draft::text(reply::HTML, layout::page(&shell, body).into_string(), newest))
}

/// The stored currencies that charts may be drawn of: the wanted one, and what others are converted from.
fn base_currencies<'a>(stored: &'a [Arc<str>], wanted: &str) -> impl Iterator<Item = &'a Arc<str>> {
    let of = |name: &str| stored.iter().find(|stored| ***stored == *name);
    let (own, usual) = (of(wanted), of(USD).or(stored.first()));
    own.into_iter().chain(usual.filter(|usual| own != Some(*usual)))
}

struct Page<'a> {
    state: &'a State,
    market: &'a Market,
    coin: &'a Coin,
    choice: &'a Choice,
    wanted: &'a Wanted,
    shown: Option<Shown<'a>>,
    day: Option<Result<Day, String>>,
    now: Stamp,
}

impl Page<'_> {
    fn head(&self) -> Markup {
        let Page { coin, choice, .. } = self;
        let stale_s = self.state.options().stale_after.as_secs();
        let price = self.shown.as_ref().and_then(Shown::price);
        html! {
            nav.crumbs aria-label="Where this is" {
                a href=(Address::new("/").maybe("currency", self.wanted.currency.as_deref())) { "Coins" }
                span aria-hidden="true" { "/" }
                span { (coin.source) }
            }
            section.coin-head data-part="head" {
                div {
                    h1 { (coin.name) " " span.symbol { (coin.symbol) }
                        @if let Some(rank) = self.shown.as_ref().and_then(|shown| shown.latest.rank) {
                            " " span.badge { "#" (rank) }
                        }
                        @if !coin.active { " " span.badge { "gone from the source" } }
                    }
                    p.big-price {
                        @match price {
                            Some(price) => span data-flash=(price) {
                                (format::money(&format::price(price), &choice.currency)) },
                            None => span.soft { "no price in " (choice.currency.to_uppercase()) },
                        }
                        @if let Some(shown) = &self.shown {
                            " " (layout::change(shown.latest.change_24h)) " " small.soft { "24h" }
                        }
                    }
                    @if let Some(shown) = &self.shown {
                        p.soft { "Observed " (layout::age(shown.latest.observed_at, self.now, Some(stale_s)))
                            @if shown.is_converted() {
                                " · "
                                (conversion_words(&shown.latest.vs_currency, &choice.currency, shown.rate_at))
                                " " (changes_words(&shown.latest.vs_currency))
                            }
                        }
                    }
                }
                (self.form())
            }
            @if let Some(day) = &self.day {
                section.card.day data-part="day" {
                    @match day {
                        Ok(day) => (day.markup(choice)),
                        Err(text) => p { "\u{201c}" (text) "\u{201d} is no date; write it as 2026-11-25." },
                    }
                }
            }
        }
    }

    fn form(&self) -> Markup {
        let address = self.wanted.address();
        let date = self.wanted.date.as_ref().and_then(|date| date.as_ref().ok()).map(|date| format::day(*date));
        html! {
            form.controls action=(address.path()) method="get" {
                @for (name, value) in address.query().iter().filter(|(name, _)| !["currency", "date"].contains(name)) {
                    input type="hidden" name=(name) value=(value);
                }
                (currency_field(self.choice))
                label.field { span { "Price on a day" }
                    input type="date" name="date" value=[date] min="1970-01-01" max=(format::day(self.now)) data-submit;
                }
                button.button.no-script type="submit" { "Show" }
            }
        }
    }

    fn facts(&self) -> Markup {
        let Some(shown) = &self.shown else { return html! {} };
        let Page { coin, choice, market, .. } = self;
        let money = |value: Option<f64>| {
            value.map_or(format::UNKNOWN.to_owned(), |value| format::money(&format::large(value), &choice.currency))
        };
        let coins = |value: Option<f64>| {
            value.map_or(format::UNKNOWN.to_owned(), |value| format!("{} {}", format::large(value), coin.symbol))
        };
        let latest = shown.latest;
        let issued = match (latest.circulating_supply, latest.total_supply) {
            (Some(circulating), Some(total)) if total > 0.0 => Some(circulating / total),
            _ => None,
        };
        html! {
            section.card data-part="facts" aria-labelledby="facts" {
                h2 #facts { "Now" }
                dl.facts {
                    div { dt { "Market cap" } dd { (money(shown.cap())) } }
                    div { dt { "Dominance" } dd { (dominance(market, coin, shown).map_or(format::UNKNOWN.to_owned(), |part| {
                        if part < 0.001 { "< 0.1 %".to_owned() } else { format::share(part) } })) } }
                    div { dt { "Volume 24h" } dd { (money(shown.volume())) } }
                    div { dt { "Circulating supply" } dd { (coins(latest.circulating_supply)) } }
                    div { dt { "Total supply" } dd { (coins(latest.total_supply)) } }
                    div { dt { "Issued" } dd { (issued.map_or(format::UNKNOWN.to_owned(), format::share)) } }
                    @for (name, change) in [
                        ("1 hour", latest.change_1h),
                        ("24 hours", latest.change_24h),
                        ("7 days", latest.change_7d),
                        ("30 days", latest.change_30d),
                    ] {
                        div { dt { (name) } dd { (layout::change(change)) } }
                    }
                    div { dt { "Observed" } dd.small { (format::minute(latest.observed_at)) } }
                    div { dt { "Source" } dd.small { (coin.source) } }
                    div { dt { "Id" } dd.small { code { (coin.source_id) } } }
                }
                @if shown.is_converted() { p.note { (changes_words(&latest.vs_currency)) } }
            }
        }
    }
}

/// A coin's part of the market cap of its source's ranked coins, in the currency its newest price is stored in.
fn dominance(market: &Market, coin: &Coin, shown: &Shown<'_>) -> Option<f64> {
    let own = shown.latest.market_cap?;
    let vs = &shown.latest.vs_currency;
    let caps = market
        .of(&coin.source)
        .filter(|coin| coin.active)
        .flat_map(|coin| market.prices(coin).iter().find(|latest| latest.vs_currency == *vs));
    let total: f64 = caps.filter(|latest| latest.rank.is_some()).filter_map(|latest| latest.market_cap).sum();
    (total > 0.0 && shown.latest.rank.is_some()).then_some(own / total)
}
