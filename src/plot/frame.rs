//! What charts share: the sheet with its words, panels with their axes, and what a script reads.

use std::fmt::Write;

use chrono_tz::Tz;

use super::number;
use super::scale::{Scale, Ticks};
use super::style::{self, Look};
use super::svg::{Path, escape, num, shortened, text_width};
use super::time::Span;

/// What every chart is told beside its data.
#[derive(Debug, Clone)]
pub struct Frame {
    pub title: String,
    /// Behind the title, smaller: where it is from, when. May be empty.
    pub subtitle: String,
    /// In pixels of the picture; a page scales it to the width of its box, so a phone should be given a
    /// narrow picture, or its text is too small to read.
    pub width: u32,
    pub height: u32,
    /// In which times are written.
    pub zone: Tz,
    pub look: Look,
}

pub const FONT: f64 = 12.0;
/// A letter's height above the line it stands on, over 2: to put text beside the middle of something.
const HALF: f64 = 4.2;
/// For the labels below a chart.
const BELOW: f64 = 24.0;
/// Between two panels.
const BETWEEN: f64 = 28.0;
/// Above the first one, for what its values are.
const ABOVE: f64 = 18.0;

/// What a colour means.
pub struct Entry {
    /// A class that fills.
    pub class: String,
    pub name: String,
    /// Behind the name, such as the newest value.
    pub value: String,
}

/// A picture being written.
pub struct Sheet {
    out: String,
    pub frame: Frame,
    pad: f64,
    /// How far down it is taken.
    pub top: f64,
}

impl Sheet {
    /// `kind` is told to scripts and style sheets; `words` is the picture for those who don't see it.
    pub fn begin(frame: &Frame, kind: &str, words: &str, attributes: &str) -> Sheet {
        let frame =
            Frame { width: frame.width.clamp(120, 8_000), height: frame.height.clamp(80, 8_000), ..frame.clone() };
        let Frame { title, width, height, .. } = &frame;
        let (title, words) = (escape(title), escape(words));
        let mut out = String::with_capacity(16 << 10);
        let _ = write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot plot-{kind}\" viewBox=\"0 0 {width} {height}\" \
             preserveAspectRatio=\"xMidYMid meet\" role=\"img\" data-plot=\"{kind}\""
        );
        match frame.look {
            // A title inside would pop up over the chart wherever the mouse rests.
            Look::Page => drop(write!(out, " aria-label=\"{title}\"{attributes}><desc>{words}</desc>")),
            Look::File(theme) => drop(write!(
                out,
                " width=\"{width}\" height=\"{height}\"{attributes}><title>{title}</title><desc>{words}</desc>\
                 <style>{}</style><rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>",
                style::sheet(theme)
            )),
        }
        let pad = if frame.look == Look::Page { 1.0 } else { 16.0 };
        // The words above the first axis have to be on the sheet.
        let mut sheet = Sheet { out, frame, pad, top: pad.max(6.0) };
        sheet.heading();
        sheet
    }

    fn heading(&mut self) {
        if self.frame.look == Look::Page {
            return;
        }
        let room = f64::from(self.frame.width) - 2.0 * self.pad;
        let fitted = |text: &str, size: f64| shortened(text, (room / (size * 0.56)) as usize);
        let title = fitted(&self.frame.title, 16.0);
        let subtitle = fitted(&self.frame.subtitle, FONT);
        if !title.is_empty() {
            self.text(self.pad, self.top + 14.0, "heading", "start", &title);
            self.top += 22.0;
        }
        if !subtitle.is_empty() {
            self.text(self.pad, self.top + 12.0, "", "start", &subtitle);
            self.top += 18.0;
        }
        self.top += 6.0;
    }

    pub fn left(&self) -> f64 {
        self.pad
    }

    pub fn right(&self) -> f64 {
        f64::from(self.frame.width) - self.pad
    }

    pub fn bottom(&self) -> f64 {
        f64::from(self.frame.height) - self.pad
    }

    pub fn text(&mut self, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
        self.out.push_str("<text");
        if !class.is_empty() {
            let _ = write!(self.out, " class=\"{class}\"");
        }
        if anchor != "start" {
            let _ = write!(self.out, " text-anchor=\"{anchor}\"");
        }
        let _ = write!(self.out, " x=\"{}\" y=\"{}\">{}</text>", num(x), num(y), escape(text));
    }

    /// Text whose middle is at a height.
    pub fn text_beside(&mut self, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
        self.text(x, y + HALF, class, anchor, text);
    }

    pub fn path(&mut self, class: &str, path: &Path, attributes: &str) {
        if !path.is_empty() {
            let _ = write!(self.out, "<path class=\"{class}\"{attributes} d=\"{}\"/>", path.d());
        }
    }

    pub fn raw(&mut self, text: &str) {
        self.out.push_str(text);
    }

    /// The colours and their names, in as many rows as they need.
    pub fn legend(&mut self, entries: &[Entry]) {
        if entries.is_empty() {
            return;
        }
        let mut x = self.left();
        for entry in entries {
            let name = shortened(&entry.name, 28);
            let width = 15.0 + text_width(&name, FONT) + 6.0 + text_width(&entry.value, FONT);
            if x > self.left() && x + width > self.right() {
                x = self.left();
                self.top += 18.0;
            }
            let y = self.top + 8.0;
            let _ = write!(
                self.out,
                "<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"10\" height=\"10\" rx=\"2.5\"/><text x=\"{}\" y=\"{}\">\
                 <tspan class=\"name\">{}</tspan>",
                entry.class,
                num(x),
                num(y - 5.0),
                num(x + 15.0),
                num(y + HALF),
                escape(&name)
            );
            if !entry.value.is_empty() {
                let _ = write!(self.out, " <tspan>{}</tspan>", escape(&entry.value));
            }
            self.out.push_str("</text>");
            x += width + 16.0;
        }
        self.top += 24.0;
    }

    /// Instead of a chart.
    pub fn nothing(mut self, why: &str) -> String {
        let (x, y) = ((self.left() + self.right()) / 2.0, (self.top + self.bottom()) / 2.0);
        self.text_beside(x, y, "", "middle", why);
        self.end()
    }

    pub fn end(mut self) -> String {
        self.out.push_str("</svg>");
        self.out
    }
}

/// A rectangle with an axis of values at its right.
pub struct Panel {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
    pub scale: Scale,
    labels: Vec<(f64, String)>,
    unit: String,
}

/// What a panel is made of.
pub struct Part {
    /// Of the height that is left.
    pub share: f64,
    pub scale: Scale,
    /// What the values are, such as `USD`; at the top of the axis.
    pub unit: String,
    pub form: fn(&Ticks) -> Vec<String>,
    /// What is written beside the axis on a ground of its own.
    pub tag: Option<String>,
}

/// Divides what is left of the sheet: panels one below the other, with one axis of time.
pub fn panels(sheet: &Sheet, parts: Vec<Part>) -> Vec<Panel> {
    let between = BETWEEN * (parts.len() - 1) as f64;
    let top = sheet.top + if parts.iter().all(|part| part.unit.is_empty()) { FONT / 2.0 } else { ABOVE };
    let height = (sheet.bottom() - top - BELOW - between).max(20.0);
    let mut labelled = Vec::new();
    for part in parts {
        let wanted = (height * part.share / 42.0).round().clamp(2.0, 10.0) as usize;
        let ticks = part.scale.ticks(wanted);
        let labels: Vec<(f64, String)> = ticks.values.iter().copied().zip((part.form)(&ticks)).collect();
        labelled.push((part, labels));
    }
    let widest = |texts: &mut dyn Iterator<Item = &str>| texts.map(|text| text_width(text, FONT)).fold(0.0, f64::max);
    let widest = widest(&mut labelled.iter().flat_map(|(part, labels)| {
        labels.iter().map(|(_, text)| text.as_str()).chain([part.unit.as_str()]).chain(part.tag.as_deref())
    }));
    let width = (sheet.right() - sheet.left() - (widest + 12.0).max(34.0)).max(20.0);
    let mut y = top;
    let mut panels = Vec::new();
    for (part, labels) in labelled {
        let height = height * part.share;
        panels.push(Panel { x: sheet.left(), y, width, height, scale: part.scale, labels, unit: part.unit });
        y += height + BETWEEN;
    }
    panels
}

impl Panel {
    pub fn bottom(&self) -> f64 {
        self.y + self.height
    }

    pub fn right(&self) -> f64 {
        self.x + self.width
    }

    pub fn at(&self, value: f64) -> f64 {
        self.bottom() - self.scale.at(value) * self.height
    }

    /// How long a pixel is.
    pub fn column_ms(&self, span: Span) -> f64 {
        (span.length() as f64 / self.width).max(1e-3)
    }

    pub fn x_of(&self, span: Span, at: i64) -> f64 {
        self.x + span.at(at) * self.width
    }

    /// Lines and labels of the values; none where `but` is, because something else is written there.
    pub fn draw(&self, sheet: &mut Sheet, but: Option<f64>) {
        let mut grid = Path::default();
        let mut last = f64::INFINITY;
        for (value, text) in &self.labels {
            let y = self.at(*value);
            grid.move_to(self.x, y).line_to(self.right(), y);
            // From the bottom up, and never on one another.
            let is_free = |other: f64, room: f64| (y - other).abs() >= room;
            if is_free(last, FONT + 1.0) && but.is_none_or(|but| is_free(but, FONT + 5.0)) {
                sheet.text_beside(self.right() + 8.0, y, "", "start", text);
                last = y;
            }
        }
        sheet.path("grid", &grid, "");
        if !self.unit.is_empty() {
            sheet.text_beside(self.right() + 8.0, self.y - FONT - 3.0, "", "start", &self.unit);
        }
    }

    /// A value beside the axis, on a ground of its colour.
    pub fn tag(&self, sheet: &mut Sheet, class: &str, y: f64, text: &str) {
        let x = self.right() + 3.0;
        let width = sheet.right() - x;
        sheet.raw(&format!(
            "<rect class=\"tag {class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"18\" rx=\"3\"/>",
            num(x),
            num(y - 9.0),
            num(width)
        ));
        sheet.text_beside(x + 5.0, y, "on-tag", "start", text);
    }

    /// What a script has to know to read places on the panel.
    pub fn attributes(&self) -> String {
        format!(
            " class=\"panel\" data-area=\"{} {} {} {}\" data-low=\"{:e}\" data-high=\"{:e}\" data-scale=\"{}\" data-unit=\"{}\"",
            num(self.x),
            num(self.y),
            num(self.width),
            num(self.height),
            self.scale.low,
            self.scale.high,
            self.scale.kind.name(),
            escape(&self.unit)
        )
    }
}

/// The axis of time, below the last panel and through all of them.
pub fn draw_time(sheet: &mut Sheet, panels: &[Panel], span: Span) {
    let Some(last) = panels.last() else { return };
    let most = (last.width / 68.0).floor().max(1.0) as usize;
    let mut grid = Path::default();
    let mut taken = f64::NEG_INFINITY;
    for tick in span.ticks(sheet.frame.zone, most) {
        let x = last.x_of(span, tick.at);
        for panel in panels {
            grid.move_to(x, panel.y).line_to(x, panel.bottom());
        }
        let half = text_width(&tick.text, FONT) / 2.0;
        // Into the sheet at its edges.
        let middle = x.clamp(sheet.left() + half, (sheet.right() - half).max(sheet.left() + half));
        if middle - half > taken {
            let class = if tick.is_major { "strong" } else { "" };
            sheet.text(middle, last.bottom() + 17.0, class, "middle", &tick.text);
            taken = middle + half + 6.0;
        }
    }
    sheet.path("grid", &grid, "");
}

/// The attributes that tell a script the span of time.
pub fn span_attributes(frame: &Frame, span: Span) -> String {
    format!(" data-from=\"{}\" data-to=\"{}\" data-zone=\"{}\"", span.from, span.to, frame.zone.name())
}

/// Values at times, as attributes: `data-t0` the first time, `data-dt` a length, `data-t` how many of it
/// each is behind the one before (left out where that is always one), and named values with about six digits.
pub fn told(times: &[i64], step_ms: i64, values: &[(&str, Vec<f64>)]) -> String {
    let Some(first) = times.first() else { return String::new() };
    let step = step_ms.max(1);
    let count = |at: i64| (at - first + step / 2).div_euclid(step);
    let ways: Vec<i64> = times.windows(2).map(|pair| count(pair[1]) - count(pair[0])).collect();
    let mut out = format!(" data-t0=\"{first}\" data-dt=\"{step}\"");
    if ways.iter().any(|way| *way != 1) {
        let ways: Vec<String> = ways.iter().map(i64::to_string).collect();
        let _ = write!(out, " data-t=\"{}\"", ways.join(" "));
    }
    for (name, values) in values {
        let values: Vec<String> = values.iter().map(|value| number::compact(*value)).collect();
        let _ = write!(out, " data-{name}=\"{}\"", values.join(" "));
    }
    out
}

/// A length of time that is fine enough for a read-out.
pub fn fine(span: Span) -> i64 {
    let wanted = span.length() / 4_000;
    [1, 10, 100, 1_000, 10_000, 60_000, 300_000, 3_600_000].into_iter().rfind(|step| *step <= wanted).unwrap_or(1)
}
