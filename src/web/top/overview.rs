//! The market at a glance: its figures, who has which share of it, and the ten largest.

use maud::{Markup, html};

use super::super::choice::Choice;
use super::super::{address, format, layout};
use super::list::Row;
use super::shown_currency;
use super::wanted::Column;
use crate::domain::Stamp;
use crate::plot::{self, Frame, Look, PieChart, Slice};

/// The whole market in a few figures.
pub struct Overview {
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
    pub fn of(rows: &[Row<'_>]) -> Overview {
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

    pub fn figures(&self, choice: &Choice, newest: Option<Stamp>, now: Stamp, stale_s: u64) -> Markup {
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

    pub fn cards(&self, choice: &Choice) -> Markup {
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
