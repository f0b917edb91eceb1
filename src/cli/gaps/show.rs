//! Gaps for people, as a table, and for programs.

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::cli::plan::grouped;
use crate::db::gaps::Found;
use crate::domain::{Range, Stamp, State};

/// Rows of the table; all of them are in the JSON.
const SHOWN: usize = 40;

/// What was found, row by row.
#[derive(Default)]
pub struct Listed {
    pub rows: Vec<Value>,
    /// `rows` are wanted: there may be millions of them.
    keeps_rows: bool,
    /// Candles and rows, by state.
    counts: [(i64, i64); 4],
    /// Ids that are not stored.
    pub unknown: Vec<String>,
    /// The first ones for the table: what can be done about comes first.
    missing_rows: Vec<[String; 6]>,
    other_rows: Vec<[String; 6]>,
}

impl Listed {
    pub fn new(keeps_rows: bool) -> Listed {
        Listed { keeps_rows, ..Listed::default() }
    }

    pub fn add(&mut self, found: &Found) {
        for range in &found.whole {
            self.row(found, *range, State::Full, None);
        }
        self.counts[State::Full as usize].1 += found.candles;
        for span in &found.holes {
            self.counts[span.state as usize].1 += span.range.candles(found.timeframe);
            self.row(found, span.range, span.state, span.reason.as_deref());
        }
    }

    fn row(&mut self, found: &Found, range: Range, state: State, reason: Option<&str>) {
        self.counts[state as usize].0 += 1;
        let rfc3339 = |at: Stamp| at.naive().format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        if self.keeps_rows {
            self.rows.push(json!({
            "source": found.source,
            "asset": found.source_id,
            "vs_currency": &*found.vs_currency,
            "timeframe": found.timeframe.name(),
            "from": rfc3339(range.from),
            "to": rfc3339(range.to),
            "state": state.name(),
            "reason": reason,
            }));
        }
        let table = if state == State::Missing { &mut self.missing_rows } else { &mut self.other_rows };
        if state != State::Full && table.len() < SHOWN {
            let short = |at: Stamp| at.to_string()[..16].to_owned();
            let coin = format!("{} {}/{}", found.source, found.source_id, found.vs_currency);
            let reason = reason.unwrap_or_default().to_owned();
            let (from, to) = (short(range.from), short(range.to));
            table.push([coin, found.timeframe.name().to_owned(), from, to, state.name().to_owned(), reason]);
        }
    }

    /// Candles that are missing.
    pub fn missing(&self) -> i64 {
        self.counts[State::Missing as usize].1
    }

    /// `{"full": {"intervals": 1, "candles": 365}, …}`
    pub fn summary(&self) -> Value {
        let of = |state: State| {
            let (intervals, candles) = self.counts[state as usize];
            (state.name().to_owned(), json!({ "intervals": intervals, "candles": candles }))
        };
        Value::Object(State::ALL.map(of).into_iter().collect())
    }

    pub fn text(&self) -> String {
        let mut out = Vec::new();
        let shown: Vec<&[String; 6]> = self.missing_rows.iter().chain(&self.other_rows).take(SHOWN).collect();
        if !shown.is_empty() {
            let mut table = Table::new();
            table.load_style(presets::UTF8_FULL_CONDENSED);
            table.set_header(["coin", "candles", "from (UTC)", "to", "state", "reason"]);
            for row in &shown {
                table.add_row(row.iter());
            }
            out.push(table.to_string());
        }
        let holes: i64 = self.counts[1..].iter().map(|(rows, _)| rows).sum();
        let more = holes - shown.len() as i64;
        if more > 0 {
            out.push(format!("and {} more intervals; --output json lists all", grouped(more)));
        }
        let of = |state: State| format!("{} {}", grouped(self.counts[state as usize].1), state.name());
        out.push(format!("candles: {}", State::ALL.map(of).join(", ")));
        out.join("\n")
    }
}
