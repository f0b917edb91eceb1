//! `manifest.json`: which files an export left in a folder, what is in them, and where the next one goes on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::encoder::Format;
use crate::domain::rows::Field;

pub const FORMAT: &str = "coinetl-export";
pub const VERSION: u32 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    pub format: String,
    pub version: u32,
    /// Of the newest export.
    pub created_at: String,
    pub coinetl: String,
    /// In the order in which they were made: of two rows with one key, that of the later file counts.
    pub files: Vec<FileEntry>,
    pub datasets: BTreeMap<String, Dataset>,
}

impl Default for Manifest {
    fn default() -> Self {
        Manifest {
            format: FORMAT.to_owned(),
            version: VERSION,
            created_at: String::new(),
            coinetl: env!("CARGO_PKG_VERSION").to_owned(),
            files: Vec::new(),
            datasets: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// From the folder on.
    pub path: String,
    pub dataset: String,
    /// Counts the exports of the data set from 0.
    pub part: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<String>,
    pub rows: u64,
    pub bytes: u64,
    pub sha256: String,
    pub created_at: String,
}

/// What the files of a data set have in common.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dataset {
    /// The source that was asked for, or `all`.
    pub source: String,
    pub window: Window,
    pub created_at: String,
    pub rows: u64,
    pub columns: Vec<ColumnEntry>,
    /// Columns that the rows of a file are sorted by.
    pub order: Vec<String>,
    pub asked: Asked,
    pub since_last: SinceLast,
}

/// Half-open; what was not asked for is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub from: Option<String>,
    pub to: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnEntry {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub nullable: bool,
}

impl ColumnEntry {
    pub fn of(field: &Field) -> ColumnEntry {
        ColumnEntry { name: field.name.to_owned(), kind: field.kind.name().to_owned(), nullable: field.nullable }
    }
}

/// What was asked for: an export that goes on must ask for the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub format: Format,
    pub partition_by: Option<String>,
    pub timeframes: Vec<String>,
    pub source: Option<String>,
    pub ids: Vec<String>,
    pub pairs: Vec<String>,
    pub top: Option<u32>,
    pub vs: Vec<String>,
    pub window: Window,
    pub in_currency: Option<String>,
}

/// Where the next export with `--since-last` goes on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SinceLast {
    pub next_part: u32,
    /// Runs whose rows are exported and that change nothing any more: first and last of each stretch.
    pub runs: Vec<(i64, i64)>,
    /// A run of the database, and when it began: another database is not taken for this one.
    pub database: Option<(i64, String)>,
    /// What was exported of runs that were still running, or of a table that knows no runs.
    pub seen: Option<SeenFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenFile {
    pub path: String,
    pub rows: u64,
    pub sha256: String,
}

/// Stretches with one more number in them.
pub fn with_run(stretches: &mut Vec<(i64, i64)>, run_id: i64) {
    let at = stretches.partition_point(|(first, _)| *first <= run_id);
    if at > 0 && stretches[at - 1].1 >= run_id {
        return;
    }
    let joins_before = at > 0 && stretches[at - 1].1.checked_add(1) == Some(run_id);
    let joins_behind = at < stretches.len() && run_id.checked_add(1) == Some(stretches[at].0);
    match (joins_before, joins_behind) {
        (true, true) => {
            stretches[at - 1].1 = stretches[at].1;
            stretches.remove(at);
        }
        (true, false) => stretches[at - 1].1 = run_id,
        (false, true) => stretches[at].0 = run_id,
        (false, false) => stretches.insert(at, (run_id, run_id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_kept_as_stretches() {
        let mut stretches = Vec::new();
        for run_id in [5, 1, 3, 9, 2, 2, 8, 4, 0, 7] {
            with_run(&mut stretches, run_id);
        }
        assert_eq!(stretches, [(0, 5), (7, 9)]);
        with_run(&mut stretches, 6);
        assert_eq!(stretches, [(0, 9)]);
    }
}
