//! Best bid and ask, the middle between them, and the spread below.

use super::frame::{self, Entry, Frame, Panel, Part, Sheet, draw_time, panels, span_attributes, told};
use super::line::{span_of, with_length};
use super::number;
use super::reduce::{columns, pieces};
use super::scale::{Kind, Scale};
use super::svg::{Path, escape, num};
use super::time::{Span, span_text};
use crate::domain::chart::{Point, QuotePoint};

#[derive(Debug, Clone)]
pub struct QuoteChart {
    pub frame: Frame,
    /// `BTC-USD`
    pub pair: String,
    /// In the order of their times, any number of them.
    pub points: Vec<QuotePoint>,
    /// The longest way between two that is no hole; `None` = what is usual around them.
    pub usual_ms: Option<i64>,
    /// When quotes are missing, and why.
    pub outages: Vec<(Span, String)>,
    pub span: Option<Span>,
}

/// Bid, ask and mid as lines, the spread below; times without quotes are shaded.
pub fn quotes(chart: &QuoteChart) -> String {
    const KIND: &str = "quotes";
    let nothing = || Sheet::begin(&chart.frame, KIND, "no data", "").nothing("no data");
    let Some(span) = chart.span.or_else(|| span_of(chart.points.iter().map(|point| point.at))).map(with_length) else {
        return nothing();
    };
    let points: Vec<&QuotePoint> =
        chart.points.iter().filter(|point| (span.from..=span.to).contains(&point.at)).collect();
    let Some(scale) = Scale::of(Kind::Linear, points.iter().flat_map(|point| [point.bid, point.ask, point.mid])) else {
        return nothing();
    };
    let Some(spreads) = Scale::from_zero(points.iter().map(|point| point.spread)) else { return nothing() };
    let words = words(chart, &points, span);
    let mut sheet = Sheet::begin(&chart.frame, KIND, &words, &span_attributes(&chart.frame, span));
    let last = points.last();
    let entry = |class: &str, name: &str, value: fn(&QuotePoint) -> f64| Entry {
        class: class.to_owned(),
        name: name.to_owned(),
        value: last.map(|last| number::short(value(last))).unwrap_or_default(),
    };
    let mut entries = Vec::new();
    if points.iter().any(|point| point.bid.is_finite()) {
        entries.extend([entry("bid-fill", "bid", |q| q.bid), entry("ask-fill", "ask", |q| q.ask)]);
    }
    entries.extend([entry("mid-fill", "mid", |q| q.mid), entry("spread-fill", "spread", |q| q.spread)]);
    if !chart.outages.is_empty() {
        entries.push(Entry { class: "outage".to_owned(), name: "no quotes".to_owned(), value: String::new() });
    }
    sheet.legend(&entries);
    let currency = chart.pair.rsplit('-').next().unwrap_or_default().to_uppercase();
    let panels = panels(
        &sheet,
        vec![
            Part { share: 0.72, scale, unit: currency, form: number::labels, tag: None },
            Part { share: 0.28, scale: spreads, unit: "Spread".to_owned(), form: number::labels, tag: None },
        ],
    );
    let [panel, below] = panels.as_slice() else { return sheet.end() };
    panels.iter().for_each(|panel| panel.draw(&mut sheet, None));
    draw_time(&mut sheet, &panels, span);
    for (outage, reason) in &chart.outages {
        let (from, to) = (outage.from.max(span.from), outage.to.min(span.to));
        if from > to {
            continue;
        }
        let x = panel.x_of(span, from);
        // However short, it is seen.
        let width = (panel.x_of(span, to) - x).max(1.5);
        for panel in &panels {
            sheet.raw(&format!(
                "<rect class=\"outage\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>{}</title></rect>",
                num(x),
                num(panel.y),
                num(width),
                num(panel.height),
                escape(reason)
            ));
        }
    }
    let drawing = Drawing { span, usual_ms: chart.usual_ms, points: &points };
    sheet.raw(&format!("<g{} data-name=\"{}\">", panel.attributes(), escape(&chart.pair)));
    drawing.line(&mut sheet, panel, "bid", "line thin bid", |q| q.bid);
    drawing.line(&mut sheet, panel, "ask", "line thin ask", |q| q.ask);
    drawing.line(&mut sheet, panel, "mid", "line mid", |q| q.mid);
    sheet.raw(&format!("</g><g{}>", below.attributes()));
    drawing.line(&mut sheet, below, "spread", "line thin spread", |q| q.spread);
    sheet.raw("</g>");
    sheet.end()
}

struct Drawing<'a> {
    span: Span,
    usual_ms: Option<i64>,
    points: &'a [&'a QuotePoint],
}

impl Drawing<'_> {
    fn line(&self, sheet: &mut Sheet, panel: &Panel, name: &str, class: &str, value: fn(&QuotePoint) -> f64) {
        let column_ms = panel.column_ms(self.span);
        let points: Vec<Point> = self.points.iter().map(|q| Point { at: q.at, value: value(q) }).collect();
        let points = columns(&points, self.span.from, column_ms);
        let (mut path, mut dots) = (Path::default(), Path::default());
        for piece in pieces(&points, self.usual_ms, column_ms) {
            let place = |point: &Point| (panel.x_of(self.span, point.at), panel.at(point.value));
            let (Some(first), Some(end)) = (piece.first(), piece.last()) else { continue };
            let (x, y) = place(first);
            if first.at == end.at {
                dots.dot(x, y);
                continue;
            }
            path.move_to(x, y);
            for point in &piece[1..] {
                let (x, y) = place(point);
                path.line_to(x, y);
            }
        }
        let stretch = |point: &Point| ((point.at - self.span.from) as f64 / (column_ms * 2.0)) as i64;
        let known: Vec<Point> = points.iter().filter(|point| point.value.is_finite()).copied().collect();
        let read: Vec<Point> =
            known.chunk_by(|a, b| stretch(a) == stretch(b)).filter_map(|group| group.last().copied()).collect();
        let times: Vec<i64> = read.iter().map(|point| point.at).collect();
        let values = read.iter().map(|point| point.value).collect();
        let attributes = format!(" data-name=\"{name}\"{}", told(&times, frame::fine(self.span), &[("v", values)]));
        let (of_line, of_dots) = if path.is_empty() { ("", attributes.as_str()) } else { (attributes.as_str(), "") };
        sheet.path(class, &path, of_line);
        sheet.path(&format!("{class} dot"), &dots, of_dots);
    }
}

fn words(chart: &QuoteChart, points: &[&QuotePoint], span: Span) -> String {
    let Some(last) = points.last() else { return String::new() };
    let [bid, ask, mid, spread] = [last.bid, last.ask, last.mid, last.spread].map(number::short);
    let newest =
        if last.bid.is_finite() { format!("newest bid {bid}, ask {ask}") } else { format!("newest mid {mid}") };
    let widest = number::short(points.iter().map(|point| point.spread).fold(last.spread, f64::max));
    format!(
        "{}. {}: {newest}, spread {spread}; widest spread {widest}; {} outages.",
        span_text(chart.frame.zone, span),
        chart.pair,
        chart.outages.len()
    )
}
