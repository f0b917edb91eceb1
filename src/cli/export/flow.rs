//! The way of the rows, from the thread that reads them to the one that writes them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::rates::{self, Rates};
use super::request::Request;
use crate::db::DatabaseUrl;
use crate::db::export::{ReadError, Table};
use crate::domain::rows::{Field, Rows};
use crate::sinks::files::seen::Seen;
use crate::sinks::files::sort::Sorter;
use crate::sinks::files::{FilesError, Whole};

/// Rows on their way at once where whole row groups are not needed.
pub const FEW_ROWS: usize = 8_192;

#[derive(Debug, thiserror::Error)]
#[error("stopped by a signal; nothing of this export is left behind")]
struct Interrupted;

/// Reads here and writes in a thread of its own, a batch of rows being between the two.
pub fn in_two_threads<R, W: Send>(
    read: impl FnOnce(SyncSender<Rows>) -> anyhow::Result<R>,
    write: impl FnOnce(Receiver<Rows>) -> Result<W, FilesError> + Send,
) -> anyhow::Result<(R, W)> {
    let (to_files, rows_to_write) = sync_channel::<Rows>(1);
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || write(rows_to_write));
        // The other thread waits for rows as long as there is somebody to send them: the reading owns that end.
        let read = read(to_files);
        match (read, writing.join()) {
            (_, Err(panic)) => std::panic::resume_unwind(panic),
            // What stopped the one side is what the other has to tell.
            (_, Ok(Err(err))) => Err(err.into()),
            (Err(err), Ok(Ok(_))) => Err(err),
            (Ok(read), Ok(Ok(written))) => Ok((read, written)),
        }
    })
}

/// The columns of the files, and what converts into them.
pub fn columns(url: &DatabaseUrl, request: &Request) -> anyhow::Result<(Vec<Field>, Option<Rates>)> {
    let table = request.selection.table;
    Ok(match &request.in_currency {
        Some(currency) => (rates::fields(table), Some(Rates::new(url, table, currency)?)),
        None => (table.fields().to_vec(), None),
    })
}

/// Behind the database: what was exported already is left out, amounts are converted, days are put
/// together, and the rest is sent to be written.
pub struct Flow<'a> {
    pub stop: &'a AtomicBool,
    pub table: Table,
    /// `None` where nothing is remembered of an export.
    pub seen: Option<Seen>,
    pub rates: Option<Rates>,
    pub by_day: Option<Sorter>,
    pub to_files: SyncSender<Rows>,
    pub failed: Option<anyhow::Error>,
}

impl Flow<'_> {
    /// False when no more rows are wanted.
    pub fn take(&mut self, rows: Rows) -> bool {
        if self.is_stopped() {
            return self.fail(Interrupted.into());
        }
        match self.pass(rows) {
            Ok(goes_on) => goes_on,
            Err(err) => self.fail(err),
        }
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub fn fail(&mut self, err: anyhow::Error) -> bool {
        self.failed = Some(err);
        false
    }

    fn pass(&mut self, rows: Rows) -> anyhow::Result<bool> {
        let rows = match &mut self.seen {
            Some(seen) => seen.only_new(rows, self.table.fields())?,
            None => rows,
        };
        if rows.is_empty() {
            return Ok(true);
        }
        let rows = match &mut self.rates {
            Some(rates) => rates.convert(&rows)?,
            None => rows,
        };
        match &mut self.by_day {
            Some(sorter) => sorter.push(&rows).map(|()| true).map_err(Into::into),
            // Nobody takes them when the other side failed, which it tells itself.
            None => Ok(self.to_files.send(rows).is_ok()),
        }
    }

    pub fn check(&mut self, read: Result<(), ReadError>) -> anyhow::Result<()> {
        match (self.failed.take(), read) {
            (Some(err), _) => Err(err),
            (None, Err(ReadError::Database(err))) => Err(err.into()),
            (None, Err(ReadError::Stopped)) if self.is_stopped() => Err(Interrupted.into()),
            (None, Err(ReadError::Stopped)) => Err(FilesError::Thread.into()),
            (None, Ok(())) => Ok(()),
        }
    }

    /// Sends what was held back, and ends the list of what was exported, if there is one.
    pub fn end(mut self) -> anyhow::Result<Told> {
        if let Some(sorter) = self.by_day.take() {
            let (to_files, stop) = (&self.to_files, self.stop);
            sorter.finish(&mut |rows| Ok(!stop.load(Ordering::Relaxed) && to_files.send(rows).is_ok()))?;
            if self.is_stopped() {
                return Err(Interrupted.into());
            }
        }
        let without_rate = self.rates.as_ref().map(Rates::without);
        Ok(Told { seen: self.seen.map(Seen::end).transpose()?, without_rate })
    }
}

/// What is known when all rows are on their way.
pub struct Told {
    /// The list of what was exported: its rows and its sum.
    pub seen: Option<(u64, Whole)>,
    /// Rows that could not be converted, where any were to be.
    pub without_rate: Option<u64>,
}
