//! Rows that come in order into one file, or into a file for each UTC day in the layout of hive:
//! `day=2026-05-19/part-000000.parquet`.

use chrono::DateTime;

use super::encoder::{Encoder, Format};
use super::error::FilesError;
use super::folder::Folder;
use super::parquet::About;
use super::sort::Time;
use crate::domain::rows::{Field, Rows};

/// How an export's files are called and what is in them.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The first file's name, without a day.
    pub dataset: String,
    pub format: Format,
    pub fields: Vec<Field>,
    pub about: About,
    /// A file for each day of this column.
    pub by_day: Option<Time>,
    pub part: u32,
    /// Whether files of the data set stay that are there already.
    pub adds: bool,
}

/// A file that is whole, under its temporary name.
#[derive(Debug, Clone)]
pub struct Written {
    pub path: String,
    pub day: Option<String>,
    pub rows: u64,
    pub bytes: u64,
    pub sha256: String,
}

pub struct Files<'a> {
    folder: &'a Folder,
    plan: &'a Plan,
    open: Option<Open>,
    written: Vec<Written>,
}

struct Open {
    path: String,
    day: Option<i64>,
    rows: u64,
    encoder: Encoder,
}

impl<'a> Files<'a> {
    pub fn new(folder: &'a Folder, plan: &'a Plan) -> Files<'a> {
        Files { folder, plan, open: None, written: Vec::new() }
    }

    pub fn write(&mut self, rows: &Rows) -> Result<(), FilesError> {
        let Some(time) = self.plan.by_day else { return self.write_of_day(None, rows) };
        let mut begin = 0;
        while begin < rows.len() {
            let day = time.day(rows, begin);
            let mut end = begin + 1;
            while end < rows.len() && time.day(rows, end) == day {
                end += 1;
            }
            if end - begin == rows.len() {
                return self.write_of_day(Some(day), rows);
            }
            let mut part = Rows::new(&self.plan.fields);
            (begin..end).for_each(|row| part.append(rows, row));
            self.write_of_day(Some(day), &part)?;
            begin = end;
        }
        Ok(())
    }

    /// Ends the last file. A whole export that found nothing still has a file, which says what there would
    /// be; one that only adds has none.
    pub fn end(mut self) -> Result<Vec<Written>, FilesError> {
        if self.written.is_empty() && self.open.is_none() && self.plan.by_day.is_none() && !self.plan.adds {
            self.write_of_day(None, &Rows::new(&self.plan.fields))?;
        }
        self.close()?;
        Ok(self.written)
    }

    fn write_of_day(&mut self, day: Option<i64>, rows: &Rows) -> Result<(), FilesError> {
        if self.open.as_ref().is_some_and(|open| open.day != day) {
            self.close()?;
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let path = self.plan.path(day);
                let Plan { format, fields, about, .. } = self.plan;
                let encoder = Encoder::begin(*format, self.folder.begin(&path)?, fields, about)?;
                self.open.insert(Open { path, day, rows: 0, encoder })
            }
        };
        open.encoder.write(rows)?;
        open.rows += rows.len() as u64;
        super::folder::fault("while-writing");
        Ok(())
    }

    fn close(&mut self) -> Result<(), FilesError> {
        let Some(Open { path, day, rows, encoder }) = self.open.take() else { return Ok(()) };
        let whole = encoder.end()?;
        self.written.push(Written { path, day: day.map(name_of), rows, bytes: whole.bytes, sha256: whole.sha256 });
        Ok(())
    }
}

impl Plan {
    fn path(&self, day: Option<i64>) -> String {
        let Plan { dataset, format, part, adds, .. } = self;
        let extension = format.extension();
        let stem = dataset.strip_suffix(extension).unwrap_or(dataset).trim_end_matches('.');
        match day {
            Some(day) => format!("day={}/part-{part:06}.{extension}", name_of(day)),
            // Behind the first one where names are sorted.
            None if *adds => format!("{stem}_{part:06}.{extension}"),
            None => format!("{stem}.{extension}"),
        }
    }
}

/// `2026-05-19`
fn name_of(day: i64) -> String {
    let moment = DateTime::from_timestamp(day.saturating_mul(86_400), 0).unwrap_or_default();
    moment.format("%Y-%m-%d").to_string()
}
