//! `/pairs`: live quotes.

use axum::extract;
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::address::Address;
use super::choice::Asked;
use super::error::PageError;
use super::format;
use super::layout::{self, Shell};
use crate::api::reply::{self, Draft};
use crate::api::{ApiError, State};
use crate::db::dashboard::pairs::{self, Quote, Window};
use crate::db::{Connection, clock, series};
use crate::domain::{Range, Stamp, Timeframe};
use crate::plot::{self, Frame, Look, QuoteChart, QuotePoint, Span};

/// Pairs of the table, windows below it, points of the chart.
const MOST_PAIRS: i64 = 500;
const MOST_WINDOWS: i64 = 30;
const POINTS: usize = 1_200;
const WIDE: (u32, u32) = (1_080, 420);
const NARROW: (u32, u32) = (380, 340);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Query {
    source: Option<String>,
    pair: Option<String>,
    period: Option<String>,
    timeframe: Option<String>,
}

/// How much of the past the chart shows, in minutes.
const PERIODS: [(&str, i64); 5] = [("15m", 15), ("1h", 60), ("6h", 360), ("1d", 1_440), ("7d", 10_080)];
/// Of an hour every quote can be told apart.
const USUAL_PERIOD: (&str, i64) = PERIODS[1];
const TIMEFRAMES: [Timeframe; 3] = [Timeframe::M1, Timeframe::M5, Timeframe::H1];

#[derive(Debug, Clone)]
struct Wanted {
    /// Source and pair; `None` = the first.
    pair: Option<(String, String)>,
    period: (&'static str, i64),
    timeframe: Timeframe,
}

impl Wanted {
    fn of(query: Query) -> Wanted {
        let period = PERIODS.into_iter().find(|(word, _)| query.period.as_deref() == Some(*word));
        let timeframe = query.timeframe.and_then(|word| word.parse().ok()).filter(|one| TIMEFRAMES.contains(one));
        Wanted {
            pair: query.source.zip(query.pair),
            period: period.unwrap_or(USUAL_PERIOD),
            timeframe: timeframe.unwrap_or(Timeframe::M1),
        }
    }

    fn address(&self) -> Address {
        let (source, pair) = self.pair.clone().unzip();
        Address::new("/pairs")
            .maybe("source", source)
            .maybe("pair", pair)
            .maybe("period", Some(self.period).filter(|period| *period != USUAL_PERIOD).map(|(word, _)| word))
            .maybe("timeframe", Some(self.timeframe).filter(|timeframe| *timeframe != Timeframe::M1))
    }
}

pub async fn page(
    extract::State(state): extract::State<State>,
    Asked(query): Asked<Query>,
    request: HeaderMap,
) -> Result<Response, PageError> {
    let wanted = Wanted::of(query);
    let key = format!("page:{}", wanted.address());
    let stale_s = state.options().stale_after.as_secs();
    let answer = state.answer(key, move |conn| draft(conn, &wanted, stale_s)).await;
    match answer {
        Ok(answer) => Ok(answer.response(&request).await),
        Err(ApiError::UnknownPath(pair)) => Err(PageError::unknown(format!("no quotes of {pair} are stored"))),
        Err(err) => Err(err.into()),
    }
}

fn draft(conn: &mut Connection, wanted: &Wanted, stale_s: u64) -> Result<Draft, ApiError> {
    let now = clock::now(conn)?;
    let quotes = pairs::newest(conn, MOST_PAIRS)?;
    let newest = quotes.iter().map(|quote| quote.observed_at).max();
    let chosen = match &wanted.pair {
        None => quotes.first(),
        Some((source, pair)) => {
            let found = quotes.iter().find(|quote| quote.source == *source && quote.pair == *pair);
            Some(found.ok_or_else(|| ApiError::UnknownPath(format!("{pair:?} of {source:?}")))?)
        }
    };
    let mut sources: Vec<String> = quotes.iter().map(|quote| quote.source.clone()).collect();
    sources.dedup();
    let body = match chosen {
        None => html! {
            h1 { "Pairs" }
            div data-part="empty" {
                (layout::nothing(
                    "No quotes are stored",
                    html! { "Quotes come from Coinbase's live feed by way of Kafka: the first command sends them into the "
                            "topic, the second stores what is in it. " code { "KAFKA_BOOTSTRAP_SERVERS" } " tells where." },
                    &["coinetl quotes publish --pairs BTC-USD,ETH-USD", "coinetl consume"],
                ))
            }
        },
        Some(chosen) => {
            let detail = Detail::read(conn, chosen, wanted)?;
            html! {
                h1 { "Pairs" }
                (table(&quotes, chosen, wanted, now, stale_s))
                (detail.markup(chosen, wanted, now))
            }
        }
    };
    let shell = Shell { title: "Pairs", here: "/pairs", sources: &sources, retry_s: None };
    Ok(Draft::text(reply::HTML, layout::page(&shell, body).into_string(), newest))
}

fn table(quotes: &[Quote], chosen: &Quote, wanted: &Wanted, now: Stamp, stale_s: u64) -> Markup {
    let has_sources = quotes.iter().any(|quote| quote.source != chosen.source);
    html! {
        section.card.flush data-part="pairs" aria-labelledby="live-quotes" {
            div.table-head {
                h2 #live-quotes { "Live quotes" }
                p.soft { (format::number_of(quotes.len() as i64, "pair", "pairs")) "; highest, lowest and widest since the session began" }
            }
            div.scroll {
                table.pairs {
                    thead { tr {
                        th scope="col" { "Pair" }
                        @if has_sources { th scope="col" { "Source" } }
                        @for name in ["Bid", "Ask", "Mid", "Spread", "Highest bid", "Lowest ask", "Widest spread"] {
                            th.num scope="col" { (name) }
                        }
                        th scope="col" { "Session" }
                        th scope="col" { "Quoted" }
                    } }
                    tbody {
                        @for quote in quotes {
                            @let is_chosen = quote.source == chosen.source && quote.pair == chosen.pair;
                            @let plain = |value| plain(value, quote.places());
                            @let pair = Some((quote.source.clone(), quote.pair.clone()));
                            tr data-key=(format!("{}:{}", quote.source, quote.pair)) .chosen[is_chosen] {
                                th scope="row" {
                                    a href=(Wanted { pair, ..wanted.clone() }.address()) data-swap
                                        aria-current=[is_chosen.then_some("true")] { (quote.pair) }
                                }
                                @if has_sources { td.soft { (quote.source) } }
                                td.num.bid data-flash=(quote.bid) { (plain(quote.bid)) }
                                td.num.ask data-flash=(quote.ask) { (plain(quote.ask)) }
                                td.num data-flash=(quote.mid) { (mid(quote)) }
                                td.num { (plain(quote.spread)) }
                                td.num { (plain(quote.highest_bid)) }
                                td.num { (plain(quote.lowest_ask)) }
                                td.num { (plain(quote.max_spread)) }
                                td.soft { (quote.session) }
                                td { (layout::age(quote.observed_at, now, Some(stale_s))) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A quote is shown with all its digits: they are what a spread is made of.
fn plain(value: f64, places: usize) -> String {
    let is_long = decimals(value) > MOST_PLACES || value.abs() >= 1e15;
    if is_long { format::price(value) } else { format::grouped(value, places) }
}

/// More places are those of a binary fraction.
const MOST_PLACES: usize = 12;

fn decimals(value: f64) -> usize {
    format!("{value}").split_once('.').map_or(0, |(_, places)| places.len())
}

/// The places that all of them can be told with.
fn places(values: impl Iterator<Item = f64>) -> usize {
    values.map(decimals).filter(|places| *places <= MOST_PLACES).max().unwrap_or_default()
}

/// Half way between two prices takes a digit more than they have.
fn mid(quote: &Quote) -> String {
    plain(quote.mid, quote.places() + 1)
}

impl Quote {
    fn places(&self) -> usize {
        places([self.bid, self.ask, self.spread, self.highest_bid, self.lowest_ask, self.max_spread].into_iter())
    }
}

/// What is shown of the chosen pair.
struct Detail {
    span: Span,
    points: Vec<QuotePoint>,
    outages: Vec<(Span, String)>,
    windows: Vec<Window>,
}

impl Detail {
    fn read(conn: &mut Connection, chosen: &Quote, wanted: &Wanted) -> Result<Detail, ApiError> {
        let (source, pair) = (chosen.source.as_str(), chosen.pair.as_str());
        let to = chosen.observed_at.plus(1);
        let range = Range { from: to.plus(-wanted.period.1 * 60_000), to };
        let outages = series::outages(conn, source, pair, range)?;
        Ok(Detail {
            span: range.into(),
            points: series::quotes(conn, source, pair, range, POINTS)?,
            outages: outages.into_iter().map(|(range, reason)| (range.into(), reason)).collect(),
            windows: pairs::windows(conn, source, pair, wanted.timeframe, MOST_WINDOWS)?,
        })
    }

    fn markup(&self, chosen: &Quote, wanted: &Wanted, now: Stamp) -> Markup {
        let of = |window: &Window| [window.open_mid, window.high_mid, window.low_mid, window.close_mid];
        let mids = places(self.windows.iter().flat_map(of));
        let edges = places(self.windows.iter().flat_map(|window| [window.highest_bid, window.lowest_ask]));
        let spreads = places(self.windows.iter().map(|window| window.max_spread));
        html! {
            section.card data-part="quotes" aria-labelledby="quotes" {
                div.chart-head {
                    h2 #quotes { (chosen.pair) }
                    nav.tabs aria-label="Period" {
                        @for period in PERIODS {
                            a href=(Wanted { period, ..wanted.clone() }.address()) data-swap
                                aria-current=[(period == wanted.period).then_some("true")] { (period.0) }
                        }
                    }
                }
                figure.chart data-chart {
                    div.only-wide { (layout::chart(self.draw(chosen, WIDE))) }
                    div.only-narrow { (layout::chart(self.draw(chosen, NARROW))) }
                }
                @if !self.outages.is_empty() {
                    details {
                        summary { (format::number_of(self.outages.len() as i64, "time", "times"))
                            " without quotes (shaded)" }
                        ul.plain {
                            @for (span, reason) in self.outages.iter().rev().take(20) {
                                li { (format::minute(Stamp::FIRST.plus(span.from))) ", "
                                    (format::duration(span.to - span.from)) ": " (reason) }
                            }
                        }
                    }
                }
            }
            section.card.flush data-part="windows" aria-labelledby="windows" {
                div.table-head {
                    h2 #windows { "Windows of " (chosen.pair) }
                    nav.tabs aria-label="Length of the windows" {
                        @for timeframe in TIMEFRAMES {
                            a href=(Wanted { timeframe, ..wanted.clone() }.address()) data-swap
                                aria-current=[(timeframe == wanted.timeframe).then_some("true")] { (timeframe) }
                        }
                    }
                }
                @if self.windows.is_empty() {
                    p.empty { "No window of this length is stored." }
                } @else {
                    div.scroll { table.windows {
                        thead { tr {
                            th scope="col" { "From" }
                            @for name in ["Quotes", "Open", "High", "Low", "Close", "Highest bid", "Lowest ask",
                                          "Mean spread", "Widest"] { th.num scope="col" { (name) } }
                        } }
                        tbody {
                            @for window in &self.windows {
                                tr data-key=(window.start.millis()) {
                                    th scope="row" { time datetime=(window.start.rfc3339()) { (format::minute(window.start)) }
                                        @if wanted.timeframe.end(window.start) > now { " " span.badge { "open" } } }
                                    td.num { (format::count(window.quotes)) }
                                    @for value in of(window) { td.num { (plain(value, mids)) } }
                                    @for value in [window.highest_bid, window.lowest_ask] { td.num { (plain(value, edges)) } }
                                    td.num { (format::price(window.mean_spread)) }
                                    td.num { (plain(window.max_spread, spreads)) }
                                }
                            }
                        }
                    } }
                }
            }
        }
    }

    fn draw(&self, chosen: &Quote, (width, height): (u32, u32)) -> String {
        let title = format!("Bid, ask and mid of {}, and the spread", chosen.pair);
        plot::quotes(&QuoteChart {
            frame: Frame { title, subtitle: String::new(), width, height, zone: plot::Tz::UTC, look: Look::Page },
            pair: chosen.pair.clone(),
            points: self.points.clone(),
            usual_ms: None,
            outages: self.outages.clone(),
            span: Some(self.span),
        })
    }
}
