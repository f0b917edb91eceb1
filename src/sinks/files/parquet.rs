//! Parquet: zstd, a row group for so many rows as DuckDB puts into one, statistics for groups and pages, and
//! in the footer how the rows are sorted and what the export was told.
//!
//! Encodings are those that Spark, Trino and DuckDB all read: dictionaries for what repeats (a column that
//! turns out not to goes on plain), deltas for times and sequences. Byte-stream split would save a little
//! more and is unknown to Spark's fast reader.

use std::sync::Arc;

use parquet::basic::{Compression, Encoding, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, Type};

use super::error::FilesError;
use super::out::{Out, Whole};
use crate::db::export::ROWS_AT_ONCE;
use crate::domain::rows::{Column, Field, Kind, Rows, Values};

/// What DuckDB takes.
const ZSTD_LEVEL: i32 = 3;
/// A dictionary of doubles beyond this saves nothing: the numbers differ.
const DICTIONARY_OF_NUMBERS: usize = 128 << 10;

/// What is told in a file besides its rows.
#[derive(Debug, Clone, Default)]
pub struct About {
    pub order: Vec<usize>,
    pub metadata: Vec<(String, String)>,
}

pub struct ParquetFile {
    writer: SerializedFileWriter<Out>,
    path: std::path::PathBuf,
    fields: Vec<Field>,
    /// Rows that wait until there are enough for a group.
    waiting: Rows,
}

impl ParquetFile {
    pub fn begin(out: Out, fields: &[Field], about: &About) -> Result<ParquetFile, FilesError> {
        let path = out.path().to_owned();
        let failed = |err| failed(&path, err);
        let schema = schema(fields).map_err(failed)?;
        let properties = properties(fields, about).map_err(failed)?;
        let writer = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties)).map_err(failed)?;
        Ok(ParquetFile { writer, path, fields: fields.to_vec(), waiting: Rows::new(fields) })
    }

    pub fn write(&mut self, rows: &Rows) -> Result<(), FilesError> {
        if self.waiting.is_empty() && rows.len() == ROWS_AT_ONCE {
            return self.write_group(rows);
        }
        for row in 0..rows.len() {
            self.waiting.append(rows, row);
            if self.waiting.len() == ROWS_AT_ONCE {
                self.flush()?;
            }
        }
        Ok(())
    }

    pub fn end(mut self) -> Result<Whole, FilesError> {
        self.flush()?;
        let ParquetFile { writer, path, .. } = self;
        let out = writer.into_inner().map_err(|err| failed(&path, err))?;
        out.end()
    }

    fn flush(&mut self) -> Result<(), FilesError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let rows = std::mem::replace(&mut self.waiting, Rows::new(&self.fields));
        self.write_group(&rows)
    }

    fn write_group(&mut self, rows: &Rows) -> Result<(), FilesError> {
        write_group(&mut self.writer, rows).map_err(|err| failed(&self.path, err))
    }
}

fn write_group(writer: &mut SerializedFileWriter<Out>, rows: &Rows) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    for Column { values, present } in &rows.columns {
        let Some(mut column) = group.next_column()? else {
            return Err(ParquetError::General("fewer columns than there are values for".to_owned()));
        };
        // A column without any NULL among its values needs none left out.
        let holes = present.as_deref().filter(|present| present.contains(&0));
        let levels = present.as_deref();
        match (column.untyped(), values) {
            (ColumnWriter::Int64ColumnWriter(_), Values::Int(numbers)) => {
                let numbers = without(holes, numbers);
                column.typed::<Int64Type>().write_batch(&numbers, levels, None)?;
            }
            (ColumnWriter::DoubleColumnWriter(_), Values::Double(numbers)) => {
                let numbers = without(holes, numbers);
                column.typed::<DoubleType>().write_batch(&numbers, levels, None)?;
            }
            (ColumnWriter::BoolColumnWriter(_), Values::Bool(truths)) => {
                let truths = without(holes, truths);
                column.typed::<BoolType>().write_batch(&truths, levels, None)?;
            }
            (ColumnWriter::ByteArrayColumnWriter(_), Values::Text(texts)) => {
                let words: Vec<ByteArray> = texts.words().iter().map(|word| ByteArray::from(&**word)).collect();
                let ids = without(holes, texts.ids());
                // In parts: a value on its way takes five times as much as its id.
                let mut written = 0;
                let mut taken = 0;
                while written < rows.len() {
                    let part = (rows.len() - written).min(16_384);
                    let levels = levels.map(|levels| &levels[written..written + part]);
                    let count = levels.map_or(part, |levels| levels.iter().filter(|level| **level == 1).count());
                    let values: Vec<ByteArray> =
                        ids[taken..taken + count].iter().map(|id| words[*id as usize].clone()).collect();
                    column.typed::<ByteArrayType>().write_batch(&values, levels, None)?;
                    written += part;
                    taken += count;
                }
            }
            _ => return Err(ParquetError::General("a column of another type than its values".to_owned())),
        }
        column.close()?;
    }
    group.close()?;
    Ok(())
}

/// Only the values that are there.
fn without<'a, T: Copy>(holes: Option<&[i16]>, values: &'a [T]) -> std::borrow::Cow<'a, [T]> {
    match holes {
        None => values.into(),
        Some(present) => values.iter().zip(present).filter(|(_, present)| **present == 1).map(|(v, _)| *v).collect(),
    }
}

fn schema(fields: &[Field]) -> Result<Type, ParquetError> {
    let column = |field: &Field| {
        let (physical, logical) = match field.kind {
            Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Kind::Int => (Physical::INT64, None),
            Kind::Double => (Physical::DOUBLE, None),
            Kind::Bool => (Physical::BOOLEAN, None),
            Kind::Millis => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MILLIS))),
            Kind::Micros => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
        };
        let repetition = if field.nullable { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        let built = Type::primitive_type_builder(field.name, physical)
            .with_logical_type(logical)
            .with_repetition(repetition)
            .build()?;
        Ok(Arc::new(built))
    };
    let columns = fields.iter().map(column).collect::<Result<Vec<_>, ParquetError>>()?;
    Type::group_type_builder("coinetl").with_fields(columns).build()
}

fn properties(fields: &[Field], about: &About) -> Result<WriterProperties, ParquetError> {
    let sorting = |column: &usize| SortingColumn { column_idx: *column as i32, descending: false, nulls_first: false };
    let metadata = about.metadata.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_created_by(concat!("coinetl ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_sorting_columns(Some(about.order.iter().map(sorting).collect()))
        .set_key_value_metadata(Some(metadata.collect()))
        .set_max_row_group_row_count(Some(ROWS_AT_ONCE));
    for field in fields {
        let path = ColumnPath::from(field.name);
        builder = match field.kind {
            Kind::Text | Kind::Bool => builder,
            Kind::Double => builder.set_column_dictionary_page_size_limit(path, DICTIONARY_OF_NUMBERS),
            Kind::Int | Kind::Millis | Kind::Micros => builder
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
        };
    }
    Ok(builder.build())
}

fn failed(path: &std::path::Path, err: ParquetError) -> FilesError {
    if let ParquetError::External(cause) = &err
        && let Some(cause) = cause.downcast_ref::<std::io::Error>()
    {
        return FilesError::of(path, cause);
    }
    FilesError::Parquet { path: path.display().to_string(), why: err.to_string() }
}
