//! A coin's charts over one stretch of time.

use std::sync::Arc;

use maud::{Markup, html};

use super::super::choice::{Choice, changes_words};
use super::super::layout;
use super::{Period, View, Wanted};
use crate::api::ApiError;
use crate::db::dashboard::coin::{self, Seen};
use crate::db::dashboard::market::Coin;
use crate::db::dashboard::rates::Rates;
use crate::db::series::{self, Figure};
use crate::db::{Connection, DbError};
use crate::domain::{Range, Stamp, Timeframe};
use crate::plot::{self, Axis, CandleChart, Frame, LineChart, Look, Point, Series, Span, Stick, Unit};

/// Points of the large chart and of the small ones.
const POINTS: usize = 1_200;
const FEW: usize = 300;
/// Candles that can be told apart, and as many as are wanted where nobody chose a length.
const CANDLES: usize = 500;
const USUAL_CANDLES: usize = 120;

/// Wide enough for a screen, and narrow enough for a phone: text in a picture shrinks with it.
const WIDE: (u32, u32) = (1_080, 380);
const NARROW: (u32, u32) = (380, 300);
const CHANGES: (u32, u32) = (340, 180);
const SMALL: (u32, u32) = (400, 190);

/// An hour, a day, a week, thirty days.
const CHANGES_OVER_MS: [i64; 4] = [3_600_000, 86_400_000, 604_800_000, 2_592_000_000];

pub struct Charts {
    base: Arc<str>,
    range: Range,
    main: Main,
    /// Candles that there are.
    timeframes: Vec<Timeframe>,
    changes: [Vec<Point>; 4],
    cap: Vec<Point>,
    volume: Vec<Point>,
    supply: Vec<Point>,
    /// Something could not be converted: there was no rate at its time.
    lacks_rates: bool,
    /// Nothing is stored of this stretch.
    is_empty: bool,
}

enum Main {
    Line(Vec<Point>),
    Candles { sticks: Vec<Stick>, length_ms: i64, timeframe: Timeframe },
}

impl Charts {
    /// `None` where nothing is stored of the coin in this currency.
    pub fn read(
        conn: &mut Connection,
        choice: &Choice,
        coin: &Coin,
        base: &Arc<str>,
        wanted: &Wanted,
        now: Stamp,
    ) -> Result<Option<Charts>, ApiError> {
        let id = coin.asset_id;
        let of = coin::Series { asset_id: id, vs_currency: base.clone() };
        let available = coin::timeframes(conn, &of)?;
        let Some(whole) = whole(conn, &of, &available, now)? else { return Ok(None) };
        let range = wanted.zoom.unwrap_or_else(|| match wanted.period.days() {
            Some(days) => Range { from: whole.to.plus(-days * 86_400_000), to: whole.to },
            None => whole,
        });
        let rates = choice.rates(conn, std::slice::from_ref(base), range.from, range.to)?;
        let mut lacks_rates = false;
        let mut money = |points: Vec<Point>| -> Vec<Point> {
            points.into_iter().map(|point| converted(point, &rates, base, &mut lacks_rates)).collect()
        };
        let timeframes: Vec<Timeframe> = available.iter().map(|(timeframe, _)| *timeframe).collect();
        let main = match wanted.view {
            View::Line => Main::Line(money(series::line(conn, id, base, range, POINTS, now)?)),
            View::Candles => {
                let timeframe = timeframe(&timeframes, range, wanted.timeframe);
                let found = series::candles(conn, id, base, timeframe, range, CANDLES)?;
                let sticks = found.sticks.into_iter().filter_map(|stick| {
                    let sticks = converted_stick(stick, &rates, base);
                    lacks_rates |= sticks.is_none();
                    sticks
                });
                let sticks = sticks.collect();
                Main::Candles { sticks, length_ms: found.length_ms, timeframe }
            }
        };
        let mut money = |points: Vec<Point>| -> Vec<Point> {
            points.into_iter().map(|point| converted(point, &rates, base, &mut lacks_rates)).collect()
        };
        let cap = money(series::prices(conn, id, base, Figure::MarketCap, range, FEW)?);
        let volume = money(series::prices(conn, id, base, Figure::Volume24h, range, FEW)?);
        let supply = series::prices(conn, id, base, Figure::CirculatingSupply, range, FEW)?;
        let seen = coin::observed(conn, &of, range)?;
        let mut changes = [0, 1, 2, 3].map(|which| changes(&seen, which));
        for (points, length_ms) in changes.iter_mut().zip(CHANGES_OVER_MS) {
            // Of files and candles nobody told them, and the prices do.
            if points.len() < 2 {
                let before = Range { from: range.from.plus(-length_ms), to: range.to };
                let prices = series::line(conn, id, base, before, POINTS, now)?;
                *points = computed(&prices, length_ms, range.from);
            }
        }
        let is_empty = match &main {
            Main::Line(points) => points.iter().all(|point| !point.value.is_finite()),
            Main::Candles { sticks, .. } => sticks.is_empty(),
        };
        Ok(Some(Charts {
            base: base.clone(),
            range,
            main,
            timeframes,
            changes,
            cap,
            volume,
            supply,
            lacks_rates,
            is_empty,
        }))
    }

    /// How much there is to see.
    pub fn weight(&self) -> usize {
        match &self.main {
            Main::Line(points) => points.iter().filter(|point| point.value.is_finite()).count(),
            Main::Candles { sticks, .. } => sticks.len(),
        }
    }

    pub fn markup(&self, choice: &Choice, coin: &Coin, wanted: &Wanted) -> Markup {
        html! {
            section.card data-part="chart" aria-labelledby="chart" {
                div.chart-head {
                    h2 #chart { @match wanted.view { View::Line => "Price", View::Candles => "Candles" } }
                    (self.controls(wanted))
                }
                @if self.is_empty {
                    (self.nothing(choice))
                } @else {
                    figure.chart data-chart data-zoom {
                        div.only-wide { (layout::chart(self.draw(choice, coin, wanted, WIDE))) }
                        div.only-narrow { (layout::chart(self.draw(choice, coin, wanted, NARROW))) }
                    }
                    p.note.script-only { "Drag across the chart to zoom in; double-click to zoom out. With the keyboard: "
                        kbd { "←" } " " kbd { "→" } " read, " kbd { "+" } " " kbd { "−" } " zoom, " kbd { "Esc" } " ends." }
                }
                @if self.lacks_rates {
                    p.note { "For a part of this time no exchange rate from " (self.base.to_uppercase()) " to "
                        (choice.currency.to_uppercase()) " is stored: it is left out." }
                }
            }
            div.changes data-part="changes" {
                @for (name, points) in ["1 hour", "24 hours", "7 days", "30 days"].iter().zip(&self.changes) {
                    (self.small(&format!("Change over {name}"), points, Unit::Percent, CHANGES))
                }
                @if *self.base != *choice.currency { p.note { (changes_words(&self.base)) } }
            }
            div.small-charts data-part="figures" {
                (self.small("Market cap", &self.cap, Unit::Money(choice.currency.clone()), SMALL))
                (self.small("Volume of 24 h", &self.volume, Unit::Money(choice.currency.clone()), SMALL))
                (self.small("Circulating supply", &self.supply, Unit::Amount(coin.symbol.to_string()), SMALL))
            }
        }
    }

    fn controls(&self, wanted: &Wanted) -> Markup {
        let link = |name: &str, is_current: bool, wanted: Wanted| {
            html! { a href=(wanted.address()) data-swap aria-current=[is_current.then_some("true")] { (name) } }
        };
        let of = |view: View| Wanted { view, timeframe: None, ..wanted.clone() };
        let current = match &self.main {
            Main::Candles { timeframe, .. } => Some(*timeframe),
            Main::Line(_) => None,
        };
        html! {
            nav.tabs aria-label="Period" {
                @for period in Period::ALL {
                    (link(period.word(), wanted.zoom.is_none() && period == wanted.period,
                        Wanted { period, zoom: None, ..wanted.clone() }))
                }
            }
            nav.tabs aria-label="Kind of chart" {
                (link("Line", wanted.view == View::Line, of(View::Line)))
                (link("Candles", wanted.view == View::Candles, of(View::Candles)))
            }
            @if wanted.view == View::Candles && !self.timeframes.is_empty() {
                nav.tabs aria-label="Length of the candles" {
                    @for timeframe in &self.timeframes {
                        (link(timeframe.name(), current == Some(*timeframe),
                            Wanted { timeframe: Some(*timeframe), ..wanted.clone() }))
                    }
                }
            }
            nav.tabs aria-label="Scale" {
                (link("Linear", wanted.scale == Axis::Linear, Wanted { scale: Axis::Linear, ..wanted.clone() }))
                (link("Log", wanted.scale == Axis::Log, Wanted { scale: Axis::Log, ..wanted.clone() }))
            }
        }
    }

    fn nothing(&self, choice: &Choice) -> Markup {
        html! {
            @if self.lacks_rates {
                p.empty { "Prices of this time are stored in " (self.base.to_uppercase()) ", and no exchange rates to "
                    (choice.currency.to_uppercase()) " of the same time." }
            } @else if matches!(self.main, Main::Candles { .. }) {
                p.empty { "No candles are stored of this time. " code { "coinetl candles rollup" }
                    " folds stored prices into candles; " code { "coinetl candles backfill" } " asks for the past." }
            } @else {
                p.empty { "Nothing is stored of this time; a longer period may have something." }
            }
        }
    }

    fn draw(&self, choice: &Choice, coin: &Coin, wanted: &Wanted, size: (u32, u32)) -> String {
        let frame = frame(&format!("{} in {}", coin.name, choice.currency.to_uppercase()), size);
        let span = Some(self.span());
        match &self.main {
            Main::Line(points) => plot::line(&LineChart {
                frame,
                series: vec![Series { name: coin.symbol.to_string(), points: points.clone(), usual_ms: usual(points) }],
                unit: Unit::Money(choice.currency.clone()),
                scale: wanted.scale,
                span,
            }),
            Main::Candles { sticks, length_ms, .. } => plot::candlesticks(&CandleChart {
                frame,
                name: coin.symbol.to_string(),
                sticks: sticks.clone(),
                length_ms: *length_ms,
                currency: choice.currency.clone(),
                scale: wanted.scale,
                span,
            }),
        }
    }

    fn small(&self, title: &str, points: &[Point], unit: Unit, size: (u32, u32)) -> Markup {
        // One point is no line.
        if points.iter().filter(|point| point.value.is_finite()).count() < 2 {
            return html! {
                section.card.small-chart { h3 { (title) } p.empty { "Not enough is stored of this time." } }
            };
        }
        let chart = LineChart {
            frame: frame(title, size),
            series: vec![Series { name: title.to_owned(), points: points.to_vec(), usual_ms: usual(points) }],
            unit,
            scale: Axis::Linear,
            span: Some(self.span()),
        };
        html! {
            section.card.small-chart {
                h3 { (title) }
                figure.chart data-chart data-zoom { (layout::chart(plot::line(&chart))) }
            }
        }
    }

    fn span(&self) -> Span {
        Span { from: self.range.from.millis(), to: self.range.to.millis() }
    }
}

fn frame(title: &str, (width, height): (u32, u32)) -> Frame {
    Frame { title: title.to_owned(), subtitle: String::new(), width, height, zone: plot::Tz::UTC, look: Look::Page }
}

/// From the first to the newest that is stored of a coin, in one currency.
fn whole(
    conn: &mut Connection,
    of: &coin::Series,
    available: &[(Timeframe, Stamp)],
    now: Stamp,
) -> Result<Option<Range>, DbError> {
    let first = coin::first_observed(conn, of)?.into_iter().chain(available.iter().map(|(_, first)| *first)).min();
    let mut last = series::newest_price(conn, of.asset_id, &of.vs_currency)?;
    for (timeframe, _) in available {
        let newest = series::newest_candle(conn, of.asset_id, &of.vs_currency, *timeframe)?;
        // A candle that is open tells nothing of what is to come.
        last = last.max(newest.map(|open_time| timeframe.end(open_time).min(now)));
    }
    Ok(first.zip(last).and_then(|(first, last)| Range::new(first.min(last), last.max(first).plus(1))))
}

/// The length of candles that was chosen, or of those that there are one that makes a good number of them.
fn timeframe(available: &[Timeframe], range: Range, wanted: Option<Timeframe>) -> Timeframe {
    let fitting = series::timeframe_for(range, USUAL_CANDLES);
    let chosen = wanted.filter(|wanted| available.contains(wanted));
    let longer = || available.iter().copied().find(|timeframe| *timeframe >= fitting);
    chosen.or_else(longer).or(available.last().copied()).unwrap_or(Timeframe::D1)
}

fn at(point: Point) -> Stamp {
    Stamp::FIRST.plus(point.at)
}

fn converted(point: Point, rates: &Rates, from: &str, lacks: &mut bool) -> Point {
    let factor = rates.at(from, at(point)).map(|(factor, _)| factor);
    *lacks |= factor.is_none();
    Point { value: factor.and_then(|factor| factor.apply(point.value)).unwrap_or(f64::NAN), ..point }
}

fn converted_stick(stick: Stick, rates: &Rates, from: &str) -> Option<Stick> {
    let (factor, _) = rates.at(from, Stamp::FIRST.plus(stick.open_time))?;
    Some(Stick {
        open: factor.apply(stick.open)?,
        high: factor.apply(stick.high)?,
        low: factor.apply(stick.low)?,
        close: factor.apply(stick.close)?,
        volume: stick.volume.and_then(|volume| factor.apply(volume)),
        ..stick
    })
}

/// A way between two points that is no hole yet: some longer than nearly all of them. Observations come in
/// bursts where runs of different sizes meet, so that their neighbours tell little of what is usual.
fn usual(points: &[Point]) -> Option<i64> {
    let mut ways: Vec<i64> = points.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    ways.sort_unstable();
    ways.get(ways.len() * 9 / 10).map(|way| way * 5 / 2)
}

/// How much each price from a time on is more than the one so long before, in percent. The earlier price may be
/// older than that by a tenth of the length: daily candles tell nothing of an hour.
fn computed(prices: &[Point], length_ms: i64, from: Stamp) -> Vec<Point> {
    let mut points = Vec::new();
    let mut before = 0;
    for price in prices.iter().filter(|price| price.value.is_finite()) {
        let wanted = price.at - length_ms;
        while prices.get(before + 1).is_some_and(|next| next.at <= wanted) {
            before += 1;
        }
        let then = &prices[before];
        let fits = then.at <= wanted && wanted - then.at <= length_ms / 10;
        let value = (price.value - then.value) / then.value * 100.0;
        if fits && price.at >= from.millis() && value.is_finite() {
            points.push(Point { at: price.at, value });
        }
    }
    points
}

/// What the source told.
fn changes(seen: &[Seen], which: usize) -> Vec<Point> {
    let point = |seen: &Seen| Some(Point { at: seen.at.millis(), value: seen.changes.get(which).copied().flatten()? });
    seen.iter().filter_map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    #[test]
    fn changes_come_from_the_prices_where_nobody_told_them() {
        let price = |day: i64, value: f64| Point { at: day * DAY, value };
        // The fourth day is missing.
        let prices = [price(1, 100.0), price(2, 110.0), price(3, 99.0), price(5, 50.0), price(6, 75.0)];
        let from = Stamp::from_millis(2 * DAY).unwrap();
        let points: Vec<(i64, i64)> =
            computed(&prices, DAY, from).iter().map(|p| (p.at / DAY, p.value.round() as i64)).collect();
        assert_eq!(points, [(2, 10), (3, -10), (6, 50)]);
        assert_eq!(computed(&prices, 3_600_000, from), []);
        assert_eq!(computed(&[], DAY, from), []);
        assert_eq!(computed(&[price(2, 0.0), price(3, 1.0)], DAY, from), []);
    }
}
