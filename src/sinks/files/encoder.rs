//! The one place that knows both formats.

use serde::{Deserialize, Serialize};

use super::csv::CsvFile;
use super::error::FilesError;
use super::out::{Out, Whole};
use super::parquet::{About, ParquetFile};
use crate::domain::rows::{Field, Rows};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Csv,
    Parquet,
}

impl Format {
    pub fn extension(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Parquet => "parquet",
        }
    }
}

/// A file being written.
pub enum Encoder {
    Csv(Box<CsvFile>),
    Parquet(Box<ParquetFile>),
}

impl Encoder {
    pub fn begin(format: Format, out: Out, fields: &[Field], about: &About) -> Result<Encoder, FilesError> {
        Ok(match format {
            Format::Csv => Encoder::Csv(Box::new(CsvFile::begin(out, fields))),
            Format::Parquet => Encoder::Parquet(Box::new(ParquetFile::begin(out, fields, about)?)),
        })
    }

    pub fn write(&mut self, rows: &Rows) -> Result<(), FilesError> {
        match self {
            Encoder::Csv(file) => file.write(rows),
            Encoder::Parquet(file) => file.write(rows),
        }
    }

    pub fn end(self) -> Result<Whole, FilesError> {
        match self {
            Encoder::Csv(file) => file.end(),
            Encoder::Parquet(file) => file.end(),
        }
    }
}
