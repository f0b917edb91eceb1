//! `/pipeline`: how the runs do, and what to do about those that don't.

use axum::extract;
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};

use super::error::PageError;
use super::format;
use super::layout::{self, Shell};
use crate::api::reply::{self, Draft};
use crate::api::{ApiError, State};
use crate::db::dashboard::market::Market;
use crate::db::dashboard::pairs;
use crate::db::dashboard::pipeline::{self, Run};
use crate::db::dead_letters::{self, Kept};
use crate::db::gaps::Found;
use crate::db::health::{self, LastRun};
use crate::db::{Connection, accounts, clock};
use crate::domain::budget::{month_before, month_of};
use crate::domain::{Budget, Cost, Range, Span, Stamp, State as Known};

const RUNS: i64 = 25;
const LETTERS: i64 = 10;
/// Characters of a record that are shown.
const SHOWN: u32 = 200;
/// Gaps are looked for among so many of the largest coins of each source, so many days back.
const COINS: usize = 50;
const DAYS: i64 = 30;
const GAPS: usize = 30;

pub async fn page(extract::State(state): extract::State<State>, request: HeaderMap) -> Result<Response, PageError> {
    let inner = state.clone();
    let answer = state.answer_at("page:/pipeline".to_owned(), move |conn, version| {
        let market = inner.market(conn, version)?;
        draft(&inner, conn, &market)
    });
    Ok(answer.await?.response(&request).await)
}

fn draft(state: &State, conn: &mut Connection, market: &Market) -> Result<Draft, ApiError> {
    let now = clock::now(conn)?;
    let stale_s = state.options().stale_after.as_secs();
    let runs = pipeline::runs(conn, RUNS)?;
    let last = health::last_runs(conn)?;
    let freshness = freshness(conn, market)?;
    let spent = spent(state, conn, now)?;
    let letters = dead_letters::newest(conn, LETTERS, Some(SHOWN))?;
    let letter_count = dead_letters::count(conn)?;
    let gaps = pipeline::gaps(conn, &largest(market), Range { from: now.plus(-DAYS * 86_400_000), to: now }, now)?;
    let newest = runs.first().map(|run| run.finished_at.unwrap_or(run.started_at));
    let sources: Vec<String> = market.sources.iter().map(ToString::to_string).collect();
    let body = html! {
        h1 { "Pipeline" }
        (summary(&last, &freshness, now, stale_s, letter_count))
        div.columns {
            (freshness_card(&freshness, now, stale_s))
            (month_card(&spent))
        }
        (last_card(&last))
        (gaps_card(&gaps))
        (letters_card(&letters, letter_count))
        (runs_card(&runs, now))
    };
    let shell = Shell { title: "Pipeline", here: "/pipeline", sources: &sources, retry_s: None };
    Ok(Draft::text(reply::HTML, layout::page(&shell, body).into_string(), newest))
}

/// What was used of a source's month, and what the month allows.
struct Spent {
    source: String,
    budget: Budget,
    cost: Cost,
}

fn spent(state: &State, conn: &mut Connection, now: Stamp) -> Result<Vec<Spent>, ApiError> {
    let mut found = Vec::new();
    // A plan's month may have begun in the calendar's last one.
    for source in pipeline::sources_since(conn, month_before(month_of(now).0))? {
        // What is about all sources calls nobody.
        let Some(budget) = state.options().budgets.of(conn, &source)? else { continue };
        let cost = accounts::cost_since(conn, &source, month_before(budget.resets_at))?;
        found.push(Spent { source, budget, cost });
    }
    Ok(found)
}

/// The newest of what each source told.
struct Fresh {
    source: String,
    what: &'static str,
    newest: Option<Stamp>,
}

fn freshness(conn: &mut Connection, market: &Market) -> Result<Vec<Fresh>, ApiError> {
    let mut found: Vec<Fresh> = market
        .sources
        .iter()
        .map(|source| {
            let prices = market.of(source).flat_map(|coin| market.prices(coin)).filter(|latest| !latest.is_close);
            let newest = prices.map(|latest| latest.observed_at).max();
            Fresh { source: source.to_string(), what: "prices", newest }
        })
        .collect();
    for quote in pairs::newest(conn, 500)? {
        match found.iter_mut().find(|fresh| fresh.what == "quotes" && fresh.source == quote.source) {
            Some(fresh) => fresh.newest = fresh.newest.max(Some(quote.observed_at)),
            None => found.push(Fresh { source: quote.source, what: "quotes", newest: Some(quote.observed_at) }),
        }
    }
    Ok(found)
}

/// Our ids of the best ranked coins of each source.
fn largest(market: &Market) -> Vec<i64> {
    let mut ids = Vec::new();
    for source in &market.sources {
        let best = |coin: &crate::db::dashboard::market::Coin| {
            market.prices(coin).iter().filter_map(|latest| latest.rank).min().unwrap_or(i64::MAX)
        };
        let mut coins: Vec<(i64, i64)> =
            market.of(source).filter(|coin| coin.active).map(|coin| (best(coin), coin.asset_id)).collect();
        coins.sort_unstable();
        ids.extend(coins.into_iter().take(COINS).map(|(_, id)| id));
    }
    ids
}

fn is_stale(fresh: &Fresh, now: Stamp, stale_s: u64) -> bool {
    let age = fresh.newest.map(|newest| (now.millis() - newest.millis()) / 1000);
    age.is_none_or(|age| age > i64::try_from(stale_s).unwrap_or(i64::MAX))
}

fn summary(last: &[LastRun], freshness: &[Fresh], now: Stamp, stale_s: u64, letters: i64) -> Markup {
    let failed = last.iter().filter(|run| mark(run) == Mark::Bad).count();
    let stale = freshness.iter().filter(|fresh| is_stale(fresh, now, stale_s)).count();
    html! {
        div.card.summary data-part="summary" {
            @if last.is_empty() {
                p { (dot(Mark::Some)) " Nothing ran yet. " code { "coinetl db-setup" } ", then "
                    code { "coinetl assets upsert" } " and " code { "coinetl prices insert" } "." }
            } @else if failed == 0 && stale == 0 && letters == 0 {
                p { (dot(Mark::Good)) " All is well: the last run of every command ended well, and the data is fresh." }
            } @else {
                @if failed > 0 {
                    p { (dot(Mark::Bad)) " The last run of " (failed) (if failed == 1 { " command" } else { " commands" })
                        " failed or died. The reason stands below; " code { "coinetl doctor" } " tries everything." }
                }
                @if stale > 0 {
                    p { (dot(Mark::Some)) " Data of " (stale) (if stale == 1 { " source is" } else { " sources are" })
                        " older than " (format::duration(i64::try_from(stale_s).unwrap_or(i64::MAX).saturating_mul(1000)))
                        ". Is the crontab line there, and does it run?" }
                }
                @if letters > 0 {
                    p { (dot(Mark::Some)) " " (format::number_of(letters, "record", "records"))
                        " could not be used, and kept with the reason." }
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Good,
    Some,
    Bad,
    Running,
}

fn dot(mark: Mark) -> Markup {
    let (class, sign, word) = match mark {
        Mark::Good => ("mark good", "✓", "well"),
        Mark::Some => ("mark some", "!", "look at this"),
        Mark::Bad => ("mark bad", "✗", "failed"),
        Mark::Running => ("mark going", "…", "running"),
    };
    html! { span class=(class) role="img" aria-label=(word) { (sign) } }
}

fn mark(run: &LastRun) -> Mark {
    match run.status.as_str() {
        "ok" => Mark::Good,
        "partial" => Mark::Some,
        "running" if run.alive => Mark::Running,
        _ => Mark::Bad,
    }
}

fn freshness_card(freshness: &[Fresh], now: Stamp, stale_s: u64) -> Markup {
    html! {
        section.card data-part="freshness" aria-labelledby="freshness" {
            h2 #freshness { "How fresh the data is" }
            @if freshness.is_empty() { p.empty { "Nothing is stored yet." } }
            ul.rows {
                @for fresh in freshness {
                    li {
                        @let is_stale = is_stale(fresh, now, stale_s);
                        span { (dot(if is_stale { Mark::Some } else { Mark::Good })) " " (fresh.source) " "
                            span.soft { (fresh.what) } }
                        span { @match fresh.newest {
                            Some(newest) => (layout::age(newest, now, Some(stale_s))),
                            None => span.soft { "none stored: " code { "coinetl prices insert" } },
                        } }
                    }
                }
            }
        }
    }
}

fn month_card(spent: &[Spent]) -> Markup {
    html! {
        section.card data-part="month" aria-labelledby="month" {
            h2 #month { "Used this month" }
            @if spent.is_empty() { p.empty { "No call was made this month." } }
            ul.rows {
                @for Spent { source, budget, cost } in spent {
                    li {
                        span { (source) }
                        span.num { (format::number_of(budget.used, "credit", "credits"))
                            @if let Some(limit) = budget.limit.filter(|limit| *limit > 0) {
                                " of " (format::count(limit))
                                " " span.soft { "(" (format::share(budget.used as f64 / limit as f64)) ")" }
                            }
                            span.soft { ", " (format::number_of(cost.calls, "call", "calls")) }
                        }
                        @if let Some(words) = budget_words(budget) { p.why { (words) } }
                    }
                }
            }
            p.note { code { "coinetl plan" } " tells what the crontab is going to cost, before it is spent." }
        }
    }
}

fn budget_words(budget: &Budget) -> Option<Markup> {
    let (limit, left) = budget.limit.filter(|limit| *limit > 0).zip(budget.left())?;
    let until = format::minute(budget.resets_at);
    match left {
        0 => Some(html! { (dot(Mark::Bad)) " All is spent: runs that cost something stop until " (until)
        ". A larger plan, or fewer runs in the crontab, helps." }),
        left if left * 10 < limit => Some(html! { (dot(Mark::Some)) " Little is left until " (until)
        ": " code { "coinetl plan" } " names a schedule that fits." }),
        _ => Some(html! { "Counted anew from " (until) "." }),
    }
}

fn last_card(last: &[LastRun]) -> Markup {
    html! {
        @if !last.is_empty() {
            section.card data-part="last" aria-labelledby="last" {
                h2 #last { "The last run of each command" }
                ul.rows {
                    @for run in last {
                        li.run {
                            span { (dot(mark(run))) " " code { (run.command) } " " span.soft { (run.source) } }
                            span.soft { (format::age(run.age)) }
                            @if let Some(words) = words(run) { p.why { (words) } }
                        }
                    }
                }
            }
        }
    }
}

/// What a run that did not end well means, and what to do.
fn words(run: &LastRun) -> Option<Markup> {
    let error = run.error.as_deref().unwrap_or_default();
    match mark(run) {
        Mark::Good => None,
        Mark::Running => Some(html! { "It is at work." }),
        Mark::Some => Some(html! { "Part is stored, part not" @if !error.is_empty() { ": " (error) }
        ". The next run heals what can be healed." }),
        Mark::Bad if run.status == "running" => Some(html! {
        "It died without a word. Nothing is lost: the next run goes on where it was. Run "
        code { "coinetl " (run.command) } " again." }),
        Mark::Bad => Some(html! { (if error.is_empty() { "It failed" } else { error }) ". "
        code { "coinetl doctor" } " tells what is wrong; the next run goes on where this one was." }),
    }
}

fn gaps_card(found: &[Found]) -> Markup {
    let candles = |state: Known| -> i64 {
        let of = |found: &Found| -> i64 {
            let holes = found.holes.iter().filter(|span| span.state == state);
            holes.map(|span| span.range.candles(found.timeframe)).sum()
        };
        found.iter().map(of).sum()
    };
    let holes: Vec<(&Found, &Span)> = found
        .iter()
        .flat_map(|found| found.holes.iter().map(move |span| (found, span)))
        .filter(|(_, span)| span.state == Known::Missing)
        .collect();
    let (missing, unreachable) = (candles(Known::Missing), candles(Known::Unreachable));
    html! {
        section.card.flush data-part="gaps" aria-labelledby="gaps" {
            div.table-head {
                h2 #gaps { "Gaps" }
                p.soft { "the " (COINS) " largest coins of each source, the last " (DAYS) " days" }
            }
            @if found.is_empty() {
                p.empty { "No history was asked for yet, so none is missing. "
                    code { "coinetl candles backfill" } " asks for it." }
            } @else if holes.is_empty() {
                p.empty { (dot(Mark::Good)) " Nothing is missing of what was asked for."
                    @if unreachable > 0 { " " (format::count(unreachable)) " candles are out of the plan's reach." } }
            } @else {
                p.empty { (dot(Mark::Some)) " " (format::count(missing)) " candles are missing. "
                    code { "coinetl gaps --repair" } " asks for what can be had; "
                    code { "coinetl candles rollup" } " folds what is stored." }
                div.scroll { table {
                    thead { tr { @for name in ["Coin", "Source", "Length", "From", "To", "Why"] { th scope="col" { (name) } } } }
                    tbody {
                        @for (found, span) in holes.iter().take(GAPS) {
                            tr {
                                th scope="row" { a href=(super::address::coin(&found.source, &found.source_id)) { (found.source_id) } }
                                td.soft { (found.source) }
                                td { (found.timeframe) " " (found.vs_currency) }
                                td { (format::minute(span.range.from)) }
                                td { (format::minute(span.range.to)) }
                                td.text { (span.reason.as_deref().unwrap_or_default()) }
                            }
                        }
                    }
                } }
                @if holes.len() > GAPS {
                    p.note { "And " (holes.len() - GAPS) " more: " code { "coinetl gaps" } " lists them all." }
                }
            }
        }
    }
}

fn letters_card(letters: &[Kept], count: i64) -> Markup {
    html! {
        section.card.flush data-part="letters" aria-labelledby="letters" {
            div.table-head { h2 #letters { "Records that could not be used" } p.soft { (format::count(count)) } }
            @if letters.is_empty() {
                p.empty { (dot(Mark::Good)) " None: every record and message was usable." }
            } @else {
                p.empty { "They are kept as they came. " code { "coinetl dead-letters replay" }
                    " tries the messages of streams again; a source's records come again with its next answer." }
                div.scroll { table {
                    thead { tr { @for name in ["Received", "Source", "Where", "Why", "What"] { th scope="col" { (name) } } } }
                    tbody {
                        @for letter in letters {
                            tr {
                                td { (letter.received_at.format("%Y-%m-%d %H:%M")) }
                                td.soft { (letter.source) }
                                td { (letter.topic)
                                    @if let (Some(partition), Some(offset)) = (letter.partition_id, letter.offset_id) {
                                        " " (partition) ":" (offset) } }
                                td.text { (letter.error) }
                                td.text { code { (letter.payload) } }
                            }
                        }
                    }
                } }
            }
        }
    }
}

fn runs_card(runs: &[Run], now: Stamp) -> Markup {
    html! {
        section.card.flush data-part="runs" aria-labelledby="runs" {
            div.table-head { h2 #runs { "Newest runs" } p.soft { (format::count(runs.len() as i64)) } }
            @if !runs.is_empty() {
                div.scroll { table.runs {
                    thead { tr {
                        th.num scope="col" { "Run" }
                        th scope="col" { "Command" }
                        th scope="col" { "Source" }
                        th scope="col" { "Began" }
                        th scope="col" { "Ended" }
                        @for name in ["Took", "Calls", "Credits", "Written", "Rejected", "Absent"] {
                            th.num scope="col" { (name) }
                        }
                        th scope="col" { "Error" }
                    } }
                    tbody {
                        @for run in runs {
                            @let took = run.finished_at.map(|at| at.millis() - run.started_at.millis());
                            tr data-key=(run.id) {
                                td.num { (run.id) }
                                th scope="row" { (run.command) }
                                td.soft { (run.source) }
                                td { (layout::age(run.started_at, now, None)) }
                                td { span class=(format!("status {}", status_class(&run.status))) { (run.status) } }
                                td.num { (took.map_or(format::UNKNOWN.to_owned(), format::duration)) }
                                @for value in [run.calls, run.credits, run.rows_written, run.rows_rejected, run.rows_absent] {
                                    td.num { (format::count(value)) }
                                }
                                td.text { (run.error.as_deref().unwrap_or_default()) }
                            }
                        }
                    }
                } }
            }
        }
    }
}

fn status_class(status: &str) -> &'static str {
    match status {
        "ok" => "good",
        "partial" => "some",
        "running" => "going",
        _ => "bad",
    }
}
