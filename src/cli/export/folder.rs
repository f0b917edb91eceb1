//! An export into a folder: whole files beside those of other exports, and a manifest of all.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use super::flow::{self, FEW_ROWS, Flow};
use super::rates::Rates;
use super::request::{Request, difference, rfc3339};
use crate::db::export::{ROWS_AT_ONCE, Selection, Snapshot, Table};
use crate::db::{DatabaseUrl, clock};
use crate::domain::Stamp;
use crate::domain::rows::Field;
use crate::exit::UsageError;
use crate::sinks::files::folder::{Folder, pause};
use crate::sinks::files::manifest::{Asked, ColumnEntry, Dataset, FileEntry, Manifest, SeenFile, SinceLast, with_run};
use crate::sinks::files::seen::{Remember, Seen};
use crate::sinks::files::sort::{Order, Sorter, Time};
use crate::sinks::files::writer::{Files, Plan, Written};
use crate::sinks::files::{FilesError, Format};

/// What sorting keeps in memory.
const SORT_BYTES: usize = 24 << 20;
const SORT_BYTES_CSV: usize = 12 << 20;

/// What was exported.
#[derive(Debug)]
pub struct Done {
    pub rows: u64,
    pub files: Vec<FileEntry>,
    pub dataset: String,
    /// Ids that no coin has.
    pub unknown: Vec<String>,
    /// Rows that could not be converted, where any were to be.
    pub without_rate: Option<u64>,
}

/// Exports what is asked for into the folder, or nothing.
pub fn write(url: &DatabaseUrl, folder: &Folder, request: &Request, stop: &AtomicBool) -> anyhow::Result<Done> {
    let written = Export::begin(url, folder, request, stop)?.write();
    if written.is_err() {
        // A disk that is full should not stay so because of us; what can't be removed is the next one's.
        let _ = folder.discard();
    }
    written
}

struct Export<'a> {
    folder: &'a Folder,
    request: &'a Request,
    stop: &'a AtomicBool,
    manifest: Manifest,
    asked: Asked,
    plan: Plan,
    order: Order,
    rates: Option<Rates>,
    snapshot: Snapshot,
    now: Stamp,
    open_runs: BTreeSet<i64>,
    /// Runs that are over; many of them changed no row of this table.
    ended_runs: Vec<i64>,
    since: SinceLast,
}

impl<'a> Export<'a> {
    fn begin(
        url: &DatabaseUrl,
        folder: &'a Folder,
        request: &'a Request,
        stop: &'a AtomicBool,
    ) -> anyhow::Result<Export<'a>> {
        let table = request.selection.table;
        let manifest = folder.manifest()?;
        let asked = request.asked();
        let dataset = request.dataset();
        refuse_to_mix(&manifest, &dataset, request, folder)?;
        let before = manifest.datasets.get(&dataset);
        let adds = request.since_last && before.is_some();
        if let (true, Some(before)) = (adds, before)
            && before.asked != asked
        {
            let text = format!(
                "the last export of {dataset} into {} was asked for with other options ({}); export with the same, without --since-last, or into another folder",
                folder.path().display(),
                difference(&before.asked, &asked)
            );
            return Err(UsageError(text).into());
        }
        let mut snapshot = Snapshot::take(url)?;
        pause();
        let now = clock::now(snapshot.conn())?;
        let mut since = before.map(|before| before.since_last.clone()).unwrap_or_default();
        if adds && let Some((run, began)) = &since.database {
            let found = snapshot.run_began(*run)?.map(|began| rfc3339(&began.to_string()));
            if found.as_ref() != Some(began) {
                let text = format!(
                    "the last export into {} was of another database (run {run} began then, and not in this one); export without --since-last, or into another folder",
                    folder.path().display()
                );
                return Err(UsageError(text).into());
            }
        }
        if !adds {
            since = SinceLast { next_part: since.next_part, ..SinceLast::default() };
        }
        since.database = snapshot.newest_run()?.map(|(run, began)| (run, rfc3339(&began.to_string())));
        let (mut open_runs, mut ended_runs) = (BTreeSet::new(), Vec::new());
        if table.is_of_coins() {
            open_runs = snapshot.open_runs()?;
            ended_runs = snapshot.ended_runs(&open_runs)?;
        }
        let (fields, rates) = flow::columns(url, request)?;
        let time = table.at(table.time()).map(|column| Time { column, kind: table.fields()[column].kind });
        let plan = Plan {
            dataset,
            format: request.format,
            about: request.about(),
            fields,
            by_day: time.filter(|_| request.by_day),
            part: since.next_part,
            adds,
        };
        let order = Order { day: None, columns: request.order() };
        Ok(Export {
            folder,
            request,
            stop,
            manifest,
            asked,
            plan,
            order,
            rates,
            snapshot,
            now,
            open_runs,
            ended_runs,
            since,
        })
    }

    fn write(mut self) -> anyhow::Result<Done> {
        let selection = &self.request.selection;
        let unknown = self.snapshot.unknown_ids(selection)?;
        let seen = self.begin_seen()?;
        let is_parquet = self.request.format == Format::Parquet;
        let limit = if is_parquet { SORT_BYTES } else { SORT_BYTES_CSV };
        let sorter =
            |fields: &[Field], order: &Order| Sorter::new(fields, order.clone(), &self.folder.scratch(), limit);
        let by_day = self.plan.by_day.map(|time| {
            let order = Order { day: Some(time), ..self.order.clone() };
            sorter(&self.plan.fields, &order)
        });
        let by_run =
            (self.plan.adds && selection.table.is_of_coins()).then(|| sorter(selection.table.fields(), &self.order));
        let whole_groups = is_parquet && by_day.is_none() && by_run.is_none();
        self.snapshot.set_rows_at_once(if whole_groups { ROWS_AT_ONCE } else { FEW_ROWS });
        let (folder, plan, rates) = (self.folder, &self.plan, self.rates.take());
        let ((runs, told), files) = flow::in_two_threads(
            |to_files| {
                let mut flow = Flow {
                    stop: self.stop,
                    table: selection.table,
                    seen: Some(seen),
                    rates,
                    by_day,
                    to_files,
                    failed: None,
                };
                let (done, open) = (&self.since.runs, &self.open_runs);
                let runs = read(&mut self.snapshot, selection, done, open, plan.adds, by_run, &mut flow)?;
                // Nobody has to keep old versions of rows for us while the files are finished.
                self.snapshot.end()?;
                Ok((runs, flow.end()?))
            },
            |rows_to_write| {
                let mut files = Files::new(folder, plan);
                for rows in rows_to_write {
                    files.write(&rows)?;
                }
                files.end()
            },
        )?;
        // Those without rows as well: what is left between the stretches has to be looked at each time.
        let ended = std::mem::take(&mut self.ended_runs);
        runs.into_iter().chain(ended).for_each(|run_id| with_run(&mut self.since.runs, run_id));
        let (rows, whole) = told.seen.ok_or(FilesError::Thread)?;
        let seen = SeenFile { path: self.seen_path(), rows, sha256: whole.sha256 };
        Ok(Done { without_rate: told.without_rate, ..self.commit(files, seen, unknown)? })
    }

    fn seen_path(&self) -> String {
        format!(".coinetl/{}-{:06}.seen", self.plan.dataset, self.plan.part)
    }

    fn begin_seen(&self) -> Result<Seen, FilesError> {
        let table = self.request.selection.table;
        let remember = if table.is_of_coins() { Remember::Runs(self.open_runs.clone()) } else { Remember::All };
        let old = self.since.seen.as_ref().filter(|_| self.plan.adds).map(|seen| self.folder.path().join(&seen.path));
        let new = self.folder.begin(&self.seen_path())?;
        // A quote is never rewritten.
        Seen::begin(self.order.clone(), remember, table != Table::Quotes, old.as_deref(), new)
    }

    /// Makes what was written the export.
    fn commit(mut self, written: Vec<Written>, seen: SeenFile, unknown: Vec<String>) -> anyhow::Result<Done> {
        let created_at = rfc3339(&self.now.to_string());
        let Plan { dataset, part, adds, .. } = &self.plan;
        let files: Vec<FileEntry> = written
            .into_iter()
            .map(|Written { path, day, rows, bytes, sha256 }| FileEntry {
                path,
                dataset: dataset.clone(),
                part: *part,
                day,
                rows,
                bytes,
                sha256,
                created_at: created_at.clone(),
            })
            .collect();
        let rows: u64 = files.iter().map(|file| file.rows).sum();
        let mut named: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
        let mut removed: Vec<String> = Vec::new();
        let before = self.manifest.datasets.remove(dataset);
        removed.extend(before.iter().filter_map(|before| Some(before.since_last.seen.as_ref()?.path.clone())));
        if !adds {
            let ours = self.manifest.files.iter().filter(|file| file.dataset == *dataset);
            removed.extend(ours.map(|file| file.path.clone()));
            self.manifest.files.retain(|file| file.dataset != *dataset);
        }
        named.push(seen.path.clone());
        self.since.next_part = part + 1;
        self.since.seen = Some(seen);
        removed.retain(|path| !named.contains(path));
        self.manifest.files.extend(files.iter().cloned());
        let total = self.manifest.files.iter().filter(|file| file.dataset == *dataset).map(|file| file.rows).sum();
        let table = self.request.selection.table;
        self.manifest.created_at = created_at.clone();
        self.manifest.coinetl = env!("CARGO_PKG_VERSION").to_owned();
        self.manifest.datasets.insert(
            dataset.clone(),
            Dataset {
                source: self.asked.source.clone().unwrap_or_else(|| super::ALL.to_owned()),
                window: self.asked.window.clone(),
                created_at,
                rows: total,
                columns: self.plan.fields.iter().map(ColumnEntry::of).collect(),
                order: table.order().iter().map(|name| (*name).to_owned()).collect(),
                asked: self.asked,
                since_last: self.since,
            },
        );
        self.folder.commit(named, removed, self.manifest)?;
        Ok(Done { rows, files, dataset: dataset.clone(), unknown, without_rate: None })
    }
}

/// Reads what is wanted into the flow. The runs that are done with it: they change nothing any more.
fn read(
    snapshot: &mut Snapshot,
    selection: &Selection,
    done: &[(i64, i64)],
    open_runs: &BTreeSet<i64>,
    adds: bool,
    by_run: Option<Sorter>,
    flow: &mut Flow<'_>,
) -> anyhow::Result<BTreeSet<i64>> {
    let mut runs = BTreeSet::new();
    let Some(mut sorter) = by_run else {
        let mut newest = None;
        let read = snapshot.read(selection, &mut |rows| {
            if !adds {
                for run_id in &rows.runs {
                    if newest != Some(*run_id) {
                        newest = Some(*run_id);
                        if !open_runs.contains(run_id) {
                            runs.insert(*run_id);
                        }
                    }
                }
            }
            flow.take(rows)
        });
        flow.check(read)?;
        return Ok(if selection.table.is_of_coins() { runs } else { BTreeSet::new() });
    };
    for run_id in snapshot.runs_but(selection.table, done)? {
        let read = snapshot.read_run(selection, run_id, &mut |rows| match sorter.push(&rows) {
            Ok(()) => !flow.is_stopped(),
            Err(err) => flow.fail(err.into()),
        });
        flow.check(read)?;
        if !open_runs.contains(&run_id) {
            runs.insert(run_id);
        }
    }
    sorter.finish(&mut |rows| Ok(flow.take(rows)))?;
    flow.check(Ok(()))?;
    Ok(runs)
}

/// Whoever reads all days of a folder must find rows of one kind.
fn refuse_to_mix(manifest: &Manifest, dataset: &str, request: &Request, folder: &Folder) -> Result<(), UsageError> {
    let other = manifest
        .datasets
        .iter()
        .find(|(name, held)| *name != dataset && (request.by_day || held.asked.partition_by.is_some()));
    match other {
        Some((name, _)) => Err(UsageError(format!(
            "{} holds {name}, and a folder with a file for each day holds nothing else; give {dataset} a folder of its own",
            folder.path().display()
        ))),
        None => Ok(()),
    }
}
