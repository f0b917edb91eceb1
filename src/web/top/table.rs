//! The table of coins: its headings, by which it is sorted, its rows, and the links to its other pages.

use maud::{Markup, html};

use super::super::choice::{Choice, changes_words, conversion_words};
use super::super::{address, format, layout};
use super::list::{PAGE, Row, Sparks};
use super::shown_currency;
use super::wanted::{Column, Wanted};
use crate::domain::Stamp;
use crate::plot;

/// Coins whose price is so much older than the newest one are marked, in milliseconds.
const OLD_MS: i64 = 24 * 3_600_000;

pub struct Table<'a> {
    pub choice: &'a Choice,
    pub wanted: &'a Wanted,
    pub rows: &'a [Row<'a>],
    pub all: usize,
    pub page: usize,
    pub pages: usize,
    pub newest: Option<Stamp>,
    pub sparks: &'a Sparks,
    pub now: Stamp,
}

impl Table<'_> {
    pub fn markup(&self) -> Markup {
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
