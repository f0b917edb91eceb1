//! What was read, file by file, for people and for programs.

use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::Context;
use crate::cli::output::Report;
use crate::cli::progress;
use crate::domain::Stamp;
use crate::sinks::archive::{Piece, Target};
use crate::sources::archive::{Extent, FileError, Input, Runs};

/// Coins of one file that are listed one by one.
const MOST_SERIES: usize = 100;
/// Rows of one file whose faults are told; all of them are in `dead_letters` where they were imported.
const MOST_FAULTS: usize = 5;

/// What came of a file.
#[derive(Debug)]
pub struct FileReport {
    /// Its number.
    pub at: usize,
    /// Usable ones that this run read.
    pub rows: u64,
    pub doubled: u64,
    pub rejected: u64,
    /// What is wrong with the first of them.
    pub faults: Vec<String>,
    pub extents: Vec<Extent>,
    pub error: Option<FileError>,
}

impl FileReport {
    pub fn new(at: usize) -> FileReport {
        FileReport { at, rows: 0, doubled: 0, rejected: 0, faults: Vec::new(), extents: Vec::new(), error: None }
    }

    pub fn take(&mut self, piece: &Piece, error: Option<FileError>) {
        match piece {
            Piece::Rows(chunk) => {
                self.rows += (chunk.candles.len() + chunk.prices.len()) as u64;
                self.doubled += chunk.doubled;
                self.rejected += chunk.rejected.len() as u64;
                let room = MOST_FAULTS - self.faults.len();
                self.faults.extend(chunk.rejected.iter().take(room).map(|reject| reject.reason.clone()));
            }
            // Where the holes are is stored, and not shown.
            Piece::End(extents) => {
                let shown =
                    |extent: &Extent| Extent { subject: extent.subject.clone(), covered: Runs::default(), ..*extent };
                self.extents = extents.iter().map(shown).collect();
            }
            Piece::Broken => {}
        }
        self.error = self.error.take().or(error);
    }
}

pub struct Listed {
    pub text: String,
    pub json: Value,
}

/// All files: what they are and what is in them.
pub fn list(inputs: &[Input], reports: &[FileReport], failed: &[FileError], target: &Target) -> Listed {
    let (mut lines, mut files) = (Vec::new(), Vec::new());
    for report in reports {
        let (line, file) = one(&inputs[report.at], report, target);
        lines.push(line);
        files.push(file);
    }
    for FileError { file, why } in failed {
        lines.push(format!("{file}: {why}"));
        files.push(json!({ "file": file, "error": why }));
    }
    Listed { text: lines.join("\n"), json: Value::Array(files) }
}

fn one(input: &Input, report: &FileReport, target: &Target) -> (String, Value) {
    let FileReport { extents, rejected, rows, .. } = report;
    let layout = input.content.name();
    let series: Vec<Value> = extents.iter().take(MOST_SERIES).map(|extent| series(extent, target)).collect();
    // What all of the file's series agree on.
    let common = |name: &str| {
        let first = series.first().map_or(Value::Null, |series| series[name].clone());
        if series.iter().all(|series| series[name] == first) { first } else { Value::Null }
    };
    let first = extents.iter().map(|extent| extent.first).min();
    let last = extents.iter().map(|extent| extent.last).max();
    let mut text = format!("{}: {layout}, {rows} rows", input.shown);
    match extents.as_slice() {
        [] => {}
        [extent] => {
            let (source, id) = target.owner(&extent.subject);
            let kind = extent.timeframe.map_or("prices", |timeframe| timeframe.name());
            text.push_str(&format!(" of {source} {id} in {}, {kind}", target.currency(&extent.subject)));
        }
        many => text.push_str(&format!(" of {} series (coin, currency and timeframe)", many.len())),
    }
    if let (Some(first), Some(last)) = (first, last) {
        text.push_str(&format!(", {first} to {last} UTC"));
    }
    if *rejected > 0 {
        text.push_str(&format!(", {rejected} rejected: {}", report.faults.join("; ")));
        if *rejected > report.faults.len() as u64 {
            text.push_str("; …");
        }
    }
    if let Some(error) = &report.error {
        text.push_str(&format!("; broken: {}", error.why));
    }
    let json = json!({
        "file": input.shown,
        "layout": layout,
        "source": common("source"),
        "asset": common("asset"),
        "vs_currency": common("vs_currency"),
        "timeframe": common("timeframe"),
        "rows": rows,
        "doubled": report.doubled,
        "rejected": rejected,
        "faults": report.faults,
        "first": first.map(rfc3339),
        "last": last.map(rfc3339),
        "series": series,
        "series_count": extents.len(),
        "error": report.error.as_ref().map(|error| &error.why),
    });
    (text, json)
}

fn series(extent: &Extent, target: &Target) -> Value {
    let (source, asset) = target.owner(&extent.subject);
    json!({
        "source": source,
        "asset": asset,
        "vs_currency": Arc::as_ref(target.currency(&extent.subject)),
        "timeframe": extent.timeframe.map(|timeframe| timeframe.name()),
        "rows": extent.rows,
        "first": rfc3339(extent.first),
        "last": rfc3339(extent.last),
    })
}

fn rfc3339(moment: Stamp) -> String {
    format!("{}Z", moment.to_string().replacen(' ', "T", 1))
}

/// The result in a line.
pub fn told(report: &Report, files: usize) -> String {
    let new = report.rows_written - report.rows_updated;
    format!(
        "{}: {} rows of {files} file(s): {new} new, {} changed, {} unchanged, {} rejected ({:.1} s)",
        report.source,
        report.rows_read,
        report.rows_updated,
        report.rows_unchanged,
        report.rows_rejected,
        report.seconds
    )
}

pub fn bar(context: &Context, inputs: &[Input]) -> ProgressBar {
    let bar = progress::bar(context);
    bar.set_length(inputs.iter().map(|input| input.bytes).sum());
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}, {eta} left {msg}") {
        bar.set_style(style);
    }
    bar
}
