//! The result on stdout: for people a few lines, for programs one JSON object.

use std::io::{self, Write};

use serde::Serialize;

use super::Output;
use crate::db::runs::{Status, Tally};
use crate::exit::Exit;

/// How a command ended.
pub struct Outcome {
    pub exit: Exit,
    pub report: Report,
    /// What a person reads, without a line end at the end; empty where the error says it all.
    pub text: String,
    /// Another run of the same command is at it, and tells how that ends.
    pub busy: bool,
}

impl Outcome {
    pub fn new(exit: Exit, report: Report, text: String) -> Self {
        Outcome { exit, report, text, busy: false }
    }
}

/// What every command tells a program.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub run_id: Option<i64>,
    pub command: String,
    pub source: String,
    pub status: &'static str,
    pub calls: i64,
    pub credits: i64,
    pub rows_read: i64,
    /// New and updated together.
    pub rows_written: i64,
    pub rows_updated: i64,
    pub rows_unchanged: i64,
    pub rows_rejected: i64,
    pub rows_absent: i64,
    pub seconds: f64,
    pub error: Option<String>,
    /// What only this command has to tell.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

impl Report {
    pub fn new(command: &str, source: &str) -> Self {
        Report {
            run_id: None,
            command: command.to_owned(),
            source: source.to_owned(),
            status: Status::Ok.name(),
            calls: 0,
            credits: 0,
            rows_read: 0,
            rows_written: 0,
            rows_updated: 0,
            rows_unchanged: 0,
            rows_rejected: 0,
            rows_absent: 0,
            seconds: 0.0,
            error: None,
            more: serde_json::Map::new(),
        }
    }

    /// A command that ended before a run began.
    pub fn failed(command: &str, source: &str, err: &anyhow::Error) -> Self {
        let mut report = Report::new(command, source);
        report.status = Status::Failed.name();
        report.error = Some(sentence(err));
        report
    }

    pub fn set_tally(&mut self, tally: &Tally) {
        self.rows_read = tally.read;
        self.rows_written = tally.written;
        self.rows_updated = tally.updated;
        self.rows_unchanged = tally.unchanged;
        self.rows_rejected = tally.rejected;
        self.rows_absent = tally.absent;
    }
}

/// An error and its causes in one line.
pub fn sentence(err: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in err.chain() {
        let cause = cause.to_string();
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text.replace(['\n', '\r'], " ")
}

/// Prints the result, and an error once; beside it where the standard output is the command's rows. A reader
/// that went away is no failure of the run.
pub fn print(outcome: &Outcome, output: Output, quiet: bool, stdout_is_taken: bool) {
    if let Some(error) = &outcome.report.error {
        let _ = writeln!(io::stderr(), "coinetl: {error}");
    }
    let mut out: Box<dyn Write> = if stdout_is_taken { Box::new(io::stderr()) } else { Box::new(io::stdout().lock()) };
    let _ = match output {
        Output::Json => match serde_json::to_string(&outcome.report) {
            Ok(json) => writeln!(out, "{json}"),
            Err(err) => writeln!(io::stderr(), "coinetl: the result can't be written as JSON: {err}"),
        },
        Output::Text if quiet || outcome.text.is_empty() => Ok(()),
        Output::Text => writeln!(out, "{}", outcome.text),
    };
    let _ = out.flush();
}
