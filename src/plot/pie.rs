//! Shares of a whole, such as the market cap of coins.

use std::f64::consts::TAU;

use super::frame::{FONT, Frame, Sheet};
use super::number;
use super::style::COLOURS;
use super::svg::{escape, num, shortened, text_width};
use crate::domain::chart::Slice;

#[derive(Debug, Clone)]
pub struct PieChart {
    pub frame: Frame,
    /// In any order.
    pub slices: Vec<Slice>,
    /// What all that is not among the slices comes to; it joins the small ones.
    pub rest: f64,
    /// What values are, such as `USD`.
    pub unit: String,
}

/// A slice that is smaller joins the others.
const SMALLEST: f64 = 0.01;
const MOST: usize = COLOURS;

/// A ring with a list beside it (or below, where there is no room beside): the largest first, and what is
/// too small to be seen as one slice.
pub fn pie(chart: &PieChart) -> String {
    const KIND: &str = "pie";
    let mut slices: Vec<&Slice> =
        chart.slices.iter().filter(|slice| slice.value > 0.0 && slice.value.is_finite()).collect();
    slices.sort_by(|a, b| b.value.total_cmp(&a.value));
    let largest = slices.iter().map(|slice| slice.value).chain([chart.rest]).fold(0.0, f64::max);
    if largest <= 0.0 || slices.is_empty() {
        return Sheet::begin(&chart.frame, KIND, "no data", "").nothing("no data");
    }
    // Over the largest: a sum of doubles may be none.
    let rest = if chart.rest > 0.0 && chart.rest.is_finite() { chart.rest / largest } else { 0.0 };
    let total = slices.iter().map(|slice| slice.value / largest).sum::<f64>() + rest;
    let share = |value: f64| value / largest / total;
    let shown = slices.iter().take_while(|slice| share(slice.value) >= SMALLEST).count().clamp(1, MOST);
    // A single small one has its own name.
    let shown = if slices.len() == shown + 1 && rest == 0.0 && shown < MOST { shown + 1 } else { shown };
    let (shown, small) = slices.split_at(shown);
    let others = 1.0 - shown.iter().map(|slice| share(slice.value)).sum::<f64>();
    let mut parts: Vec<(String, String, f64)> = shown
        .iter()
        .enumerate()
        .map(|(at, slice)| (format!("f{}", at + 1), slice.name.clone(), share(slice.value)))
        .collect();
    if !small.is_empty() || rest > 0.0 {
        let name = if rest > 0.0 || small.len() < 2 { "others".to_owned() } else { format!("{} others", small.len()) };
        parts.push(("f0".to_owned(), name, others.max(0.0)));
    }
    let words: Vec<String> = parts.iter().map(|(_, name, share)| format!("{name} {}", number::share(*share))).collect();
    let mut sheet = Sheet::begin(&chart.frame, KIND, &words.join(", "), "");
    let (width, height) = (sheet.right() - sheet.left(), sheet.bottom() - sheet.top);
    let row = 21.0;
    let widest = parts.iter().map(|(_, name, _)| text_width(&shortened(name, 24), FONT)).fold(60.0, f64::max);
    let list_width = 18.0 + widest + 14.0 + text_width("< 0.01 %", FONT);
    let list_height = row * parts.len() as f64;
    let is_beside = width >= list_width + 150.0;
    let size = match is_beside {
        true => height.min(width - list_width - 32.0),
        false => width.min(height - list_height - 14.0),
    };
    let radius = (size / 2.0 - 2.0).max(20.0);
    let (gap, block) = if is_beside { (40.0, radius * 2.0 + 40.0 + list_width) } else { (0.0, 0.0) };
    let x = if is_beside { sheet.left() + (width - block).max(0.0) / 2.0 + radius } else { sheet.left() + width / 2.0 };
    let y = if is_beside { sheet.top + height / 2.0 } else { sheet.top + radius + 2.0 };
    let ring = Ring { x, y, outer: radius, inner: radius * 0.6 };
    let mut from = 0.0;
    sheet.raw("<g class=\"panel\">");
    for (class, name, share) in &parts {
        let text = escape(&format!("{name}: {}", number::share(*share)));
        let named = format!(" data-name=\"{}\" data-share=\"{}\"", escape(name), number::compact(*share));
        sheet.raw(&format!("<g{named}><title>{text}</title>"));
        sheet.raw(&ring.slice(class, from, from + share));
        sheet.raw("</g>");
        from += share;
    }
    sheet.raw("</g>");
    let whole = total * largest;
    if whole.is_finite() && radius > 50.0 {
        sheet.text(x, y - 1.0, "heading", "middle", &number::short(whole));
        sheet.text(x, y + 17.0, "", "middle", &chart.unit.to_uppercase());
    }
    let (list_x, list_y) = match is_beside {
        true => (x + radius + gap, y - list_height / 2.0),
        false => (x - list_width / 2.0, y + radius + 14.0),
    };
    for (at, (class, name, share)) in parts.iter().enumerate() {
        let middle = list_y + row * (at as f64 + 0.5);
        sheet.raw(&format!(
            "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"10\" height=\"10\" rx=\"2.5\"/>",
            num(list_x),
            num(middle - 5.0)
        ));
        sheet.text_beside(list_x + 18.0, middle, "name", "start", &shortened(name, 24));
        sheet.text_beside(list_x + list_width, middle, "", "end", &number::share(*share));
    }
    sheet.end()
}

struct Ring {
    x: f64,
    y: f64,
    outer: f64,
    inner: f64,
}

impl Ring {
    /// From one part of the circle to another, clockwise from the top.
    fn slice(&self, class: &str, from: f64, to: f64) -> String {
        let Ring { x, y, outer, inner } = *self;
        if to - from >= 0.9999 {
            // An arc that ends where it begins is none.
            let mut path = String::new();
            for (radius, sweep) in [(outer, 1), (inner, 0)] {
                let r = num(radius);
                path += &format!(
                    "M{} {}A{r} {r} 0 1 {sweep} {} {}A{r} {r} 0 1 {sweep} {} {}z",
                    num(x),
                    num(y - radius),
                    num(x),
                    num(y + radius),
                    num(x),
                    num(y - radius)
                );
            }
            return format!("<path class=\"slice {class}\" fill-rule=\"evenodd\" d=\"{path}\"/>");
        }
        let place = |radius: f64, part: f64| {
            let angle = part * TAU;
            format!("{} {}", num(x + radius * angle.sin()), num(y - radius * angle.cos()))
        };
        let large = u8::from(to - from > 0.5);
        let (outer_r, inner_r) = (num(outer), num(inner));
        format!(
            "<path class=\"slice {class}\" d=\"M{}A{outer_r} {outer_r} 0 {large} 1 {}L{}A{inner_r} {inner_r} 0 {large} 0 {}z\"/>",
            place(outer, from),
            place(outer, to),
            place(inner, to),
            place(inner, from)
        )
    }
}
