//! An export into the standard output: one stream of rows, of which nothing is kept.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::flow::{self, FEW_ROWS, Flow};
use super::request::Request;
use crate::db::DatabaseUrl;
use crate::db::export::{ROWS_AT_ONCE, Snapshot};
use crate::exit::UsageError;
use crate::sinks::files::folder::pause;
use crate::sinks::files::out::Out;
use crate::sinks::files::{Encoder, FilesError, Format, Whole};

/// What went through.
#[derive(Debug)]
pub struct Piped {
    pub rows: u64,
    pub whole: Whole,
    /// Ids that no coin has.
    pub unknown: Vec<String>,
    /// Rows that could not be converted, where any were to be.
    pub without_rate: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
#[error("stopped by a signal; what came through is not the whole export")]
struct Interrupted;

/// What can't be done without a folder.
pub fn check(request: &Request) -> Result<(), UsageError> {
    let needs_a_folder = [("--partition-by", request.by_day), ("--since-last", request.since_last)];
    if let Some((option, _)) = needs_a_folder.iter().find(|(_, given)| *given) {
        return Err(UsageError(format!("{option} needs a folder; --out - writes one stream")));
    }
    if request.format == Format::Parquet && std::io::stdout().is_terminal() {
        let why = "a terminal can't show Parquet; send it on with | or >, or give --out a folder";
        return Err(UsageError(why.to_owned()));
    }
    Ok(())
}

/// Sends what is asked for to the standard output.
pub fn write(url: &DatabaseUrl, request: &Request, stop: &Arc<AtomicBool>) -> anyhow::Result<Piped> {
    let mut snapshot = Snapshot::take(url)?;
    pause();
    let (fields, rates) = flow::columns(url, request)?;
    let selection = &request.selection;
    let unknown = snapshot.unknown_ids(selection)?;
    snapshot.set_rows_at_once(if request.format == Format::Parquet { ROWS_AT_ONCE } else { FEW_ROWS });
    let about = request.about();
    let through = flow::in_two_threads(
        |to_files| {
            let mut flow =
                Flow { stop, table: selection.table, seen: None, rates, by_day: None, to_files, failed: None };
            let read = snapshot.read(selection, &mut |rows| flow.take(rows));
            flow.check(read)?;
            // Whoever reads slowly does not keep old versions of rows alive.
            snapshot.end()?;
            flow.end()
        },
        |rows_to_write| -> Result<(u64, Whole), FilesError> {
            let mut encoder = Encoder::begin(request.format, Out::stdout(stop.clone())?, &fields, &about)?;
            let mut count = 0;
            for rows in rows_to_write {
                encoder.write(&rows)?;
                count += rows.len() as u64;
            }
            Ok((count, encoder.end()?))
        },
    );
    match through {
        Ok((told, (rows, whole))) => Ok(Piped { rows, whole, unknown, without_rate: told.without_rate }),
        Err(_) if stop.load(Ordering::Relaxed) => Err(Interrupted.into()),
        // Unlike a file, what is behind a pipe can't be taken back.
        Err(err) => Err(match err.downcast() {
            Ok(FilesError::Full { path }) => FilesError::Cut { path }.into(),
            Ok(err) => err.into(),
            Err(err) => err,
        }),
    }
}
