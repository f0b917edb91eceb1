//! Candlesticks, and below them what was traded.

use super::frame::{Entry, Frame, Part, Sheet, draw_time, panels, span_attributes, told};
use super::line::span_of;
use super::number;
use super::scale::{Kind, Scale};
use super::svg::{Path, escape};
use super::time::{Span, span_text};
use crate::domain::chart::Stick;

#[derive(Debug, Clone)]
pub struct CandleChart {
    pub frame: Frame,
    /// Of the coin.
    pub name: String,
    /// In the order of their times.
    pub sticks: Vec<Stick>,
    /// How long each lasts.
    pub length_ms: i64,
    pub currency: String,
    pub scale: Kind,
    /// From when to when the axis goes; `None` = as far as there are candles.
    pub span: Option<Span>,
}

/// Narrower than this nobody sees a body.
const NARROWEST: f64 = 3.0;
const WIDEST: f64 = 18.0;

/// Candles, those that go up and those that go down apart by colour; one that is not over has a dashed
/// outline. Where there are more than fit, several become one, which loses no high and no low.
pub fn candlesticks(chart: &CandleChart) -> String {
    const KIND: &str = "candles";
    let nothing = || Sheet::begin(&chart.frame, KIND, "no data", "").nothing("no data");
    let length = chart.length_ms.max(1);
    let whole = span_of(chart.sticks.iter().flat_map(|stick| [stick.open_time, stick.open_time + length]));
    let Some(span) = chart.span.or(whole).filter(|span| span.length() > 0) else { return nothing() };
    let within = |stick: &&Stick| stick.open_time >= span.from && stick.open_time < span.to;
    let sticks: Vec<Stick> = chart.sticks.iter().filter(within).copied().collect();
    let room = f64::from(chart.frame.width) - 90.0;
    let shortest = span.length() as f64 * NARROWEST / room;
    let times = times(length, shortest);
    let (sticks, length) = (folded(&sticks, length, times), length * times);
    let Some(scale) = Scale::of(chart.scale, sticks.iter().flat_map(|stick| [stick.low, stick.high])) else {
        return nothing();
    };
    let words = words(chart, &sticks, span);
    let mut sheet = Sheet::begin(&chart.frame, KIND, &words, &span_attributes(&chart.frame, span));
    let mut notes = Vec::new();
    if times > 1 {
        notes.push(("f0", format!("each candle is {} of {}", length_words(length), length_words(chart.length_ms))));
    }
    if sticks.iter().any(|stick| !stick.is_final) {
        notes.push(("open up", "not over yet".to_owned()));
    }
    let entry = |(class, name): (&str, String)| Entry { class: class.to_owned(), name, value: String::new() };
    sheet.legend(&notes.into_iter().map(entry).collect::<Vec<_>>());
    let unit = chart.currency.to_uppercase();
    let volumes = Scale::from_zero(sticks.iter().filter_map(|stick| stick.volume));
    let share = if volumes.is_some() { 0.78 } else { 1.0 };
    let fell = fell(&sticks);
    let newest = sticks.last().map(|stick| (stick.close, fell[sticks.len() - 1]));
    let form = number::labels;
    let tag = newest.map(|(close, _)| number::short(close));
    let mut parts = vec![Part { share, scale, unit, form, tag: tag.clone() }];
    parts.extend(volumes.map(|scale| Part { share: 1.0 - share, scale, unit: "Vol".to_owned(), form, tag: None }));
    let panels = panels(&sheet, parts);
    let [panel, below @ ..] = panels.as_slice() else { return sheet.end() };
    panel.draw(&mut sheet, newest.map(|(close, _)| panel.at(close)));
    below.iter().for_each(|panel| panel.draw(&mut sheet, None));
    draw_time(&mut sheet, &panels, span);
    let slot = length as f64 / span.length() as f64 * panel.width;
    let width = (slot * 0.72).clamp(1.0, WIDEST);
    let middle = |stick: &Stick| panel.x_of(span, stick.open_time) + slot / 2.0;
    let times: Vec<i64> = sticks.iter().map(|stick| stick.open_time).collect();
    let of = |value: fn(&Stick) -> f64| sticks.iter().map(value).collect::<Vec<f64>>();
    let mut figures = vec![("o", of(|s| s.open)), ("h", of(|s| s.high)), ("l", of(|s| s.low)), ("c", of(|s| s.close))];
    if !below.is_empty() {
        figures.push(("v", of(|s| s.volume.unwrap_or_default())));
    }
    sheet.raw(&format!(
        "<g{} data-name=\"{}\" data-length=\"{length}\"{}>",
        panel.attributes(),
        escape(&chart.name),
        told(&times, length, &figures)
    ));
    for (is_down, class) in [(false, "up"), (true, "down")] {
        let (mut wicks, mut bodies, mut open) = (Path::default(), Path::default(), Path::default());
        for (stick, _) in sticks.iter().zip(&fell).filter(|(_, fell)| **fell == is_down) {
            let x = middle(stick);
            let (top, bottom) = (panel.at(stick.open.max(stick.close)), panel.at(stick.open.min(stick.close)));
            // What opened and closed at one price is a line.
            let height = (bottom - top).max(1.0);
            wicks
                .move_to(x, panel.at(stick.high))
                .line_to(x, top)
                .move_to(x, top + height)
                .line_to(x, panel.at(stick.low));
            let body = if stick.is_final { &mut bodies } else { &mut open };
            body.rect(x - width / 2.0, top, width, height);
        }
        sheet.path(&format!("wick {class}"), &wicks, "");
        sheet.path(&format!("body {class}"), &bodies, "");
        sheet.path(&format!("open {class}"), &open, "");
    }
    sheet.raw("</g>");
    for panel in below {
        sheet.raw(&format!("<g{}>", panel.attributes()));
        for (is_down, class) in [(false, "up"), (true, "down")] {
            let mut bars = Path::default();
            for (stick, _) in sticks.iter().zip(&fell).filter(|(_, fell)| **fell == is_down) {
                if let Some(volume) = stick.volume.filter(|volume| *volume > 0.0) {
                    let y = panel.at(volume);
                    bars.rect(middle(stick) - width / 2.0, y, width, panel.bottom() - y);
                }
            }
            sheet.path(&format!("volume {class}"), &bars, "");
        }
        sheet.raw("</g>");
    }
    if let (Some((close, is_down)), Some(tag)) = (newest, tag) {
        let class = if is_down { "ask-fill" } else { "bid-fill" };
        panel.tag(&mut sheet, class, panel.at(close), &tag);
    }
    sheet.end()
}

/// Of each whether it went down; one that closed where it opened, against the one before.
fn fell(sticks: &[Stick]) -> Vec<bool> {
    let mut before = f64::NEG_INFINITY;
    let mut fell = |stick: &Stick| {
        let reference = if stick.close == stick.open { before } else { stick.open };
        before = stick.close;
        stick.close < reference
    };
    sticks.iter().map(&mut fell).collect()
}

/// How many lengths become one that is not shorter: to a length that people count in, where there is one.
fn times(length: i64, shortest: f64) -> i64 {
    const MINUTES: [i64; 20] =
        [1, 2, 3, 5, 10, 15, 30, 60, 120, 180, 240, 360, 720, 1_440, 2_880, 4_320, 10_080, 20_160, 43_200, 129_600];
    let least = (shortest / length as f64).ceil().max(1.0) as i64;
    let round = MINUTES.into_iter().map(|minutes| minutes * 60_000);
    let round = round.filter(|round| round % length == 0).map(|round| round / length);
    if least == 1 { 1 } else { round.into_iter().find(|times| (least..least * 3).contains(times)).unwrap_or(least) }
}

/// So many lengths become one.
fn folded(sticks: &[Stick], length: i64, times: i64) -> Vec<Stick> {
    if times <= 1 {
        return sticks.to_vec();
    }
    let bucket = |stick: &Stick| stick.open_time.div_euclid(length * times);
    let fold = |group: &[Stick]| {
        let (first, last) = (group.first()?, group.last()?);
        let volumes = group.iter().filter_map(|stick| stick.volume);
        Some(Stick {
            open_time: bucket(first) * length * times,
            open: first.open,
            high: group.iter().map(|stick| stick.high).fold(first.high, f64::max),
            low: group.iter().map(|stick| stick.low).fold(first.low, f64::min),
            close: last.close,
            volume: volumes.reduce(|sum, volume| sum + volume),
            is_final: group.iter().all(|stick| stick.is_final),
        })
    };
    sticks.chunk_by(|a, b| bucket(a) == bucket(b)).filter_map(fold).collect()
}

/// `1h`, `15m`, `1d`.
fn length_words(millis: i64) -> String {
    [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")]
        .into_iter()
        .find(|(unit, _)| millis % unit == 0)
        .map_or_else(|| format!("{millis}ms"), |(unit, letter)| format!("{}{letter}", millis / unit))
}

fn words(chart: &CandleChart, sticks: &[Stick], span: Span) -> String {
    let (Some(first), Some(last)) = (sticks.first(), sticks.last()) else { return String::new() };
    let low = sticks.iter().map(|stick| stick.low).fold(first.low, f64::min);
    let high = sticks.iter().map(|stick| stick.high).fold(first.high, f64::max);
    let [open, close, low, high] = [first.open, last.close, low, high].map(number::short);
    format!(
        "{}. {}: {} candles, open {open}, close {close} {}, lowest {low}, highest {high}.",
        span_text(chart.frame.zone, span),
        chart.name,
        sticks.len(),
        chart.currency.to_uppercase()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_loses_no_extreme_and_no_volume() {
        let stick = |n: i64| Stick {
            open_time: n * 60_000,
            open: n as f64,
            high: n as f64 + 1.0 + if n == 31 { 500.0 } else { 0.0 },
            low: n as f64 - 1.0,
            close: n as f64 + 0.5,
            volume: (n % 2 == 0).then_some(2.0),
            is_final: n < 99,
        };
        let sticks: Vec<Stick> = (0..100).map(stick).collect();
        let few = folded(&sticks, 60_000, 15);
        assert_eq!(few.len(), 7);
        let third = few[2];
        assert_eq!(
            (third.open_time, third.open, third.close, third.high, third.low),
            (1_800_000, 30.0, 44.5, 532.0, 29.0)
        );
        assert_eq!(few.iter().filter_map(|stick| stick.volume).sum::<f64>(), 100.0);
        assert_eq!(few.iter().filter(|stick| !stick.is_final).count(), 1);
        assert_eq!(length_words(900_000), "15m");
        assert_eq!((times(60_000, 40_000.0), times(60_000, 1_080_000.0), times(3_600_000, 7_300_000.0)), (1, 30, 3));
        assert_eq!(times(7_000, 70_001.0), 11);
    }
}
