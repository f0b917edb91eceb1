//! SVG as text: numbers short, words escaped.

use std::fmt::Write;

/// Text that an XML parser takes, whatever a coin is called.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(' '),
            // XML has no way to write these.
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            // They would turn around what is written behind them.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c => out.push(c),
        }
    }
    out
}

/// No longer than so many characters.
pub fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// A coordinate: a tenth of a pixel is as fine as anybody sees.
pub fn num(value: f64) -> String {
    let tenths = tenths(value);
    if tenths % 10 == 0 { (tenths / 10).to_string() } else { format!("{}", tenths as f64 / 10.0) }
}

fn tenths(value: f64) -> i64 {
    (value * 10.0).round() as i64
}

/// A path, told in steps from point to point, which takes half the bytes of places.
#[derive(Debug, Default)]
pub struct Path {
    d: String,
    at: (i64, i64),
    started: bool,
}

impl Path {
    pub fn is_empty(&self) -> bool {
        self.d.is_empty()
    }

    pub fn move_to(&mut self, x: f64, y: f64) -> &mut Self {
        let _ = write!(self.d, "M{} {}", num(x), num(y));
        self.at = (tenths(x), tenths(y));
        self.started = true;
        self
    }

    pub fn line_to(&mut self, x: f64, y: f64) -> &mut Self {
        let to = (tenths(x), tenths(y));
        let (dx, dy) = (to.0 - self.at.0, to.1 - self.at.1);
        let num = |tenths: i64| num(tenths as f64 / 10.0);
        match (dx, dy) {
            (0, 0) => {}
            (dx, 0) => drop(write!(self.d, "h{}", num(dx))),
            (0, dy) => drop(write!(self.d, "v{}", num(dy))),
            (dx, dy) => {
                let dy_text = num(dy);
                let space = if dy_text.starts_with('-') { "" } else { " " };
                let _ = write!(self.d, "l{}{space}{dy_text}", num(dx));
            }
        }
        self.at = to;
        self
    }

    /// Nothing but a round end of the line.
    pub fn dot(&mut self, x: f64, y: f64) -> &mut Self {
        self.move_to(x, y);
        self.d.push_str("h0");
        self
    }

    pub fn rect(&mut self, x: f64, y: f64, width: f64, height: f64) -> &mut Self {
        let (w, h) = (num(width), num(height));
        let _ = write!(self.d, "M{} {}h{w}v{h}h-{w}z", num(x), num(y));
        self
    }

    pub fn close(&mut self) -> &mut Self {
        self.d.push('z');
        self
    }

    pub fn d(&self) -> &str {
        &self.d
    }
}

/// How wide a text is at a font size, on the safe side: the reader's font is not known here.
pub fn text_width(text: &str, size: f64) -> f64 {
    let width = |c: char| match c {
        'i' | 'l' | 'j' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | ' ' => 0.33,
        'm' | 'w' | 'M' | 'W' | '%' => 0.9,
        '0'..='9' | 'a'..='z' | '-' | '+' | '$' | '·' => 0.6,
        'A'..='Z' => 0.72,
        c if (c as u32) < 0x1100 => 0.65,
        _ => 1.05,
    };
    text.chars().map(width).sum::<f64>() * size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_only_text() {
        assert_eq!(escape("<script>&\"'"), "&lt;script&gt;&amp;&quot;&#39;");
        assert_eq!(escape("a\0b\u{202e}c\nd"), "a\u{fffd}bc d");
        assert_eq!(shortened("Wrapped Bitcoin of Somebody", 10), "Wrapped B…");
        assert_eq!(shortened("ünïcödé", 7), "ünïcödé");
    }

    #[test]
    fn steps_of_a_path_do_not_drift() {
        let mut path = Path::default();
        path.move_to(0.0, 0.0);
        for n in 1..=1000 {
            path.line_to(f64::from(n) * 0.04, 0.0);
        }
        assert_eq!(path.at, (400, 0));
        let mut path = Path::default();
        path.move_to(1.0, 2.04).line_to(3.0, 1.0).line_to(3.0, 5.55).line_to(3.0, 5.55);
        assert_eq!(path.d(), "M1 2l2-1v4.6");
    }
}
