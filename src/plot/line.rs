//! Lines: prices over time, several coins on one picture, changes in percent.

use super::frame::{self, Entry, Frame, Part, Sheet, draw_time, panels, span_attributes, told};
use super::number;
use super::reduce::{columns, pieces};
use super::scale::{Kind, Scale, Ticks};
use super::style::COLOURS;
use super::svg::{Path, escape};
use super::time::{Span, span_text};
use crate::domain::chart::Point;

/// What values are, and so how they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// A currency, such as `usd`.
    Money(String),
    /// A number of something, such as `BTC`.
    Amount(String),
    Percent,
}

#[derive(Debug, Clone)]
pub struct Series {
    pub name: String,
    /// In the order of their times, any number of them.
    pub points: Vec<Point>,
    /// The longest way between two points that is no hole; `None` = what is usual around them.
    pub usual_ms: Option<i64>,
}

#[derive(Debug, Clone)]
pub struct LineChart {
    pub frame: Frame,
    pub series: Vec<Series>,
    pub unit: Unit,
    pub scale: Kind,
    /// From when to when the axis goes; `None` = as far as there are points.
    pub span: Option<Span>,
}

impl Unit {
    pub fn label(&self) -> String {
        match self {
            Unit::Money(currency) => currency.to_uppercase(),
            Unit::Amount(of) => of.clone(),
            Unit::Percent => "%".to_owned(),
        }
    }

    pub fn value(&self, value: f64) -> String {
        match self {
            Unit::Percent => number::percent(value),
            Unit::Money(_) | Unit::Amount(_) => number::short(value),
        }
    }
}

/// A line for each series.
pub fn line(chart: &LineChart) -> String {
    draw(chart, "line")
}

/// A line for each series, of how much it changed in percent since its first value that is not zero.
pub fn percent_change(chart: &LineChart) -> String {
    let series = chart.series.iter().map(|series| Series { points: changed(&series.points), ..series.clone() });
    let chart = LineChart {
        series: series.collect(),
        unit: Unit::Percent,
        scale: Kind::Linear,
        frame: chart.frame.clone(),
        span: chart.span,
    };
    draw(&chart, "percent")
}

/// How much each value is more than the first that is not zero, in percent; NaN where none of them is.
pub fn changed(points: &[Point]) -> Vec<Point> {
    let first = points.iter().map(|point| point.value).find(|value| value.is_finite() && *value != 0.0);
    let changed = |point: &Point| Point { value: first.map_or(f64::NAN, |first| change(first, point.value)), ..*point };
    points.iter().map(changed).collect()
}

fn change(first: f64, value: f64) -> f64 {
    (value / first - 1.0) * 100.0
}

/// From the first to the last of these times.
pub fn span_of(times: impl Iterator<Item = i64>) -> Option<Span> {
    times.fold(None, |span, at| match span {
        None => Some(Span { from: at, to: at }),
        Some(Span { from, to }) => Some(Span { from: from.min(at), to: to.max(at) }),
    })
}

/// A single moment has no length that could be divided: some time around it.
pub fn with_length(span: Span) -> Span {
    if span.length() > 0 { span } else { Span { from: span.from - 1_800_000, to: span.to + 1_800_000 } }
}

fn draw(chart: &LineChart, kind: &str) -> String {
    let shown = |point: &&Point| chart.scale.shows(point.value);
    let times = chart.series.iter().flat_map(|series| series.points.iter().filter(shown).map(|point| point.at));
    let Some(span) = chart.span.or_else(|| span_of(times)).map(with_length) else {
        return Sheet::begin(&chart.frame, kind, "no data", "").nothing("no data");
    };
    let inside = |series: &Series| {
        let within = |point: &&Point| (span.from..=span.to).contains(&point.at);
        // What the axis has no place for is a hole.
        let placed =
            |point: &Point| if chart.scale.shows(point.value) { *point } else { Point { value: f64::NAN, ..*point } };
        series.points.iter().filter(within).map(placed).collect::<Vec<Point>>()
    };
    let series: Vec<(&Series, Vec<Point>)> = chart.series.iter().map(|series| (series, inside(series))).collect();
    let values = || series.iter().flat_map(|(_, points)| points.iter().map(|point| point.value));
    let zero = (chart.unit == Unit::Percent).then_some(0.0);
    let Some(mut scale) = Scale::of(chart.scale, values().chain(zero.filter(|_| values().any(f64::is_finite)))) else {
        return Sheet::begin(&chart.frame, kind, "no data", "").nothing("no data");
    };
    if chart.unit == Unit::Percent {
        // Nothing loses more than all of it, but the line of zero needs room below.
        let all = Scale::of(Kind::Linear, values().chain(zero).map(|value| value - 1e-9));
        scale.low = all.map_or(scale.low, |all| all.low);
    }
    let words: Vec<String> = series.iter().map(|(series, points)| words(series, points, &chart.unit)).collect();
    let words = format!("{}. {}", span_text(chart.frame.zone, span), words.join(" "));
    let mut sheet = Sheet::begin(&chart.frame, kind, &words, &span_attributes(&chart.frame, span));
    let last = |points: &[Point]| points.iter().rev().map(|point| point.value).find(|value| value.is_finite());
    if series.len() > 1 {
        let entry = |(at, (series, points)): (usize, &(&Series, Vec<Point>))| Entry {
            class: format!("f{}", at % COLOURS + 1),
            name: series.name.clone(),
            value: last(points).map_or("no data".to_owned(), |value| chart.unit.value(value)),
        };
        sheet.legend(&series.iter().enumerate().map(entry).collect::<Vec<_>>());
    }
    let form: fn(&Ticks) -> Vec<String> = match chart.unit {
        Unit::Percent => percents,
        Unit::Money(_) | Unit::Amount(_) => number::labels,
    };
    let unit = if chart.unit == Unit::Percent { String::new() } else { chart.unit.label() };
    let newest = match series.as_slice() {
        [(_, points)] => last(points),
        _ => None,
    };
    let tag = newest.map(|value| chart.unit.value(value));
    let panels = panels(&sheet, vec![Part { share: 1.0, scale, unit, form, tag: tag.clone() }]);
    let Some(panel) = panels.first() else { return sheet.end() };
    panel.draw(&mut sheet, newest.map(|value| panel.at(value)));
    draw_time(&mut sheet, &panels, span);
    if chart.unit == Unit::Percent {
        let mut base = Path::default();
        base.move_to(panel.x, panel.at(0.0)).line_to(panel.right(), panel.at(0.0));
        sheet.path("base", &base, "");
    }
    sheet.raw(&format!("<g{}>", panel.attributes()));
    let column_ms = panel.column_ms(span);
    for (at, (one, points)) in series.iter().enumerate() {
        let colour = at % COLOURS + 1;
        let (mut path, mut dots, mut area) = (Path::default(), Path::default(), Path::default());
        let points = columns(points, span.from, column_ms);
        for piece in pieces(&points, one.usual_ms, column_ms) {
            let place = |point: &Point| (panel.x_of(span, point.at), panel.at(point.value));
            let (Some(first), Some(end)) = (piece.first(), piece.last()) else { continue };
            let (x, y) = place(first);
            if first.at == end.at {
                dots.dot(x, y);
                continue;
            }
            path.move_to(x, y);
            area.move_to(x, panel.bottom()).line_to(x, y);
            for point in &piece[1..] {
                let (x, y) = place(point);
                path.line_to(x, y);
                area.line_to(x, y);
            }
            area.line_to(place(end).0, panel.bottom()).close();
        }
        if series.len() == 1 && chart.unit != Unit::Percent {
            sheet.path(&format!("area f{colour}"), &area, "");
        }
        // One value for two columns is enough to read.
        let read: Vec<Point> = points.iter().filter(|point| point.value.is_finite()).copied().collect();
        let read = thinned(&read, span.from, column_ms * 2.0);
        let times: Vec<i64> = read.iter().map(|point| point.at).collect();
        let values = read.iter().map(|point| point.value).collect();
        let attributes =
            format!(" data-name=\"{}\"{}", escape(&one.name), told(&times, frame::fine(span), &[("v", values)]));
        let (of_line, of_dots) = if path.is_empty() { ("", attributes.as_str()) } else { (attributes.as_str(), "") };
        sheet.path(&format!("line s{colour}"), &path, of_line);
        sheet.path(&format!("line dot s{colour}"), &dots, of_dots);
    }
    sheet.raw("</g>");
    if let (Some(value), Some(tag)) = (newest, tag) {
        panel.tag(&mut sheet, "f1", panel.at(value), &tag);
    }
    sheet.end()
}

/// The last point of each stretch of time.
fn thinned(points: &[Point], from: i64, length: f64) -> Vec<Point> {
    let stretch = |point: &Point| ((point.at - from) as f64 / length) as i64;
    points.chunk_by(|a, b| stretch(a) == stretch(b)).filter_map(|group| group.last().copied()).collect()
}

fn percents(ticks: &Ticks) -> Vec<String> {
    let sign = |value: &f64| if *value > 0.0 { "+" } else { "" };
    ticks.values.iter().zip(number::labels(ticks)).map(|(value, text)| format!("{}{text} %", sign(value))).collect()
}

/// A series for those who don't see it.
fn words(series: &Series, points: &[Point], unit: &Unit) -> String {
    let finite = || points.iter().map(|point| point.value).filter(|value| value.is_finite());
    let (Some(first), Some(last)) = (finite().next(), finite().next_back()) else {
        return format!("{}: no data.", series.name);
    };
    let (low, high) = (finite().fold(first, f64::min), finite().fold(first, f64::max));
    let [first, last, low, high] = [first, last, low, high].map(|value| unit.value(value));
    let of = if *unit == Unit::Percent { String::new() } else { format!(" {}", unit.label()) };
    format!("{}: from {first} to {last}{of}, lowest {low}, highest {high}.", series.name)
}
