//! `--export-on-exit`: what is stored, as files, when the stream ends.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::cli::candles::rollup;
use crate::cli::export::{self, Request};
use crate::db::export::{Selection, Table};
use crate::db::{DatabaseUrl, DbError};
use crate::domain::Timeframe;
use crate::sinks::files::Format;
use crate::sinks::files::folder::Folder;
use crate::sinks::files::manifest::FileEntry;

/// Other members of the group may be leaving at the same time, one after the other.
const PATIENCE: Duration = Duration::from_secs(120);

/// Finds out at the beginning what would be a pity to find out at the end.
pub fn check(folder: &Path) -> anyhow::Result<()> {
    Folder::open(folder, PATIENCE)?;
    Ok(())
}

/// Days as CSV, minutes as Parquet: candles of prices, brought up to date, and windows of quotes. Each file is
/// replaced when the new one is whole.
pub fn export(url: &DatabaseUrl, folder: &Path, stop: &AtomicBool) -> anyhow::Result<Vec<FileEntry>> {
    match rollup::bring_up_to_date(url, &[Timeframe::M1, Timeframe::D1], PATIENCE) {
        // Whoever is at it brings up to date what is stored; what it has not come to is in the next export.
        Err(err @ DbError::LeaseHeld { .. }) => log::warn!("{err}; exporting the candles as they are"),
        rolled_up => rolled_up?,
    }
    let folder = Folder::open(folder, PATIENCE)?;
    let mut files = Vec::new();
    for (table, timeframe, format) in [
        (Table::Candles, Timeframe::D1, Format::Csv),
        (Table::Candles, Timeframe::M1, Format::Parquet),
        (Table::Windows, Timeframe::M1, Format::Parquet),
    ] {
        let selection = Selection { timeframes: vec![timeframe], ..Selection::all(table) };
        let request = Request { selection, format, by_day: false, since_last: false, in_currency: None };
        let done = export::write(url, &folder, &request, stop)?;
        log::info!("{}: {} rows in {}", done.dataset, done.rows, folder.path().display());
        files.extend(done.files);
    }
    Ok(files)
}
