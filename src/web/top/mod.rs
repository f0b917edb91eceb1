//! `/`: the coins.

mod list;
mod overview;
mod table;
mod wanted;

use axum::extract;
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};

use self::list::{PAGE, Row, by_size, list, sparks};
use self::overview::Overview;
use self::table::Table;
use self::wanted::{LONGEST_SEARCH, Query, Wanted};
use super::choice::{Asked, Choice, Shown, currency_field, source_field};
use super::error::PageError;
use super::layout::{self, Shell};
use crate::api::reply::{self, Draft};
use crate::api::{ApiError, State};
use crate::db::dashboard::market::Market;
use crate::db::{Connection, clock};

pub async fn page(
    extract::State(state): extract::State<State>,
    Asked(query): Asked<Query>,
    request: HeaderMap,
) -> Result<Response, PageError> {
    let wanted = Wanted::of(query);
    let key = format!("page:{}{}", if wanted.is_part { "part:" } else { "" }, wanted.address());
    let inner = state.clone();
    let answer = state.answer_at(key, move |conn, version| {
        let market = inner.market(conn, version)?;
        draft(&inner, conn, &market, &wanted)
    });
    Ok(answer.await?.response(&request).await)
}

fn draft(state: &State, conn: &mut Connection, market: &Market, wanted: &Wanted) -> Result<Draft, ApiError> {
    let now = clock::now(conn)?;
    if market.coins.is_empty() {
        return Ok(Draft::text(reply::HTML, nothing_yet().into_string(), None));
    }
    let choice = Choice::make(state, conn, market, wanted.source.as_deref(), wanted.currency.as_deref())?;
    let stored = market.currencies(&choice.source);
    let prices = || market.of(&choice.source).flat_map(|coin| market.prices(coin));
    let times = || prices().map(|latest| latest.observed_at);
    let (first, last) = (times().min().unwrap_or(now), times().max());
    // The candle of a coin without prices does not make the prices of others newer.
    let observed = prices().filter(|latest| !latest.is_close).map(|latest| latest.observed_at);
    let newest = observed.max().or(last);
    let rates = choice.rates(conn, &stored, first, last.unwrap_or(now))?;
    let mut rows: Vec<Row<'_>> = market
        .of(&choice.source)
        .map(|coin| Row { coin, shown: Shown::of(market.prices(coin), &choice.currency, &rates) })
        .collect();
    rows.sort_by(by_size);
    let overview = (!wanted.is_part).then(|| Overview::of(&rows));

    let listed = list(rows, wanted);
    let all = listed.len();
    let pages = all.div_ceil(PAGE).max(1);
    let page = wanted.page.min(pages);
    let rows = &listed[((page - 1) * PAGE).min(all)..(page * PAGE).min(all)];
    let sparks = sparks(conn, rows, now)?;
    let table = Table { choice: &choice, wanted, rows, all, page, pages, newest, sparks: &sparks, now };
    let part = table.markup();
    let body = match overview {
        None => part,
        Some(overview) => {
            let stale_s = state.options().stale_after.as_secs();
            let body = html! {
                h1.sr { "Coins" }
                (overview.figures(&choice, newest, now, stale_s))
                div.overview data-part="overview" { (overview.cards(&choice)) }
                (controls(&choice, wanted))
                (part)
            };
            let source = [choice.source.clone()];
            let title = match wanted.search.as_str() {
                "" => "Coins".to_owned(),
                search => format!("{search}: coins"),
            };
            layout::page(&Shell { title: &title, here: "/", sources: &source, retry_s: None }, body)
        }
    };
    Ok(Draft::text(reply::HTML, body.into_string(), newest))
}

fn controls(choice: &Choice, wanted: &Wanted) -> Markup {
    html! {
        form.controls action="/" method="get" role="search" data-live-search="coins" {
            @if let Some(column) = wanted.sort { input type="hidden" name="sort" value=(column.word()); }
            @if let Some(rising) = wanted.rising {
                input type="hidden" name="dir" value=(if rising { "asc" } else { "desc" });
            }
            label.field.grow { span { "Search all coins" }
                input #q type="search" name="q" value=(wanted.search) placeholder="Name, symbol or id"
                    autocomplete="off" spellcheck="false" maxlength=(LONGEST_SEARCH);
            }
            (currency_field(choice))
            (source_field(choice))
            button.button.no-script type="submit" { "Show" }
        }
    }
}

/// The currency for links to other pages: dollars go without saying.
fn shown_currency(choice: &Choice) -> Option<&str> {
    Some(choice.currency.as_str()).filter(|currency| *currency != crate::domain::rate::USD)
}

fn nothing_yet() -> Markup {
    let body = html! {
        h1.sr { "Coins" }
        div data-part="empty" {
            (layout::nothing(
                "Nothing is stored yet",
                html! { "The database is there and empty. These fill it, and this page shows what comes as it comes. "
                        "With " code { "--sandbox" } " it is made-up data, to try it without an account or a network." },
                &["coinetl assets upsert", "coinetl prices insert --top 1000"],
            ))
        }
    };
    layout::page(&Shell { title: "Coins", here: "/", ..Shell::default() }, body)
}
