//! `/`: the coins.

use axum::extract;
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::address::{self, Address};
use super::choice::{Asked, Choice, Shown, changes_words, conversion_words, currency_field, source_field};
use super::error::PageError;
use super::format;
use super::layout::{self, Shell};
use crate::api::reply::{self, Draft};
use crate::api::{ApiError, State};
use crate::db::coins::folded;
use crate::db::dashboard::market::{Coin, Market};
use crate::db::{Connection, clock, series};
use crate::domain::Stamp;
use crate::plot::{self, Frame, Look, PieChart, Slice};

/// Rows of a page.
const PAGE: usize = 100;
/// More is no name of a coin.
const LONGEST_SEARCH: usize = 100;
/// Coins whose price is so much older than the newest one are marked, in milliseconds.
const OLD_MS: i64 = 24 * 3_600_000;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Query {
    source: Option<String>,
    currency: Option<String>,
    sort: Option<String>,
    dir: Option<String>,
    q: Option<String>,
    page: Option<String>,
    /// `coins` = the table alone.
    part: Option<String>,
}

/// What a column sorts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Rank,
    Name,
    Symbol,
    Price,
    Hour,
    Day,
    Week,
    Month,
    Volume,
    Cap,
}

impl Column {
    const ALL: [Column; 10] = [
        Column::Rank,
        Column::Name,
        Column::Symbol,
        Column::Price,
        Column::Hour,
        Column::Day,
        Column::Week,
        Column::Month,
        Column::Volume,
        Column::Cap,
    ];

    fn word(self) -> &'static str {
        match self {
            Column::Rank => "rank",
            Column::Name => "name",
            Column::Symbol => "symbol",
            Column::Price => "price",
            Column::Hour => "1h",
            Column::Day => "24h",
            Column::Week => "7d",
            Column::Month => "30d",
            Column::Volume => "volume",
            Column::Cap => "cap",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Column::Rank => "#",
            Column::Name => "Coin",
            Column::Symbol => "Symbol",
            Column::Price => "Price",
            Column::Hour => "1h",
            Column::Day => "24h",
            Column::Week => "7d",
            Column::Month => "30d",
            Column::Volume => "Volume 24h",
            Column::Cap => "Market cap",
        }
    }

    /// The class of its cells, which tells what a narrow screen leaves out.
    fn class(self) -> &'static str {
        match self {
            Column::Rank => "rank",
            Column::Name | Column::Symbol => "coin",
            Column::Price => "num price",
            Column::Hour => "num c1h",
            Column::Day => "num c24h",
            Column::Week => "num c7d",
            Column::Month => "num c30d",
            Column::Volume => "num vol",
            Column::Cap => "num cap",
        }
    }

    /// Small ranks and early letters first, large amounts first.
    fn is_rising(self) -> bool {
        matches!(self, Column::Rank | Column::Name | Column::Symbol)
    }
}

/// What is asked for, in one spelling.
#[derive(Debug, Clone)]
struct Wanted {
    source: Option<String>,
    currency: Option<String>,
    sort: Option<Column>,
    rising: Option<bool>,
    search: String,
    /// From 1.
    page: usize,
    is_part: bool,
}

impl Wanted {
    fn of(query: Query) -> Wanted {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let sort = given(query.sort).and_then(|word| Column::ALL.into_iter().find(|column| column.word() == word));
        let rising = match query.dir.as_deref() {
            Some("asc") => Some(true),
            Some("desc") => Some(false),
            _ => None,
        };
        let mut search = query.q.unwrap_or_default().trim().to_owned();
        search.truncate(search.floor_char_boundary(LONGEST_SEARCH));
        Wanted {
            source: given(query.source),
            currency: given(query.currency).map(|currency| currency.to_lowercase()),
            sort,
            rising: rising.filter(|_| sort.is_some()),
            search,
            page: query.page.and_then(|page| page.parse().ok()).unwrap_or(1).max(1),
            is_part: query.part.as_deref() == Some("coins"),
        }
    }

    fn address(&self) -> Address {
        Address::new("/")
            .maybe("source", self.source.as_deref())
            .maybe("currency", self.currency.as_deref())
            .maybe("sort", self.sort.map(Column::word))
            .maybe("dir", self.rising.map(|rising| if rising { "asc" } else { "desc" }))
            .maybe("q", Some(self.search.as_str()).filter(|search| !search.is_empty()))
            .maybe("page", Some(self.page).filter(|page| *page > 1))
    }
}

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

/// A coin, and what is shown of it.
struct Row<'a> {
    coin: &'a Coin,
    shown: Option<Shown<'a>>,
}

impl Row<'_> {
    fn latest<T>(&self, get: impl Fn(&Shown<'_>) -> Option<T>) -> Option<T> {
        self.shown.as_ref().and_then(get)
    }

    fn number(&self, column: Column) -> Option<f64> {
        self.latest(|shown| match column {
            Column::Price => shown.price(),
            Column::Hour => shown.latest.change_1h,
            Column::Day => shown.latest.change_24h,
            Column::Week => shown.latest.change_7d,
            Column::Month => shown.latest.change_30d,
            Column::Volume => shown.volume(),
            Column::Cap => shown.cap(),
            Column::Rank => shown.latest.rank.map(|rank| rank as f64),
            Column::Name | Column::Symbol => None,
        })
    }

    fn rank(&self) -> Option<i64> {
        self.latest(|shown| shown.latest.rank)
    }
}

/// The largest first: by rank, and those without one by market cap, then by volume.
fn by_size(a: &Row<'_>, b: &Row<'_>) -> std::cmp::Ordering {
    let place = |row: &Row<'_>| row.rank().unwrap_or(i64::MAX);
    let falling = |column: Column| {
        let value = |row: &Row<'_>| row.number(column).unwrap_or(-1.0);
        value(b).total_cmp(&value(a))
    };
    place(a).cmp(&place(b)).then_with(|| falling(Column::Cap)).then_with(|| falling(Column::Volume))
}

fn sort(rows: &mut [Row<'_>], column: Column, rising: bool) {
    match column {
        Column::Rank => rows.sort_by(by_size),
        Column::Name => rows.sort_by_cached_key(|row| (row.coin.name.to_lowercase(), row.coin.asset_id)),
        Column::Symbol => rows.sort_by_cached_key(|row| (row.coin.symbol.clone(), row.coin.asset_id)),
        column => {
            let signed = |row: &Row<'_>| row.number(column).map(|value| if rising { value } else { -value });
            // What is not known comes last either way.
            rows.sort_by(|a, b| match (signed(a), signed(b)) {
                (Some(a), Some(b)) => a.total_cmp(&b),
                (a, b) => b.is_some().cmp(&a.is_some()),
            });
            return;
        }
    }
    if !rising {
        rows.reverse();
    }
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

/// What is listed, in order.
fn list<'a>(rows: Vec<Row<'a>>, wanted: &Wanted) -> Vec<Row<'a>> {
    let mut rows = rows;
    match wanted.search.as_str() {
        // Whoever looks for a coin by name wants to find it, whatever is known of it.
        "" => rows.retain(|row| row.coin.active && row.shown.is_some()),
        search => {
            let search = folded(search);
            let mut found: Vec<(u8, Row<'a>)> =
                rows.into_iter().filter_map(|row| Some((row.coin.fits(&search)?, row))).collect();
            found.sort_by_key(|(fit, _)| *fit);
            rows = found.into_iter().map(|(_, row)| row).collect();
        }
    }
    if let Some(column) = wanted.sort {
        sort(&mut rows, column, wanted.rising.unwrap_or(column.is_rising()));
    }
    rows
}

type Sparks = std::collections::HashMap<i64, Vec<f64>>;

fn sparks(conn: &mut Connection, rows: &[Row<'_>], now: Stamp) -> Result<Sparks, ApiError> {
    let mut sparks = Sparks::new();
    let mut by_currency: Vec<(&str, Vec<i64>)> = Vec::new();
    for row in rows {
        let Some(shown) = &row.shown else { continue };
        let currency = &*shown.latest.vs_currency;
        match by_currency.iter_mut().find(|(held, _)| *held == currency) {
            Some((_, ids)) => ids.push(row.coin.asset_id),
            None => by_currency.push((currency, vec![row.coin.asset_id])),
        }
    }
    for (currency, ids) in by_currency {
        sparks.extend(series::sparks(conn, &ids, currency, now)?);
    }
    Ok(sparks)
}

/// The whole market in a few figures.
struct Overview {
    coins: usize,
    /// Of ranked coins: caps that are told of others are their makers' word.
    cap: f64,
    volume: f64,
    bitcoin: Option<f64>,
    by_cap: Vec<Entry>,
    by_volume: Vec<Entry>,
}

struct Entry {
    name: String,
    symbol: String,
    source: String,
    id: String,
    value: f64,
    change: Option<f64>,
}

impl Overview {
    fn of(rows: &[Row<'_>]) -> Overview {
        let active: Vec<&Row<'_>> = rows.iter().filter(|row| row.coin.active && row.shown.is_some()).collect();
        let is_ranked = active.iter().any(|row| row.rank().is_some());
        let counted = || active.iter().filter(|row| !is_ranked || row.rank().is_some());
        let sum = |column: Column| counted().filter_map(|row| row.number(column)).sum::<f64>();
        let largest = |column: Column| {
            let mut found: Vec<(f64, &&Row<'_>)> =
                counted().filter_map(|row| Some((row.number(column).filter(|value| *value > 0.0)?, row))).collect();
            found.sort_by(|a, b| b.0.total_cmp(&a.0));
            found.truncate(10);
            let entry = |(value, row): (f64, &&Row<'_>)| Entry {
                name: row.coin.name.to_string(),
                symbol: row.coin.symbol.to_string(),
                source: row.coin.source.to_string(),
                id: row.coin.source_id.to_string(),
                value,
                change: row.number(Column::Day),
            };
            found.into_iter().map(entry).collect::<Vec<_>>()
        };
        // The best ranked of that symbol: rows come in this order.
        let bitcoin = active.iter().find(|row| &*row.coin.symbol == "BTC").and_then(|row| row.number(Column::Cap));
        Overview {
            coins: active.len(),
            cap: sum(Column::Cap),
            volume: sum(Column::Volume),
            bitcoin,
            by_cap: largest(Column::Cap),
            by_volume: largest(Column::Volume),
        }
    }

    fn figures(&self, choice: &Choice, newest: Option<Stamp>, now: Stamp, stale_s: u64) -> Markup {
        let large = |value: f64| match value > 0.0 && value.is_finite() {
            true => format::money(&format::large(value), &choice.currency),
            false => format::UNKNOWN.to_owned(),
        };
        let dominance = self.bitcoin.filter(|_| self.cap > 0.0).map(|cap| cap / self.cap);
        html! {
            dl.figures data-part="figures" {
                div { dt { "Coins" } dd { (format::count(self.coins as i64)) } }
                div { dt { "Market cap" } dd { (large(self.cap)) } }
                div { dt { "Volume 24h" } dd { (large(self.volume)) } }
                div { dt { "BTC dominance" } dd { (dominance.map_or(format::UNKNOWN.to_owned(), format::share)) } }
                div { dt { "Newest price" }
                    dd { @match newest {
                        Some(newest) => (layout::age(newest, now, Some(stale_s))),
                        None => (format::UNKNOWN),
                    } }
                }
                div.wide-only { dt { "Source" } dd.small { (choice.source) } }
            }
        }
    }

    fn cards(&self, choice: &Choice) -> Markup {
        if self.by_cap.is_empty() && self.by_volume.is_empty() {
            return html! {};
        }
        let slices: Vec<Slice> =
            self.by_cap.iter().map(|entry| Slice { name: entry.symbol.clone(), value: entry.value }).collect();
        let rest = (self.cap - slices.iter().map(|slice| slice.value).sum::<f64>()).max(0.0);
        html! {
            @if !slices.is_empty() {
                section.card.pie-card aria-labelledby="shares" {
                    h2 #shares { "Share of the market cap" }
                    (layout::chart(plot::pie(&PieChart {
                        frame: Frame {
                            title: "Share of the market cap".to_owned(),
                            subtitle: String::new(),
                            width: 400,
                            height: 252,
                            zone: plot::Tz::UTC,
                            look: Look::Page,
                        },
                        slices,
                        rest,
                        unit: choice.currency.to_uppercase(),
                    })))
                }
            }
            (top_ten("Largest by market cap", "top-cap", &self.by_cap, choice))
            (top_ten("Largest by volume in 24 h", "top-vol", &self.by_volume, choice))
        }
    }
}

fn top_ten(title: &str, id: &str, entries: &[Entry], choice: &Choice) -> Markup {
    let largest = entries.first().map_or(1.0, |entry| entry.value);
    html! {
        @if !entries.is_empty() {
            section.card aria-labelledby=(id) {
                h2 id=(id) { (title) }
                ol.ten {
                    @for entry in entries {
                        li style=(format!("--part:{:.1}%", (entry.value / largest * 100.0).clamp(0.0, 100.0))) {
                            a href=(address::coin(&entry.source, &entry.id).maybe("currency", shown_currency(choice)))
                                title=(entry.name) { (entry.symbol) }
                            span.num { (format::money(&format::large(entry.value), &choice.currency)) }
                            span.num { (layout::change(entry.change)) }
                        }
                    }
                }
            }
        }
    }
}

/// The currency for links to other pages: dollars go without saying.
fn shown_currency(choice: &Choice) -> Option<&str> {
    Some(choice.currency.as_str()).filter(|currency| *currency != crate::domain::rate::USD)
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

struct Table<'a> {
    choice: &'a Choice,
    wanted: &'a Wanted,
    rows: &'a [Row<'a>],
    all: usize,
    page: usize,
    pages: usize,
    newest: Option<Stamp>,
    sparks: &'a Sparks,
    now: Stamp,
}

impl Table<'_> {
    fn markup(&self) -> Markup {
        let first = (self.page - 1) * PAGE;
        let converted = self.rows.iter().filter_map(|row| row.shown.as_ref()).find(|shown| shown.is_converted());
        html! {
            section.card.flush data-part="coins" aria-labelledby="listed" {
                div.table-head {
                    h2 #listed { @if self.wanted.search.is_empty() { "All coins" } @else { "Found" } }
                    p.soft role="status" {
                        @if self.all == 0 {
                            "none"
                        } @else {
                            (format::count(first as i64 + 1)) "–" (format::count((first + self.rows.len()) as i64))
                            " of " (format::count(self.all as i64))
                        }
                    }
                }
                @if self.rows.is_empty() {
                    @if self.wanted.search.is_empty() {
                        p.empty { "The coins of " (self.choice.source) " are known, and no price is stored of them yet: "
                            code { "coinetl prices insert" } " asks for them." }
                    } @else {
                        p.empty { "No coin of " (self.choice.source) " is called " q { (self.wanted.search) } "." }
                    }
                } @else {
                    div.scroll {
                        table.coins {
                            thead { tr {
                                @for column in Column::ALL.into_iter().filter(|column| *column != Column::Symbol) {
                                    (self.heading(column))
                                    @if column == Column::Month { th.spark-cell scope="col" { "7 days" } }
                                }
                            } }
                            tbody { @for row in self.rows { (self.row(row)) } }
                        }
                    }
                    @if let Some(shown) = converted {
                        p.note { (conversion_words(&shown.latest.vs_currency, &self.choice.currency, shown.rate_at))
                            " " (changes_words(&shown.latest.vs_currency)) }
                    }
                    (self.paging())
                }
            }
        }
    }

    fn heading(&self, column: Column) -> Markup {
        let searched = !self.wanted.search.is_empty();
        let (current, rising) = match self.wanted.sort {
            Some(current) => (Some(current), self.wanted.rising.unwrap_or(current.is_rising())),
            None => (Some(Column::Rank).filter(|_| !searched), true),
        };
        let link = |column: Column| {
            let is_current = current == Some(column);
            let next = if is_current { !rising } else { column.is_rising() };
            let address = Wanted { sort: Some(column), rising: Some(next), page: 1, ..self.wanted.clone() }.address();
            html! {
                a href=(address) data-swap="coins" { (column.title())
                    @if is_current { span.arrow aria-hidden="true" { @if rising { "▲" } @else { "▼" } } } }
            }
        };
        // A coin's name and its symbol share a cell.
        let both = [Column::Name, Column::Symbol];
        let is_current = current == Some(column) || column == Column::Name && current == Some(Column::Symbol);
        let order = is_current.then_some(if rising { "ascending" } else { "descending" });
        html! {
            th class=(column.class()) scope="col" aria-sort=[order] {
                @if column == Column::Name { @for column in both { (link(column)) " " } } @else { (link(column)) }
            }
        }
    }

    fn row(&self, row: &Row<'_>) -> Markup {
        let coin = row.coin;
        let link = address::coin(&coin.source, &coin.source_id).maybe("currency", shown_currency(self.choice));
        let money = |text: String| format::money(&text, &self.choice.currency);
        let price = row.number(Column::Price).map(|price| money(format::price(price)));
        let large = |column| row.number(column).map(|value| money(format::large(value)));
        let at = row.latest(|shown| Some(shown.latest.observed_at));
        let old = at.filter(|at| self.newest.is_some_and(|newest| newest.millis() - at.millis() > OLD_MS));
        let unknown = || format::UNKNOWN.to_owned();
        html! {
            tr data-key=(coin.asset_id) {
                td.rank { (row.rank().map_or(unknown(), |rank| rank.to_string())) }
                th.coin scope="row" {
                    a href=(link) { span.symbol { (coin.symbol) } " " span.name { (coin.name) } }
                    @if !coin.active { " " span.badge { "gone" } }
                }
                td.num.price data-flash=[row.number(Column::Price)] {
                    (price.unwrap_or_else(unknown))
                    @if let Some(at) = old { " " small.old title=(format::minute(at)) {
                        (format::age((self.now.millis() - at.millis()) / 1000)) } }
                }
                @for column in [Column::Hour, Column::Day, Column::Week, Column::Month] {
                    td class=(column.class()) { (layout::change(row.number(column))) }
                }
                td.spark-cell { @if let Some(values) = self.sparks.get(&coin.asset_id) {
                    (layout::chart(plot::sparkline(values))) } }
                td.num.vol { (large(Column::Volume).unwrap_or_else(unknown)) }
                td.num.cap { (large(Column::Cap).unwrap_or_else(unknown)) }
            }
        }
    }

    fn paging(&self) -> Markup {
        let to = |page: usize| Wanted { page, ..self.wanted.clone() }.address();
        let near = |page: &usize| *page == 1 || *page == self.pages || page.abs_diff(self.page) <= 2;
        let shown: Vec<usize> = (1..=self.pages).filter(near).collect();
        html! {
            @if self.pages > 1 {
                nav.paging aria-label="Pages of the list" {
                    @if self.page > 1 {
                        a.button rel="prev" href=(to(self.page - 1)) data-swap="coins" data-top { "Previous" }
                    }
                    @for (at, page) in shown.iter().enumerate() {
                        @if at > 0 && shown[at - 1] + 1 < *page { span.soft aria-hidden="true" { "…" } }
                        a.page href=(to(*page)) data-swap="coins" data-top
                            aria-current=[(*page == self.page).then_some("page")]
                            aria-label=(format!("Page {page}")) { (page) }
                    }
                    @if self.page < self.pages {
                        a.button rel="next" href=(to(self.page + 1)) data-swap="coins" data-top { "Next" }
                    }
                }
            }
        }
    }
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
